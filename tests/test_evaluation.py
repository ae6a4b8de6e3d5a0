"""Evaluation on fakes whose answers are known: shares, tags, comparisons, samples, and both shapes of benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from sdsdemo.data import benchmarks
from sdsdemo.errors import UserError
from sdsdemo.evaluation import evaluate, stratified
from sdsdemo.reports import as_table
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Example, Picture, Scores
from tests.fakes import OneByOne

RIGHT = ((2.0, 1.0), (1.0, 2.0))
SAME_CAPTION = ((2.0, 1.0), (2.0, 1.0))


def example(number: int, tag: str) -> Example:
    pictures = tuple(Picture(name=f"{number}-{k}", open=lambda: Image.new("RGB", (8, 8))) for k in (0, 1))
    captions = (f"{number} first", f"{number} second")
    return Example(id=str(number), images=pictures, captions=captions, tags={"tag": tag, "collapsed_tag": "Object"})


EXAMPLES = [example(n, "a" if n < 30 else "b") for n in range(40)]


class Scripted(OneByOne):
    """Right on some examples; elsewhere prefers one caption for both pictures."""

    def __init__(self, right: set[int]) -> None:
        self.right = right

    def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
        right = int(captions[0].split()[0]) in self.right
        return Scores(kind="similarity", score_IC=np.array(RIGHT if right else SAME_CAPTION))


class Shelf:
    """Stands where the workbench does."""

    def scorer(self, name: str) -> Scripted:
        return Scripted({"good": set(range(30)), "half": set(range(10, 30)) | {35}, "none": set()}[name])


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr("sdsdemo.evaluation.read_benchmark", lambda name: EXAMPLES)
    return evaluate("mini", ["good", "half"], workbench=Shelf(), budget=budget())


def test_shares_come_with_their_interval_and_number(result: dict) -> None:
    text = result["models"]["good"]["text"]
    assert text["value"] == 0.75
    assert text["n"] == result["n"] == 40
    assert text["low"] < 0.75 < text["high"]
    assert result["models"]["half"]["text"]["value"] == 21 / 40


def test_tags_split_the_examples(result: dict) -> None:
    by_tag = result["models"]["good"]["by_tag"]["tag"]
    assert by_tag["a"]["text"]["value"] == 1.0
    assert by_tag["b"]["text"]["value"] == 0.0
    assert by_tag["a"]["text"]["n"] + by_tag["b"]["text"]["n"] == 40


def test_two_models_are_compared_on_the_same_examples(result: dict) -> None:
    (text,) = [entry for entry in result["paired"] if entry["metric"] == "text"]
    counts = {key: text[key] for key in ("both", "only_a", "only_b", "neither")}
    assert counts == {"both": 20, "only_a": 10, "only_b": 1, "neither": 9}
    assert text["p"] == pytest.approx(2 * (1 + 11) / 2**11)


def test_the_result_is_json_and_its_table_names_models_chance_and_n(result: dict) -> None:
    assert json.loads(json.dumps(result)) == result
    table = as_table(result)
    for word in ("good", "half", "chance", "n = 40", "75.0 [60, 86]", "25.0"):
        assert word in table


def test_a_sample_is_even_over_tags_and_said_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.read_benchmark", lambda name: EXAMPLES)
    taken = [e.tags["tag"] for e in stratified(EXAMPLES, 8)]
    assert (taken.count("a"), taken.count("b")) == (6, 2)
    sampled = evaluate("mini", ["none"], workbench=Shelf(), budget=budget(), limit=8)
    assert "n = 8 of 40, an even share of each tag" in as_table(sampled)
    with pytest.raises(UserError, match="at least 1"):
        evaluate("mini", ["none"], workbench=Shelf(), budget=budget(), limit=0)


def test_progress_ends_at_the_last_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.read_benchmark", lambda name: EXAMPLES)
    lines: list[str] = []
    evaluate("mini", ["none"], workbench=Shelf(), budget=budget(), progress=lines.append)
    assert "40 of 40" in lines[-1]


class FirstWins(OneByOne):
    """Gives the captions falling scores, but not to pictures whose width is in `ties`."""

    def scorer(self, name: str) -> FirstWins:
        return self

    def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
        falling = -np.arange(len(captions), dtype=float) * (images[0].width != 9)
        return Scores(kind="similarity", score_IC=falling[None])


def test_one_image_and_many_captions_give_accuracy_and_a_tie_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def choice(width: int) -> Example:
        picture = Picture(name="p", open=lambda: Image.new("RGB", (width, 9)))
        return Example(id=str(width), images=(picture,), captions=("true", "b", "c", "d"), tags={"tag": "x"})

    monkeypatch.setattr("sdsdemo.evaluation.read_benchmark", lambda name: [choice(8), choice(8), choice(9)])
    result = evaluate("order", ["first"], workbench=FirstWins(), budget=budget())
    assert result["models"]["first"]["accuracy"]["value"] == 2 / 3
    assert result["chance"] == {"accuracy": 0.25}
    assert "accuracy" in as_table(result)


def test_retrieval_has_the_true_caption_first_among_a_hundred() -> None:
    examples = benchmarks.retrieval(sets=1)
    assert len(examples) == 100
    assert all(len(set(e.captions)) == 100 for e in examples)
    assert {e.captions[0] for e in examples} == set(examples[0].captions)
