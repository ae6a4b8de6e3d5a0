"""Out of memory: which errors mean it, on whatever device, and what is said of it."""

from __future__ import annotations

import torch

CPU_ALLOCATOR = ("not enough memory", "can't allocate memory")
"""What torch says on Windows, and elsewhere, as a mere `RuntimeError`."""
MPS_ALLOCATOR = "MPS backend out of memory"
NO_ROOM = "{device} has too little memory for one sample of {title}: close other programs that use it, or {instead}."
DEVICES = {"cuda": "The GPU", "mps": "The GPU (mps)", "cpu": "The computer (the device is cpu)"}


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a smaller batch may help: a GPU's own error, or what the allocators of CPU and MPS say."""
    said = str(error)
    by_cpu = "DefaultCPUAllocator" in said and any(words in said for words in CPU_ALLOCATOR)
    return isinstance(error, torch.OutOfMemoryError) or by_cpu or MPS_ALLOCATOR in said


def no_room(device: torch.device, title: str) -> str:
    """The sentence for one sample that does not fit."""
    instead = "choose a smaller model" if device.type == "cpu" else "set SDSDEMO_DEVICE=cpu"
    return NO_ROOM.format(device=DEVICES[device.type], title=title, instead=instead)


def give_back(device: torch.device) -> None:
    """Returns what torch keeps of a GPU's memory for later."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()
