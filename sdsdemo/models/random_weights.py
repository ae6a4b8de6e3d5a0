"""A model of real size without real weights, in a folder of the Hub's form: its cost is true, its scores are not.

The configs ship in `models/shapes/`. Weights are small noise, the same million numbers over and over, written without
being in memory whole.
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.models.building import builds_alone
from sdsdemo.models.configs import kind_of
from sdsdemo.models.denoiser_files import DTYPES
from sdsdemo.models.weights import CLIP_WEIGHTS, stem_of
from sdsdemo.runtime.files import from_json, write_whole
from sdsdemo.runtime.shapes import shaped

CLIP_CONFIG = "open_clip_config.json"
SHAPES = Path(__file__).parent / "shapes"
BLOCK = 1 << 20
SPREAD = 0.02
"""Of the noise, as usual where layers are initialised."""
LEAST = 1e-3
"""No number of the noise is smaller: denormal ones are slow."""


class ShapeOfPart(TypedDict):
    """A part of the index."""

    library: str
    kind: str
    config: dict[str, Any]


class Shape(TypedDict):
    """A file of `shapes/`."""

    source: str
    short: str
    """What ratios call it."""
    cards: list[str]
    """Models of this shape."""
    pipeline: str
    """The class of a diffusion pipeline; empty for a CLIP."""
    stored_in: str
    parameters: int
    """Of the denoiser, or of the whole CLIP."""
    parts: dict[str, ShapeOfPart]


def shape_names() -> list[str]:
    """The shapes that ship with us."""
    return sorted(path.stem for path in SHAPES.glob("*.json"))


def shape_of(card: str) -> str | None:
    """The shape of a model, by the name of its card; None where none ships."""
    return next((name for name in shape_names() if card in read_shape(name)["cards"]), None)


def read_shape(name: str) -> Shape:
    """Raises `UserError` for a name that there is not."""
    if name not in shape_names():
        raise UserError(f"There is no shape {name!r}: choose one of {', '.join(shape_names())}.")
    shape: Shape = shaped(from_json((SHAPES / f"{name}.json").read_bytes()), Shape)
    return shape


def write_model(shape: Shape, folder: Path) -> tuple[str, int]:
    """Fills the folder with a model of this shape: its spec, and the bytes of its weights."""
    if shape["pipeline"]:
        return f"diffusers:{folder}", write_pipeline(shape, folder)
    return f"open_clip:local-dir:{folder}", write_clip(shape, folder)


def write_clip(shape: Shape, folder: Path) -> int:
    """Fills the folder with a CLIP of this shape; the bytes of its weights."""
    told = shape["parts"]["clip"]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CLIP_CONFIG, json.dumps({"model_cfg": told["config"], "preprocess_cfg": {}}))
    return _write_weights(empty_state(told, folder), folder / CLIP_WEIGHTS[0], shape["stored_in"])


def write_pipeline(shape: Shape, folder: Path) -> int:
    """Fills the folder with a pipeline of this shape; the bytes of its weights."""
    index = {part: [told["library"], told["kind"]] for part, told in shape["parts"].items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "model_index.json", json.dumps({"_class_name": shape["pipeline"], **index}))
    written = 0
    for part, told in shape["parts"].items():
        place = folder / part
        place.mkdir()
        if kind_of(part) == "tokenizer":
            _write_tokenizer(place)
        elif kind_of(part) == "scheduler":
            write_whole(place / "scheduler_config.json", json.dumps({"_class_name": told["kind"], **told["config"]}))
        else:
            state = empty_state(told, place)
            written += _write_weights(state, place / f"{stem_of(part)}.safetensors", shape["stored_in"])
    return written


@builds_alone
def empty_state(told: ShapeOfPart, place: Path) -> dict[str, Tensor]:
    """Names and shapes of a part's weights; its config is written, unless it is open_clip's."""
    import diffusers
    import open_clip
    import transformers
    from accelerate import init_empty_weights

    made: Any
    with init_empty_weights(include_buffers=True):
        if told["library"] == "open_clip":
            made = open_clip.CLIP(**told["config"])
        elif told["library"] == "diffusers":
            made = getattr(diffusers, told["kind"]).from_config(told["config"])
            made.save_config(place)
        else:
            owner = getattr(transformers, told["kind"])
            made = owner(owner.config_class(**told["config"]))
            made.config.save_pretrained(place)
    state: dict[str, Tensor] = made.state_dict()
    return state


def _write_weights(state: dict[str, Tensor], path: Path, stored_in: str) -> int:
    """Writes a safetensors file with a tensor of noise for each; the bytes of all tensors."""
    dtype = DTYPES[stored_in]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, tensor in state.items():
        size = tensor.numel() * dtype.itemsize
        header[key] = {"dtype": stored_in, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    noise = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * SPREAD
    noise += LEAST * noise.sign()
    block, ones = _raw(noise.to(dtype)), _raw(torch.ones(BLOCK, dtype=dtype))
    with path.open("wb") as file:
        said = json.dumps(header).encode()
        file.write(len(said).to_bytes(8, "little") + said)
        for key, tensor in state.items():
            is_scale = tensor.ndim == 1 and key.endswith("weight")
            _repeat(ones if is_scale else block, math.prod(tensor.shape) * dtype.itemsize, file)
    return end


def _raw(tensor: Tensor) -> bytes:
    raw: bytes = tensor.view(torch.uint8).numpy().tobytes()
    return raw


def _repeat(block: bytes, size: int, file: BinaryIO) -> None:
    while size > 0:
        file.write(block[:size])
        size -= len(block)


def _write_tokenizer(folder: Path) -> None:
    """CLIP's, from the file that open_clip carries."""
    from open_clip import SimpleTokenizer
    from open_clip.tokenizer import default_bpe

    start, end = "<|startoftext|>", "<|endoftext|>"
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    renamed = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {renamed.get(word, word): token for word, token in SimpleTokenizer().encoder.items()}
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    write_whole(folder / "vocab.json", json.dumps(vocabulary))
    write_whole(folder / "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    write_whole(folder / "tokenizer_config.json", json.dumps(config))
