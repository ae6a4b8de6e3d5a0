"""New processes that have the libraries of models loaded already: forks of a server that has done nothing else.

Each has a fresh state of its own, and a hash seed other than that of the tests. Where the start of a process is tested
itself, a test starts Python instead.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    ["pytest", "torch", "accelerate", "open_clip", "diffusers", "gradio", "sdsdemo.models.clip",
     "sdsdemo.models.diffusion_scorer", "sdsdemo.finetuning.run", "sdsdemo.ui.page", "tests.finetuning.tiny_teacher"]
)  # fmt: skip


def started(work: Callable[..., Any], *args: Any, out: Path, env: Mapping[str, str] | None = None) -> ForkServerProcess:
    """A process that does this work; what it prints goes to the file `out`, and errors to a file beside it.

    work: a function that a process finds by its name.
    """
    process = FORKS.Process(target=_work, args=(work, args, out, dict(env or {})))
    process.start()
    return process


def ran(work: Callable[..., Any], *args: Any, out: Path) -> str:
    """What a process printed that has done this work. Raises `AssertionError`, with its errors, where it failed."""
    return ended(started(work, *args, out=out), out)


def ended(process: ForkServerProcess, out: Path, timeout: float = 300) -> str:
    """Wait for a process, and give what it printed. Raises `AssertionError`, with its errors, where it failed."""
    process.join(timeout)
    assert process.exitcode == 0, (process.exitcode, errors_of(out).read_text())
    return out.read_text()


def errors_of(out: Path) -> Path:
    """The file that the errors of a process go to."""
    return out.with_name(f"{out.name}.errors")


def run_module(module: str, *arguments: str) -> None:
    """As `python -m module arguments`."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _work(work: Callable[..., Any], args: tuple[Any, ...], out: Path, env: dict[str, str]) -> None:
    os.environ.update({"OMP_NUM_THREADS": "1", **env})
    for number, path in ((1, out), (2, errors_of(out))):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    import torch

    torch.set_num_threads(1)
    try:
        work(*args)
    finally:
        atexit._run_exitfuncs()  # as at the end of a Python that was started
        sys.stdout.flush()
        sys.stderr.flush()
