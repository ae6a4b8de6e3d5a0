"""How long the studies would take: what counts once, what each process does, and what is timed here."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sdsdemo.finetuning import measures
from sdsdemo.finetuning.estimating import key
from sdsdemo.mini import timing
from sdsdemo.mini.experiment import BASES
from sdsdemo.mini.preferring import Trained
from sdsdemo.mini.studies import BETTER, CONFIRM, DEALT, NORMS, RETURN, SCREEN, STUDIES, TOWER
from sdsdemo.mini.timing import Times, kind, study_seconds
from sdsdemo.recipes import Recipe
from sdsdemo.settings import CHECKPOINTS
from sdsdemo.types import Budget

RUNS = [(study, recipe) for study in STUDIES.values() for _, recipe in study.runs()]
TRAININGS = {replace(recipe, wise_ft=1.0) for _, recipe in RUNS}


def times(
    around: float = 0.0, step: float = 0.0, look: float = 0.0, larger: float = 0.0, pairs: float = 0.0,
    asking: float = 0.0,
) -> Times:  # fmt: skip
    kinds = [key(kind(recipe)) for _, recipe in RUNS]
    return Times(
        around=dict.fromkeys(kinds, around), step=dict.fromkeys(kinds, step), look={False: look, True: larger},
        pairs=pairs, asking=asking,
    )  # fmt: skip


def test_a_training_that_several_studies_need_counts_once() -> None:
    assert study_seconds(times(step=1.0), 0, 1) == sum(recipe.steps for recipe in TRAININGS)
    assert study_seconds(times(around=1.0), 0, 1) == len(TRAININGS) < len(RUNS) - len(list(RETURN.runs()))
    shared = study_seconds(times(step=1.0), 0, 2) / study_seconds(times(step=1.0), 0, 1)
    assert 0.5 <= shared < 0.6, "the processes get about as much to do each"


def test_every_run_is_looked_at_as_its_study_looks() -> None:
    larger = sum(study.larger for study, _ in RUNS)
    bases = len(BASES) + 1
    assert study_seconds(times(look=1.0), 0, 1) == len(RUNS) - larger
    assert study_seconds(times(larger=1.0), 0, 1) == larger + bases
    assert study_seconds(times(larger=1.0), 0, 2) == larger // 2 + 1 + bases, "the first one has the bases too"


def test_each_process_asks_a_teacher_once_about_the_same_pairs() -> None:
    asked = {(r.teacher, r.seed, r.mislabelled) for r in TRAININGS if r.objective == "preference"}
    assert study_seconds(times(asking=1.0), 7, 1) == 7 * len(asked)
    assert study_seconds(times(asking=1.0), 7, 2) <= 7 * len(asked)
    assert study_seconds(times(asking=1.0), 7, 2) > 7 * len(asked) / 2, "both ask"


def test_pairs_are_drawn_where_those_before_were_others() -> None:
    seeds = len(CONFIRM.seeds)
    assert seeds * 2 < study_seconds(times(pairs=1.0), 0, 1) < len(TRAININGS) / 4


def test_kinds_are_what_a_step_takes_long_by() -> None:
    preference, sds = CONFIRM.cells["preference"], CONFIRM.cells["sds"]
    same = (DEALT.cells["labels"], DEALT.cells["preference, permuted"], BETTER.cells["preference, better teacher"])
    assert {key(kind(recipe)) for recipe in same} == {key(kind(replace(preference, base=BASES[2], seed=3)))}
    assert kind(preference).objective == "labels", "no teacher is asked to see how long a step takes"
    tower = TOWER.cells["preference, text tower alone"]
    others = (sds, NORMS, tower, replace(preference, trained="all"), SCREEN.cells["sds 10, no Jacobian"])
    assert len({key(kind(recipe)) for recipe in (preference, *others)}) == 1 + len(others)


def test_kinds_are_timed_by_short_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEPS", 3)
    monkeypatch.setattr(timing, "PICTURES", 4)
    monkeypatch.setattr(timing, "NORMS", replace(NORMS, pool=8))
    monkeypatch.setattr(measures, "ZERO_SHOT", 3)
    monkeypatch.setattr(measures, "RETRIEVAL", (1, 3))
    looked: list[bool] = []
    monkeypatch.setattr(timing, "look_at", lambda *_, larger: looked.append(larger))
    tiny = Recipe(objective="clip", steps=300, batch=4, pool=1200, fitted_on=4, teacher_timesteps=2)
    monkeypatch.setattr(timing, "PREFERENCE", replace(tiny, objective="preference"))
    runs = {"clip": tiny, "frozen": replace(tiny, towers="text"), "sds": replace(tiny, objective="sds")}
    encoding = 1.0
    whole = timing.finetune

    def slowly(recipe: Recipe, *where: Path, **options: object) -> object:
        for event in whole(recipe, *where, **options):  # type: ignore[arg-type]
            if isinstance(event, timing.Done) and recipe.towers == "text":
                event.record["frozen_seconds"] = encoding
            yield event

    monkeypatch.setattr(timing, "finetune", slowly)
    found = timing.timed({(name,): recipe for name, recipe in runs.items()}, Trained(CHECKPOINTS))
    assert looked == [True, True, False, False], "once to draw the sets, once for the time, of either kind"
    assert found.around.keys() == found.step.keys() == {(name,) for name in runs}
    assert min(*found.step.values(), found.pairs, found.asking) > 0
    assert found.around["sds",] > found.around["clip",] > 0, "a teacher is loaded, and h_w fitted"
    assert 99 < found.around["frozen",] < 120, "300 steps encode a hundred times what 3 do"
    both = timing.scoring_seconds(found, Budget(timesteps=4, noises=3, seed=0), 10)
    evaluations = (10 * 2 * 2 * 4 * 3) / (2 * 2 * timing.PREFERENCE.teacher_noises)
    assert both == pytest.approx(evaluations * found.asking)


def alone(number: int) -> Times:
    """What a process of the test below finds: when it worked, and that it is one of its own."""
    began = time.time()
    time.sleep(2.0)
    return times(around=float(os.getpid()), look=began, larger=time.time(), pairs=float(number))


def test_processes_are_timed_at_the_same_time() -> None:
    found = timing.measured(2, alone)
    assert found.pairs == 0.5, "the mean"
    assert found.look[True] - found.look[False] >= 2.0
    assert set(found.around.values()) != {float(os.getpid())}
