"""The files of a latent text-to-image pipeline: where they are, which ones scoring needs, and how they are loaded."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sdsdemo.errors import UserError
from sdsdemo.models import sources, t5gemma
from sdsdemo.models.configs import kind_of
from sdsdemo.models.denoiser_files import load_exactly, misfit
from sdsdemo.models.finite import check_finite
from sdsdemo.models.pipelines import (
    INDEX,
    NO_SAFETENSORS,
    ONLY_PICKLED,
    SCHEDULER_CONFIG,
    Layout,
    check_configs,
    check_index,
    checked_weights,
    class_named,
    layout_of,
    not_provided,
    read_index,
)
from sdsdemo.models.transformers_module import NEVER_REMOTE
from sdsdemo.models.weights import choose, is_pickled, part_weights, stem_of

OTHER_WEIGHTS = (
    "The weights of the {part} of {name!r} do not fit its config ({key}), and would be replaced by random ones: fetch "
    "or save the model again."
)
NEEDS_SENTENCEPIECE = (
    "The {part} of {name!r} is a SentencePiece model, which takes two more packages to read: "
    "pip install sentencepiece protobuf."
)
HALVES = {torch.float16: ("fp16",), torch.bfloat16: ("bf16", "fp16")}
"""Variants of weights for a precision, best first."""
MISSING = "The {part} of {name!r} is missing or broken: fetch or save the model again."

DtypeOf = Callable[[str], torch.dtype]


def in_single(kind: str) -> torch.dtype:
    """The precision of every class of pipelines where nothing is known of the machine."""
    return torch.float32


def find_pipeline(
    spec: str,
    *,
    revision: str | None = None,
    allow_download: bool = False,
    dtype_of: DtypeOf = in_single,
) -> tuple[Path, str]:
    """Folder and name of a `diffusers:` spec, downloaded where that is allowed and needed. Raises `UserError`.

    dtype_of: the precision that a pipeline of a class runs in.
    """
    family, rest = sources.split_spec(spec)
    if family != "diffusion":
        raise UserError(f"{spec!r} is not a diffusion model. Write one of {sources.SPECS}.")
    name, asked = sources.split_revision(rest)
    if not sources.is_repo(name):
        return sources.local_path(name), sources.called(name)
    wanted = asked or revision
    files = files_to_fetch(name, wanted, allow_download, dtype_of)
    return sources.repo_folder(name, files, allow_download=allow_download, revision=wanted), name


def files_to_fetch(
    repo: str, revision: str | None, allow_download: bool = True, dtype_of: DtypeOf = in_single
) -> list[str]:
    """Names and patterns of what scoring needs of a repository, whose index is fetched. Raises `UserError`."""
    first = [INDEX, SCHEDULER_CONFIG]
    index = check_index(sources.repo_folder(repo, first, allow_download=allow_download, revision=revision), repo)
    layout = layout_of(index)
    weights = weights_in_repo(repo, layout, revision, allow_download, dtype_of(index["_class_name"]))
    return [*configs(layout), *weights]


def missing_mb(repo: str, revision: str | None, dtype_of: DtypeOf = in_single) -> float | None:
    """Megabytes that scoring needs of a repository and that are not here yet; None where the Hub does not say.

    Raises `UserError` as `files_to_fetch` does.
    """
    size_of = sources.repo_sizes(repo, revision)
    wanted = files_to_fetch(repo, revision, True, dtype_of) if size_of else []
    return sources.missing_mb(repo, revision, size_of, wanted)


TOKENIZER_ENDINGS = ("json", "txt", "model", "jinja")
"""Of the files that a tokenizer is read from: its words, and how a question is worded. No code."""


def configs(layout: Layout) -> list[str]:
    """What scoring needs of a repository beside the weights."""
    described = [f"{part}/config.json" for part in layout.with_weights]
    words = [f"{part}/*.{ending}" for part in layout.tokenizers for ending in TOKENIZER_ENDINGS]
    return [INDEX, "scheduler/*.json", *words, *described]


def weights_in_repo(
    repo: str,
    layout: Layout,
    revision: str | None,
    allow_download: bool,
    dtype: torch.dtype = torch.float32,
) -> list[str]:
    """The files of weights to fetch, for a denoiser and text encoders that run in a precision, and a VAE in single.

    Of each part its half precision where it runs in half, else full precision, else the best variant; what has come
    in part is completed. The usual names where the repository cannot be listed: the download says then what is wrong.
    Raises `UserError` for a part of which a listing has no safetensors, before anything is fetched.
    """
    listed = sources.repo_listing(repo, revision) if allow_download else []
    found = []
    for part in layout.with_weights:
        halves = HALVES.get(dtype, ()) if part != "vae" else ()
        inside = [name.removeprefix(f"{part}/") for name in listed if name.startswith(f"{part}/")]
        choices = [choose(inside, stem_of(part), first) for first in (halves, ())]
        files = [[f"{part}/{file}" for file in weights.files] for weights in choices if weights is not None]
        if listed and not files:
            pickled = next(filter(is_pickled, inside), None)
            words = NO_SAFETENSORS if pickled is None else ONLY_PICKLED
            raise UserError(words.format(part=part, name=repo, file=pickled))
        begun = [names for names in files if any(sources.cached_file(repo, [name], revision) for name in names)]
        found += (begun[-1] if begun else files[0]) if files else [f"{part}/{stem_of(part)}.safetensors"]
    return found


def in_half(folder: Path) -> list[str]:
    """The parts of a pipeline here whose weights are there in half precision alone."""
    found = {part: part_weights(folder, part) for part in layout_of(read_index(folder, folder.name)).with_weights}
    return [part for part, weights in found.items() if weights is not None and weights.variant in ("fp16", "bf16")]


def load_part(folder: Path, part: str, named: Any, name: str, dtype: torch.dtype) -> Any:
    """One part by the [library, class] that the index names, in its precision at once, from safetensors only."""
    library, kind = class_named(named, part, name)
    load = _loader(library, kind)
    if load is None:
        raise UserError(not_provided(kind, part, name))
    check_configs(folder, part, name)
    _check_readable(folder / part, part, name)
    options: dict[str, Any] = dict(NEVER_REMOTE) if library == "transformers" else {"local_files_only": True}
    weights = checked_weights(folder, part, name) if kind_of(part) not in ("scheduler", "tokenizer") else None
    if weights is not None:
        precision = "torch_dtype" if library == "diffusers" else "dtype"
        exact = load_exactly(_class(library, kind), folder / part, weights.files, f"{name}/{part}", dtype)
        if exact is not None:
            return exact
        options = options | {
            precision: dtype,
            "use_safetensors": True,
            "variant": weights.variant,
            "output_loading_info": True,
        }
        options |= {"ignore_mismatched_sizes": True} if library == "transformers" else {}
    try:
        loaded = load(folder / part, **options)
    except Exception as error:  # what a strange file makes of the libraries' constructors is an open set
        files = weights.files if weights is not None and library == "diffusers" else ()
        key = misfit(_class(library, kind), folder / part, files) if files else None
        words = MISSING if key is None else OTHER_WEIGHTS
        raise UserError(words.format(part=part, name=name, key=key)) from error
    if weights is None:
        return loaded
    module, info = loaded
    _check_loaded(info, part, name)
    check_finite(module.state_dict(), f"{name}/{part}")
    return module


def _loader(library: str, kind: str) -> Callable[..., Any] | None:
    """`from_pretrained` of a class; None where its library has no such class, or one that is no part of a pipeline.

    A whole pipeline or an auto class of diffusers may run code that lies in its folder.
    """
    if kind == t5gemma.KIND:
        return t5gemma.load_encoder
    found = _class(library, kind)
    if library == "diffusers":
        from diffusers import ModelMixin, SchedulerMixin

        if not (isinstance(found, type) and issubclass(found, ModelMixin | SchedulerMixin)):
            return None
    return getattr(found, "from_pretrained", None)


def _class(library: str, kind: str) -> Any:
    return getattr(importlib.import_module(library), kind, None)


def _check_readable(folder: Path, part: str, name: str) -> None:
    """Raises `UserError` for a tokenizer that only packages can read that are not here, as PixArt's."""
    is_model = kind_of(part) == "tokenizer" and any(folder.glob("*.model")) and not (folder / "tokenizer.json").exists()
    if is_model and not (_is_here("sentencepiece") and _is_here("google.protobuf")):
        raise UserError(NEEDS_SENTENCEPIECE.format(part=part, name=name))


def _is_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _check_loaded(info: Any, part: str, name: str) -> None:
    """Raises `UserError` for weights that the library only warns about: missing, of another size, or left over."""
    kinds = ("mismatched_keys", "missing_keys", *(() if kind_of(part) == "text_encoder" else ("unexpected_keys",)))
    for kind in kinds:
        for key in info.get(kind) or ():
            named = str(key[0] if isinstance(key, tuple | list) else key)
            if "position_ids" not in named:
                raise UserError(OTHER_WEIGHTS.format(part=part, name=name, key=named))
