"""Which models there are, and whether each can run here and now. Loads none: facts are data, in `cards.toml`.

A model without a card is named by a spec (`sources`); its card holds what can be read without loading it.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.models import fingerprints, sources
from sdsdemo.models.delta_header import cure_for_base, read_header
from sdsdemo.models.pipelines import INDEX, LAYOUTS, Layout, check_pipeline, is_whole_pipeline, pixels_of
from sdsdemo.models.transformers_files import CONFIG, cached_folder, check_folder, check_question_folder, is_whole
from sdsdemo.models.weights import has_clip_weights
from sdsdemo.runtime import zerogpu
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import AUTO, Settings
from sdsdemo.types import Availability, Card, Family

FILE = Path(__file__).parent / "cards.toml"
TYPICAL_MB: dict[Family, float] = {
    "clip": 600.0,
    "transformers": 1700.0,
    "vlm": 4500.0,
    "diffusion": 4300.0,
    "sds-clip": 34.0,
}
"""Taken for the size of a model that is not on this machine yet."""
SMALL_PIXELS = 128
"""Diffusion models of at most this many pixels a side answer in seconds on a CPU."""
HERE = Availability(can_run=True)
CHECKS: dict[Family, Callable[[Path, str], None]] = {
    "diffusion": check_pipeline,
    "transformers": check_folder,
    "vlm": check_question_folder,
}
"""By family, what raises a `UserError` about a folder that cannot be loaded."""
PIXELS: dict[Family, tuple[str, ...]] = {
    "clip": ("open_clip_config.json", "model_cfg", "vision_cfg", "image_size"),
    "transformers": (CONFIG, "vision_config", "image_size"),
    "vlm": (CONFIG, "vision_config", "image_size"),
}
"""By family, the config that names native pixels, and where in it."""
PAPER_HOURS = 6
"""Fine-tuning ViT-B/16 on one A6000 of 48 GB (SDS-CLIP, arXiv 2307.09233; recalled)."""
CORES_OF_PAPER = 600
"""Processor cores that would be as quick as that GPU: some 30 TFLOP/s in half precision against 0.05 a core; rough."""
GPU_FILES = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
"""One is there where Linux has the driver of a GPU that torch can use: NVIDIA, Jetson, AMD, WSL."""


@cache
def all_cards() -> dict[str, Card]:
    """Every card by its name, in the order of the file."""
    with FILE.open("rb") as file:
        return {name: _card(name, facts) for name, facts in tomllib.load(file).items()}


def resolve(name_or_spec: str) -> Card:
    """The card of a name, or one made for a spec with the facts that can be read without loading the model.

    Raises `UserError` for an unknown name, listing close ones, and for a text that is not a spec.
    """
    text = name_or_spec.strip()
    known = all_cards()
    if text in known:
        return known[text]
    if ":" not in text:
        raise UserError(f"There is no model called {text!r}. {_suggestion(text)}")
    family, rest = sources.split_spec(text)
    same = next((card for card in known.values() if card.spec == text), None)
    if same is None and family == "clip" and not rest.startswith((sources.LOCAL_DIR, sources.HF_HUB)):
        from sdsdemo.models.clip_files import check_name

        check_name(rest)
    return same or _card_of_spec(text, family, rest)


def availability(card: Card, settings: Settings) -> Availability:
    """Whether a card can run here and now; if not, why, and what to do. Reads no weight, reaches no network.

    A model made for a GPU runs without one too, slowly (`is_slow`), except in a Space, which many share.
    A broken folder is reported before a missing GPU: with a GPU, the model still could not run.
    """
    if card.family in CHECKS and not card.download and (fault := _fault_of_folder(card)) is not None:
        return fault
    wants_gpu = settings.device in ("cuda", "mps") or (settings.in_space and settings.device == AUTO)
    if wants_gpu and is_slow(card):
        return Availability(
            can_run=False,
            reason=f"{card.title} needs a GPU, and this machine has none.",
            next_step="Use a machine that has one, or set SDSDEMO_DEVICE=cpu and wait some minutes for each answer.",
        )
    if card.family == "sds-clip":
        return _delta_availability(card, settings)
    if not card.download:
        return HERE if _is_complete(card) else _missing(card)
    if settings.allow_download or is_downloaded(card):
        return HERE
    return Availability(
        can_run=False,
        reason=f"The weights of {card.title} are not on this machine, and downloads are off.",
        next_step=f"Run `python -m sdsdemo fetch {card.name}`{_size_words(card)}, or set SDSDEMO_ALLOW_DOWNLOAD=on.",
    )


def why_unreadable(card: Card) -> str:
    """What is wrong with a folder or file that is here, in a sentence; empty where nothing is, or none is here."""
    family, rest = sources.split_spec(card.spec)
    folder = sources.folder_named_by(card.spec)
    try:
        if family == "sds-clip":
            file = sources.local_path(rest)
            return why_unreadable(resolve(read_header(file)["base"])) if file.exists() else ""
        if folder is None or not folder.exists():
            return ""
        if family in CHECKS:
            CHECKS[family](folder, card.title)
    except UserError as error:
        return str(error)
    return "" if _is_complete(card) else f"{_what_is_missing(card)} Put it back, or fetch or save the model again."


def is_downloaded(card: Card) -> bool:
    """Whether all that a card needs from the Hub lies in its cache already."""
    if card.family == "diffusion":
        name, asked = sources.split_revision(sources.split_spec(card.spec)[1])
        index = sources.cached_file(name, [INDEX], asked or card.revision)
        return index is not None and is_whole_pipeline(index.parent)
    if card.family in ("transformers", "vlm"):
        folder = cached_folder(card.spec, card.revision)
        return folder is not None and is_whole(folder, CHECKS[card.family])
    from sdsdemo.models.clip_hub import parts_on_hub

    parts = parts_on_hub(card.spec)
    return bool(parts) and all(part.cached is not None for part in parts)


def fingerprint(card: Card) -> str:
    """What tells a model whose scores are the same from any other: a digest of all that its scores depend on.

    Spec and revision where its files are not here, so that nothing can be read of them. Raises `UserError` for a file
    that is no such file. `fingerprint_parts` says what is in it.
    """
    parts = fingerprint_parts(card)
    return fingerprints.whole(parts) if parts else f"{card.spec}@{card.revision or 'main'}"


def fingerprint_parts(card: Card) -> dict[str, str]:
    """Digests of what a model's scores depend on: weights, preprocessing, tokenizer and so on; empty where not here."""
    return fingerprints.parts_of(card, resolve)


