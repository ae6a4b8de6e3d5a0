"""In which precision a denoiser runs, and that it runs in that one, whatever the caller of a score has switched on.

    GPU   the family's half precision
    CPU   bfloat16 where the denoiser is large and the processor multiplies in it: that takes half as long as float32,
          and on other processors 3 to 6 times as long (measured at the size of Stable Diffusion 1)

Denoiser and text encoders run in it; VAE, noising, errors and decisions are float32 always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from sdsdemo.settings import AUTO
from sdsdemo.types import Precision

DTYPES: Mapping[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
PRECISIONS: Mapping[torch.dtype, Precision] = {dtype: name for name, dtype in DTYPES.items()}
LARGE = 100_000_000
"""Parameters beyond which a denoiser runs in bfloat16 on a CPU that has it; Mini has 5 million."""


def pick_precision(setting: str, device: torch.device, parameters: int, on_gpu: torch.dtype) -> torch.dtype:
    """The precision that a setting means for a denoiser of that many parameters. on_gpu: its family's on a GPU.

    Raises `ValueError` for a setting that there is not.
    """
    for name, dtype in DTYPES.items():
        if setting == name:
            return dtype
    if setting != AUTO:
        raise ValueError(f"precision must be {AUTO}, {', '.join(DTYPES)}; it was {setting!r}")
    if device.type == "cuda":
        return on_gpu
    is_worth_it = device.type == "cpu" and parameters > LARGE and cpu_has_bfloat16()
    return torch.bfloat16 if is_worth_it else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 by itself, by AMX or AVX-512. False where torch does not say."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """No gradient, and no autocast of the caller's: within it a score would move, and be stored as if it were exact."""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield
