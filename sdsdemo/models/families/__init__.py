"""The families of diffusion pipelines that can score, a file each; `LatentDiffusion` is Stable Diffusion 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sdsdemo.models import sources
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.diffusion_files import find_pipeline, in_half, missing_mb
from sdsdemo.models.families.flux2_klein import Flux2Klein
from sdsdemo.models.families.lumina2 import Lumina2
from sdsdemo.models.families.pixart import PixArtAlpha, PixArtSigma
from sdsdemo.models.families.prx import PRX
from sdsdemo.models.families.sd3 import StableDiffusion3
from sdsdemo.models.families.sdxl import StableDiffusionXL
from sdsdemo.models.families.z_image import ZImage
from sdsdemo.models.pipelines import check_pipeline, read_index
from sdsdemo.models.precision import LARGE, pick_precision
from sdsdemo.settings import AUTO

FAMILIES: dict[str, type[LatentDiffusion]] = {
    "StableDiffusionPipeline": LatentDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "Flux2KleinPipeline": Flux2Klein,
    "ZImagePipeline": ZImage,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "PixArtAlphaPipeline": PixArtAlpha,
    "PixArtSigmaPipeline": PixArtSigma,
    "PRXPipeline": PRX,
    "Lumina2Pipeline": Lumina2,
}
"""By the class that `model_index.json` names: one for each of `pipelines.LAYOUTS`."""


def load_diffusion(
    spec: str,
    *,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    precision: str = AUTO,
    allow_download: bool = False,
) -> LatentDiffusion:
    """The model of a `diffusers:` spec; a revision in the spec goes before the argument.

    Raises `UserError` for weights that are not here or broken, and for a pipeline of a family that is not supported.
    """
    dtype_of = _precision_of(torch.device(device), precision)
    folder, name = find_pipeline(spec, revision=revision, allow_download=allow_download, dtype_of=dtype_of)
    family = FAMILIES[read_index(folder, name)["_class_name"]]
    return family.from_folder(folder, name=name, device=device, precision=precision)


def fetch_diffusion(spec: str, *, revision: str | None, device: torch.device, precision: str) -> list[str]:
    """Downloads what a `diffusers:` spec needs to run on a device, which need not be here, without loading it.

    Returns the parts that are there in half precision alone. Raises `UserError` for a download that fails,
    and for a pipeline that cannot be loaded as it came.
    """
    dtype_of = _precision_of(device, precision)
    folder, name = find_pipeline(spec, revision=revision, allow_download=True, dtype_of=dtype_of)
    check_pipeline(folder, name)
    return in_half(folder)


def pipeline_mb(spec: str, *, revision: str | None, device: torch.device, precision: str) -> float | None:
    """Megabytes that `fetch_diffusion` brings; None where the Hub does not say. Raises `UserError` as it does."""
    name, asked = sources.split_revision(sources.split_spec(spec)[1])
    return missing_mb(name, asked or revision, _precision_of(device, precision))


def _precision_of(device: torch.device, precision: str) -> Callable[[str], torch.dtype]:
    """The precision that a pipeline of a class runs in. Those that are downloaded are large."""
    return lambda kind: pick_precision(precision, device, LARGE + 1, FAMILIES[kind].GPU_PRECISION)


def from_pipeline(pipeline: Any, *, device: torch.device | str = "cpu", precision: str = AUTO) -> LatentDiffusion:
    """Scores with the weights of a pipeline that the caller holds; see `LatentDiffusion.from_pipeline`."""
    family = FAMILIES.get(type(pipeline).__name__, LatentDiffusion)
    return family.from_pipeline(pipeline, device=device, precision=precision)
