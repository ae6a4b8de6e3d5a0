"""What a CLIP takes from the Hub: which files are its own, at which commit, and what needs no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
from safetensors.torch import save_file
from transformers import AutoConfig, RobertaConfig

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer, preload, sources
from sdsdemo.models.clip_hub import WEIGHTS
from sdsdemo.types import Budget
from tests import twins

COMMIT = "0" * 40
SPEC = "open_clip:hf-hub:twins/clip"
OWN = Budget(timesteps=1, noises=1, seed=0, region="own")
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def described(folder: Path, **text: Any) -> Path:
    """A twin whose config says more of its text encoder; without its tokenizer where that is another's."""
    twins.clip_folder(folder)
    held = json.loads((folder / "open_clip_config.json").read_text())
    held["model_cfg"]["text_cfg"] |= text
    (folder / "open_clip_config.json").write_text(json.dumps(held))
    return folder


def said(spec: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        open_scorer(cards.resolve(spec), device="cpu", **options)
    return str(caught.value)


def test_weights_of_transformers_in_the_cache_are_not_this_clip_s(cache: Path, tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    (folder / "open_clip_model.safetensors").rename(folder / "model.safetensors")
    twins.in_hub_cache(cache, "twins/clip", folder)
    card = cards.resolve(SPEC)
    assert (cards.is_downloaded(card), cards.fingerprint_parts(card)) == (False, {})
    assert "not on this machine" in said(SPEC)
    assert "model.safetensors" not in WEIGHTS


@pytest.mark.parametrize("missing", ["open_clip_config.json", "tokenizer.json", "open_clip_model.safetensors"])
def test_a_clip_is_downloaded_once_nothing_is_missing(cache: Path, tmp_path: Path, missing: str) -> None:
    folder = described(tmp_path / "twin", hf_tokenizer_name="twins/clip")
    twins.in_hub_cache(cache, "twins/clip", folder)
    assert cards.is_downloaded(cards.resolve(SPEC))
    (folder / missing).unlink()
    assert not cards.is_downloaded(cards.resolve(SPEC))


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """The config of a text encoder of transformers."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = RobertaConfig(vocab_size=len(twins.VOCABULARY), pad_token_id=0, max_position_embeddings=32, **small)
    config.save_pretrained(tmp_path / "reader")
    return tmp_path / "reader"


def with_reader(folder: Path, reader: Path, name: str) -> Path:
    """A CLIP whose text encoder is that model, named as `name` in its config."""
    described(folder, hf_model_name=str(reader), hf_proj_type="linear", hf_pooler_type="mean_pooler")
    module: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    return described_again(folder, hf_model_name=name)


def described_again(folder: Path, **text: Any) -> Path:
    held = json.loads((folder / "open_clip_config.json").read_text())
    held["model_cfg"]["text_cfg"] |= text
    (folder / "open_clip_config.json").write_text(json.dumps(held))
    return folder


def test_the_config_of_a_text_encoder_comes_from_the_cache(
    cache: Path, tmp_path: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a folder: by its name, transformers would ask the Hub for a newer one."""
    folder = with_reader(tmp_path / "twin", reader, "twins/reader")
    spec = f"open_clip:local-dir:{folder}"
    asked = said(spec)
    assert "needs the config of twins/reader" in asked
    assert "downloads are off" in asked
    twins.in_hub_cache(cache, "twins/reader", reader)
    asked_for = []

    def read(place: str) -> Any:
        asked_for.append(Path(place))
        return AutoConfig.from_pretrained(place)

    monkeypatch.setattr("open_clip.hf_model.AutoConfig", SimpleNamespace(from_pretrained=read))
    found = open_scorer(cards.resolve(spec), device="cpu").score([twins.picture()], ["red star", "blue"], OWN)
    local = described_again(shutil.copytree(folder, tmp_path / "local"), hf_model_name=str(reader))
    other = open_scorer(cards.resolve(f"open_clip:local-dir:{local}"), device="cpu")
    np.testing.assert_array_equal(found.score_IC, other.score([twins.picture()], ["red star", "blue"], OWN).score_IC)
    assert all(place.is_dir() for place in asked_for)
    assert len(asked_for) == 2


def test_a_text_encoder_that_open_clip_does_not_build_is_named(tmp_path: Path, reader: Path) -> None:
    folder = with_reader(tmp_path / "twin", reader, str(reader))
    config = reader / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "evil", "auto_map": {}}))
    assert "is a model of type 'evil'" in said(f"open_clip:local-dir:{folder}")


