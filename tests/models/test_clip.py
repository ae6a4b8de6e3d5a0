"""The CLIP adapter on twins, against open_clip itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from sdsdemo.errors import UserError
from sdsdemo.models import cards, clip, open_scorer
from sdsdemo.models.clip import ClipModel, ClipScorer
from sdsdemo.models.domain import Domain
from sdsdemo.types import Budget, Concern
from tests import twins

CAPTIONS = ["red star left the blue circle", "blue star left the red circle", "star"]
BUDGET = Budget(timesteps=1, noises=1, seed=0, region="own")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A twin with a tokenizer of its own, and one with CLIP's."""
    root = tmp_path_factory.mktemp("clips")
    return {"words": twins.clip_folder(root / "words"), "bpe": twins.clip_folder(root / "bpe", words=False)}


@pytest.fixture
def scorer(folders: dict[str, Path]) -> ClipScorer:
    return scorer_of(f"open_clip:local-dir:{folders['words']}")


def scorer_of(spec: str) -> ClipScorer:
    scorer = open_scorer(cards.resolve(spec), device="cpu")
    assert isinstance(scorer, ClipScorer)
    return scorer


@torch.no_grad()
def plain_scores(name: str, **options: Any) -> np.ndarray:
    """score_IC by open_clip alone."""
    module, _, preprocess = open_clip.create_model_and_transforms(name, **options)
    tokens = open_clip.get_tokenizer(name)(CAPTIONS)
    pixels = torch.stack([preprocess(picture) for picture in pictures()])
    image, text = module.eval().encode_image(pixels), module.encode_text(tokens)
    return 100 * torch.cosine_similarity(image[:, None], text[None], dim=-1).numpy()


def pictures() -> list[Any]:
    return [twins.picture(0, size=(48, 32)), twins.picture(1)]


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_scores_are_the_librarys_cosines_times_100(folders: dict[str, Path], kind: str) -> None:
    scores = scorer_of(f"open_clip:local-dir:{folders[kind]}").score(pictures(), CAPTIONS, BUDGET)
    np.testing.assert_allclose(scores.score_IC, plain_scores(f"local-dir:{folders[kind]}"), atol=1e-4)
    assert scores.score_IC.dtype == np.float64
    assert (scores.kind, scores.stderr_IC, scores.evidence) == ("similarity", None, None)


