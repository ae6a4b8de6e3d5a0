"""A file where a pipeline's folder should be: a whole model in one file, a LoRA, or weights of one part.

Told by the names of its tensors; no tensor is read.
"""

from __future__ import annotations

from pathlib import Path

from sdsdemo.errors import UserError
from sdsdemo.models.sources import WEIGHT_SUFFIXES
from sdsdemo.models.weights import file_words, tensors_of

WHOLE = (
    "{file} is a whole model in a single file, which cannot be loaded here: turn it into a folder with diffusers, "
    "`{kind}.from_single_file(FILE).save_pretrained(FOLDER)`, and name that folder."
)
A_LORA = (
    "{file} is a LoRA, which changes a model and is none itself: load it onto its base in diffusers "
    "(`load_lora_weights`), call `fuse_lora()` and `save_pretrained(FOLDER)`, and name that folder."
)
A_PART = "{file} is not a whole model, but one part of it or an addition: name the folder that holds model_index.json."
DENOISER = "model.diffusion_model."
"""How the names of a denoiser's tensors begin in a whole model."""
KINDS = {f"{DENOISER}joint_blocks.": "StableDiffusion3Pipeline", "conditioner.": "StableDiffusionXLPipeline"}
"""By how the names of some tensors begin, the pipeline of a whole model; any other is Stable Diffusion 1 or 2."""


def single_file(place: Path) -> Path | None:
    """The file of weights that a path names, or that lies in its folder without a config; None where there is none."""
    if place.is_dir() and not (place / "config.json").is_file():
        found = sorted(path for path in place.iterdir() if path.suffix in WEIGHT_SUFFIXES)
        return found[0] if found else None
    return place if place.is_file() else None


def single_file_words(file: Path, name: str) -> str:
    """What to say of such a file of the model `name`. One whose tensors cannot be told counts as a whole model."""
    names, words = _tensor_names(file), WHOLE
    is_whole = not names or any(tensor.startswith(DENOISER) for tensor in names)
    if "lora" in file.name.lower() or any("lora" in tensor for tensor in names):
        words = A_LORA
    elif (file.parent / "config.json").is_file() or not is_whole:
        words = A_PART
    kinds = (kind for start, kind in KINDS.items() if any(tensor.startswith(start) for tensor in names))
    return words.format(file=file_words(file.name, name), kind=next(kinds, "StableDiffusionPipeline"))


def _tensor_names(file: Path) -> list[str]:
    """None of a file that is not safetensors, or broken."""
    try:
        return list(tensors_of(file, file.name)) if file.suffix == ".safetensors" else []
    except (OSError, UserError):
        return []
