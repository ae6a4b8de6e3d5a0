"""Loading a transformers model from its folder: only from safetensors, every weight from the file, or a sentence.

Knows no tokenizer and no picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sdsdemo.errors import UserError
from sdsdemo.models.building import builds_alone
from sdsdemo.models.finite import check_finite
from sdsdemo.models.transformers_files import checked_weights

BROKEN = "The config of {name!r} describes no model that transformers can build: fetch or save the model again."
TOO_LARGE = "The config of {name!r} describes a larger model than its weights hold: fetch or save the model again."
MISFIT = (
    "The weights of {name!r} do not fit its config ({key}), and would be replaced by random ones: fetch or save the "
    "model again."
)
NEVER_REMOTE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""For every `from_pretrained`: nothing is downloaded, and no code of a repository is run."""


@builds_alone
def load_module(
    model: Any,
    folder: Path,
    name: str,
    *,
    config_of: Callable[[Path], Any],
    build: Callable[[Any], Any],
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The library's model, from safetensors only. Raises `UserError`.

    model: a class of models, or an auto class. config_of: gives the config of a folder; build: a model of random
    weights for a config, which is only measured.
    """
    import transformers

    transformers.logging.disable_progress_bar()  # its bar over the weights garbles the shell's own lines
    weights = checked_weights(folder, name)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "variant": weights.variant}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True, **NEVER_REMOTE}
    try:
        with _quiet():
            config = config_of(folder)
            with torch.device("meta"):
                numbers = sum(parameter.numel() for parameter in build(config).parameters())
            if numbers > sum((folder / file).stat().st_size for file in weights.files):
                raise UserError(TOO_LARGE.format(name=name))
            module, info = model.from_pretrained(folder, config=config, **options)
    except UserError:
        raise
    except Exception as error:  # what a strange file makes of the library's constructors is an open set
        raise UserError(BROKEN.format(name=name)) from error
    _check_loaded(info, name)
    check_finite(module.state_dict(), name)
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """The library reports weights that do not fit as a table, which are a sentence of ours, and how it would shard."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_loaded(info: Any, name: str) -> None:
    """Raises `UserError` for weights that the library only warns about: missing, of another size, or left over."""
    for kind in ("mismatched_keys", "missing_keys", "unexpected_keys"):
        for key in info.get(kind) or ():
            named = str(key[0] if isinstance(key, tuple | list) else key)
            if "position_ids" not in named:
                raise UserError(MISFIT.format(name=name, key=ascii(named[:80])[1:-1]))