@pytest.fixture
def named(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> dict[str, Any]:
    """A name and a tag of a twin in open_clip's own lists, with its weights in the Hub's cache, and no network."""
    facts = {"hf_hub": "twins/named/", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash"}
    config = twins.clip_config(words=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "twin", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "twin", {"seeded": facts})
    twins.in_hub_cache(tmp_path, "twins/named", folders["bpe"])
    return {"config": config, "facts": facts}


def test_preprocessing_is_the_tag_s_and_weights_are_the_cache_s(
    folders: dict[str, Path], named: dict[str, Any]
) -> None:
    scores = scorer_of("open_clip:twin/seeded").score(pictures(), CAPTIONS, BUDGET)
    weights = str(folders["bpe"] / "open_clip_model.safetensors")
    facts = {key: named["facts"][key] for key in ("mean", "std")}
    expected = plain_scores(
        "twin", pretrained=weights, image_mean=facts["mean"], image_std=facts["std"], image_resize_mode="squash"
    )
    np.testing.assert_allclose(scores.score_IC, expected, atol=1e-4)


@pytest.mark.parametrize("trained_with", [True, False])
def test_an_activation_that_the_weights_do_not_have_is_refused(named: dict[str, Any], trained_with: bool) -> None:
    named["facts"]["quick_gelu"] = trained_with
    named["config"]["quick_gelu"] = not trained_with
    with pytest.raises(UserError, match="QuickGELU"):
        scorer_of("open_clip:twin/seeded")


def test_the_activation_of_a_name_and_tag_is_used(named: dict[str, Any]) -> None:
    plain = scorer_of("open_clip:twin/seeded").score(pictures(), CAPTIONS, BUDGET)
    named["facts"]["quick_gelu"] = named["config"]["quick_gelu"] = True
    model = scorer_of("open_clip:twin/seeded")
    assert model.model.facts["activation"] == "quick_gelu"
    assert not np.allclose(model.score(pictures(), CAPTIONS, BUDGET).score_IC, plain.score_IC, atol=1e-4)


def test_openai_weights_without_quickgelu_are_told_the_right_name() -> None:
    with pytest.raises(UserError, match="ViT-B-32-quickgelu/openai"):
        scorer_of("open_clip:ViT-B-32/openai")


@pytest.mark.usefixtures("no_network")
def test_a_repository_in_the_hub_cache_needs_no_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    twins.in_hub_cache(tmp_path, "twins/clip", folders["words"])
    scores = scorer_of("open_clip:hf-hub:twins/clip").score(pictures(), CAPTIONS, BUDGET)
    np.testing.assert_allclose(scores.score_IC, plain_scores(f"local-dir:{folders['words']}"), atol=1e-4)


@pytest.mark.parametrize("spec", ["open_clip:ViT-B-32-quickgelu/openai", "open_clip:hf-hub:twins/none"])
@pytest.mark.usefixtures("no_network")
def test_missing_weights_ask_before_using_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="downloads are off"):
        scorer_of(spec)


def test_swapping_captions_swaps_the_scores_bit_for_bit(scorer: ClipScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when the last bits of a caption's features depend on its place in the batch, as real ones may."""
    encode = scorer.model.encode_texts
    monkeypatch.setattr(
        scorer.model, "encode_texts", lambda texts: encode(texts) + torch.arange(len(texts))[:, None] * 1e-5
    )
    forth = scorer.score(pictures(), CAPTIONS, BUDGET).score_IC
    back = scorer.score(pictures(), CAPTIONS[::-1], BUDGET).score_IC
    np.testing.assert_array_equal(forth, back[:, ::-1])


def test_captions_with_equal_tokens_get_bit_identical_scores(scorer: ClipScorer) -> None:
    score_IC = scorer.score(pictures(), ["red star", "blue", "RED  star"], BUDGET).score_IC
    np.testing.assert_array_equal(score_IC[:, 0], score_IC[:, 2])
    assert (score_IC[:, 0] != score_IC[:, 1]).all()


@pytest.mark.parametrize(("kind", "length"), [("words", twins.CONTEXT), ("bpe", 77)])
def test_only_captions_beyond_the_context_are_cut(folders: dict[str, Path], kind: str, length: int) -> None:
    model = ClipModel.load(f"open_clip:local-dir:{folders[kind]}")
    fits, over = (" ".join(["star"] * count) for count in (length - 2, length - 1))
    assert (model.token_ids(fits).cut, model.token_ids(over).cut, model.context_length) == (False, True, length)
    assert model.token_ids(fits).ids == model.token_ids(over).ids


def test_a_class_token_behind_the_padding_cuts_no_caption(folders: dict[str, Path]) -> None:
    """CLIPS: bos, words, eos, padding, and the class token at the last place."""
    model = ClipModel.load(f"open_clip:local-dir:{folders['words']}")
    own: Any = model.tokenizer
    own.tokenizer_mode, own.tokenizer.cls_token = "clips", twins.START
    rows = [model.token_ids(" ".join(["star"] * count)) for count in range(1, twins.CONTEXT)]
    assert [row.cut for row in rows] == [count > twins.CONTEXT - 3 for count in range(1, twins.CONTEXT)]
    assert {row.ids[-1] for row in rows} == {twins.VOCABULARY[twins.START]}


def test_cut_and_equal_captions_are_reported_but_do_not_block(scorer: ClipScorer) -> None:
    full = " ".join(["star"] * (twins.CONTEXT - 2))
    assert scorer.concerns([], CAPTIONS) == []
    found = scorer.concerns([], [full, f"{full} red", "Blue  star", "blue star"])
    assert [(c.kind, c.blocking) for c in found] == [("truncated", False)] + [("equal-captions", False)] * 2
    assert "caption B" in found[0].text
    assert "A and B" in found[1].text
    assert "C and D" in found[2].text


def test_what_the_domain_does_not_know_is_passed_on(scorer: ClipScorer) -> None:
    concern = Concern(kind="unknown-words", text="No.", blocking=True)

    class Known:
        def concerns(self, images: Any, captions: Any) -> list[Concern]:
            return [concern]

    scorer.domain = cast(Domain, Known())
    assert scorer.concerns(pictures()[:0], CAPTIONS) == [concern]


def test_nothing_to_score_is_a_wrong_argument(scorer: ClipScorer) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        scorer.score(pictures(), [], BUDGET)


def test_features_are_float32_of_length_one(scorer: ClipScorer) -> None:
    for features in (scorer.model.encode_images(pictures()), scorer.model.encode_texts(CAPTIONS)):
        assert features.dtype == torch.float32
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))


def test_more_items_than_a_batch_are_all_encoded_in_order(scorer: ClipScorer) -> None:
    captions = ["red star", *["blue"] * 70, "circle"]
    torch.testing.assert_close(
        scorer.model.encode_texts(captions)[[0, -1]], scorer.model.encode_texts(["red star", "circle"])
    )


