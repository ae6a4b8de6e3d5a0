"""A run on the Hub: only its files go there, with a card that tells what was measured; refusals are sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sdsdemo.app.hub_upload import REFUSED, push
from sdsdemo.app.model_card import run_card
from sdsdemo.errors import UserError
from sdsdemo.models.delta import read_delta, write_delta
from tests.app.fake_hub import FakeHub, refusal, unreachable

CHANGE = {"value": 0.031, "low": -0.009, "high": 0.07, "n": 400, "gained": 20, "lost": 8, "p": 0.04}
ROW = {"before": {"value": 0.2}, "after": {"value": 0.231}, "change": CHANGE}
RECORD = {
    "objective": "preference",
    "base_card": "mini-clip",
    "steps_done": 40,
    "seed": 0,
    "command": "python -m sdsdemo finetune",
    "trained": "8 LayerNorms",
    "measured": {"sets": {"mini-validation": {"metrics": {"text": ROW, "group_match": ROW}}}},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    hub = FakeHub()
    hub.install(monkeypatch)
    return hub


def written(folder: Path, **story: object) -> None:
    """A model in the folder, with this story."""
    header = {"format": 1, "base": "open_clip:local-dir:checkpoints/mini-clip", "base_hash": "x", **story}
    write_delta(folder / "model.safetensors", {"clip.ln_final.weight": torch.arange(5.0)}, header)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, steps_done=40)
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    (tmp_path / "checkpoint.run").write_bytes(b"x")
    return tmp_path


def test_weights_record_and_card_are_uploaded_and_nothing_else(hub: FakeHub, folder: Path) -> None:
    assert push(folder, "my-clip", "secret") == "https://huggingface.co/ada/my-clip"
    assert [name for name, _ in hub.calls] == ["token", "repo", "model.safetensors", "run.json", "README.md"]
    card = dict(hub.calls)["README.md"].decode()
    assert "20.0 -> 23.1 %" in card
    assert "not distinguishable from no change" in card
    assert "secret" not in card
    assert "group_match" not in card


def test_no_path_of_this_machine_is_uploaded(hub: FakeHub, folder: Path) -> None:
    teacher, data = "diffusers:/home/ada/my-sd", "folder:/home/ada/unreleased"
    record = {"recipe": {"teacher": teacher, "data": data, "lam": 1.0}, "teacher": teacher}
    command = f"python -m sdsdemo finetune --teacher {teacher} --data {data} --out runs/mine"
    (folder / "run.json").write_text(json.dumps(RECORD | record | {"command": command}))
    written(folder, **record)
    push(folder, "my-clip", "secret")
    sent = {name: content for name, content in hub.calls if isinstance(content, bytes)}
    assert set(sent) == {"model.safetensors", "run.json", "README.md"}
    assert [name for name, content in sent.items() if b"/home/ada" in content] == []
    assert b"--teacher diffusers:my-sd --data folder:unreleased --out runs/mine" in sent["README.md"]
    (folder / "there").write_bytes(sent["model.safetensors"])
    tensors, header = read_delta(folder / "there")
    assert tensors["clip.ln_final.weight"].tolist() == [0, 1, 2, 3, 4]
    assert header["teacher"] == "diffusers:my-sd"


@pytest.mark.parametrize(
    ("story", "words"),
    [
        ({"steps_done": 30}, "to step 40, but its model is that of step 30"),
        ({"base": "open_clip:local-dir:clip"}, "export"),
    ],
)
def test_weights_that_nobody_could_use_as_told_stay_here(
    hub: FakeHub, folder: Path, story: dict[str, object], words: str
) -> None:
    written(folder, **story)
    with pytest.raises(UserError, match=words):
        push(folder, "my-clip", "secret")
    assert hub.calls == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 97, "-x", "x-", "my--clip", "clip.git"])
def test_a_name_that_the_hub_does_not_allow_is_refused(hub: FakeHub, folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="letters, digits"):
        push(folder, name, "secret")
    assert hub.calls == []


def test_a_hub_that_is_not_reached_is_no_refusal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    with pytest.raises(UserError, match="not reached"):
        push(folder, "my-clip", "secret")


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (503, "<html>", "The Hub failed (503): try again later."),
        (500, "", "The Hub failed (500): try again later."),
        (429, "", "The Hub takes no more requests from you for now (429): wait some minutes, then try again."),
        (402, "Storage limit\nreached", f"{REFUSED} It said: Storage limit reached"),
        (403, "", REFUSED),
    ],
)
def test_a_fault_of_the_hub_is_not_called_the_users(
    hub: FakeHub, folder: Path, status: int, said: str, told: str
) -> None:
    hub.breaks = refusal(status, said)
    with pytest.raises(UserError) as error:
        push(folder, "my-clip", "secret")
    assert str(error.value) == told


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), RuntimeError("Error while uploading")])
def test_an_upload_that_breaks_off_is_a_sentence(hub: FakeHub, folder: Path, error: Exception) -> None:
    hub.breaks = error
    with pytest.raises(UserError, match="connection broke off"):
        push(folder, "my-clip", "secret")
    assert [name for name, _ in hub.calls] == ["token", "repo"]  # all files or none
    hub.there, hub.breaks = [".gitattributes"], None  # what it left
    assert push(folder, "my-clip", "secret") == "https://huggingface.co/ada/my-clip"


def test_a_model_of_that_name_is_never_changed(hub: FakeHub, folder: Path) -> None:
    hub.there = [".gitattributes", "README.md"]
    with pytest.raises(UserError, match="a model called my-clip already"):
        push(folder, "my-clip", "secret")
    assert "model.safetensors" not in dict(hub.calls)


def test_a_run_without_a_model_and_a_refusal_are_sentences(hub: FakeHub, folder: Path) -> None:
    hub.refuses = True
    with pytest.raises(UserError, match="refused the model"):
        push(folder, "my-clip", "secret")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no model yet"):
        push(folder, "my-clip", "secret")


@pytest.mark.parametrize(
    ("objective", "tags"), [("clip", "[clip, compositionality]"), ("sds", "[clip, compositionality, sds]")]
)
def test_a_card_names_each_tag_once(objective: str, tags: str) -> None:
    record = {"objective": objective, "base_card": "mini-clip", "steps_done": 1, "seed": 0, "command": ""}
    assert f"tags: {tags}\n" in run_card(record, "ada/mine")
