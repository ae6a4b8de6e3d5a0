"""`sdsdemo.score` and `score_many`: models stay loaded between calls, and what pictures share is computed once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdsdemo
from sdsdemo.app import workbench as workbench_module
from sdsdemo.app.kept import kept_workbench
from sdsdemo.app.many import compare_many
from sdsdemo.errors import UserError
from sdsdemo.models import open_scorer
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.settings import ASSETS, budget
from sdsdemo.types import Budget, Card, Example, Picture, Scorer, Scores
from tests import twins
from tests.conftest import fake_workbench
from tests.fakes import FakeScorer

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle"]
SPEND: dict[str, Any] = {"timesteps": 2, "noises": 2}


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    sdsdemo.forget_models()
    yield
    sdsdemo.forget_models()


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"diffusers:{twins.sd_folder(tmp_path_factory.mktemp('many') / 'twin')}"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that are loaded, as they are."""
    names: list[str] = []

    def noted(card: Card, **how: Any) -> Scorer:
        names.append(card.name)
        return open_scorer(card, **how)

    monkeypatch.setattr(workbench_module, "open_scorer", noted)
    return names


def test_models_stay_loaded_between_calls_until_they_are_forgotten(twin: str, loaded: list[str]) -> None:
    answers = [sdsdemo.score(twins.picture(), CAPTIONS, [twin], **SPEND) for _ in range(3)]
    assert len(loaded) == 1
    assert answers[0]["models"][0]["scores"] == answers[2]["models"][0]["scores"]
    sdsdemo.forget_models()
    sdsdemo.score(twins.picture(), CAPTIONS, [twin], **SPEND)
    assert len(loaded) == 2


def test_other_settings_get_models_of_their_own(twin: str, loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept_workbench()
    assert kept_workbench() is first
    monkeypatch.setenv("SDSDEMO_PRECISION", "bfloat16")
    assert kept_workbench() is not first
    sdsdemo.score(twins.picture(), CAPTIONS, [twin], **SPEND)
    assert len(loaded) == 1


def test_threads_that_ask_at_once_share_one_model(twin: str, loaded: list[str]) -> None:
    def asked(k: int) -> list[float]:
        return sdsdemo.score(twins.picture(k % 2), CAPTIONS, [twin], **SPEND)["models"][0]["scores"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(asked, range(8)))
    assert len(loaded) == 1
    assert found[::2] == [found[0]] * 4
    assert found[0] != found[1]


def test_ten_pictures_with_the_same_two_captions_encode_two(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = LatentDiffusion.encode_prompts

    def noted(model: LatentDiffusion, prompts: list[str]) -> Any:
        encoded.extend(prompts)
        return encode(model, prompts)

    kept_workbench().scorer(twin)  # loading encodes a prompt, to try the model
    monkeypatch.setattr(LatentDiffusion, "encode_prompts", noted)
    questions = [(twins.picture(k), CAPTIONS[:: 1 - 2 * (k % 2)]) for k in range(10)]
    answers = sdsdemo.score_many(questions, [twin], **SPEND)
    assert sorted(encoded) == sorted(CAPTIONS)
    assert [answer["captions"] for answer in answers] == [captions for _, captions in questions]


def test_many_pictures_get_the_answers_that_each_gets_alone(twin: str, tmp_path: Path) -> None:
    twins.picture(1).save(tmp_path / "one.png")
    questions: list[Any] = [(twins.picture(0), CAPTIONS), (tmp_path / "one.png", [*CAPTIONS, "a cat"])]
    models = ["mini-clip", twin]
    together = sdsdemo.score_many(questions, models, **SPEND)
    alone = [sdsdemo.score(image, captions, models, **SPEND) for image, captions in questions]
    assert [answer["image"] for answer in together] == ["picture", "one.png"]
    for many, one in zip(together, alone, strict=True):
        assert [entry.get("problem") for entry in many["models"]] == [entry.get("problem") for entry in one["models"]]
        np.testing.assert_allclose(many["models"][1]["scores"], one["models"][1]["scores"], atol=1e-6)
        assert many["models"][1]["preferred"] == one["models"][1]["preferred"]
        assert many.get("notes") == one.get("notes")


def test_pictures_of_one_name_are_not_taken_for_one_another(tmp_path: Path) -> None:
    """A picture that is an object has no name, and files in two folders may have the same."""
    paths = sorted((ASSETS / "mini" / "examples").glob("*.png"))[:2]
    captions = [path.stem.replace("-", " ") for path in paths]
    alone = [sdsdemo.score(path, captions, ["mini-clip"])["models"][0]["scores"] for path in paths]
    for k, path in enumerate(paths):
        (tmp_path / str(k)).mkdir()
        shutil.copy(path, tmp_path / str(k) / "same.png")
    for pictures in ([Image.open(path) for path in paths], [tmp_path / str(k) / "same.png" for k in (0, 1)]):
        together = sdsdemo.score_many([(picture, captions) for picture in pictures], ["mini-clip"])
        np.testing.assert_allclose([one["models"][0]["scores"] for one in together], alone, atol=1e-4)


def test_noise_comes_in_pairs_unless_plain_noise_is_asked_for(twin: str) -> None:
    for flags, pairs in (({}, True), ({"antithetic": False}, False), ({"noises": 3}, False)):
        asked: dict[str, Any] = {"timesteps": 2, **flags}
        one = sdsdemo.score(twins.picture(), CAPTIONS, [twin], **asked)
        (many,) = sdsdemo.score_many([(twins.picture(), CAPTIONS)], [twin], **asked)
        assert [bool(answer["models"][0]["evidence"].get("antithetic")) for answer in (one, many)] == [pairs, pairs]


def test_a_model_that_cannot_answer_says_so_for_each_picture(twin: str) -> None:
    questions = [(twins.picture(k), CAPTIONS) for k in range(2)]
    for answer in sdsdemo.score_many(questions, ["diffusers:no/where", twin], **SPEND):
        first, second = answer["models"]
        assert "no/where" in first["problem"]
        assert len(second["scores"]) == 2


def test_a_model_answers_one_call_at_a_time() -> None:
    """Tokenizers are not safe between threads."""
    workbench, at_work, most = fake_workbench(), [0], [0]

    class Slow(FakeScorer):
        def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            time.sleep(0.05)
            yield from super().score_examples(examples, budget)
            at_work[0] -= 1

    workbench._opener = Slow
    example = Example(id="0", images=(Picture(name="0.png", open=twins.picture),), captions=tuple(CAPTIONS), tags={})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: compare_many(workbench, [example], ["mini-clip"], budget()), range(4)))
    assert most == [1]


