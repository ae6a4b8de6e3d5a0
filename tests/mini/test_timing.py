"""How long the studies would take: what counts once, what each process does, and what is timed here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.estimate import key
from sdsdemo.finetuning.events import Done, Event, Step
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments import study_timing
from sdsdemo.mini.experiments.cells import NORMS
from sdsdemo.mini.experiments.declared import (
    BETTER,
    CONFIRM,
    PREFERENCE_CONTROLS,
    RETURN,
    SCREEN,
    STUDIES,
    TOWER,
)
from sdsdemo.mini.experiments.preference_clip import Trained
from sdsdemo.mini.experiments.study import BASES
from sdsdemo.mini.experiments.study_timing import Times, kind, study_seconds
from sdsdemo.mini.models.clip import FURTHER
from sdsdemo.settings import CHECKPOINTS
from sdsdemo.types import Budget
from tests.forks import FORKS

RUNS = [(study, recipe) for study in STUDIES.values() for _, recipe in study.runs()]
TRAININGS = {replace(recipe, wise_ft=1.0) for _, recipe in RUNS}


def times(
    around: float = 0.0, step: float = 0.0, evaluation: float = 0.0, larger: float = 0.0, pairs: float = 0.0,
    asking: float = 0.0,
) -> Times:  # fmt: skip
    kinds = [key(kind(recipe)) for _, recipe in RUNS]
    return Times(
        around=dict.fromkeys(kinds, around), step=dict.fromkeys(kinds, step),
        evaluation={False: evaluation, True: larger},
        pairs=pairs, asking=asking,
    )  # fmt: skip


def test_a_training_that_several_studies_need_counts_once() -> None:
    assert study_seconds(times(step=1.0), 0, 1) == sum(recipe.steps for recipe in TRAININGS)
    assert study_seconds(times(around=1.0), 0, 1) == len(TRAININGS) < len(RUNS) - len(list(RETURN.runs()))
    shared = study_seconds(times(step=1.0), 0, 2) / study_seconds(times(step=1.0), 0, 1)
    assert 0.5 <= shared < 0.6, "the processes get about as much to do each"


def test_every_run_is_looked_at_as_its_study_looks() -> None:
    larger = sum(study.larger for study, _ in RUNS)
    bases = len(BASES) + 1 + len(FURTHER)
    assert study_seconds(times(evaluation=1.0), 0, 1) == len(RUNS) - larger
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
    same = (
        PREFERENCE_CONTROLS.cells["labels"],
        PREFERENCE_CONTROLS.cells["preference, permuted"],
        BETTER.cells["preference, better teacher"],
    )
    assert {key(kind(recipe)) for recipe in same} == {key(kind(replace(preference, base=BASES[2], seed=3)))}
    assert kind(preference).objective == "labels", "no teacher is asked to see how long a step takes"
    tower = TOWER.cells["preference, text tower alone"]
    others = (sds, NORMS, tower, replace(preference, trained="all"), SCREEN.cells["sds 10, no Jacobian"])
    assert len({key(kind(recipe)) for recipe in (preference, *others)}) == 1 + len(others)


def test_a_short_run_says_what_a_whole_one_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr(study_timing.time, "perf_counter", lambda: now[0])
    asked: list[Recipe] = []

    def finetune(recipe: Recipe, *_: object, **__: object) -> Iterator[Event]:
        """Five seconds before the steps, of which the first takes four and others two; three after them."""
        asked.append(recipe)
        now[0] += 5.0
        for step in range(recipe.steps):
            now[0] += 2.0 if step else 4.0
            yield Step(step=step + 1, losses={}, gradient_norm=0.0, seconds=0.0)
        now[0] += 3.0
        yield Done(state="finished", record={"frozen_seconds": 0.5} if recipe.towers == "text" else {})

    monkeypatch.setattr(study_timing, "finetune", finetune)
    recipe = Recipe(steps=800, batch=32, pool=8_000)
    around = 5.0 + 3.0 + 2.0
    assert study_timing._run(recipe, tmp_path, Trained(CHECKPOINTS), MiniCache()) == (around, 2.0)
    pool = 8_000 / (study_timing.STEPS * 32)
    frozen = study_timing._run(replace(recipe, towers="text"), tmp_path, Trained(CHECKPOINTS), MiniCache())
    assert frozen == (pytest.approx(around + 0.5 * (pool - 1)), 2.0), "all of the pool is encoded, and once"
    assert {one.steps for one in asked} == {study_timing.STEPS}


@pytest.mark.slow
def test_kinds_are_timed_by_short_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_timing, "STEPS", 3)
    monkeypatch.setattr(study_timing, "PICTURES", 4)
    monkeypatch.setattr(study_timing, "NORMS", replace(NORMS, pool=8))
    monkeypatch.setattr(before_after, "ZERO_SHOT", 3)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 3))
    monkeypatch.setattr(before_after, "read_benchmark", lambda name: read_benchmark(name)[::40])
    looked: list[bool] = []
    monkeypatch.setattr(study_timing, "evaluate_clip", lambda *_, larger: looked.append(larger))
    tiny = Recipe(objective="clip", steps=300, batch=4, pool=12, fitted_on=4, teacher_timesteps=2)
    monkeypatch.setattr(study_timing, "PREFERENCE", replace(tiny, objective="preference"))
    runs = {("clip",): replace(tiny, towers="text"), ("sds",): replace(tiny, objective="sds")}
    found = study_timing.timed(runs, Trained(CHECKPOINTS))
    assert looked == [True, True, False, False], "once to draw the sets, once for the time, of either kind"
    assert found.around.keys() == found.step.keys() == runs.keys()
    assert min(*found.step.values(), found.pairs, found.asking) > 0


def test_a_teacher_scores_by_what_an_answer_takes_it() -> None:
    spend = Budget(timesteps=4, noises=3, seed=0)
    preference = study_timing.PREFERENCE
    answer = 2 * preference.teacher_timesteps * preference.teacher_noises
    assert study_timing.scoring_seconds(times(asking=answer), spend, 10) == 10 * 2 * 2 * spend.timesteps * spend.noises


def met(place: Path, number: int) -> Times:
    """What a process of the test below finds: how many are there before it has waited too long for the other."""
    (place / str(number)).touch()
    patience = time.monotonic() + 60
    while len(list(place.iterdir())) < 2 and time.monotonic() < patience:
        time.sleep(0.05)
    return times(pairs=float(number), asking=float(time.monotonic() < patience), evaluation=float(os.getpid()))


@pytest.mark.slow
@pytest.mark.long
def test_processes_are_timed_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_timing, "get_context", lambda method: {"spawn": FORKS}[method])
    found = study_timing.measured(2, partial(met, tmp_path))
    assert found.asking == 1.0, "neither waited in vain"
    assert found.pairs == 0.5, "the mean of both"
    assert found.evaluation[False] != os.getpid()
