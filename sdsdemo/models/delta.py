"""SDS-CLIP as CLIP plus a delta: one safetensors file that holds only what fine-tuning changed. Trains nothing.

    clip.NAME         a tensor of CLIP's state dict as it is afterwards, in place of the base's
    h_w.weight, .bias the map from image embedding to latent; stored with the rest, not needed to score

The header is one JSON string. It names the base, a hash of the base's weights, and its exact activation and
preprocessing: on any other model the file is refused. Files are written aside, then renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.clip import ClipModel, ClipScorer
from sdsdemo.models.delta_header import FORMAT, KEY, REQUIRED, read_header
from sdsdemo.models.domain import Domain
from sdsdemo.models.finite import check_finite
from sdsdemo.runtime.files import write_aside
from sdsdemo.types import Card

CLIP, MAP = "clip.", "h_w."
DISK = "the disk may be full"
ARCHITECTURE = ("activation", "preprocess")
"""Facts of `ClipModel` that must be the same and that the hash of the weights does not see."""
OTHER_BASE = (
    "{title} was fine-tuned from weights of {base} other than those here, so its scores would mean nothing: "
    "fetch the base again, or use the file with the model that it was made from."
)


def base_header(base: ClipModel) -> dict[str, Any]:
    """The header's part on the base, from the base as it was *before* training."""
    return {
        "format": FORMAT,
        "base": base.spec,
        "base_hash": hash_of_weights(base.module),
        "architecture": {key: base.facts[key] for key in ARCHITECTURE},
    }


def changed_tensors(before: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Tensors of `module` that differ from a state dict taken before training, by their names in a delta file."""
    after = module.state_dict()
    return {f"{CLIP}{name}": after[name] for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def interpolate_weights(before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """before + share (after - before), for every floating-point tensor of `after`.

    A share below 1 keeps much of what was learned and recovers what the base could do: WiSE-FT, Wortsman et al. 2022,
    arXiv 2109.01903.
    """
    numbers = {name: tensor for name, tensor in after.items() if tensor.is_floating_point()}
    return {name: torch.lerp(before[name], tensor, share) for name, tensor in numbers.items()}


def write_delta(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes a delta whole or not at all: aside first, then renamed.

    header: `base_header` and whatever tells the file's story (teacher, objective, hyper-parameters, seed, data, steps,
    wall time, metrics, versions), as JSON can hold it. Raises `ValueError` for a header without the base, or a tensor
    of another name, and `OSError` if the disk does not take it.
    """
    missing = [key for key in REQUIRED if key not in header]
    if missing:
        raise ValueError(f"header must hold {', '.join(REQUIRED)}; {', '.join(missing)} was missing")
    strange = [name for name in tensors if not name.startswith((CLIP, MAP))]
    if strange:
        raise ValueError(f"tensors must be named {CLIP}... or {MAP}...; there was {strange[0]!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with write_aside(path) as aside:
        save_tensors(plain, aside, {KEY: json.dumps(header, sort_keys=True, allow_nan=False)})


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file. Raises `OSError` if the disk does not take it."""
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:  # what safetensors says of a full disk
        raise OSError(errno.ENOSPC, DISK) from error


def read_delta(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a delta. Raises `UserError` for a file that is not one of our deltas."""
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118 the file is no mapping
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{path.name!r} is not a whole safetensors file: copy or save it again.") from error


def load_sds_clip(card: Card, *, device: torch.device | str = "cpu", allow_download: bool = False) -> ClipScorer:
    """The scorer of an `sds-clip:` card: the base that the header names, with the delta's tensors in place.

    Raises `UserError` for a missing or broken file, and for a base with other weights or another architecture.
    """
    path = sources.local_path(sources.split_spec(card.spec)[1])
    tensors, header = read_delta(path)
    base = ClipModel.load(header["base"], device=device, allow_download=allow_download)
    apply_delta(base, tensors, header, title=card.title)
    folder = sources.folder_named_by(header["base"])
    return ClipScorer(card, base, Domain.read(folder) if folder is not None else None)


def apply_delta(base: ClipModel, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, title: str) -> None:
    """Puts a delta's tensors into a freshly loaded base. Raises `UserError`, and then leaves the base as it was."""
    architecture = {key: base.facts[key] for key in ARCHITECTURE}
    if hash_of_weights(base.module) != header["base_hash"] or header.get("architecture", architecture) != architecture:
        raise UserError(OTHER_BASE.format(title=title, base=base.called))
    own = base.module.state_dict()
    changed = {name.removeprefix(CLIP): tensor for name, tensor in tensors.items() if name.startswith(CLIP)}
    if any(name not in own or own[name].shape != tensor.shape for name, tensor in changed.items()):
        raise UserError(f"{title} holds tensors that {base.called} does not have: the file is broken, save it again.")
    check_finite(changed, title)
    with torch.no_grad():
        for name, tensor in changed.items():
            own[name].copy_(tensor)


def hash_of_weights(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in the order of the names, wherever it lies."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
