"""Which examples are scored: a limit keeps the share of every tag, rare ones included, and reads the tags once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.sampling import BLOCK, scattered, stratified
from sdsdemo.evaluation.store import RunFolder
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Example, Scores
from tests.evaluation.test_run import EXAMPLES
from tests.fakes import OneByOne, fake_card


def tagged(tags: Sequence[str], collapsed: Sequence[str] = ()) -> list[Example]:
    return [
        Example(id=str(e), images=(), captions=(), tags={"tag": tag, "collapsed_tag": (collapsed or tags)[e]})
        for e, tag in enumerate(tags)
    ]


def test_rare_tags_have_their_share_together() -> None:
    examples = tagged([f"rare {e}" if e % 2 else "common" for e in range(1_000)])
    taken = Counter(example.tags["tag"] == "common" for example in stratified(examples, 100))
    assert taken == {True: 50, False: 50}


@pytest.mark.parametrize("limit", [1, 7, 80, 200, 399, 400])
def test_each_tag_has_its_share_within_one_example(limit: int) -> None:
    examples = read_benchmark("mini")
    taken = stratified(examples, limit)
    assert len({example.id for example in taken}) == limit
    assert [example.id for example in taken] == [e.id for e in examples if e in taken]
    for kind in ("tag", "collapsed_tag"):
        share = Counter(example.tags[kind] for example in taken)
        for tag, size in Counter(example.tags[kind] for example in examples).items():
            assert abs(share[tag] - size * limit / len(examples)) < 1, tag


def test_coarse_tags_have_their_share_where_each_fine_one_is_rare() -> None:
    examples = tagged([f"{e:03d}" for e in range(300)], ["Object", "Both"] * 150)
    taken = Counter(example.tags["collapsed_tag"] for example in stratified(examples, 30))
    assert taken == {"Object": 15, "Both": 15}


def test_of_a_tag_the_first_examples_are_taken() -> None:
    assert [e.id for e in stratified(tagged("abababab"), 4)] == ["0", "1", "2", "3"]
    assert stratified(tagged("ab"), 9) == tagged("ab")
    assert stratified(tagged("ab"), -1) == stratified([], 3) == []


class Tag(str):
    """A tag that counts how often it is compared."""

    __slots__ = ()
    compared: ClassVar[list[None]] = []
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        self.compared.append(None)
        return str.__eq__(self, other)


def test_tags_of_a_large_set_are_not_compared_each_with_each() -> None:
    examples = tagged([Tag(e % 997) for e in range(4_000)])
    assert len(stratified(examples, 100)) == 100
    assert 0 < len(Tag.compared) < 100 * len(examples)


def test_the_order_of_a_process_is_its_own_and_keeps_neighbours_near() -> None:
    examples = tagged("a" * 10 * BLOCK)
    one, other = ([int(example.id) for example in scattered(examples)] for _ in range(2))
    assert sorted(one) == sorted(other) == list(range(len(examples)))
    assert sum(a == b for a, b in zip(one, other, strict=True)) < BLOCK
    assert all(len({e // BLOCK for e in one[at : at + BLOCK]}) == 1 for at in range(0, len(one), BLOCK))


def test_a_run_begins_in_order_and_who_joins_it_has_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run that nobody joins meets the same examples in the same batches whenever it is made."""
    asked: list[int] = []

    class Asked(OneByOne):
        card = fake_card("mini-clip")

        def scorer(self, name: str) -> Asked:
            return self

        def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
            asked.append(int(captions[0].split()[0]))
            return Scores(kind="similarity", score_IC=np.eye(2))

    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    for model in ("mini-clip", "mini-clip-2"):
        evaluate("mini", [model], workbench=Asked(), budget=budget(), out=tmp_path)
    first, second = asked[: len(EXAMPLES)], asked[len(EXAMPLES) :]
    assert first == [int(example.id) for example in EXAMPLES] == sorted(second) != second


def test_a_sample_that_another_version_chose_is_refused_in_words(tmp_path: Path) -> None:
    RunFolder(tmp_path, "mini", EXAMPLES[:8], budget(), of=40)
    with pytest.raises(UserError, match="8 other examples of mini: the set has changed") as refused:
        RunFolder(tmp_path, "mini", EXAMPLES[1:9], budget(), of=40)
    assert "match the stored run" not in str(refused.value)
