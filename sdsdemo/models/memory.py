"""Out of memory: which errors mean it, on whatever device, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sdsdemo.errors import UserError

if TYPE_CHECKING:
    import torch

CPU_ALLOCATOR = ("not enough memory", "can't allocate memory")
"""What torch says on Windows, and elsewhere, as a mere `RuntimeError`."""
SAID_BY_GPU = (
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What a full GPU says where it is not torch's allocator that asks: a driver, cuBLAS, cuDNN, all as `RuntimeError`."""
NO_ROOM = "{device} has too little memory for one sample of {title}: close other programs that use it, or {instead}."
RAN_OUT = "{title} ran out of memory: close other programs, choose a smaller model, or shorten captions, and try again."
DEVICES = {"cuda": "The GPU", "mps": "The GPU (mps)", "cpu": "The computer (the device is cpu)"}


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may help: Python's error or a GPU's, or what allocators and libraries say."""
    import torch

    said = str(error)
    by_cpu = "DefaultCPUAllocator" in said and any(words in said for words in CPU_ALLOCATOR)
    by_gpu = any(words in said for words in SAID_BY_GPU)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or by_cpu or by_gpu


@contextmanager
def memory_in_words(title: str) -> Iterator[None]:
    """In here an error of a model that means out of memory becomes a `UserError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(RAN_OUT.format(title=title)) from error


def no_room(device: torch.device, title: str) -> str:
    """The sentence for one sample that does not fit."""
    instead = "choose a smaller model" if device.type == "cpu" else "set SDSDEMO_DEVICE=cpu"
    return NO_ROOM.format(device=DEVICES[device.type], title=title, instead=instead)


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, or of a computer with Linux; 0 where it is not known."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", told.read_text()) if told.is_file() else None
    return 1024 * int(found[1]) if found is not None and device.type == "cpu" else 0


def peak_bytes(device: torch.device) -> int:
    """The most that torch held at once of this GPU's memory, in this process so far; 0 where it doesn't count."""
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


def give_back(device: torch.device) -> None:
    """Returns what torch keeps of a GPU's memory for later."""
    import torch

    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()
