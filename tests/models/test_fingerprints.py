"""A model's fingerprint changes with whatever changes a score, and with nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.tables import TEN
from sdsdemo.mini.experiments.verify import EXPERIMENT
from sdsdemo.mini.models.clip import FURTHER
from sdsdemo.models import cards, fingerprints
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header, write_delta
from sdsdemo.settings import ROOT
from sdsdemo.types import Card
from tests import twins

CLIP, BIN, SD, DELTA = "clip", "bin", "sd", "delta"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP, one with a pickled file of weights, a pipeline, and a fine-tuned file of the CLIP."""
    place = tmp_path_factory.mktemp("originals")
    twins.clip_folder(place / CLIP)
    twins.mini_folder(place / SD)
    for folder in (CLIP, SD):
        (place / folder / "knows.json").write_text(json.dumps({"words": ["red"], "look": {}}))
    twins.clip_folder(place / BIN)
    state = load_file(place / BIN / "open_clip_model.safetensors")
    torch.save(state, place / BIN / "open_clip_pytorch_model.bin")
    (place / BIN / "open_clip_model.safetensors").unlink()
    return place


@pytest.fixture
def place(originals: Path, tmp_path: Path) -> Path:
    """A copy of all of them that a test may change."""
    shutil.copytree(originals, tmp_path / "models")
    base = ClipModel.load(f"open_clip:local-dir:{tmp_path / 'models' / CLIP}")
    tensor = base.module.state_dict()["ln_final.weight"] + 1
    write_delta(tmp_path / "models" / f"{DELTA}.safetensors", {"clip.ln_final.weight": tensor}, base_header(base))
    return tmp_path / "models"


def card_of(place: Path, kind: str) -> Card:
    spec = {SD: f"diffusers:{place / SD}", DELTA: f"sds-clip:{place / DELTA}.safetensors"}
    return cards.resolve(spec.get(kind, f"open_clip:local-dir:{place / kind}"))


def in_json(path: str, *keys: str, to: Any) -> Callable[[Path], None]:
    """Change one value of a JSON file."""

    def change(place: Path) -> None:
        value = found = json.loads((place / path).read_text())
        for key in keys[:-1]:
            found = found[key]
        assert found.get(keys[-1]) != to
        found[keys[-1]] = to
        (place / path).write_text(json.dumps(value))

    return change


def one_bit(path: str) -> Callable[[Path], None]:
    """Change the last byte of a file, with its time and size as they were."""

    def change(place: Path) -> None:
        before, content = (place / path).stat(), bytearray((place / path).read_bytes())
        content[-1] ^= 1
        (place / path).write_bytes(content)
        os.utime(place / path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


CLIP_CONFIG = "open_clip_config.json"
CHANGES = {
    "safetensors weights": (CLIP, one_bit("clip/open_clip_model.safetensors")),
    "pickled weights": (BIN, one_bit("bin/open_clip_pytorch_model.bin")),
    "architecture": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "model_cfg", "text_cfg", "heads", to=4)),
    "activation": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "model_cfg", "quick_gelu", to=True)),
    "mean": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "preprocess_cfg", "mean", to=[0.5, 0.5, 0.5])),
    "deviation": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "preprocess_cfg", "std", to=[0.5, 0.5, 0.5])),
    "interpolation": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "preprocess_cfg", "interpolation", to="bicubic")),
    "crop or squash": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "preprocess_cfg", "resize_mode", to="shortest")),
    "fill colour": (CLIP, in_json(f"clip/{CLIP_CONFIG}", "preprocess_cfg", "fill_color", to=127)),
    "tokenizer of a CLIP": (CLIP, in_json("clip/tokenizer.json", "model", "vocab", "red", to=4)),
    "tokenizer's settings": (CLIP, in_json("clip/tokenizer_config.json", "pad_token", to="<unk>")),
    "words that a CLIP knows": (CLIP, in_json("clip/knows.json", "words", to=["blue"])),
    "denoiser's weights": (SD, one_bit("sd/unet/diffusion_pytorch_model.safetensors")),
    "VAE's weights": (SD, one_bit("sd/vae/diffusion_pytorch_model.safetensors")),
    "text encoder's weights": (SD, one_bit("sd/text_encoder/model.safetensors")),
    "denoiser's config": (SD, in_json("sd/unet/config.json", "sample_size", to=8)),
    "VAE's scaling": (SD, in_json("sd/vae/config.json", "scaling_factor", to=0.5)),
    "text encoder's config": (SD, in_json("sd/text_encoder/config.json", "n_heads", to=4)),
    "noise levels": (SD, in_json("sd/scheduler/scheduler_config.json", "beta_end", to=0.02)),
    "what is predicted": (SD, in_json("sd/scheduler/scheduler_config.json", "prediction_type", to="epsilon")),
    "tokenizer of a pipeline": (SD, in_json("sd/tokenizer/tokenizer.json", "model", "vocab", "red", to=4)),
    "class of a part": (SD, in_json("sd/model_index.json", "scheduler", to=["diffusers", "PNDMScheduler"])),
    "words that a pipeline knows": (SD, in_json("sd/knows.json", "words", to=["blue"])),
    "fine-tuned weights": (DELTA, one_bit(f"{DELTA}.safetensors")),
    "weights of a fine-tuned file's base": (DELTA, one_bit("clip/open_clip_model.safetensors")),
    "preprocessing of its base": (DELTA, in_json(f"clip/{CLIP_CONFIG}", "preprocess_cfg", "std", to=[0.5, 0.5, 0.5])),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_that_moves_a_score_changes_the_fingerprint(what: str, place: Path) -> None:
    kind, change = CHANGES[what]
    before, parts = cards.fingerprint(card_of(place, kind)), cards.fingerprint_parts(card_of(place, kind))
    change(place)
    card = card_of(place, kind)
    assert cards.fingerprint(card) != before
    changed = cards.what_changed(parts, cards.fingerprint_parts(card))
    assert changed
    assert " and " not in changed  # only the part that changed is named


