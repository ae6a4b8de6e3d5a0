"""Damaged and reshaped model files, by seed: each is read, or refused in one sentence; code in them never runs."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdsdemo.errors import UserError
from sdsdemo.models import cards, clip_files
from sdsdemo.models.checkpoints import put, read_state
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.configs import CONFIG_OF, read_config
from sdsdemo.models.delta import apply_delta, base_header, read_delta, write_delta
from sdsdemo.models.domain import Domain
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.pipelines import Layout, read_index
from sdsdemo.models.weights import check_file, check_shards, part_weights
from sdsdemo.settings import CHECKPOINTS
from tests import twins

TIMES = 500
WHOLE = 12
"""Of them, models that are loaded whole as well, by file."""
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 64, 10**9, 10**30, 1.5, 1e308, float("nan"), float("inf"), "x", "\u2028\ud83d", [], {},
    [1, 2], [[[]]], {"a": 1}, "__BIG__", "__DEEP__",
)  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def reshaped(text: bytes, rng: random.Random) -> bytes:
    """The same JSON with a value of another type, without a key, or with a number or depth that nobody can use."""
    value = json.loads(text)
    place = rng.choice(list(places(value)))
    found = value
    for key in place[:-1]:
        found = found[key]
    if rng.random() < 0.2:
        del found[place[-1]]
    else:
        found[place[-1]] = rng.choice(ODD)
    new = json.dumps(value)
    return new.replace('"__BIG__"', "9" * 5000).replace('"__DEEP__"', "[" * 3000 + "]" * 3000).encode()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, with a changed bit, a lost piece, or other bytes at the start."""
    kind, at = rng.randrange(4), rng.randrange(max(1, min(len(content), 4000)))
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + content[at + rng.randrange(1, 50) :]
    return bytes(rng.randrange(256) for _ in range(16)) + content[16:]


def in_json(text: bytes, rng: random.Random) -> bytes:
    return reshaped(text, rng) if rng.random() < 0.8 else damaged(text, rng)


