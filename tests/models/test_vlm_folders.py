"""Folders of vision-language models that are not whole: refused in a sentence; and what a fingerprint follows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import Florence2Config, T5Gemma2Config

from sdsdemo.errors import UserError
from sdsdemo.models import cards
from sdsdemo.models.transformers_files import pixels_config
from sdsdemo.models.vlm import context_length_of
from sdsdemo.settings import Settings
from tests.models import vlm_twins
from tests.models.vlm_twins import in_json, scorer_of


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlm_twins.save(tmp_path_factory.mktemp("vlm") / "idefics3")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(original, tmp_path / "twin")


def _in_text_tower(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        held = json.loads((folder / "config.json").read_text())
        held["text_config"] |= changes
        (folder / "config.json").write_text(json.dumps(held))

    return change


def _without(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def _template(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "chat_template.jinja").write_text(text) and None


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _lost_shard(folder: Path) -> None:
    vlm_twins.save(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    next(folder.glob("*-of-*.safetensors")).unlink()


def _no_yes(folder: Path) -> None:
    """The word in two tokens: its last merge is gone."""
    held = json.loads((folder / "tokenizer.json").read_text())
    spelled = {"Yes", "yes", "ĠYes", "Ġyes"}
    held["model"]["merges"] = [pair for pair in held["model"]["merges"] if "".join(pair) not in spelled]
    (folder / "tokenizer.json").write_text(json.dumps(held))


def _tokenizer_of_another(folder: Path) -> None:
    other = vlm_twins.tokenizer([*vlm_twins.CORPUS, "quick brown foxes jump over lazy dogs beside the river bank"])
    other.save_pretrained(folder)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (_without("config.json"), "holds no config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "config.json of 'twin'"),
    "no weights": (_without("model.safetensors"), "holds no whole model.safetensors"),
    "cut weights": (_cut, "truncated"),
    "pickled weights": (_pickled, "never runs"),
    "lost shard": (_lost_shard, "is missing, one of the parts"),
    "a clip": (in_json("config.json", model_type="clip"), "answers no questions"),
    "a captioner": (in_json("config.json", model_type="blip"), "can build|do not fit"),
    "other width": (_in_text_tower(intermediate_size=40), "do not fit its config"),
    "more layers": (_in_text_tower(num_hidden_layers=3), "do not fit its config"),
    "huge": (_in_text_tower(hidden_size=4096), "larger model"),
    "no tokenizer": (_without("tokenizer.json"), "holds no tokenizer"),
    "no preprocessing": (_without("processor_config.json"), "holds no preprocessing"),
    "no processor": (in_json("processor_config.json", processor_class="NoSuch"), "processor of 'twin' is missing"),
    "no template": (_without("chat_template.jinja"), "no chat template"),
    "template without question": (_template("{{ messages[0]['role'] }}<image>"), "no chat template"),
    "template that is broken": (_template("{{ nothing.at.all }}"), "no chat template"),
    "template without picture": (_template("{{ messages[0]['content'][1]['text'] }}"), "does not prepare"),
    "no yes": (_no_yes, "no token of its own for the answer 'yes'"),
    "tokenizer of another": (_tokenizer_of_another, "knows only"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_whole_is_one_sentence(folder: Path, fault: str) -> None:
    harm, sentence = FAULTS[fault]
    harm(folder)
    with pytest.raises(UserError, match=sentence) as caught:
        scorer_of(folder)
    assert str(folder.parent) not in str(caught.value)
    assert "twin" in str(caught.value)


@pytest.mark.parametrize("kind", ["blip2_t5", "pix2struct"])
def test_a_kind_without_a_chat_template_is_one_sentence(kind: str, tmp_path: Path) -> None:
    folder = vlm_twins.save(tmp_path / "twin", kind=kind)
    with pytest.raises(UserError, match="'twin' has no chat template"):
        scorer_of(folder)


def test_a_text_model_whose_config_names_no_length_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text model of 'twin' cannot be asked"):
        scorer_of(vlm_twins.save(tmp_path / "twin", kind="llava_bloom"))


def test_a_text_model_with_an_encoder_of_its_own_is_one_sentence() -> None:
    for config in (T5Gemma2Config(), Florence2Config()):
        assert config.get_text_config().max_position_embeddings
        with pytest.raises(UserError, match="text model of 'twin' cannot be asked"):
            context_length_of(config, "twin")


@pytest.mark.parametrize("fault", ["no weights", "pickled weights", "no tokenizer", "no preprocessing"])
def test_what_is_missing_is_known_before_loading(folder: Path, fault: str) -> None:
    harm, sentence = FAULTS[fault]
    harm(folder)
    card = cards.resolve(f"vlm:{folder}")
    state = cards.availability(card, Settings.from_environment({}))
    assert not state.can_run
    assert sentence in state.reason
    assert sentence in cards.why_unreadable(card)


CHANGES = {
    "weights": lambda folder: vlm_twins.save(folder, seed=1),
    "architecture": _in_text_tower(hidden_act="gelu"),
    "preprocessing": in_json("processor_config.json", image_processor={"resample": 2}),
    "processor": in_json("processor_config.json", image_seq_len=9),
    "tokenizer": _template(vlm_twins.TEMPLATE.replace("Assistant", "assistant")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_follows_what_moves_a_score(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    card = cards.resolve(f"vlm:{folder}")
    before = cards.fingerprint_parts(card)
    CHANGES[what](folder)
    assert cards.what_changed(before, cards.fingerprint_parts(card)) == what


@pytest.mark.parametrize("longest", [12_845_056, 16_777_216], ids=["Qwen2-VL", "Qwen3-VL"])
def test_released_bounds_of_pixels_are_no_damage(folder: Path, longest: int) -> None:
    held = {"max_pixels": longest, "size": {"shortest_edge": 3136, "longest_edge": longest}}
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(held))
    assert pixels_config(folder, "Qwen")["max_pixels"] == longest


def test_a_long_text_and_a_slow_rotation_are_no_damage(folder: Path) -> None:
    """Llama 4's; a vocabulary of that size is damage all the same."""
    _in_text_tower(max_position_embeddings=10_485_760, rope_theta=50_000_000)(folder)
    assert scorer_of(folder).model.context_length == 10_485_760
    _in_text_tower(vocab_size=10_485_760)(folder)
    with pytest.raises(UserError, match=r"vocab_size is 1\.0"):
        scorer_of(folder)
