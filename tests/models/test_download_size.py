"""What `fetch` says a download takes: the files that it brings, as the Hub lists them; else that it is not known."""

from __future__ import annotations

import pytest

from sdsdemo import models
from sdsdemo.app.workbench import Workbench
from sdsdemo.cli import commands
from sdsdemo.models import cards, sources
from sdsdemo.models.clip_hub import WEIGHTS, weights_on_hub
from sdsdemo.settings import Settings

BIG = "open_clip:ViT-bigG-14/laion2b_s39b_b160k"
SHARDS = dict.fromkeys([f"model-0000{k}-of-00002.safetensors" for k in (1, 2)], 8_300_000_000)
CHAT = {"config.json": 1_000, **SHARDS, "model.safetensors.index.json": 3_000, "pytorch_model.bin": 16_600_000_000}
CLIP = dict.fromkeys([*WEIGHTS, "model.safetensors"], 10_000_000_000)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, int]]:
    """Bytes by file and repository, of which nothing is here yet."""
    weights = weights_on_hub(BIG)
    assert weights is not None
    held = {"org/chat": dict(CHAT), weights.repo: dict(CLIP)}
    monkeypatch.setattr(sources, "repo_sizes", lambda repo, revision=None: held.get(repo, {}))
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: [*held.get(repo, {})])
    monkeypatch.setattr(sources, "cached_file", lambda repo, names, revision=None: None)
    return held


@pytest.mark.parametrize(("spec", "gigabytes"), [("transformers:org/chat", 16.6), ("vlm:org/chat", 16.6), (BIG, 10.0)])
def test_the_size_is_that_of_the_files_that_come(spec: str, gigabytes: float, hub: object) -> None:
    assert models.download_mb(cards.resolve(spec)) == pytest.approx(1000 * gigabytes, rel=1e-3)


@pytest.mark.parametrize("spec", ["transformers:org/chat", BIG])
def test_a_size_that_nobody_says_is_not_made_up(
    spec: str, hub: dict[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.clear()
    assert models.download_mb(cards.resolve(spec)) is None
    assert models.download_mb(cards.resolve("clip-vit-b-32")) == cards.resolve("clip-vit-b-32").size_mb
    said: list[str] = []
    monkeypatch.setattr(commands.adapters, "fetch", lambda card, **_: [])
    commands.fetch_model(Workbench(Settings.from_environment({})), spec, said.append)
    assert "of a size that the Hub does not say" in said[0]


def test_only_a_card_tells_the_size_before_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "cached_file", lambda repo, names, revision=None: None)
    settings = Settings.from_environment({"SDSDEMO_ALLOW_DOWNLOAD": "off"})
    for name, size in (("clip-vit-b-32", "fetch clip-vit-b-32` (0.6 GB), or set"), (BIG, f"fetch {BIG}`, or set")):
        assert size in cards.availability(cards.resolve(name), settings).next_step
