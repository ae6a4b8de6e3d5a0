"""A vision-language model's log-odds of "yes", on twins that transformers saved, against its own parts one by one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer, vlm
from sdsdemo.models.tokenizer_checks import BYTES_PER_TOKEN, MOST_BYTES
from sdsdemo.models.vlm_scorer import VlmScorer, in_region
from sdsdemo.settings import LIMITS, Settings
from sdsdemo.types import Budget, Region
from tests import twins
from tests.models import vlm_twins
from tests.models.vlm_twins import in_json, scorer_of

KINDS = ("idefics3", "llava", "qwen2_vl")
CAPTIONS = [
    "red star left of the blue circle",
    "a",
    "a blue star left of a red circle, which is right above the star",
    "red circle left of the blue star",
]
OWN = Budget(timesteps=1, noises=1, seed=0, region="own")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vlm")
    return {kind: vlm_twins.save(root / kind, kind=kind) for kind in KINDS}


@pytest.fixture(scope="session")
def scorers(originals: dict[str, Path]) -> dict[str, VlmScorer]:
    return {kind: scorer_of(folder) for kind, folder in originals.items()}


@pytest.fixture
def folder(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(originals["idefics3"], tmp_path / "twin")


def pictures() -> list[Any]:
    return [twins.picture(0, size=(48, 32)), twins.picture(1)]


@torch.no_grad()
def slow(folder: Path) -> np.ndarray:
    """s_IC by transformers alone, in the way of its documentation: one picture, one caption, every logit."""
    model, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    tokens = {word: [processor.tokenizer.convert_tokens_to_ids(f) for f in forms] for word, forms in FORMS.items()}
    rows = []
    for picture in pictures():
        for caption in CAPTIONS:
            question = f'Does this figure show "{caption}"? Please answer yes or no.'
            content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            share = model(**inputs).logits[0, -1].double().softmax(dim=-1)
            rows.append(float((share[tokens["yes"]].sum() / share[tokens["no"]].sum()).log()))
    return np.array(rows).reshape(len(pictures()), len(CAPTIONS))


FORMS = {"yes": ["yes", "Yes", "Ġyes", "ĠYes"], "no": ["no", "No", "Ġno", "ĠNo"]}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_a_slow_loop(originals: dict[str, Path], tmp_path: Path, kind: str, side: str) -> None:
    folder = shutil.copytree(originals[kind], tmp_path / "twin")
    in_json("tokenizer_config.json", padding_side=side)(folder)
    found = scorer_of(folder).score(pictures(), CAPTIONS, OWN)
    expected = slow(folder)
    np.testing.assert_allclose(found.score_IC, expected, atol=1e-5)
    assert (found.kind, found.precision) == ("log-odds", "float32")
    assert (np.ptp(expected, axis=1) > 1e-3).all()  # the twins tell captions apart, and pictures
    assert (np.abs(expected[0] - expected[1]) > 1e-4).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_place_of_a_caption_in_the_batch_changes_nothing(scorers: dict[str, VlmScorer], kind: str) -> None:
    scorer, order = scorers[kind], [2, 0, 3, 1]
    score_IC = scorer.score(pictures(), CAPTIONS, OWN).score_IC
    turned_IC = scorer.score(pictures(), [CAPTIONS[c] for c in order], OWN).score_IC
    np.testing.assert_array_equal(turned_IC, score_IC[:, order])
    assert _handed_over(scorer, CAPTIONS) == _handed_over(scorer, [CAPTIONS[c] for c in order])
    alone_IC = np.hstack([scorer.score(pictures(), [caption], OWN).score_IC for caption in CAPTIONS])
    np.testing.assert_allclose(alone_IC, score_IC, atol=1e-5)


def _handed_over(scorer: VlmScorer, captions: list[str]) -> list[Any]:
    """The tokens of each batch, as the module meets them."""
    met: list[Any] = []
    hook = scorer.model.module.register_forward_pre_hook(
        lambda _, args, given: met.append(given["input_ids"].tolist()), with_kwargs=True
    )
    scorer.score(pictures()[:1], captions, OWN)
    hook.remove()
    return met


def test_where_memory_is_short_batches_are_halved(
    scorers: dict[str, VlmScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, most = scorers["llava"], 2
    expected, whole = scorer.score(pictures(), CAPTIONS, OWN).score_IC, scorer.model._logits

    def short(inputs_B: Any) -> torch.Tensor:
        if len(inputs_B["input_ids"]) > most:
            raise torch.OutOfMemoryError("no room")
        return whole(inputs_B)

    monkeypatch.setattr(scorer.model, "_logits", short)
    np.testing.assert_allclose(scorer.score(pictures(), CAPTIONS, OWN).score_IC, expected, atol=1e-5)
    most = 0
    with pytest.raises(UserError, match="too little memory for one sample of llava"):
        scorer.score(pictures(), CAPTIONS, OWN)


def test_loading_says_nothing(originals: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    scorer_of(originals["idefics3"])
    assert caplog.text == ""


def test_batches_are_bounded_and_equal_captions_run_once(
    scorers: dict[str, VlmScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorers["idefics3"]
    expected = scorer.score(pictures()[:1], CAPTIONS, OWN).score_IC
    rows: list[int] = []
    hook = scorer.model.module.lm_head.register_forward_pre_hook(lambda layer, given: rows.append(len(given[0])))
    scorer.score(pictures()[:1], [*CAPTIONS, CAPTIONS[0]], OWN)
    monkeypatch.setattr(vlm, "TOKENS_AT_ONCE", 2 * scorer.model.length((48, 32), CAPTIONS[2]))
    found = scorer.score(pictures()[:1], CAPTIONS, OWN).score_IC
    hook.remove()
    assert rows == [4, 2, 2]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_goes_through_the_vision_tower_once(
    scorers: dict[str, VlmScorer], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """And where the library takes no features, once a caption, with the same scores."""
    scorer, calls = scorers[kind], []
    core = scorer.model.module.model
    tower = {"idefics3": "vision_model", "llava": "vision_tower", "qwen2_vl": "visual"}[kind]
    hook = getattr(core, tower).register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(vlm, "TOKENS_AT_ONCE", 1)
    once_IC = scorer.score(pictures(), CAPTIONS, OWN).score_IC
    assert len(calls) == 2
    monkeypatch.setattr(vlm, "HANDED_ON", "no such argument")
    each_IC = scorer.score(pictures(), CAPTIONS, OWN).score_IC
    hook.remove()
    assert len(calls) == 2 + 2 * len(CAPTIONS)
    np.testing.assert_allclose(each_IC, once_IC, atol=1e-5)


def test_half_precision_answers_in_single(originals: dict[str, Path], scorers: dict[str, VlmScorer]) -> None:
    found = scorer_of(originals["idefics3"], precision="bfloat16").score(pictures(), CAPTIONS, OWN)
    single = scorers["idefics3"].score(pictures(), CAPTIONS, OWN)
    assert found.precision == "bfloat16"
    np.testing.assert_allclose(found.score_IC, single.score_IC, atol=found.resolution)
    half = scorer_of(originals["idefics3"], precision="bfloat16").model
    with torch.inference_mode():
        logit_BA = half._logits(half.inputs(pictures()[0], CAPTIONS))
    assert (logit_BA != logit_BA.bfloat16().double()).any()
    assert single.resolution < found.resolution


def test_nothing_is_double_on_the_device(scorers: dict[str, VlmScorer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's GPUs have no float64: only what has come to the CPU may become it."""
    expected, fetched = scorers["llava"].score(pictures(), CAPTIONS, OWN).score_IC, set[int]()
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def fetch(tensor: torch.Tensor) -> torch.Tensor:
        found = cpu(tensor)
        fetched.add(found.data_ptr())
        return found

    def checked(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in fetched:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", fetch)
    monkeypatch.setattr(torch.Tensor, "double", checked)
    np.testing.assert_array_equal(scorers["llava"].score(pictures(), CAPTIONS, OWN).score_IC, expected)


def test_a_fault_in_scoring_is_no_advice_to_fetch_again(
    scorers: dict[str, VlmScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But features of a picture that are more or fewer than its tokens are: its processor is another model's."""
    scorer = scorers["llava"]
    with monkeypatch.context() as patch:
        patch.setattr(scorer.model, "_batches", lambda *_: dict[str, Any]()["a key of ours"])
        with pytest.raises(KeyError, match="of ours"):
            scorer.score(pictures(), CAPTIONS, OWN)
    monkeypatch.setattr(scorer.model.processor, "patch_size", 2 * vlm_twins.PATCH)
    with pytest.raises(UserError, match="fetch both again"):
        scorer.score(pictures(), CAPTIONS, OWN)


@pytest.mark.parametrize("region", ["crop", "squash", "pad"])
def test_a_region_is_cut_out_before_the_processor(scorers: dict[str, VlmScorer], region: Region) -> None:
    scorer, wide = scorers["qwen2_vl"], twins.picture(0, size=(64, 32))
    seen = in_region(wide, region)
    assert seen.width == seen.height
    found = scorer.score([wide], CAPTIONS, Budget(timesteps=1, noises=1, seed=0, region=region)).score_IC
    np.testing.assert_array_equal(found, scorer.score([seen], CAPTIONS, OWN).score_IC)
    assert np.abs(found - scorer.score([wide], CAPTIONS, OWN).score_IC).max() > 1e-4


def test_how_much_of_a_picture_is_seen_is_known(scorers: dict[str, VlmScorer]) -> None:
    assert scorers["idefics3"].share_seen((64, 32), "own") == 1
    assert scorers["llava"].share_seen((64, 32), "own") == 0.5
    assert [c.kind for c in scorers["llava"].concerns([twins.picture(0, size=(64, 32))], ["star"], "own")] == [
        "partly-seen"
    ]


@pytest.mark.parametrize(
    "mark", ["<image>", "<|im_start|>", "<end_of_utterance>", "<row_1_col_2>", "<fake_token_around_image>"]
)
def test_a_caption_with_a_mark_of_the_chat_is_blocked(scorers: dict[str, VlmScorer], mark: str) -> None:
    found = scorers["idefics3"].concerns([], ["a star", f"a star {mark} left"])
    assert [(concern.kind, concern.blocking) for concern in found] == [("mark", True)]
    assert mark in found[0].text
    assert scorers["idefics3"].concerns([], CAPTIONS) == []


def test_a_mark_that_the_tokenizer_calls_plain_is_blocked_too(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(originals["qwen2_vl"], tmp_path / "twin")
    held = json.loads((folder / "tokenizer.json").read_text())
    for token in held["added_tokens"]:
        token["special"] = token["content"] not in (vlm_twins.OF_UTTERANCE, "<|image_pad|>")
    (folder / "tokenizer.json").write_text(json.dumps(held))
    scorer = scorer_of(folder)
    for mark in (vlm_twins.OF_UTTERANCE, "<|image_pad|>"):
        assert [c.kind for c in scorer.concerns([], [f"a {mark} star"])] == ["mark"]


def test_equal_captions_are_reported(scorers: dict[str, VlmScorer]) -> None:
    assert [c.kind for c in scorers["llava"].concerns([], ["a  star", "a star"])] == ["equal-captions"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_that_does_not_fit_is_blocked_and_refused(scorers: dict[str, VlmScorer], kind: str) -> None:
    scorer, picture = scorers[kind], pictures()[1]
    room = vlm_twins.CONTEXT - scorer.model.length(picture.size, "star")
    fits, longer = (f"star{' the' * count}" for count in (room, room + 1))
    assert scorer.model.length(picture.size, fits) == vlm_twins.CONTEXT
    assert scorer.concerns([picture], ["star", fits], "own") == []
    [found] = scorer.concerns([picture], ["star", longer], "own")
    assert (found.kind, found.blocking) == ("truncated", True)
    assert "caption B comes to 193 tokens, and this model reads 192" in found.text
    assert scorer.model.inputs(picture, [fits])["input_ids"].shape[1] == vlm_twins.CONTEXT
    with pytest.raises(UserError, match="shorten the caption"):
        scorer.score([picture], ["star", longer], OWN)


def test_a_card_knows_family_and_pixels_without_loading(originals: dict[str, Path]) -> None:
    card = cards.resolve(f"vlm:{originals['idefics3']}")
    assert (card.family, card.pixels, card.title, card.needs, card.download) == ("vlm", 32, "idefics3", "cpu", False)
    assert cards.availability(card, Settings.from_environment({})).can_run
    assert cards.resolve("vlm:HuggingFaceTB/SmolVLM-256M-Instruct").name == "smolvlm-256m"
    assert cards.resolve("vlm:twins/none@main").download


@pytest.mark.usefixtures("no_network")
def test_a_repository_comes_from_the_cache_alone(
    originals: dict[str, Path], scorers: dict[str, VlmScorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    twins.in_hub_cache(tmp_path / "hub", "twins/asked", originals["idefics3"])
    card = cards.resolve("vlm:twins/asked")
    assert cards.is_downloaded(card)
    expected = scorers["idefics3"].score(pictures(), CAPTIONS, OWN).score_IC
    np.testing.assert_array_equal(open_scorer(card, device="cpu").score(pictures(), CAPTIONS, OWN).score_IC, expected)
    assert cards.fingerprint_parts(card)["revision"] == "0" * 40
    with pytest.raises(UserError, match="downloads are off"):
        scorer_of("twins/none")


def test_code_of_a_repository_is_never_run(folder: Path, tmp_path: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    classes = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoImageProcessor", "AutoTokenizer")
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        in_json(file, auto_map=dict.fromkeys(classes, "evil.Evil"))(folder)
    scorer_of(folder).score(pictures(), CAPTIONS, OWN)
    in_json("config.json", model_type="evil")(folder)
    with pytest.raises(UserError, match="answers no questions"):
        scorer_of(folder)
    assert not (tmp_path / "ran").exists()


def test_the_questions_that_are_remembered_take_64_mb_at_most(scorers: dict[str, VlmScorer]) -> None:
    model = scorers["idefics3"].model
    longest = len(model.token_ids("#" * LIMITS.caption_characters).ids)
    kept = model._row_of.cache_info().maxsize
    assert kept is not None
    assert kept > 1_000
    assert kept * longest * BYTES_PER_TOKEN <= MOST_BYTES
