"""A CLIP's weights from a file of any kind, and onto a module that they fit. Never runs what a file may hold as code.

    epoch_5.pt   {"epoch", "name", "state_dict": {"module.visual...": tensor}}, as open_clip's training writes it
    a bare state dict in .pt, .pth, .bin or .safetensors

What the library does silently where a file does not fit (it stretches positions to another size) is an error here.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.models.weights import check_file, file_words

WRAPPED_IN = ("state_dict", "model_state_dict", "model")
"""Keys under which training writes the weights, beside its own state."""
WITHIN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that wrappers of a layer put there, wherever it stands; no architecture has them."""
POSITION_IDS = "text.transformer.embeddings.position_ids"
CODE = (
    "{file} holds more than numbers, and sdsdemo never runs code from a file: in the program that wrote it, "
    'save only the weights, torch.save({{"state_dict": model.state_dict()}}, FILE).'
)
SCRIPT = (
    "{file} is a TorchScript archive, which holds code, and sdsdemo never runs code from a file: save the "
    "state_dict of its model, or name a tag of open_clip."
)
BROKEN = "{file} cannot be read: it is truncated or damaged. Fetch or copy it again."
NO_STATE = "{file} holds no weights of a model ({why}): name the file that training wrote."
MISFIT = (
    "The weights of {name!r} do not fit its architecture: {why}. Name the architecture that they were made with, or "
    "save the model again."
)


def read_state(path: Path, name: str) -> dict[str, Tensor]:
    """Tensors by name, on the CPU. Raises `UserError` for a file that is damaged, holds code, or holds no weights."""
    check_file(path, name)
    try:
        held = load_file(path) if path.suffix == ".safetensors" else _numbers(path)
    except pickle.UnpicklingError as error:
        raise UserError(CODE.format(file=file_words(path.name, name))) from error
    except Exception as error:  # what a damaged file makes of a reader of pickles is an open set
        words = SCRIPT if "TorchScript" in str(error) else BROKEN
        raise UserError(words.format(file=file_words(path.name, name))) from error
    return _unwrapped(held, path, name)


def put(state: dict[str, Tensor], module: nn.Module, name: str) -> None:
    """Load weights into a module that they fit, all of them. Raises `UserError` naming the first that does not."""
    try:
        fitted = _converted(state, module)
    except Exception as error:  # the library's converters take names as they come
        raise UserError(MISFIT.format(name=name, why="its tensors have other names")) from error
    own = module.state_dict()
    missing = [key for key in own if key not in fitted]
    strange = [key for key in fitted if key not in own]
    other = [key for key in own if key in fitted and own[key].shape != fitted[key].shape]
    if missing or strange or other:
        raise UserError(MISFIT.format(name=name, why=_first_fault(missing, strange, other, own, fitted)))
    try:
        module.load_state_dict(fitted)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(MISFIT.format(name=name, why="a tensor has a different type")) from error


def _numbers(path: Path) -> Any:
    """What torch reads of tensors and plain values."""
    return torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path) or None)


def _unwrapped(held: Any, path: Path, name: str) -> dict[str, Tensor]:
    inner = held
    while isinstance(inner, dict) and (found := [inner[key] for key in WRAPPED_IN if isinstance(inner.get(key), dict)]):
        inner = found[0]
    if not isinstance(inner, dict) or not inner:
        raise UserError(NO_STATE.format(file=file_words(path.name, name), why=f"a {type(inner).__name__}"))
    strange = next((key for key, value in inner.items() if not isinstance(key, str) or not _is_dense(value)), None)
    if strange is not None:
        raise UserError(NO_STATE.format(file=file_words(path.name, name), why=f"{str(strange)[:60]!r} is not a tensor"))
    return without_wrappers(inner)


def without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state by the names of the model itself, whatever it was wrapped in: `module.`, `_orig_mod.`, `model.`.

    Data-parallel training, compiling and a module that holds the model put their names before every one, in any order.
    What is before every name is such a wrapper: a CLIP's temperature lies outside both towers.
    """
    state = {".".join(part for part in key.split(".") if part not in WITHIN): value for key, value in state.items()}
    while len({key.partition(".")[0] for key in state}) == 1 and all("." in key for key in state):
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return state


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()


def _converted(state: dict[str, Tensor], module: Any) -> dict[str, Tensor]:
    """Names and shapes as open_clip's own loading makes them, but for positions of another number."""
    state = convert_state_dict(module, dict(state))
    if "positional_embedding" in state and not hasattr(module, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        own = getattr(module, key, None)
        if own is not None and key in state and state[key].numel() == own.numel():
            state[key] = state[key].reshape(own.shape)
    if getattr(module, "logit_bias", None) is not None and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(module.logit_bias)
    if POSITION_IDS in state and POSITION_IDS not in module.state_dict():
        del state[POSITION_IDS]
    return state


def _first_fault(
    missing: list[str], strange: list[str], other: list[str], own: dict[str, Tensor], given: dict[str, Tensor]
) -> str:
    if other:
        key = other[0]
        return f"{key} is {_size(given[key])}, and {_size(own[key])} in the architecture"
    key = (missing or strange)[0]
    return f"they have no {key}" if missing else f"the architecture has no {key[:80]}"


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
