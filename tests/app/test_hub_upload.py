"""A run on the Hub: only its files go there, with a card that tells what was measured; refusals are sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.hub_upload import push
from sdsdemo.errors import UserError

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


class FakeHub:
    calls: list[tuple[str, Any]] = []  # noqa: RUF012
    refuses = False

    def __init__(self, token: str) -> None:
        self.calls.append(("token", token))

    def whoami(self) -> dict[str, str]:
        return {"name": "ada"}

    def create_repo(self, repo: str, exist_ok: bool) -> None:
        assert not exist_ok
        if self.refuses:
            raise OSError("no")
        self.calls.append(("repo", repo))

    def upload_file(self, path_or_fileobj: Any, path_in_repo: str, repo_id: str) -> None:
        self.calls.append((path_in_repo, path_or_fileobj))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    FakeHub.calls, FakeHub.refuses = [], False
    return FakeHub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    (tmp_path / "checkpoint.run").write_bytes(b"x")
    return tmp_path


def test_weights_record_and_card_are_uploaded_and_nothing_else(hub: type[FakeHub], folder: Path) -> None:
    assert push(folder, "my-clip", "secret") == "https://huggingface.co/ada/my-clip"
    assert [name for name, _ in hub.calls] == ["token", "repo", "model.safetensors", "run.json", "README.md"]
    card = dict(hub.calls)["README.md"].decode()
    assert "20.0 -> 23.1 %" in card
    assert "not distinguishable from no change" in card
    assert "secret" not in card
    assert "group_match" not in card


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 97, "-x"])
def test_a_name_that_the_hub_does_not_allow_is_refused(hub: type[FakeHub], folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="letters, digits"):
        push(folder, name, "secret")
    assert hub.calls == []


def test_a_run_without_a_model_and_a_refusal_are_sentences(hub: type[FakeHub], folder: Path) -> None:
    hub.refuses = True
    with pytest.raises(UserError, match="refused the model"):
        push(folder, "my-clip", "secret")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no model yet"):
        push(folder, "my-clip", "secret")
