"""Processes that share a run share the asking of its teacher; here they are threads that meet as processes do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.errors import UserError
from sdsdemo.finetuning.teacher_preferences import AT_ONCE, Preferences
from sdsdemo.runtime.distributed import Processes
from sdsdemo.types import Budget, Example, Scores
from tests.finetuning.test_teacher_preferences import BUDGET, Judge, pairs

MANY = 2 * AT_ONCE + 21


@dataclass(kw_only=True)
class Meeting:
    """Where two processes lay down what they give, and take what both gave."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=120))
    given: dict[int, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Met(Processes):
    meeting: Meeting

    def gather(self, items: list[Any]) -> list[Any]:
        self.meeting.given[self.index] = items
        self.meeting.barrier.wait()
        found = [item for index in range(self.count) for item in self.meeting.given[index]]
        self.meeting.barrier.wait()
        return found


class Tired(Judge):
    """Answers so many times, then cannot."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        for scores in super().score_examples(examples, budget):
            if self.asked > self.answers:
                raise UserError("The disk is full: free some.")
            yield scores


@dataclass(kw_only=True)
class Asker:
    """A process: its answers, its teacher, how many pairs it heard of as done, and how it ended."""

    kept: Preferences
    judge: Judge
    done: list[int] = field(default_factory=list)
    fault: str = ""

    def ask(self, stop: Callable[[], bool]) -> None:
        try:
            self.kept.agree(pairs(MANY))
            self.done += self.kept.ask(self.judge, pairs(MANY), stop)
        except UserError as error:
            self.fault = str(error)


def both_ask(
    folders: list[Path],
    judges: tuple[Judge, Judge] | None = None,
    stop: Callable[[int], bool] = lambda index: False,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Asker]:
    meeting = Meeting()
    askers = [
        Asker(kept=Preferences(folder, "teacher", BUDGET, Met(index=k, count=2, meeting=meeting)), judge=judge)
        for k, (folder, judge) in enumerate(zip(folders, judges or (Judge(), Judge()), strict=True))
    ]
    meanwhile()
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(one.ask, lambda k=k: stop(k)) for k, one in enumerate(askers)]:
            future.result(60)
    return askers


def disks(folder: Path, own: bool) -> list[Path]:
    return [folder / "0", folder / "1"] if own else [folder, folder]


@pytest.mark.parametrize("own", [False, True], ids=["one disk", "own disks"])
def test_two_processes_ask_about_half_the_pairs_each_and_know_all(tmp_path: Path, own: bool) -> None:
    askers = both_ask(disks(tmp_path / "two", own))
    assert [one.judge.asked for one in askers] == [MANY - MANY // 2, MANY // 2]
    assert [one.done for one in askers] == [[2 * AT_ONCE, MANY]] * 2
    alone = Preferences(tmp_path / "one", "teacher", BUDGET)
    list(alone.ask(Judge(), pairs(MANY), lambda: False))
    for one in askers:
        assert one.kept.probabilities(pairs(MANY), 2.0) == alone.probabilities(pairs(MANY), 2.0)
    lines = askers[0].kept.path.read_text().splitlines()
    assert len({json.loads(line)["pair"] for line in lines}) == len(lines) == MANY


def test_what_one_process_knows_is_asked_by_none(tmp_path: Path) -> None:
    folders = disks(tmp_path, own=True)
    for folder, known in zip(folders, (pairs(10), pairs(30)[5:]), strict=True):
        list(Preferences(folder, "teacher", BUDGET).ask(Judge(), known, lambda: False))
    askers = both_ask(folders)
    assert sum(one.judge.asked for one in askers) == MANY - 30
    assert Preferences(folders[0], "teacher", BUDGET).missing(pairs(MANY)) == []


@pytest.mark.parametrize("index", [0, 1])
def test_answers_that_another_run_adds_meanwhile_are_taken_by_all(tmp_path: Path, index: int) -> None:
    folders = disks(tmp_path, own=True)

    def another_run() -> None:
        list(Preferences(folders[index], "teacher", BUDGET).ask(Judge(), pairs(MANY)[40:50], lambda: False))

    askers = both_ask(folders, meanwhile=another_run)
    assert [one.kept.missing(pairs(MANY)) for one in askers] == [[], []]
    assert [one.done for one in askers] == [[2 * AT_ONCE, MANY]] * 2


def test_a_stop_that_one_process_hears_of_ends_the_asking_of_all(tmp_path: Path) -> None:
    heard = iter([False, True])
    askers = both_ask(disks(tmp_path, own=False), stop=lambda index: index == 1 and next(heard))
    assert [one.done for one in askers] == [[2 * AT_ONCE]] * 2
    assert len(Preferences(tmp_path, "teacher", BUDGET)) == 2 * AT_ONCE


def test_a_fault_of_one_process_is_told_by_all_and_answers_stay(tmp_path: Path) -> None:
    askers = both_ask(disks(tmp_path, own=False), judges=(Judge(), Tired(AT_ONCE + 3)))
    assert [one.fault for one in askers] == ["The disk is full: free some."] * 2
    assert len(Preferences(tmp_path, "teacher", BUDGET)) == MANY - (MANY // 2 - AT_ONCE - 3)
