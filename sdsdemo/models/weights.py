"""Weight files as files: which of a folder's count, and what is wrong with one that is no such file. Reads no tensor.

    NAME.safetensors            the weights of a part
    NAME.VARIANT.safetensors    the same in another precision (fp16, bf16) or another state (non_ema)
    NAME.safetensors.index.json, NAME.safetensors.index.VARIANT.json
                                a list of shards, as NAME-00001-of-00003.safetensors

Full precision goes before a variant. What a weight is stored in does not say what it is computed with in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.models.sources import WEIGHT_SUFFIXES
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.lfs import POINTER, is_pointer
from sdsdemo.runtime.shapes import shaped

CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)
"""Names of the weights of a CLIP in a folder or repository, best first."""
STEM_OF_DIFFUSERS, STEM_OF_TRANSFORMERS = "diffusion_pytorch_model", "model"
"""The names that the libraries give to the weights of a pipeline's part."""
SHARD = r"(?:-\d+-of-\d+)?"
NAME = re.compile(rf"(?P<stem>\w+?)(?:\.(?P<a>[\w-]+?))?{SHARD}(?:\.(?P<b>[\w-]+))?\.safetensors")
INDEX_NAME = re.compile(r"(?P<stem>\w+)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
BEST_VARIANTS = ("fp32", "fp16", "bf16")
"""Best first; any other comes after them, in the order of the alphabet."""
DOWNLOADS = ".cache/huggingface/download"
"""Where the Hub's client keeps what it has of a file, in a folder that it downloads to."""
LONGEST_HEADER = 100_000_000
"""Bytes that safetensors allows for a header."""
EMPTY = "{file} is empty: fetch or copy it again."
PAGE = (
    "{file} is a web page saved under that name: download the file itself (on the Hugging Face "
    "Hub by 'download file', not by 'save link'), or fetch the model again."
)
CUT = "{file} is truncated: it has {size:,} of {whole:,} bytes. Fetch or copy it again."
BROKEN = "{file} is not a whole safetensors file: fetch or copy it again."
SHARD_MISSING = "{file} is missing, one of the parts of its weights: fetch or copy it again."
SEVERAL = (
    "The folder {name!r} holds several files of weights ({files}): name one, as in open_clip:local-dir:{name}/{first}."
)


class ShardIndex(TypedDict):
    """`*.safetensors.index.json`."""

    weight_map: dict[str, str]


class Entry(TypedDict):
    """A tensor in the header of a safetensors file."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


@dataclass(frozen=True, kw_only=True)
class PartWeights:
    """The files of one part's weights that are read."""

    files: tuple[str, ...]
    """Names in the part's folder, the index of shards first."""
    variant: str | None = None


def clip_weights(folder: Path) -> Path | None:
    """The weights in a CLIP's folder: one with a usual name, or the only file of weights; None where there is none.

    Raises `UserError` where it cannot be told which of several is meant.
    """
    usual = next((folder / name for name in CLIP_WEIGHTS if (folder / name).is_file()), None)
    if usual is not None or not folder.is_dir():
        return usual
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES and path.is_file())
    if len(found) > 1:
        names = [path.name for path in found]
        raise UserError(SEVERAL.format(name=folder.name, files=", ".join(names[:4]), first=names[0]))
    return found[0] if found else None


def choose(names: Iterable[str], stem: str, first: Sequence[str] = ()) -> PartWeights | None:
    """Which of these file names are read as the weights `stem` of a part; None where none are.

    first: variants that go before full precision, best first.
    """
    by_variant: dict[str, list[str]] = {}
    for name in sorted(names):
        found = NAME.fullmatch(name) or INDEX_NAME.fullmatch(name)
        if found is not None and found["stem"] == stem:
            by_variant.setdefault(_variant(found), []).append(name)
    best = [variant for variant in first if variant in by_variant]
    for variant in dict.fromkeys([*best, *sorted(by_variant, key=_rank)]):
        files = _of_one_variant(by_variant[variant], stem)
        if files:
            return PartWeights(files=files, variant=variant or None)
    return None


def is_pickled(file: str) -> bool:
    """Whether a name beside a config is one that the libraries give to weights that may hold code."""
    return "/" not in file and "pytorch_model" in file and file.endswith(".bin")


def stem_of(part: str) -> str:
    """The name of the weights of a pipeline's part, as its library writes it."""
    return STEM_OF_TRANSFORMERS if part.startswith("text_encoder") else STEM_OF_DIFFUSERS


def part_weights(folder: Path, part: str) -> PartWeights | None:
    """The weights of a part of a pipeline in `folder/part`; None where there are none, or not all shards."""
    place = folder / part
    if not place.is_dir():
        return None
    found = choose((path.name for path in place.iterdir()), stem_of(part))
    return found if found is None or all((place / file).is_file() for file in found.files) else None


def first_of(folder: Path, pattern: str) -> str | None:
    """The name of the first file of a folder that matches; None where there is none."""
    found = sorted(folder.glob(pattern))
    return found[0].name if found else None