def test_a_cards_timestep_range_and_revision_are_in_its_fingerprint(place: Path) -> None:
    card = card_of(place, SD)
    assert cards.fingerprint(card) != cards.fingerprint(replace(card, timestep_range=(0.2, 0.8)))
    absent = cards.resolve("diffusers:some-org/some-model@one")
    assert cards.fingerprint(absent) != cards.fingerprint(cards.resolve("diffusers:some-org/some-model@two"))
    assert cards.fingerprint_parts(absent) == {}


def test_two_commits_of_a_repository_are_two_models(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = place / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    twins.in_hub_cache(cache, "twins/sd", place / SD)
    first = cards.fingerprint_parts(cards.resolve("diffusers:twins/sd"))
    assert first["revision"] == "0" * 40
    root = cache / "models--twins--sd"
    (root / "snapshots" / ("0" * 40)).rename(root / "snapshots" / ("1" * 40))
    (root / "refs" / "main").write_text("1" * 40)
    second = cards.fingerprint_parts(cards.resolve("diffusers:twins/sd"))
    assert cards.what_changed(first, second) == "revision"


@pytest.mark.parametrize("kind", [CLIP, BIN, SD])
def test_a_copy_elsewhere_written_otherwise_is_the_same_model(kind: str, place: Path) -> None:
    before = cards.fingerprint(card_of(place, kind))
    elsewhere = place / "other machine"
    shutil.copytree(place / kind, elsewhere / kind)
    for path in (elsewhere / kind).rglob("*.json"):
        value = json.loads(path.read_text())
        path.write_text(json.dumps(dict(reversed(value.items())), indent=7))
        os.utime(path, (1, 1))
    (elsewhere / kind / "README.md").write_text("A note that changes nothing.")
    assert cards.fingerprint(card_of(elsewhere, kind)) == before


def test_where_a_config_comes_from_and_who_wrote_it_change_nothing(place: Path) -> None:
    before = cards.fingerprint(card_of(place, SD))
    in_json("sd/unet/config.json", "_diffusers_version", to="9.9")(place)
    in_json("sd/text_encoder/config.json", "transformers_version", to="9.9")(place)
    assert cards.fingerprint(card_of(place, SD)) == before


def test_the_librarys_facts_of_a_tag_are_in_its_fingerprint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdsdemo.models import clip_files

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "hub"))
    twins.in_hub_cache(place / "hub", "timm/vit_base_patch32_clip_224.openai", place / CLIP)
    card = cards.resolve("clip-vit-b-32")
    before, known = cards.fingerprint_parts(card), clip_files.get_pretrained_cfg
    assert set(before) == {"weights", "architecture", "preprocessing"}
    monkeypatch.setattr(clip_files, "get_pretrained_cfg", lambda *of: known(*of) | {"interpolation": "bilinear"})
    assert cards.what_changed(before, cards.fingerprint_parts(card)) == "preprocessing"


def test_the_shipped_run_names_its_models_by_their_fingerprints() -> None:
    header = json.loads((ROOT / "assets" / "mini" / "runs" / "mini" / "run.json").read_text())
    assert header["models"] == {name: cards.fingerprint(cards.resolve(name)) for name in header["models"]}


def test_the_experiments_lines_name_models_by_their_weights() -> None:
    """Those of bases that are not shipped are each of one base, and the runs name the same."""
    bases, runs = (read_rows(EXPERIMENT / f"{name}.jsonl") for name in ("bases", TEN))
    named = {row["base"]: row["base_fingerprint"] for row in bases}
    for base in named.keys() - set(FURTHER):
        assert named[base] == cards.weights_fingerprint(cards.resolve(base))
    assert len(set(named.values())) == len(named) == len(bases)
    assert all(row["base_fingerprint"] == named[row["base"]] for row in runs)


def test_words_for_what_changed_name_each_part() -> None:
    old = {"weights": "1", "mean": "2", "tokenizer": "3"}
    assert fingerprints.what_changed(old, old) == ""
    assert fingerprints.what_changed(old, old | {"mean": "x"}) == "mean"
    assert fingerprints.what_changed(old, {"weights": "x", "mean": "y"}) == "weights, mean and tokenizer"
