"""Fine-tuned files: what is stored, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header, changed_tensors, hash_of_weights, read_delta, read_header, write_delta
from sdsdemo.settings import Settings
from sdsdemo.types import Budget
from tests import twins

CAPTIONS = ["red star left the blue circle", "blue star left the red circle"]
BUDGET = Budget(timesteps=1, noises=1, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.clip_folder(tmp_path_factory.mktemp("base") / "twin")


@pytest.fixture
def base(folder: Path) -> ClipModel:
    return ClipModel.load(f"open_clip:local-dir:{folder}")


def score(spec: str) -> np.ndarray:
    return open_scorer(cards.resolve(spec), device="cpu").score([twins.picture()], CAPTIONS, BUDGET).score_IC


def trained(base: ClipModel, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Moves the image tower's LayerNorms and writes the delta."""
    header = base_header(base) | {"objective": "sds", "lambda": 0.001, "seed": 3}
    before = {name: tensor.clone() for name, tensor in base.module.state_dict().items()}
    with torch.no_grad():
        for name, parameter in base.module.named_parameters():
            if name.startswith("visual") and ".ln_" in name:
                parameter.add_(torch.linspace(0, 1, len(parameter)))
    tensors = changed_tensors(before, base.module) | {"h_w.weight": torch.ones(3, 2)}
    write_delta(path, tensors, header)
    return tensors, header


def test_a_delta_of_zero_steps_changes_no_score(base: ClipModel, folder: Path, tmp_path: Path) -> None:
    write_delta(tmp_path / "zero.safetensors", {}, base_header(base))
    expected = score(f"open_clip:local-dir:{folder}")
    np.testing.assert_array_equal(score(f"sds-clip:{tmp_path / 'zero.safetensors'}"), expected)


def test_a_saved_and_loaded_delta_scores_as_the_trained_model(base: ClipModel, folder: Path, tmp_path: Path) -> None:
    trained(base, tmp_path / "tuned.safetensors")
    with torch.no_grad():
        expected = 100 * base.encode_images([twins.picture()]) @ base.encode_texts(CAPTIONS).T
    scores = score(f"sds-clip:{tmp_path / 'tuned.safetensors'}")
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert not np.allclose(scores, score(f"open_clip:local-dir:{folder}"), atol=1e-2)


def test_tensors_and_header_come_back_as_they_were_written(base: ClipModel, tmp_path: Path) -> None:
    tensors, header = trained(base, tmp_path / "tuned.safetensors")
    read, read_back = read_delta(tmp_path / "tuned.safetensors")
    assert read_back == header == read_header(tmp_path / "tuned.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_only_what_changed_is_stored(base: ClipModel, tmp_path: Path) -> None:
    trained(base, tmp_path / "tuned.safetensors")
    names = set(load_file(tmp_path / "tuned.safetensors")) - {"h_w.weight"}
    assert len(names) >= 6
    assert all(name.startswith("clip.visual.") and ".ln_" in name for name in names)


def test_the_hash_depends_on_values_and_names_alone(folder: Path) -> None:
    one, two = (ClipModel.load(f"open_clip:local-dir:{folder}").module for _ in range(2))
    first = hash_of_weights(one)
    assert first == hash_of_weights(two)
    assert len(first) == 64
    with torch.no_grad():
        two.visual.ln_post.bias[0] += 1e-6
    assert hash_of_weights(two) != first
    inner = torch.nn.Linear(1, 1)
    assert hash_of_weights(torch.nn.ModuleDict({"a": inner})) != hash_of_weights(inner)


def test_another_base_is_refused_with_a_sentence(base: ClipModel, folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "twin"
    shutil.copytree(folder, moved)
    trained(ClipModel.load(f"open_clip:local-dir:{moved}"), tmp_path / "tuned.safetensors")
    save_file(
        twins.clip_module(twins.clip_config(words=True), seed=9).state_dict(), moved / "open_clip_model.safetensors"
    )
    with pytest.raises(UserError, match="other than those here") as caught:
        score(f"sds-clip:{tmp_path / 'tuned.safetensors'}")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "changes"), [("preprocess_cfg", {"mean": [0.0, 0.0, 0.0]}), ("model_cfg", {"quick_gelu": True})]
)
def test_a_base_with_other_preprocessing_or_activation_is_refused(
    folder: Path, tmp_path: Path, part: str, changes: dict[str, Any]
) -> None:
    moved = tmp_path / "twin"
    shutil.copytree(folder, moved)
    trained(ClipModel.load(f"open_clip:local-dir:{moved}"), tmp_path / "tuned.safetensors")
    config = json.loads((moved / "open_clip_config.json").read_text())
    config[part] |= changes
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="other than those here"):
        score(f"sds-clip:{tmp_path / 'tuned.safetensors'}")


