"""A model as transformers writes it: where its files are, and what is wrong with them. Loads no library.

config.json               `model_type`, which names the class, and both towers
model.safetensors         whole or in shards, in full precision or a variant; pickled weights are never read
preprocessor_config.json  how a picture becomes pixels; processor_config.json, of newer versions, goes before it
tokenizer.json, ...       the tokenizer
chat_template.jinja, ...  how a question is worded, for a model that answers one
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.configs import LONGEST_TEXT, read_config
from sdsdemo.models.weights import (
    STEM_OF_TRANSFORMERS,
    PartWeights,
    begun_file,
    check_file,
    check_shards,
    choose,
    first_of,
    is_pickled,
)

CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
KINDS = ("clip", "siglip")
"""By `model_type`: CLIPModel, and SiglipModel, which reads SigLIP 2 of a fixed size too."""
TOKENIZER = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
"""A tokenizer has one of these."""
TOKENIZER_FILES = (
    "*token*.json", "*token*.model", "*token*.txt", "vocab*.json", "vocab*.txt", "merges.txt", "*spiece.model",
    "sentencepiece*.model", "chat_template*.json", "chat_template*.jinja",
)  # fmt: skip
"""Never code: a repository may hold a tokenization_x.py beside them."""
BESIDE = (CONFIG, PREPROCESSOR, PROCESSOR, "video_preprocessor_config.json", *TOKENIZER_FILES)
"""Files of a repository that are fetched beside the weights."""
NO_FOLDER = "There is no folder {name!r} to load a transformers model from: check its path."
NO_CONFIG = (
    "The folder {name!r} holds no {file}, so it is not a transformers model: name the folder that save_pretrained "
    "wrote{within}."
)
OTHER_KIND = "{name!r} is a model of type {kind!r}, which cannot score here; a CLIP ('clip') or SigLIP ('siglip') can."
ONE_TOWER = (
    "{name!r} holds one tower alone (model_type {kind!r}): scoring needs pictures and captions, so name the whole "
    "model, saved from CLIPModel or SiglipModel."
)
NAFLEX = (
    "{name!r} is a SigLIP 2 of variable size (NaFlex), which cannot score here yet: take its variant of a fixed size, "
    "such as google/siglip2-base-patch16-224."
)
ONLY_PICKLED = (
    "{name!r} has its weights only as {file}, which may hold code, and sdsdemo never runs code from a file: save it "
    "again with safe_serialization=True, or name a revision that has safetensors."
)
SINGLE_FILE = (
    "{name!r} is a file, and a transformers model is a folder: name the one that holds it, with its config.json and "
    "tokenizer."
)
UNFINISHED = (
    "{name!r} was not downloaded to its end ({file} is left of it): fetch the model again, which goes on where it "
    "stopped."
)
NO_WEIGHTS = "{name!r} holds no whole {stem}.safetensors: fetch or save the model again."
NO_PART = "{name!r} holds no {what} ({files}): copy it from the model that it was trained from."


class Tower(TypedDict):
    """text_config or vision_config of config.json."""

    hidden_size: NotRequired[int]
    num_hidden_layers: NotRequired[int]
    vocab_size: NotRequired[int]
    max_position_embeddings: NotRequired[int]
    image_size: NotRequired[int | list[int]]


class Config(TypedDict):
    """config.json."""

    model_type: str
    text_config: NotRequired[Tower | None]
    vision_config: NotRequired[Tower | None]


class Pixels(TypedDict):
    """preprocessor_config.json, or `image_processor` of processor_config.json."""

    size: NotRequired[int | dict[str, int | None] | None]
    crop_size: NotRequired[int | dict[str, int | None] | None]
    image_mean: NotRequired[list[float] | None]
    image_std: NotRequired[list[float] | None]
    resample: NotRequired[int | None]
    rescale_factor: NotRequired[float | None]
    image_processor_type: NotRequired[str]


class Processor(TypedDict):
    """processor_config.json."""

    image_processor: NotRequired[Pixels | None]


def find_folder(spec: str, *, revision: str | None = None, allow_download: bool = False) -> tuple[Path, str]:
    """Folder and name of a `transformers:` or `vlm:` spec, downloaded where allowed and needed. Raises `UserError`."""
    family, rest = sources.split_spec(spec)
    if family not in ("transformers", "vlm"):
        raise UserError(f"{spec!r} is not a transformers model. Write one of {sources.SPECS}.")
    name, asked = sources.split_revision(rest)
    place = sources.repo_and_folder(name)
    if place is None:
        folder = sources.local_path(name)
        return folder, sources.called(name)
    repo, inside = place
    patterns = patterns_to_fetch(name, asked or revision, allow_download)
    root = sources.repo_folder(repo, patterns, allow_download=allow_download, revision=asked or revision)
    return root / inside, name


def patterns_to_fetch(name: str, revision: str | None, allow_download: bool = True) -> list[str]:
    """Names and patterns of what loading needs of REPO or REPO/FOLDER.

    Raises `UserError` where the repository has its weights only as what may hold code.
    """
    repo, inside = sources.repo_and_folder(name) or (name, "")
    before = f"{inside}/" if inside else ""
    listed = sources.repo_listing(repo, revision) if allow_download else []
    held = [file.removeprefix(before) for file in listed if file.startswith(before)]
    weights, pickled = _chosen(held), next(filter(is_pickled, held), None)
    if weights is None and pickled is not None:
        raise UserError(ONLY_PICKLED.format(name=name, file=pickled))
    files = weights.files if weights is not None else (f"{STEM_OF_TRANSFORMERS}.safetensors",)
    return [f"{before}{file}" for file in (*BESIDE, *files)]


def cached_folder(spec: str, revision: str | None = None) -> Path | None:
    """The folder of a spec where its config is on this machine. Never reaches the network."""
    name, asked = sources.split_revision(sources.split_spec(spec)[1])
    place = sources.repo_and_folder(name)
    if place is None:
        return sources.local_path(name)
    config = sources.cached_file(place[0], ["/".join(filter(None, (place[1], CONFIG)))], asked or revision)
    return None if config is None else config.parent


def check_folder(folder: Path, name: str) -> None:
    """Raises `UserError` naming the first thing that is missing from the folder of a CLIP or SigLIP, or broken in it.

    Reads configs and the headers of weights.
    """
    read_model_config(folder, name)
    _check_rest(folder, name)


def check_question_folder(folder: Path, name: str) -> None:
    """The same of a vision-language model, of whatever type."""
    read_any_config(folder, name)
    _check_rest(folder, name)


def _check_rest(folder: Path, name: str) -> None:
    """What every model has beside its config."""
    checked_weights(folder, name)
    pixels_config(folder, name)
    if not any((folder / file).is_file() for file in TOKENIZER):
        raise UserError(NO_PART.format(name=name, what="tokenizer", files=f"{TOKENIZER[0]} or {TOKENIZER[1]}"))
    for path in tokenizer_files(folder):
        check_file(path, name)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that a tokenizer is made from."""
    return sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})


