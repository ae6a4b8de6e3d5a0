"""What the teacher is asked about caption pairs: its preferences, and their answers kept by content."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.errors import UserError
from sdsdemo.finetuning.events import Notice
from sdsdemo.finetuning.prepare import _all_pairs
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.teacher_preferences import Preferences
from sdsdemo.finetuning.training_pairs import Pair, read_source
from sdsdemo.runtime import files
from sdsdemo.types import Budget, Evidence, Example, Picture, Scores
from tests.damage import damaged
from tests.fakes import OneByOne
from tests.finetuning.runs import TINY, done
from tests.finetuning.test_data import FREE, folder_of

BUDGET = Budget(timesteps=2, noises=1, seed=0)
MANY = 100
FORK: Any = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None


class Judge(OneByOne):
    """Prefers the caption by its length, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        for example in examples:
            self.asked += 1
            score_IC = np.array([[0.001 * len(example.captions[0]), 0.0]])
            loss = np.zeros((1, 2, budget.timesteps, budget.noises), dtype=np.float32)
            evidence = Evidence(timestep_T=np.arange(budget.timesteps), loss_ICTN=loss, evaluations=4)
            yield Scores(kind="denoising", score_IC=score_IC, evidence=evidence)


def picture(shade: int, name: str) -> Picture:
    return Picture(name=name, open=lambda: Image.new("RGB", (4, 4), (shade, 0, 0)), key=name)


def pairs(count: int = 5) -> list[Pair]:
    return [Pair(picture=picture(k, f"p{k}"), caption="a" * (k + 1), twin="b", kind="noun") for k in range(count)]


def ask(kept: Preferences, judge: Judge, asked: list[Pair]) -> list[int]:
    return list(kept.ask(judge, asked, lambda: False))


def test_an_answer_is_kept_on_the_disk_and_found_again_by_content(tmp_path: Path) -> None:
    judge = Judge()
    assert ask(Preferences(tmp_path, "teacher", BUDGET), judge, pairs()) == [5]
    later = Preferences(tmp_path, "teacher", BUDGET)
    renamed = [replace(p, picture=replace(p.picture, name="new", key=f"new {k}")) for k, p in enumerate(pairs())]
    assert later.missing(renamed) == []
    repainted = [replace(p, picture=picture(200 + k, f"q{k}")) for k, p in enumerate(pairs())]
    assert len(later.missing(repainted)) == 5
    assert judge.asked == 5


@pytest.mark.parametrize(("teacher", "budget"), [("other", BUDGET), ("teacher", replace(BUDGET, timesteps=4))])
def test_another_teacher_or_budget_is_asked_anew(tmp_path: Path, teacher: str, budget: Budget) -> None:
    ask(Preferences(tmp_path, "teacher", BUDGET), Judge(), pairs())
    assert len(Preferences(tmp_path, teacher, budget).missing(pairs())) == 5


def test_a_stopped_pass_goes_on_where_it_was_and_a_cut_line_is_dropped(tmp_path: Path) -> None:
    many, judge = pairs(70), Judge()
    kept = Preferences(tmp_path, "teacher", BUDGET)
    stops = iter([False, True])
    assert list(kept.ask(judge, many, lambda: next(stops))) == [32]
    with kept.path.open("a") as file:
        file.write('{"pair": "half')
    later = Preferences(tmp_path, "teacher", BUDGET)
    assert len(later.missing(many)) == 38
    ask(later, judge, many)
    assert judge.asked == 70
    assert len(Preferences(tmp_path, "teacher", BUDGET)) == 70


def test_a_preference_is_the_sigmoid_of_the_gap_in_units_of_the_usual_one(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs())
    found = list(kept.probabilities(pairs(), 2.0).values())
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-2.0 * (k + 1) / 3)) for k in range(5)], rtol=1e-6)


