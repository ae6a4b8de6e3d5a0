"""The processes that share one run, on one machine or several: which one is this, wait for all, gather from all.

Under `torchrun` or `accelerate launch` Accelerate's process state finds them; otherwise there is one.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

PATIENCE = timedelta(hours=3)
"""How long a process waits for the others before it gives the run up: one may download a model, or score slower pairs.
torch's own 10 to 30 minutes are meant for steps of training. Where a process ends, its launcher ends the others."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those of its run; by default the only one."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the header, merges and prints."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until every process has got here."""

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in process order; every process must call it."""
        return items

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in process order, without gradients; each process gives equally many."""
        return rows.detach()

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""

    def sum_numbers(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Each number summed over the processes."""
        return dict(numbers)


ALONE = Processes()
"""A process that shares its run with no other."""


class _Several(Processes):
    """Tensors travel on the device that the processes were joined for, and return to their own: NCCL moves none of a
    CPU, where a Mini model trains on any machine."""

    def wait(self) -> None:
        from accelerate import PartialState

        PartialState().wait_for_everyone()

    def gather(self, items: list[Any]) -> list[Any]:
        from accelerate.utils import gather_object

        gathered: list[Any] = gather_object(items)
        return gathered

    def gather_rows(self, rows: Tensor) -> Tensor:
        from accelerate import PartialState
        from accelerate.utils import gather

        gathered: Tensor = gather(rows.detach().contiguous().to(PartialState().device))
        return gathered.to(rows.device)

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        import torch
        from accelerate import PartialState
        from accelerate.utils import reduce

        with torch.no_grad():
            device = PartialState().device
            for parameter in parameters:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = reduce(own.to(device), "sum").to(own.device)

    def sum_numbers(self, numbers: Mapping[str, float]) -> dict[str, float]:
        shares = self.gather([dict(numbers)])
        return {name: sum(share[name] for share in shares) for name in numbers}


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Sends to stderr what libraries print meanwhile, C++ included: Gloo of torch 2.8 names its peers on stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def find() -> Processes:
    """The processes that a launcher started, or this one alone. With GPUs, each process gets its own.

    They disconnect when the interpreter ends: otherwise one of their threads now and then aborts a process that has
    finished its work, and the launcher reports that the whole run failed.
    """
    if not os.environ.get("WORLD_SIZE", "1").isdecimal() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    import torch
    from accelerate import PartialState

    with _stdout_to_stderr():
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    atexit.register(state.destroy_process_group)
    return _Several(index=state.process_index, count=state.num_processes)
