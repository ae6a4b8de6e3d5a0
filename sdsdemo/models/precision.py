"""In which precision a denoiser runs, and that it runs in that one, whatever the caller of a score has switched on.

    GPU   the family's half precision on NVIDIA's and AMD's; float32 on Apple's, where half was never tried here
    CPU   bfloat16 where the denoiser is large and the processor multiplies in it: that takes half as long as float32,
          and on other processors 3 to 6 times as long (measured at the size of Stable Diffusion 1)

Denoiser and text encoders run in it; VAE, noising, errors and decisions are float32 always, and CLIPs are.

Single precision means IEEE's 24 bits, on a GPU too: torch computes the convolutions of float32 in TF32 there (11 bits)
unless it is told not to, which moves 100 times a cosine by up to 1e-2 and a loss by 5e-5 of it: more than what ties
are told by, so that a CPU and a GPU would decide differently (simulated on the models of this repository).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

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


def gpu_has_bfloat16() -> bool:
    """Whether the CUDA GPU multiplies in bfloat16 by itself. One before compute capability 8 emulates it, slower than
    float32."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """No gradient, and no autocast or TF32 of the caller's: within it a score would move, and be stored as exact."""
    with torch.inference_mode(), as_stored(device):
        yield


@contextmanager
def as_stored(device: torch.device) -> Iterator[None]:
    """Computes in the precision of the weights, also in a training step that runs in another: no autocast, no TF32."""
    with torch.autocast(device.type, enabled=False), single_precision():
        yield


@contextmanager
def single_precision() -> Iterator[None]:
    """Convolutions and products of float32 are float32 in here, whatever was set; what was set comes back behind it.

    Of the whole process: the first that enters sets it, and the last that leaves restores it.
    """
    _IEEE.enter()
    try:
        yield
    finally:
        _IEEE.leave()


class _Ieee:
    """How many are within `single_precision`, and what was set before the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore: Callable[[], object] = bool

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._restore = _set_single()
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()


def _set_single() -> Callable[[], None]:
    """Switches TF32 and bfloat16 off in products of float32; answers what puts back what was there.

    By the older settings and by those of torch 2.9: each refuses to be read where only the other was used.
    """
    spots = _spots()
    newer = [spot.fp32_precision for spot in spots]
    products = cudnn = None
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        cudnn = torch.backends.cudnn.allow_tf32

    def write(products: str | None, cudnn: bool | None, newer: list[str]) -> None:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        for spot, precision in zip(spots, newer, strict=True):
            spot.fp32_precision = precision

    write("highest", False, ["ieee"] * len(spots))
    return lambda: write(products, cudnn, newer)


def _spots() -> list[Any]:
    """Where torch 2.9 and newer keep the precision of float32; none before."""
    backends: Any = torch.backends
    of_cudnn = [getattr(backends.cudnn, kind, None) for kind in ("conv", "rnn")]
    of_mkldnn = [getattr(backends.mkldnn, kind, None) for kind in ("conv", "matmul")]
    return [spot for spot in (*of_cudnn, backends.cuda.matmul, *of_mkldnn) if hasattr(spot, "fp32_precision")]


_IEEE = _Ieee()