def test_permuting_deals_the_same_preferences_to_other_pairs(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs())
    own, dealt = kept.probabilities(pairs(), 2.0), kept.probabilities(pairs(), 2.0, permuted=1)
    assert sorted(own.values()) == pytest.approx(sorted(dealt.values()))
    assert list(own.values()) != list(dealt.values())


def test_by_lot_the_twin_is_preferred_as_often_and_as_surely(tmp_path: Path) -> None:
    many = pairs(200)
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), many)
    own = np.array(list(kept.probabilities(many, 2.0).values()))
    permuted = np.array(list(kept.probabilities(many, 2.0, permuted=1).values()))
    lot = np.array(list(kept.probabilities(many, 2.0, permuted=1, unordered=True).values()))
    assert (own > 0.5).all()
    assert (permuted > 0.5).all(), "dealt to other pairs, the own caption is preferred as often as before"
    assert 0.4 < (lot > 0.5).mean() < 0.6
    np.testing.assert_allclose(np.sort(np.abs(lot - 0.5)), np.sort(np.abs(own - 0.5)), atol=1e-12)


def test_stand_ins_do_not_count_in_the_teacher_s_accuracy(tmp_path: Path) -> None:
    swaps = pairs()
    others = [replace(p, caption=f"other {k}", stand_in=True) for k, p in enumerate(pairs(9))]
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), swaps + others)
    assert kept.right(swaps + others) == kept.right(swaps)
    alone, together = (kept.probabilities(asked, 2.0) for asked in (swaps, swaps + others))
    assert {key: together[key] for key in alone} == alone
    assert len(together) == len(swaps) + len(others)
    dealt = kept.probabilities(swaps + others, 2.0, permuted=1)
    assert sorted(dealt[key] for key in alone) == sorted(alone.values())
    assert dealt != together


def test_preferring_the_swap_is_right_in_a_mislabelled_pair(tmp_path: Path) -> None:
    kept, wrong = Preferences(tmp_path, "teacher", BUDGET), [replace(p, mislabelled=True) for p in pairs()]
    ask(kept, Judge(), wrong)
    assert kept.right(wrong) == (0, 5)
    assert kept.right(pairs()) == (5, 5)
    assert kept.probabilities(wrong, 2.0) == kept.probabilities(pairs(), 2.0), "nothing that is trained on knows of it"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_answers_are_reversed_until_the_teacher_is_right_that_often(tmp_path: Path, share: float) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    many = [replace(pair, mislabelled=k % 5 == 0) for k, pair in enumerate(pairs(50))]  # right about 40 of them
    ask(kept, Judge(), many)
    own, found = kept.right(many), kept.reversed_until(share, many, 3)
    assert own == (40, 50)
    assert found.right(many) == (round(50 * share), 50)
    assert kept.right(many) == own, "the answers themselves stay"
    p, q = (np.array(list(one.probabilities(many, 2.0).values())) for one in (kept, found))
    assert int((np.sign(p - 0.5) != np.sign(q - 0.5)).sum()) == abs(40 - round(50 * share)), "no more than needed"
    np.testing.assert_allclose(np.abs(p - 0.5), np.abs(q - 0.5), atol=1e-12)


def test_which_answers_are_reversed_depends_on_the_seed_alone(tmp_path: Path) -> None:
    kept, many = Preferences(tmp_path, "teacher", BUDGET), pairs(50)
    ask(kept, Judge(), many)
    first, again, other = (kept.reversed_until(0.5, many, seed).probabilities(many, 2.0) for seed in (1, 1, 2))
    assert first == again != other


def test_a_pair_without_a_twin_is_not_asked_about(tmp_path: Path) -> None:
    judge, kept = Judge(), Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, judge, [replace(p, twin=None) for p in pairs()])
    assert judge.asked == 0
    assert kept.right(pairs()) == (0, 0)


def test_a_broken_cache_names_its_line(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs())
    kept.path.write_text(kept.path.read_text() + "nonsense\n")
    with pytest.raises(UserError, match="Line 6"):
        Preferences(tmp_path, "teacher", BUDGET)