def test_a_picture_that_is_none_is_named_before_anything_is_scored(
    twin: str, loaded: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.png"):
        sdsdemo.score_many([(twins.picture(), CAPTIONS), (tmp_path / "bad.png", CAPTIONS)], [twin], **SPEND)
    assert loaded == []


def test_a_single_name_is_no_list_of_models() -> None:
    with pytest.raises(UserError, match=r"list of names.*mini-clip"):
        sdsdemo.score(twins.picture(), CAPTIONS, models="mini-clip")
    with pytest.raises(UserError, match=r"list of names.*mini-clip"):
        sdsdemo.score_many([(twins.picture(), CAPTIONS)], models="mini-clip")


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ("cat.png", "the questions were 'cat.png'"),
        (7, "the questions were 7"),
        ({"cat.png": CAPTIONS}, "the questions were"),
        (["cat.png"], "question 1 was 'cat.png'"),
        ([(twins.picture(), CAPTIONS), ("cat.png",)], r"question 2 was \('cat.png',\)"),
        ([("cat.png", *CAPTIONS)], "question 1 was"),
        ([("cat.png", None)], "captions as a list of two or more texts; they were None"),
        ([("cat.png", CAPTIONS[0])], "captions as a list of two or more texts"),
    ],
)
def test_questions_of_another_form_are_refused_in_one_sentence(
    questions: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.picture().save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        sdsdemo.score_many(questions, ["mini-clip"])


def test_questions_and_captions_may_come_one_by_one(twin: str) -> None:
    listed = sdsdemo.score_many([(twins.picture(), CAPTIONS)] * 2, [twin], **SPEND)
    questions: Any = ((twins.picture(), iter(CAPTIONS)) for _ in range(2))
    found = sdsdemo.score_many(questions, [twin], **SPEND)
    assert [one["models"][0]["scores"] for one in found] == [one["models"][0]["scores"] for one in listed]
    captions: Any = iter(CAPTIONS)
    alone = sdsdemo.score(twins.picture(), captions, [twin], **SPEND)
    assert alone["captions"] == CAPTIONS
