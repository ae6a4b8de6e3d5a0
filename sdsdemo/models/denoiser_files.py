"""The parts of a pipeline out of their safetensors, a tensor at a time, at once in the precision and layout of a run.

The library's own loading maps the whole file, and its pages count as memory beside the copies that another precision or
layout makes of them: 7.9 GB where the weights of Stable Diffusion 1 are 4.3 GB. Here no more than one tensor is there
twice. Files that are not exactly what the config asks for are left to the library, which says what does not fit: among
them encoders whose files leave out what the library fills in, as T5's second name of its embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdsdemo.models.finite import check_finite
from sdsdemo.models.frozen import stays_single
from sdsdemo.models.weights import Entry, start_of_data, tensors_of

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a header calls them."""


def load_exactly(kind: Any, folder: Path, files: Sequence[str], name: str, dtype: torch.dtype) -> nn.Module | None:
    """A module of a class of diffusers or transformers. Convolutions are channels last, a sixth quicker on a CPU.

    None where names, shapes or types of the files are not exactly those of its config. Raises `UserError` for weights
    that are not finite.
    """
    place_of = _places([folder / file for file in files if not file.endswith(".json")], name)
    module = _empty(kind, folder)
    if module is None or place_of is None or not _fits(module, place_of):
        return None
    for key in module.state_dict():
        path, entry = place_of[key]
        tensor = _read(path, entry)
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32 if stays_single(module, key, dtype) else dtype)
        check_finite({key: tensor}, name)
        _put(module, key, tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor)
    return module.eval()


def misfit(kind: Any, folder: Path, files: Sequence[str]) -> str | None:
    """The first weight of the files whose shape is not that of their config; None where all are, or cannot be told."""
    place_of = _places([folder / file for file in files if not file.endswith(".json")], folder.name) or {}
    module = _empty(kind, folder)
    asked = {key: list(tensor.shape) for key, tensor in module.state_dict().items()} if module is not None else {}
    return next((key for key in sorted(asked.keys() & place_of) if place_of[key][1]["shape"] != asked[key]), None)


def _places(files: Sequence[Path], name: str) -> dict[str, tuple[Path, Entry]] | None:
    """File and entry of each tensor; None where two files hold the same one, or one has gaps."""
    of = {path: tensors_of(path, name) for path in files}
    found = {key: (path, entry) for path, entries in of.items() for key, entry in entries.items()}
    is_each_once = len(found) == sum(map(len, of.values()))
    return found if is_each_once and all(_is_whole(path, list(of[path].values())) for path in files) else None


def _is_whole(path: Path, entries: Sequence[Entry]) -> bool:
    """Whether the tensors fill a file without gap and overlap, each with the bytes of its shape."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry["data_offsets"]):
        dtype = DTYPES.get(entry["dtype"])
        size = math.prod(entry["shape"]) * dtype.itemsize if dtype is not None else -1
        if size < 0 or entry["data_offsets"] != [end, end + size]:
            return False
        end += size
    return path.stat().st_size == start_of_data(path) + end


def _empty(kind: Any, folder: Path) -> nn.Module | None:
    """The module of the folder's config, its parameters without storage; None where it cannot be made so."""
    from accelerate import init_empty_weights

    try:
        is_diffusers = hasattr(kind, "load_config")
        config: Any = kind.load_config(folder) if is_diffusers else kind.config_class.from_pretrained(folder)
        build = kind.from_config if is_diffusers else kind
        with init_empty_weights(include_buffers=False):
            module: nn.Module = build(config)
        quantized = config.get("quantization_config") if is_diffusers else getattr(config, "quantization_config", None)
    except Exception:  # what strange configs come to is an open set: the library's own loading says what
        return None
    return module if not quantized else None


def _fits(module: nn.Module, place_of: dict[str, tuple[Path, Entry]]) -> bool:
    state = module.state_dict()
    return state.keys() == place_of.keys() and all(
        entry["shape"] == list(state[key].shape) for key, (_, entry) in place_of.items()
    )


def _read(path: Path, entry: Entry) -> Tensor:
    tensor = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
    raw: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    with path.open("rb") as file:
        file.seek(start_of_data(path) + entry["data_offsets"][0])
        file.readinto(raw)
    return tensor


def _put(module: nn.Module, key: str, tensor: Tensor) -> None:
    """Sets the parameter or buffer of that name."""
    place, _, own = key.rpartition(".")
    owner = module.get_submodule(place)
    if own in owner._parameters:
        owner._parameters[own] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[own] = tensor