def what_changed(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """In words, which of two models' `fingerprint_parts` differ: "preprocessing and tokenizer"."""
    return fingerprints.what_changed(old, new)


def weights_fingerprint(card: Card) -> str:
    """Of the weights alone, which is what the lines of the experiment name their models by."""
    folder = sources.folder_named_by(card.spec)
    if card.family == "sds-clip":
        folder = sources.local_path(sources.split_spec(card.spec)[1])
    if folder is None or not folder.exists():
        return f"{card.spec}@{card.revision or 'main'}"
    return fingerprints.digest_of_weights([folder] if folder.is_file() else sorted(folder.rglob("*.safetensors")))


def _delta_availability(card: Card, settings: Settings) -> Availability:
    """A fine-tuned file, and then its base."""
    file = sources.local_path(sources.split_spec(card.spec)[1])
    if not file.is_file():
        return _missing(card)
    name = card.base or ""
    try:
        name = name or read_header(file)["base"]
        base = availability(resolve(name), settings)
    except UserError as error:
        base = Availability(can_run=False, reason=str(error))
    if base.can_run:
        return HERE
    begin = f"{card.title} changes another model. " if name else ""
    return Availability(can_run=False, reason=begin + base.reason, next_step=cure_for_base(name) or base.next_step)


def _fault_of_folder(card: Card) -> Availability | None:
    """What is wrong with the folder of a pipeline or of transformers; None where its files can be loaded."""
    if card.mini:
        return None if _is_complete(card) else _missing(card)
    folder = sources.folder_named_by(card.spec) or Path()
    name = card.title if folder.is_dir() else sources.split_revision(sources.split_spec(card.spec)[1])[0]
    try:
        CHECKS[card.family](folder, name)
    except UserError as error:
        return Availability(can_run=False, reason=str(error))
    return None


def _missing(card: Card) -> Availability:
    """Weights that no download brings."""
    if card.mini:
        return Availability(
            can_run=False,
            reason=f"The weights of {card.title} are missing from this copy of the repository.",
            next_step=f"Clone it again, or train it: `python -m sdsdemo mini train {card.name}`.",
        )
    if card.family == "sds-clip" and card.base is not None:
        return Availability(
            can_run=False,
            reason=f"There is no fine-tuned file of {resolve(card.base).title} here yet.",
            next_step=f"Pick a file that you have: write sds-clip:FILE as the model. Or train one: {train_words()}.",
        )
    return Availability(can_run=False, reason=_what_is_missing(card), next_step="Check the path.")


def _what_is_missing(card: Card) -> str:
    """Of a CLIP's folder or file, or a fine-tuned file, in a sentence."""
    if (file := sources.checkpoint_named_by(card.spec)) is not None:
        return f"There is no file of weights called {file.name!r}."
    folder = sources.folder_named_by(card.spec) if card.family == "clip" else None
    if folder is None:
        return f"There is no fine-tuned file {card.title!r}."
    if not folder.is_dir():
        return f"There is no folder {card.title!r} to load a CLIP from."
    lacks = "open_clip_config.json" if has_clip_weights(folder) else "file of weights"
    return f"The folder {card.title!r} holds no {lacks}, so no CLIP can be loaded from it."


def _is_complete(card: Card) -> bool:
    """Whether the folder of a card holds a config and weights."""
    if (file := sources.checkpoint_named_by(card.spec)) is not None:
        return file.is_file()  # what is wrong with one that is here is said when it is loaded
    folder = sources.folder_named_by(card.spec)
    if folder is None:
        return False
    if card.family == "clip":
        return has_clip_weights(folder) and (folder / "open_clip_config.json").is_file()
    return is_whole_pipeline(folder) if card.family == "diffusion" else is_whole(folder, CHECKS[card.family])


def _card(name: str, facts: dict[str, Any]) -> Card:
    tuples: dict[str, Any] = {key: tuple(facts[key]) for key in ("published", "timestep_range") if key in facts}
    return Card(name=name, **(facts | tuples))


def _card_of_spec(spec: str, family: Family, rest: str) -> Card:
    """Named by the spec itself, so that two folders of the same name are two models."""
    folder = sources.folder_named_by(spec)
    path = sources.local_path(rest) if family == "sds-clip" else sources.checkpoint_named_by(spec) or folder
    pixels = _pixels(family, folder)
    return Card(
        name=spec,
        title=rest if path is None else path.name.removesuffix(".safetensors"),
        family=family,
        spec=spec,
        summary="A model without a card: only what its files say without loading is known.",
        licence="not known: see where it comes from",
        size_mb=TYPICAL_MB[family] if path is None or not path.exists() else megabytes(path),
        pixels=pixels,
        needs="gpu" if family == "diffusion" and not 0 < pixels <= SMALL_PIXELS else "cpu",
        seconds_per_pair=1.0,
        download=path is None,
        base=_base_of(path) if family == "sds-clip" and path is not None else None,
    )


def _base_of(file: Path) -> str | None:
    """The card or spec that a fine-tuned file changes; None where the file is missing or broken, as loading it says."""
    with suppress(UserError):
        return resolve(read_header(file)["base"]).name
    return None


def _pixels(family: Family, folder: Path | None) -> int:
    """Native pixels a side from the configs of a folder; 0 where they are not known."""
    if family == "diffusion" and folder is not None:
        index = _json(folder / INDEX)
        layout = LAYOUTS.get(str(index.get("_class_name")), Layout())
        denoiser, vae = (_json(folder / part / "config.json") for part in (layout.denoiser, "vae"))
        return pixels_of(layout, index, denoiser, vae)
    file, *keys = PIXELS.get(family, ("",))
    value: Any = _json(folder / file) if file and folder is not None else {}
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else 0


def _json(path: Path) -> dict[str, Any]:
    """An object from a file, or an empty one where there is none: loading the model will say what is wrong."""
    with suppress(OSError, ValueError):
        return dict(shaped(from_json(path.read_bytes()), dict[str, Any]))
    return {}


def megabytes(path: Path) -> float:
    """Size of a file, or of all files of a folder."""
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def _size_words(card: Card) -> str:
    """A card's size in brackets; empty for a model without one, whose size is not known before the Hub is asked."""
    size = f"{card.size_mb / 1000:.1f} GB" if card.size_mb >= 100 else f"{card.size_mb:.0f} MB"
    return f" ({size})" if card.is_known else ""


def _suggestion(name: str) -> str:
    if "/" in name or name.endswith(sources.WEIGHT_SUFFIXES):
        return f"For a model of the Hub, a folder or a file, write {sources.SPECS}."
    if close := difflib.get_close_matches(name.lower(), all_cards(), n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(close)}?"
    return f"Known models: {', '.join(all_cards())}. For another one, write {sources.SPECS}."


def train_words() -> str:
    """How long the paper's fine-tuning would take on this machine."""
    paper = f"about {PAPER_HOURS} h on the paper's GPU"
    if has_gpu():
        return f"{paper} (48 GB), more or less on the GPU here"
    hours = PAPER_HOURS * CORES_OF_PAPER / (os.cpu_count() or 1)
    return f"about {hours:,.0f} h on this machine, which has no GPU, and {paper}"


def is_slow(card: Card) -> bool:
    """Whether a model is made for a GPU, and this machine has none."""
    return card.needs == "gpu" and not has_gpu()


def has_gpu() -> bool:
    """Whether this machine has one that torch can use, or is lent one for a call.

    Where Linux has no driver for one, torch is not loaded to ask: the page need not wait for that.
    """
    if zerogpu.is_here():
        return True
    if sys.platform == "linux" and not any(map(os.path.exists, GPU_FILES)):
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
