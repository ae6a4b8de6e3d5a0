"""Evaluation on fakes whose answers are known: shares, tags, comparisons, samples, and both shapes of benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.data import benchmarks
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate, stratified
from sdsdemo.evaluation.store import read_run
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.evaluation.tables import as_table
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Card, Concern, Example, Picture, Region, Scores
from tests.fakes import OneByOne, fake_card

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
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
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
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    taken = [e.tags["tag"] for e in stratified(EXAMPLES, 8)]
    assert (taken.count("a"), taken.count("b")) == (6, 2)
    sampled = evaluate("mini", ["none"], workbench=Shelf(), budget=budget(), limit=8)
    assert "n = 8 of 40, an even share of each tag" in as_table(sampled)
    with pytest.raises(UserError, match="at least 1"):
        evaluate("mini", ["none"], workbench=Shelf(), budget=budget(), limit=0)


def test_progress_ends_at_the_last_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    lines: list[str] = []
    evaluate("mini", ["none"], workbench=Shelf(), budget=budget(), progress=lines.append)
    assert "40 of 40" in lines[-1]


def test_memory_that_runs_out_is_a_sentence_and_costs_no_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    monkeypatch.setattr(Scripted, "card", fake_card("good"), raising=False)
    really, left = Scripted.score, iter(range(7))

    def score(*asked: Any) -> Scores:
        if next(left, None) is None:
            raise MemoryError
        return really(*asked)

    monkeypatch.setattr(Scripted, "score", score)
    with pytest.raises(UserError, match="ran out of memory: close other programs"):
        evaluate("mini", ["good"], workbench=Shelf(), budget=budget(), out=tmp_path)
    assert len(read_run(tmp_path).scores) == 7
    monkeypatch.setattr(Scripted, "score", really)
    assert evaluate("mini", ["good"], workbench=Shelf(), budget=budget(), out=tmp_path)["n"] == len(EXAMPLES)


class Suits(OneByOne):
    """Every benchmark, or none; counts the examples that it was asked about and that it scored."""

    def __init__(self, name: str, suits: bool) -> None:
        self.card, self.suits, self.checked, self.scored = fake_card(name), suits, 0, 0

    def concerns(self, images: Sequence[Image.Image], captions: Sequence[str], region: str = "crop") -> list[Concern]:
        self.checked += 1
        return [] if self.suits else [Concern(kind="mark", text="It holds a special token.", blocking=True)]

    def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
        self.scored += 1
        return Scores(kind="similarity", score_IC=np.eye(2))


@pytest.mark.parametrize("suits", [True, False])
def test_every_model_is_checked_once_before_the_first_one_scores(monkeypatch: pytest.MonkeyPatch, suits: bool) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    models = {"first": Suits("first", True), "second": Suits("second", suits)}
    workbench = SimpleNamespace(scorer=models.get)
    if suits:
        evaluate("mini", list(models), workbench=workbench, budget=budget())
        assert {model.checked for model in models.values()} == {len(EXAMPLES)}
    else:
        with pytest.raises(UserError, match="does not suit Second: It holds a special token"):
            evaluate("mini", list(models), workbench=workbench, budget=budget())
        assert models["first"].scored == 0


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

    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: [choice(8), choice(8), choice(9)])
    result = evaluate("order", ["first"], workbench=FirstWins(), budget=budget())
    assert result["models"]["first"]["accuracy"]["value"] == 2 / 3
    assert result["chance"] == {"accuracy": 0.25}
    assert "accuracy" in as_table(result)


def test_retrieval_has_the_true_caption_first_among_a_hundred() -> None:
    examples = benchmarks.retrieval(sets=1)
    assert len(examples) == 100
    assert all(len(set(e.captions)) == 100 for e in examples)
    assert {e.captions[0] for e in examples} == set(examples[0].captions)


class Odd(OneByOne):
    """Right, but for examples with a NaN, with a tie within rounding, and with captions that it reads as equal."""

    def scorer(self, name: str) -> Odd:
        return self

    @property
    def card(self) -> Card:
        return fake_card("odd")

    def concerns(
        self, images: Sequence[Image.Image], captions: Sequence[str], region: Region = "crop"
    ) -> list[Concern]:
        kinds = {"3": ("equal-captions",), "4": ("truncated", "equal-captions")}.get(captions[0].split()[0], ())
        return [Concern(kind=kind, text="", blocking=False) for kind in kinds]

    def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
        number = int(captions[0].split()[0])
        score_IC = np.array(RIGHT)[: len(images)]
        if number in (0, 1):
            score_IC[0, 1] = np.nan
        if number in (2, 3, 4):
            score_IC[0] = 1 + 1e-6 * np.arange(2)
        return Scores(kind="similarity", score_IC=score_IC)


@pytest.mark.parametrize("images", [1, 2])
def test_what_is_no_plain_failure_is_counted_apart(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    examples = [replace(e, images=e.images[:images]) for e in EXAMPLES]
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: examples)
    remarks: list[str] = []
    result = evaluate("mini", ["odd", "also"], workbench=Odd(), budget=budget(), remark=remarks.append)
    metric = "text" if images == 2 else "accuracy"
    entry = result["models"]["odd"]
    assert (entry[metric]["n"], round(entry[metric]["value"] * 38)) == (38, 35)
    assert {key: entry["apart"][key] for key in ("n", "not_finite", "truncated", "equal_captions")} == {
        "n": 40, "not_finite": 2, "truncated": 1, "equal_captions": 2,
    }  # fmt: skip
    assert entry["apart"]["ties"][metric] == 3
    assert sum(entry["by_tag"]["tag"][tag][metric]["n"] for tag in "ab") == 38
    assert all(pair["n"] == 38 == sum(pair["transitions"].values()) for pair in result["paired"])
    said = "\n".join(remarks)
    for words in (
        "2 of 40 examples have a score that is not a finite number",
        "3 of 38",
        "1 of 40 examples has a caption that this model truncates",
        "2 of 40 examples have captions that this model reads as identical",
    ):
        assert words in said, words
        assert words in as_table(result), words
        assert any(words in warning for warning in result["warnings"]), words


def test_two_models_meet_on_the_examples_that_both_score() -> None:
    right, wrong, lost = np.eye(2), 1 - np.eye(2), np.full((2, 2), np.nan)
    tables = {"a": [lost, right, right, wrong, right], "b": [right, lost, right, right, wrong]}
    examples = [Example(id=str(e), images=(), captions=(), tags={}) for e in range(5)]
    scored = {
        name: Scored(scores_E=[Scores(kind="similarity", score_IC=score_IC) for score_IC in table])
        for name, table in tables.items()
    }
    for pair in summarise(examples, scored)["paired"]:
        counts = [pair[key] for key in ("n", "both", "only_a", "only_b", "neither")]
        assert (counts, pair["p"]) == ([3, 1, 1, 1, 0], 1.0)


@pytest.mark.parametrize("images", [1, 2])
def test_scores_below_chance_ask_about_swapped_captions(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    turned = [replace(e, images=e.images[:images], captions=e.captions[::-1]) for e in EXAMPLES]

    class Turned(Scripted):
        def score(self, captions_of: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
            right = int(captions[0].split()[0]) in self.right
            score_IC = np.array(RIGHT)[:, ::-1] if right else np.array(RIGHT)
            return Scores(kind="similarity", score_IC=score_IC[:images])

    class Rack:
        def scorer(self, name: str) -> Turned:
            return Turned({"turned": set(range(36)), "good": set(range(4))}[name])

    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: turned)
    result = evaluate("mini", ["turned", "good"], workbench=Rack(), budget=budget())
    assert result["models"]["good"]["below_chance"] == []
    assert "text" in result["models"]["turned"]["below_chance"] or images == 1
    (asked,) = [warning for warning in result["warnings"] if "below chance" in warning]
    assert "turned" in asked
    assert "the right way round?" in asked
    assert asked in as_table(result).replace("\n", " ")


@pytest.mark.parametrize("number", [1, 2])
def test_the_blind_row_comes_by_itself_only_with_unrelated_images(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    examples = [replace(e, images=e.images[:1]) for e in EXAMPLES[:number]]
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: examples)
    result = evaluate("mini", ["good"], workbench=FirstWins(), budget=budget())
    assert result["models"]["good"]["accuracy"]["value"] == 1.0
    assert ("blind" in result["models"]["good"]) == (number > 1)
    if number == 1:
        with pytest.raises(UserError, match="at least two different images"):
            evaluate("mini", ["good"], workbench=FirstWins(), budget=budget(), blind=True)