@pytest.mark.parametrize("tensors", [{"clip.nowhere": torch.ones(2)}, {"clip.visual.ln_post.weight": torch.ones(5)}])
def test_tensors_that_the_base_does_not_have_are_refused(
    base: ClipModel, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    write_delta(tmp_path / "odd.safetensors", tensors, base_header(base))
    with pytest.raises(UserError, match="broken"):
        score(f"sds-clip:{tmp_path / 'odd.safetensors'}")


def test_files_that_are_no_delta_are_one_sentence_without_a_path(base: ClipModel, tmp_path: Path) -> None:
    save_file({"clip.x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    write_delta(tmp_path / "later.safetensors", {}, base_header(base) | {"format": 99})
    trained(base, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-8])
    (tmp_path / "text.safetensors").write_text("no tensors here")
    for name in ("foreign", "later", "cut", "text", "missing"):
        with pytest.raises(UserError, match=name) as caught:
            score(f"sds-clip:{tmp_path / name}.safetensors")
        assert str(tmp_path) not in str(caught.value)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    base: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuned.safetensors"
    trained(base, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_delta(path, {}, base_header(base) | {"loss": float("nan")})
    monkeypatch.setattr("os.replace", _full_disk)
    with pytest.raises(OSError, match="full"):
        write_delta(path, {}, base_header(base))
    monkeypatch.setattr("sdsdemo.models.delta.save_file", _full_disk_for_safetensors)
    with pytest.raises(OSError, match="full"):
        write_delta(path, {}, base_header(base))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_aside_and_then_renamed(
    base: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while writing must not leave half a file under the real name."""
    seen: list[str] = []
    monkeypatch.setattr("sdsdemo.models.delta.save_file", lambda tensors, file, metadata: seen.append(Path(file).name))
    with pytest.raises(FileNotFoundError):
        write_delta(tmp_path / "tuned.safetensors", {}, base_header(base))
    assert len(seen) == 1
    assert seen[0].startswith("tuned.safetensors.")
    assert seen[0].endswith(".part")
    assert not list(tmp_path.iterdir())


def test_a_delta_must_name_its_base_and_its_tensors(base: ClipModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="base_hash"):
        write_delta(tmp_path / "x.safetensors", {}, {"format": 1, "base": base.spec})
    with pytest.raises(ValueError, match="visual"):
        write_delta(tmp_path / "x.safetensors", {"visual.ln": torch.ones(1)}, base_header(base))


def test_the_words_that_the_base_knows_bound_the_fine_tuned_model_too(
    base: ClipModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("sdsdemo.models.domain.Domain.read", lambda place: asked.append(place))
    write_delta(tmp_path / "zero.safetensors", {}, base_header(base))
    score(f"sds-clip:{tmp_path / 'zero.safetensors'}")
    assert asked == [folder]


def _full_disk_for_safetensors(*_: object, **options: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def _full_disk(*_: object) -> None:
    raise OSError("the disk is full")


@pytest.mark.usefixtures("no_network")
def test_a_file_of_one_s_own_needs_the_base_that_it_names(
    base: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its card's name where it has one, by its spec otherwise; none where the file is broken."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine.safetensors"
    for spec, name in (("open_clip:ViT-B-32-quickgelu/openai", "clip-vit-b-32"), ("open_clip:hf-hub:a/b", None)):
        write_delta(path, {}, base_header(base) | {"base": spec})
        card = cards.resolve(f"sds-clip:{path}")
        assert card.base == (name or spec)
        state = cards.availability(card, Settings.from_environment({}))
        assert not state.can_run
        assert "changes another model" in state.reason
        assert "fetch" in state.next_step
    path.write_bytes(b"")
    broken = cards.resolve(f"sds-clip:{path}")
    assert broken.base is None
    assert "mine.safetensors" in cards.availability(broken, Settings.from_environment({})).reason


def test_a_base_whose_folder_moved_is_found_beside_the_file(tmp_path: Path) -> None:
    model = ClipModel.load(f"open_clip:local-dir:{twins.clip_folder(tmp_path / 'old' / 'my clip')}")
    tensors = {"clip.ln_final.weight": model.module.state_dict()["ln_final.weight"] + 1}
    write_delta(tmp_path / "new" / "m.safetensors", tensors, base_header(model))
    spec = f"sds-clip:{tmp_path / 'new' / 'm.safetensors'}"
    expected = score(spec)
    (tmp_path / "old" / "my clip").rename(tmp_path / "away")
    state = cards.availability(cards.resolve(spec), Settings.from_environment({}))
    assert "Put that folder beside the fine-tuned file" in state.next_step
    (tmp_path / "away").rename(tmp_path / "new" / "my clip")
    np.testing.assert_array_equal(score(spec), expected)


@pytest.mark.parametrize("spec", ["open_clip:ViT-B-32/{}/w.pt", "open_clip:local-dir:{}/w.pt"])
def test_a_base_in_a_file_that_is_gone_is_said_and_found_beside(spec: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    write_delta(tmp_path / "m.safetensors", {}, {"format": 1, "base": spec.format(tmp_path / "old"), "base_hash": "x"})
    card = cards.resolve(f"sds-clip:{tmp_path / 'm.safetensors'}")
    state = cards.availability(card, Settings.from_environment({}))
    assert not state.can_run
    assert "m changes another model. There is no file of weights called 'w.pt'" in state.reason
    assert "Put that file beside the fine-tuned file" in state.next_step
    (tmp_path / "w.pt").write_bytes(b"")
    card = cards.resolve(f"sds-clip:{tmp_path / 'm.safetensors'}")
    assert card.base == spec.format(tmp_path)
    assert cards.availability(card, Settings.from_environment({})).can_run