def in_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header is another one: types, shapes, places, story, or a length that is not true."""
    length = struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.25:
        return damaged(content, rng)
    header = json.loads(content[8 : 8 + length])
    told = header.get("__metadata__", {}).get("sdsdemo")
    if told and rng.random() < 0.6:
        header["__metadata__"]["sdsdemo"] = reshaped(told.encode(), rng).decode()
        new = json.dumps(header).encode()
    else:
        new = reshaped(json.dumps(header).encode(), rng)
    size = len(new) if rng.random() < 0.9 else rng.choice([0, 1, 2**40, 2**63])
    return struct.pack("<Q", size) + new + content[8 + length :]


def hurt(path: Path, change: Callable[[bytes, random.Random], bytes], load: Callable[[], object]) -> int:
    """`TIMES` changed versions of a file, each loaded; how many were refused. Any other error fails the test."""
    before, said = path.read_bytes(), []
    for seed in range(TIMES):
        path.write_bytes(change(before, random.Random(f"{path.name} {seed}")))
        try:
            load()
        except UserError as error:
            said.append(str(error))
    path.write_bytes(before)
    "".join(said).encode()
    assert not [sentence for sentence in said if "\n" in sentence]
    return len(said)


def sometimes(load: Callable[[], object], first: Callable[[], object]) -> Callable[[], object]:
    """The quick check always, and the whole model for a few of those that pass it."""
    left = [WHOLE]

    def check() -> None:
        first()
        if left[0]:
            left[0] -= 1
            load()

    return check


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.clip_folder(tmp_path_factory.mktemp("fuzz") / "clip")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.mini_folder(tmp_path_factory.mktemp("fuzz") / "sd")


@pytest.mark.parametrize("file", ["open_clip_config.json", "tokenizer_config.json"])
def test_a_clips_configs_of_any_shape_are_read_or_refused(clip: Path, file: str) -> None:
    spec = f"open_clip:local-dir:{clip}"

    def quick() -> object:
        return cards.resolve(spec), clip_files.find_clip(spec, False)

    assert hurt(clip / file, in_json, sometimes(lambda: ClipModel.load(spec), quick)) > 5


def test_a_clips_weights_of_any_shape_are_read_or_refused(clip: Path) -> None:
    module = ClipModel.load(f"open_clip:local-dir:{clip}").module
    path = clip / "open_clip_model.safetensors"
    assert hurt(path, in_header, lambda: put(read_state(path, "twin"), module, "twin")) > TIMES // 2


@pytest.mark.slow
@pytest.mark.parametrize("part", Layout().parts)
def test_a_pipelines_configs_of_any_shape_are_read_or_refused(pipeline: Path, part: str) -> None:
    file, shape = CONFIG_OF[part]
    spec, path = f"diffusers:{pipeline}", pipeline / part / file

    def quick() -> object:
        return cards.resolve(spec), read_config(path, shape, "twin")

    assert hurt(path, in_json, sometimes(lambda: load_diffusion(spec), quick)) > 10


def test_a_pipelines_index_of_any_shape_is_read_or_refused(pipeline: Path) -> None:
    load = sometimes(lambda: load_diffusion(f"diffusers:{pipeline}"), lambda: read_index(pipeline, "twin"))
    assert hurt(pipeline / "model_index.json", in_json, load) > 10


@pytest.mark.slow
def test_a_pipelines_weights_of_any_shape_are_read_or_refused(pipeline: Path) -> None:
    path = pipeline / "vae" / "diffusion_pytorch_model.safetensors"
    load = sometimes(lambda: load_diffusion(f"diffusers:{pipeline}"), lambda: check_file(path, "twin"))
    assert hurt(path, in_header, load) > TIMES // 10


def test_an_index_of_shards_of_any_shape_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    stem = "diffusion_pytorch_model"
    shard, index = f"{stem}-00001-of-00001.safetensors", f"{stem}.safetensors.index.json"
    (tmp_path / "unet" / shard).write_bytes(b"x")
    (tmp_path / "unet" / index).write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard, "b": shard}}))
    found = part_weights(tmp_path, "unet")
    assert found is not None
    assert hurt(tmp_path / "unet" / index, in_json, lambda: check_shards(tmp_path / "unet", found, "twin")) > TIMES // 2


def test_what_a_model_knows_of_any_shape_is_read_or_refused(tmp_path: Path) -> None:
    shutil.copy(CHECKPOINTS / "mini-clip" / "knows.json", tmp_path / "knows.json")
    assert hurt(tmp_path / "knows.json", in_json, lambda: Domain.read(tmp_path)) > 10


def test_fine_tuned_files_of_any_shape_are_read_or_refused(clip: Path, tmp_path: Path) -> None:
    base = ClipModel.load(f"open_clip:local-dir:{clip}")
    path = tmp_path / "delta.safetensors"
    write_delta(path, {"clip.ln_final.weight": torch.zeros(16)}, base_header(base))
    card = cards.resolve(f"sds-clip:{path}")

    def load() -> None:
        cards.fingerprint(card)
        tensors, header = read_delta(path)
        apply_delta(base, tensors, header, title="delta")

    assert hurt(path, in_header, load) > TIMES // 2


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_any_shape_are_read_or_refused(clip: Path, tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "epoch_5.pt"
    state = load_file(clip / "open_clip_model.safetensors")
    module = ClipModel.load(f"open_clip:local-dir:{clip}").module
    held = {"epoch": 5, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    assert hurt(path, damaged, lambda: put(read_state(path, "twin"), module, "twin")) > TIMES // 4


NO_WEIGHTS: tuple[Any, ...] = (
    None, 5, "x", [], {}, {"state_dict": None}, {"state_dict": {}}, {1: torch.zeros(1)}, {"a": "b"}, torch.zeros(3),
    {"state_dict": {"a": torch.zeros(2).to_sparse()}},
)  # fmt: skip


@pytest.mark.parametrize("held", NO_WEIGHTS, ids=repr)
def test_a_checkpoint_of_something_else_is_refused(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(UserError, match="no weights of a model"):
        read_state(tmp_path / "a.pt", "twin")