def is_whole(folder: Path, check: Callable[[Path, str], None] = check_folder) -> bool:
    """Whether a folder can be loaded as far as its files tell."""
    try:
        check(folder, folder.name)
    except UserError:
        return False
    return True


def read_any_config(folder: Path, name: str) -> dict[str, Any]:
    """config.json of a model of any type. Raises `UserError`."""
    if folder.is_file():
        raise UserError(SINGLE_FILE.format(name=name))
    if not folder.is_dir():
        raise UserError(NO_FOLDER.format(name=name))
    if not (folder / CONFIG).is_file():
        inside = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"**/{CONFIG}"))[:3]
        within = f" ({', '.join(inside)} in it may be one)" if inside else ""
        raise UserError(NO_CONFIG.format(name=name, file=CONFIG, within=within))
    return read_config(folder / CONFIG, Config, name, LONGEST_TEXT)


def read_model_config(folder: Path, name: str) -> dict[str, Any]:
    """config.json of a CLIP or SigLIP. Raises `UserError`."""
    config = read_any_config(folder, name)
    kind = config["model_type"]
    if kind not in KINDS:
        words = NAFLEX if kind == "siglip2" else ONE_TOWER if kind.startswith(KINDS) else OTHER_KIND
        raise UserError(words.format(name=name, kind=ascii(kind[:60])[1:-1]))
    return config


def checked_weights(folder: Path, name: str) -> PartWeights:
    """The files of weights that are read, each of them whole. Raises `UserError`."""
    weights = _chosen(path.name for path in folder.iterdir())
    if weights is None:
        begun, pickled = begun_file(folder), first_of(folder, "*.bin")
        words = UNFINISHED if begun else ONLY_PICKLED if pickled else NO_WEIGHTS
        raise UserError(words.format(name=name, stem=STEM_OF_TRANSFORMERS, file=begun or pickled))
    check_shards(folder, weights, name)
    for file in weights.files:
        check_file(folder / file, name)
    return weights


def pixels_config(folder: Path, name: str) -> dict[str, Any]:
    """How a picture becomes pixels, from the first of two files in the library's order. Raises `UserError`."""
    if (folder / PROCESSOR).is_file():
        found: dict[str, Any] | None = read_config(folder / PROCESSOR, Processor, name).get("image_processor")
        if found is not None:
            return found
    if (folder / PREPROCESSOR).is_file():
        return read_config(folder / PREPROCESSOR, Pixels, name)
    raise UserError(NO_PART.format(name=name, what="preprocessing", files=PREPROCESSOR))


def _chosen(names: Iterable[str]) -> PartWeights | None:
    return choose(names, STEM_OF_TRANSFORMERS)