def test_features_remembered_are_the_latest_and_never_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "REMEMBERED", 4)
    asked: list[int] = []

    def encode(items: list[int]) -> torch.Tensor:
        asked.extend(items)
        return torch.tensor(items, dtype=torch.float32)[:, None].expand(-1, 3)

    memory: Any = clip._Memory()
    for part, encoded in (
        ([1, 2, 3], [1, 2, 3]),
        ([1, 4], [4]),
        ([5], [5]),
        ([2], [2]),
        ([1, 4], []),
        (range(7), None),
    ):
        asked.clear()
        memory.fill({key: key for key in part}, encode)
        np.testing.assert_array_equal(memory.rows(list(part))[:, 0], list(part))
        assert encoded is None or asked == encoded, part
    assert asked == [0, 3, 6]


def test_a_trainer_gets_a_gradient_on_what_it_thaws_and_on_nothing_else(folders: dict[str, Path]) -> None:
    model = ClipModel.load(f"open_clip:local-dir:{folders['words']}")
    assert not any(p.requires_grad for p in model.module.parameters())
    trained_parameters = model.module.visual.ln_post.weight.requires_grad_(True)
    model.encode_images(pictures())[:, 0].sum().backward()
    assert float(trained_parameters.grad.abs().sum()) > 0
    assert [name for name, p in model.module.named_parameters() if p.grad is not None] == ["visual.ln_post.weight"]


def test_a_word_tokenizer_saved_as_clips_is_caught_at_load(tmp_path: Path) -> None:
    """It loads without a complaint, and reads every word as unknown."""
    folder = twins.clip_folder(tmp_path / "twin")
    twins.save_words(folder, kind="CLIPTokenizer")
    with pytest.raises(UserError, match="tokenizer"):
        scorer_of(f"open_clip:local-dir:{folder}")


def test_a_config_that_forgets_its_tokenizer_is_caught_at_load(tmp_path: Path) -> None:
    """open_clip then takes CLIP's own tokenizer, with ids far beyond a small vocabulary."""
    folder = twins.clip_folder(tmp_path / "twin")
    config = json.loads((folder / "open_clip_config.json").read_text())
    del config["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="tokenizer"):
        scorer_of(f"open_clip:local-dir:{folder}")


def test_an_end_token_that_is_not_the_highest_is_caught_at_load(tmp_path: Path) -> None:
    """The text tower looks for its end at the highest id: it would read another word's features."""
    folder = twins.clip_folder(tmp_path / "twin")
    words = (twins.END, *(word for word in twins.VOCABULARY if word != twins.END))
    twins.save_words(folder, vocabulary={word: token for token, word in enumerate(words)})
    with pytest.raises(UserError, match="end of text"):
        scorer_of(f"open_clip:local-dir:{folder}")


def _remove(path: Path) -> None:
    path.unlink()


def _garble(path: Path) -> None:
    path.write_text("{")


def _swap_model(path: Path) -> None:
    save_file(twins.clip_module(twins.clip_config(words=False)).state_dict(), path)


@pytest.mark.parametrize("file", ["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("harm", [_remove, _garble])
def test_a_folder_that_is_not_whole_is_one_sentence_without_a_path(tmp_path: Path, file: str, harm: Any) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    harm(folder / file)
    with pytest.raises(UserError, match="twin") as caught:
        scorer_of(f"open_clip:local-dir:{folder}")
    assert str(tmp_path) not in str(caught.value)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    _swap_model(folder / "open_clip_model.safetensors")
    with pytest.raises(UserError, match="do not fit"):
        scorer_of(f"open_clip:local-dir:{folder}")


@pytest.mark.parametrize("spec", ["open_clip:ViT-B-32/openia", "open_clip:ViT-B-33/openai", "open_clip:local-dir:none"])
def test_a_model_that_nobody_knows_is_one_sentence(spec: str) -> None:
    with pytest.raises(UserError):
        scorer_of(spec)


@pytest.mark.parametrize(
    "text",
    [
        {"pool_type": "eos"},
        {"pool_type": "eos", "eos_id": 49405},
        {"pool_type": "first"},
    ],
    ids=str,
)
def test_a_text_tower_whose_pool_sees_no_words_is_refused_at_load(tmp_path: Path, text: dict[str, Any]) -> None:
    folder = twins.clip_folder(tmp_path / "blind", words=False)
    described = json.loads((folder / "open_clip_config.json").read_text())
    described["model_cfg"]["text_cfg"] |= text
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="the same features, so every score would be a tie"):
        ClipModel.load(f"open_clip:local-dir:{folder}")


def test_a_pool_that_sees_the_words_is_taken(tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "seeing", words=False)
    described = json.loads((folder / "open_clip_config.json").read_text())
    for text in ({"pool_type": "eos", "eos_id": 49407}, {"pool_type": "argmax"}, {"pool_type": "last"}):
        described["model_cfg"]["text_cfg"] |= text
        (folder / "open_clip_config.json").write_text(json.dumps(described))
        assert ClipModel.load(f"open_clip:local-dir:{folder}").token_ids("a cat").mark == ""