def begun_file(folder: Path, part: str = "") -> str | None:
    """What an interrupted download left of a part's files; None where there is nothing."""
    return first_of(folder / part, "*.incomplete") or first_of(folder / DOWNLOADS / part, "*.incomplete")


def parameters_in(folder: Path, part: str) -> int:
    """Numbers in the weights of a part of a pipeline, from their headers; 0 where they cannot be read."""
    found = part_weights(folder, part)
    files = [folder / part / file for file in found.files if not file.endswith(".json")] if found else []
    try:
        return sum(math.prod(entry["shape"]) for file in files for entry in tensors_of(file, file.name).values())
    except (OSError, UserError):
        return 0


def has_clip_weights(folder: Path) -> bool:
    """Whether a folder holds a file that may be a CLIP's weights; which one is found out when it is loaded."""
    return folder.is_dir() and any(path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir())


def check_shards(folder: Path, weights: PartWeights, name: str) -> None:
    """Raises `UserError` where a shard that the index names is not there."""
    for index in (file for file in weights.files if file.endswith(".json")):
        try:
            described: ShardIndex = shaped(from_json((folder / index).read_bytes()), ShardIndex)
        except (OSError, ValueError) as error:
            raise UserError(f"{file_words(index, name)} cannot be read ({error}): fetch the model again.") from error
        for file in sorted(set(described["weight_map"].values())):
            if file not in weights.files or not (folder / file).is_file():
                raise UserError(SHARD_MISSING.format(file=file_words(ascii(Path(file).name)[1:-1][:100], name)))


def file_words(file: str, name: str) -> str:
    """What a file of a model is called: "a.bin of 'painter'"; its name alone where the model is called so."""
    return repr(file) if Path(name).name == file else f"{file} of {name!r}"


def check_file(path: Path, name: str) -> None:
    """Raises `UserError` for a model's file that is none: a Git LFS pointer, a web page, empty, or cut.

    name: what the model is called. Of large files only the start is read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(400)
    except OSError as error:
        raise UserError(
            f"{file_words(path.name, name)} cannot be read ({error.strerror}): fetch or copy it again."
        ) from error
    facts = {"file": file_words(path.name, name)}
    if size == 0:
        raise UserError(EMPTY.format(**facts))
    if is_pointer(start):
        raise UserError(f"{POINTER.format(**facts)}, or fetch the model again.")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise UserError(PAGE.format(**facts))
    if path.suffix == ".safetensors":
        tensors_of(path, name)


def tensors_of(path: Path, name: str) -> dict[str, Entry]:
    """Type, shape and place of each tensor of a safetensors file, from its header; `__metadata__` left out.

    Raises `UserError` where the file is cut or no such file.
    """
    header = header_of(path, name)
    try:
        tensors: dict[str, Entry] = shaped({k: v for k, v in header.items() if k != "__metadata__"}, dict[str, Entry])
        ends = [entry["data_offsets"][1] for entry in tensors.values()]
    except (ValueError, IndexError) as error:
        raise UserError(BROKEN.format(file=file_words(path.name, name))) from error
    size, whole = path.stat().st_size, start_of_data(path) + max(ends, default=0)
    if size < whole:
        raise UserError(CUT.format(file=file_words(path.name, name), size=size, whole=whole))
    return tensors


def header_of(path: Path, name: str) -> dict[str, Any]:
    """The JSON at the start of a safetensors file. Raises `UserError`."""
    try:
        length = start_of_data(path) - 8
        if not 2 <= length <= LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        if length > (size := path.stat().st_size) - 8:
            raise UserError(CUT.format(file=file_words(path.name, name), size=size, whole=length + 8))
        with path.open("rb") as file:
            file.seek(8)
            header: dict[str, Any] = shaped(from_json(file.read(length)), dict[str, Any])
            return header
    except (OSError, ValueError) as error:
        raise UserError(BROKEN.format(file=file_words(path.name, name))) from error


def start_of_data(path: Path) -> int:
    """Bytes before the first tensor: the header's length, which the first 8 bytes say, and those 8."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(8), "little") + 8


def _variant(found: re.Match[str]) -> str:
    groups = found.groupdict()
    return groups.get("variant") or groups.get("a") or groups.get("b") or ""


def _rank(variant: str) -> tuple[bool, int, str]:
    known = BEST_VARIANTS.index(variant) if variant in BEST_VARIANTS else len(BEST_VARIANTS)
    return variant != "", known, variant


def _of_one_variant(names: Sequence[str], stem: str) -> tuple[str, ...]:
    """The single file or the index with its shards, whichever its library takes first; empty for shards without one."""
    index = [name for name in names if name.endswith(".json")]
    shards = [name for name in names if re.search(r"-\d+-of-\d+", name)]
    single = [name for name in names if name not in index and name not in shards]
    sharded = (*index, *shards) if index and (shards or not single) else ()
    first, second = (sharded, tuple(single)) if stem == STEM_OF_DIFFUSERS else (tuple(single), sharded)
    return first or second