def test_a_named_clip_knows_what_its_text_encoder_needs(
    cache: Path, tmp_path: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = twins.clip_config(words=True)
    config["text_cfg"] |= {"hf_model_name": "twins/reader", "hf_tokenizer_name": "twins/words"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "twin", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "twin", {"seeded": {"hf_hub": "twins/named/"}})
    twins.in_hub_cache(cache, "twins/named", twins.clip_folder(tmp_path / "named"))
    card = cards.resolve("open_clip:twin/seeded")
    for repo, folder in (("twins/words", tmp_path / "named"), ("twins/reader", reader)):
        assert not cards.is_downloaded(card)
        twins.in_hub_cache(cache, repo, folder)
    assert cards.is_downloaded(card)


def test_a_picture_encoder_is_not_looked_up_elsewhere(tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    held = json.loads((folder / "open_clip_config.json").read_text())
    held["model_cfg"]["vision_cfg"]["timm_model_name"] = "hf-hub:somebody/vit"
    (folder / "open_clip_config.json").write_text(json.dumps(held))
    assert "'hf-hub:somebody/vit'" in said(f"open_clip:local-dir:{folder}")


@pytest.mark.parametrize(
    "name",
    ["https://huggingface.co/timm/ViT", "a/b/c", "a b", "a", "a/b.git", "a--b/c", "a/b@", "-a/b", "a/" + "b" * 97],
)
def test_what_names_no_repository_is_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match="names no repository of the Hugging Face Hub"):
        cards.resolve(f"open_clip:hf-hub:{name}")


@pytest.mark.parametrize("spec", ["transformers:-a/b", "diffusers:a--b/c", "vlm:a/b.git"])
def test_a_name_that_the_hub_would_not_take_is_a_folder_s(spec: str, cache: Path) -> None:
    card = cards.resolve(spec)
    assert card.download is False
    assert said(spec)


def test_a_config_may_name_what_is_no_repository(cache: Path, tmp_path: Path) -> None:
    folder = described(tmp_path / "twin", hf_tokenizer_name="no such name!")
    for file in folder.glob("*token*"):
        file.unlink()
    spec = f"open_clip:local-dir:{folder}"
    assert cards.fingerprint(cards.resolve(spec))
    assert "tokenizer" in said(spec)


def test_a_revision_of_a_repository_is_the_one_that_is_read(cache: Path, tmp_path: Path) -> None:
    twins.in_hub_cache(cache, "twins/clip", described(tmp_path / "twin", hf_tokenizer_name="twins/clip"))
    card = cards.resolve(f"{SPEC}@{COMMIT}")
    assert cards.is_downloaded(card)
    assert cards.fingerprint_parts(card)["revision"] == COMMIT
    assert open_scorer(card, device="cpu")
    assert not cards.is_downloaded(cards.resolve(f"{SPEC}@v2"))
    assert "not on this machine" in said(f"{SPEC}@v2")


def test_a_tokenizer_is_fetched_at_the_commit_of_the_weights(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only where there is none: a newer commit would leave the weights behind."""
    folder, asked = described(tmp_path / "twin", hf_tokenizer_name="twins/clip"), []
    twins.in_hub_cache(cache, "twins/clip", folder)

    def fetch(repo: str, patterns: Any, *, allow_download: bool, revision: str) -> Path:
        asked.append(revision)
        return twins.clip_folder(folder)

    monkeypatch.setattr(sources, "repo_folder", fetch)
    open_scorer(cards.resolve(SPEC), device="cpu", allow_download=True)
    assert asked == []
    (folder / "tokenizer.json").unlink()
    open_scorer(cards.resolve(SPEC), device="cpu", allow_download=True)
    assert asked == [COMMIT]


LISTED = {
    "twins/clip": ["README.md", "open_clip_config.json", "model.safetensors", "open_clip_pytorch_model.bin",
                   "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json", "tokenization_x.py"],
    "twins/named": ["open_clip_pytorch_model.bin"],
    "xlm-roberta-base": ["config.json", "tokenizer.json", "model.safetensors"],
}  # fmt: skip


def test_a_space_gets_weights_config_and_tokenizer(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: LISTED[repo])
    twins.in_hub_cache(cache, "twins/clip", described(tmp_path / "twin", hf_tokenizer_name="elsewhere/words"))
    files = "open_clip_model.safetensors,open_clip_config.json,tokenizer.json,tokenizer_config.json"
    assert preload.preload_entries([SPEC, f"{SPEC}@{COMMIT}"]) == [
        f"twins/clip {files}", f"twins/clip {files} {COMMIT}"
    ]  # fmt: skip


def test_a_space_gets_the_parts_of_other_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    config = twins.clip_config(words=True)
    config["text_cfg"] |= {"hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "twin", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "twin", {"seeded": {"hf_hub": "twins/named/"}})
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: LISTED[repo])
    found = preload.preload_entries(["open_clip:twin/seeded"])
    assert found == ["twins/named open_clip_pytorch_model.bin", "xlm-roberta-base tokenizer.json,config.json"]
    assert all(preload.ENTRY.fullmatch(entry) for entry in found)