def ask_slowly(folder: Path, order: list[int]) -> None:
    """In a process of its own: between finding out what is missing and writing, there is time for another one."""
    append = files.append

    def slow_append(*arguments: Any, **options: Any) -> None:
        time.sleep(0.03)
        append(*arguments, **options)

    files.append = slow_append
    every = pairs(MANY)
    ask(Preferences(folder, "teacher", BUDGET), Judge(), [every[k] for k in order])
    os._exit(0)


def kept_rows(folder: Path) -> list[str]:
    return [json.loads(line)["pair"] for line in Preferences(folder, "teacher", BUDGET).path.read_text().splitlines()]


@pytest.mark.skipif(FORK is None, reason="processes are forked here")
@pytest.mark.parametrize("seed", range(3))
def test_processes_that_share_a_file_of_preferences_keep_each_once(tmp_path: Path, seed: int) -> None:
    draw, running = random.Random(seed), []
    for number in range(3):
        order = list(range(MANY))
        draw.shuffle(order) if number == 2 else None
        running.append(FORK.Process(target=ask_slowly, args=(tmp_path, order)))
        running[-1].start()
    time.sleep(draw.uniform(0.0, 0.2))
    running[0].kill()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running[1:]] == [0, 0]
    rows = kept_rows(tmp_path)
    assert len(rows) == len(set(rows)) == MANY
    assert not Preferences(tmp_path, "teacher", BUDGET).missing(pairs(MANY))


def test_damaged_preferences_are_used_or_refused_in_a_sentence(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs(12))
    whole, used, refused = kept.path.read_bytes(), 0, 0
    for seed in range(400):
        kept.path.write_bytes(damaged(whole, seed, lines=True))
        try:
            again = Preferences(tmp_path, "teacher", BUDGET)
            ask(again, Judge(), pairs(12))
            found = again.probabilities(pairs(12), 2.0)
        except UserError:
            refused += 1
        else:
            used += 1
            assert all(0 <= p <= 1 for p in found.values())
    assert min(used, refused) > 20


@pytest.mark.slow
@pytest.mark.usefixtures("small_sets")
def test_a_pair_that_an_epoch_repeats_counts_once(run: Any) -> None:
    there = sum(pair.twin is not None for pair in read_source(replace(TINY, pool=10)).draw(0, 10))
    found = done(run(objective="preference", pool=10, steps=3)).record["preferences"]  # 3 draws of 4
    assert (found["pairs"], found["asked"], found["teacher_right"]["n"]) == (there, there, there)
    again = [event.text for event in run("again", objective="preference", pool=10) if isinstance(event, Notice)]
    assert any(f" of {there} pairs. {there} of them were already scored." in text for text in again)


@pytest.mark.slow
def test_pairs_that_wait_for_the_teacher_hold_no_image(tmp_path: Path) -> None:
    recipe = Recipe(objective="preference", data=folder_of(tmp_path, FREE), batch=5, held_out=0)
    source, kept = read_source(recipe), Preferences(tmp_path / "cache", "teacher", BUDGET)
    loaded: Any = SimpleNamespace(plan=SimpleNamespace(recipe=recipe, stop_if_asked=lambda: None), source=source)
    before = images_in_memory()
    found = _all_pairs(loaded, kept)
    assert len(found) == len(FREE)
    assert images_in_memory() <= before
    unread = [replace(pair, picture=replace(pair.picture, open=lambda: pytest.fail("decoded"))) for pair in found]
    assert len(kept.missing(unread)) == len(FREE), "each was hashed while it was in memory"
    drawn = {pair.picture.name: pair.picture.open().tobytes() for pair in source.draw(0, 5)}
    again = {pair.picture.name: pair.picture.open().tobytes() for pair in found}
    assert drawn.items() <= again.items()


def images_in_memory() -> int:
    gc.collect()
    return sum(isinstance(thing, Image.Image) for thing in gc.get_objects())
