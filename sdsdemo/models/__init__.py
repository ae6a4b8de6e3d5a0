"""Adapters: the only owner of weights. Above here nobody sees a tensor, nor knows which library a model comes from.

`cards` says which models there are and whether they can run; `open_scorer` turns a card into a `types.Scorer`. A
family's library is imported when its first model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdsdemo.errors import UserError
from sdsdemo.models import cards, sources
from sdsdemo.types import Card, Scorer

if TYPE_CHECKING:
    import torch

NO_GPU = "SDSDEMO_DEVICE asks for {device}, which this machine or this build of torch does not have: set it to auto."


def open_scorer(
    card: Card, *, device: str = "auto", precision: str = "auto", compiles: bool = False, allow_download: bool = False
) -> Scorer:
    """Load the model of a card: seconds for Mini, longer for a real one, longer still if it must be downloaded.

    device: auto, cpu, cuda or mps. precision: of a denoiser or a vision-language model; see `precision.pick_precision`.
    compiles: whether a denoiser scores through `torch.compile`. allow_download: without it nothing reaches the network.
    Raises `UserError` for weights that are missing, broken or made for another model, and for a missing device.
    """
    where = pick_device(device)
    if card.family == "sds-clip":
        from sdsdemo.models.delta import load_sds_clip

        return load_sds_clip(card, device=where, allow_download=allow_download)
    from sdsdemo.models.domain import Domain

    folder = sources.folder_named_by(card.spec)
    domain = Domain.read(folder) if folder is not None else None
    if card.family == "clip":
        from sdsdemo.models.clip import ClipModel, ClipScorer

        return ClipScorer(card, ClipModel.load(card.spec, device=where, allow_download=allow_download), domain)
    if card.family == "transformers":
        from sdsdemo.models.clip import ClipScorer
        from sdsdemo.models.clip_transformers import TransformersClip

        towers = TransformersClip.load(card.spec, revision=card.revision, device=where, allow_download=allow_download)
        return ClipScorer(card, towers, domain)
    if card.family == "vlm":
        from sdsdemo.models.vlm import VisionLanguageModel
        from sdsdemo.models.vlm_scorer import VlmScorer

        asked = VisionLanguageModel.load(
            card.spec, revision=card.revision, device=where, precision=precision, allow_download=allow_download
        )
        return VlmScorer(card, asked, domain)
    from sdsdemo.models.compiled import compile_calls
    from sdsdemo.models.diffusion_scorer import DiffusionScorer
    from sdsdemo.models.families import load_diffusion

    model = load_diffusion(
        card.spec, revision=card.revision, device=where, precision=precision, allow_download=allow_download
    )
    if compiles:
        compile_calls(model.denoiser, card.title)
    return DiffusionScorer(card, model, domain)


def fetch(card: Card, *, device: str = "auto", precision: str = "auto") -> list[str]:
    """Download what a card needs, if it is not here yet, without loading it; a broken-off download is resumed.

    Returns the parts of a pipeline that came in half precision, which is preferred if they run in half on the
    device. Raises `UserError` for a disk that is too full, and for a download that fails.
    """
    if card.family == "sds-clip":
        return fetch(cards.resolve(card.base)) if card.base is not None else []
    if not card.download or cards.is_downloaded(card):
        return []
    sources.check_disk(card.title, download_mb(card, device=device, precision=precision) or 0)
    if card.family == "clip":
        from sdsdemo.models.clip_tokenizer import fetch_clip

        fetch_clip(card.spec)
    elif card.family in ("transformers", "vlm"):
        from sdsdemo.models.transformers_files import find_folder

        cards.CHECKS[card.family](*find_folder(card.spec, revision=card.revision, allow_download=True))
    else:
        from sdsdemo.models.families import fetch_diffusion

        return fetch_diffusion(card.spec, revision=card.revision, device=_device_of(device), precision=precision)
    return []


def download_mb(card: Card, *, device: str = "auto", precision: str = "auto") -> float | None:
    """Megabytes that `fetch` brings, as the Hub lists the files; else the card's, and None of a model without one.

    Reaches the network. Raises `UserError` for a model that no download could make whole.
    """
    if not card.download:
        return card.size_mb
    from sdsdemo.models.download_size import listed_mb

    told = listed_mb(card, device=_device_of(device), precision=precision)
    return told if told is not None else card.size_mb if card.is_known else None


def _device_of(setting: str) -> torch.device:
    """The device of a setting, which need not be here: a node that fetches may have no GPU."""
    import torch

    return pick_device() if setting == "auto" else torch.device(setting)


def pick_device(device: str = "auto") -> torch.device:
    """The torch device that a setting means. Raises `UserError` for one that is not there."""
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_there in here.items() if is_there))
    if device not in here:
        raise ValueError(f"device must be auto, {', '.join(here)}; it was {device!r}")
    if not here[device]:
        raise UserError(NO_GPU.format(device=device))
    return torch.device(device)
