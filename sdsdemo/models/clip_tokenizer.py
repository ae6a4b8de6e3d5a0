"""The tokenizer of an open_clip CLIP, as the library chooses it, without running code of the model's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer
from torch import Tensor

from sdsdemo.errors import UserError
from sdsdemo.models.clip_files import ClipFiles, find_clip
from sdsdemo.models.tokenizer_checks import check_ids, check_tokenizer
from sdsdemo.models.transformers_module import NEVER_REMOTE
from sdsdemo.models.weights import check_file

OF_SIMPLE = frozenset({"clean", "additional_special_tokens"})
"""Keys of `tokenizer_kwargs` that CLIP's own tokenizer may be given."""
OF_TRANSFORMERS = frozenset({
    "clean", "strip_sep_token", "language",
    "use_fast", "legacy", "padding_side", "add_bos_token", "add_eos_token",
})  # fmt: skip
"""Those that a tokenizer of transformers may be given: open_clip's own, and some that name no file and no code."""
OTHER_KEY = (
    "The config of {name!r} gives its tokenizer {key}, which is not taken from a model's files: remove it from "
    "tokenizer_kwargs, or choose another model."
)
BROKEN = "The tokenizer of {name!r} is missing or broken: fetch or save the model again."
NO_END = (
    "The text encoder of {model} looks for the end of a caption at its highest token id, but its tokenizer gives it "
    "a lower one: save the model again with the end of text as the last word of the vocabulary."
)
PROBE = "a red star left of a blue circle"


def fetch_clip(spec: str) -> None:
    """Downloads config, weights and tokenizer of a spec, without building the model. Raises `UserError`."""
    files = find_clip(spec, allow_download=True)
    tokenizer_of(files, context_length_of(files), allow_download=True)


def context_length_of(files: ClipFiles) -> int:
    """Tokens of a caption, start and end included."""
    return int(files.config["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH))


def tokenizer_of(files: ClipFiles, context_length: int, allow_download: bool) -> Callable[..., Tensor]:
    """open_clip's tokenizer, as its `get_tokenizer` chooses it, but never from the network unless allowed.

    Raises `UserError` where it is missing, broken or of another model, and for a setting that could run code.
    """
    text, name = files.config["text_cfg"], files.name.rpartition("/")[2]
    given = _checked_settings(
        text.get("tokenizer_kwargs") or {}, OF_TRANSFORMERS if files.tokenizer else OF_SIMPLE, name
    )
    if files.tokenizer is None:
        usual: Callable[..., Tensor] = open_clip.get_tokenizer(files.name, context_length=context_length)
        return usual
    if isinstance(files.tokenizer, Path):
        for file in sorted(files.tokenizer.glob("*token*.json")):
            check_file(file, name)
    is_here = isinstance(files.tokenizer, Path) or not allow_download
    try:
        tokenizer = HFTokenizer(
            files.tokenizer,
            context_length=context_length,
            tokenizer_mode=text.get("tokenizer_mode"),
            **given | NEVER_REMOTE | {"local_files_only": is_here},
        )
    except Exception as error:  # what a strange file makes of the tokenizer's constructors is an open set
        raise UserError(BROKEN.format(name=name)) from error
    check_tokenizer(tokenizer.tokenizer, name)
    own: Callable[..., Tensor] = tokenizer
    return own


def _checked_settings(given: dict[str, Any], allowed: frozenset[str], name: str) -> dict[str, Any]:
    """The `tokenizer_kwargs` of a config. Raises `UserError` for a key that is not allowed, as trust_remote_code."""
    for key in given.keys() - allowed:
        raise UserError(OTHER_KEY.format(name=name, key=ascii(key[:60])))
    return given


def check_tokens(tokenizer: Callable[..., Tensor], module: Any, size: int, name: str) -> None:
    """Raises `UserError` for ids beyond the table, or an end that a tower that looks for the highest id would miss."""
    highest = int(tokenizer([PROBE]).max())
    check_ids(highest, size, name)
    pool = getattr(module, "text_pool_type", None) or getattr(getattr(module, "text", None), "pool_type", None)
    end = getattr(getattr(tokenizer, "tokenizer", None), "eos_token_id", None)
    if pool == "argmax" and end is not None and highest != end:
        raise UserError(NO_END.format(model=name))
