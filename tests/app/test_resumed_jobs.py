"""Runs that go on: after the server's end, to more steps, from files that are damaged; and what is deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.job_states import Job, changes_by, resumed, write_request
from sdsdemo.app.jobs import Jobs
from sdsdemo.core.intervals import Proportion
from sdsdemo.errors import UserError
from sdsdemo.finetuning.events import Evaluated
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.runtime.ages import Ages
from sdsdemo.ui import finetune_html, training_curves
from tests.app.trainer import KEEP_EVERY, QUICK, Trainer, over, until
from tests.damage import damaged


def cut(jobs: Jobs, trainer: Trainer, steps: int) -> str:
    """A run whose server died after so many steps: its files, and nothing in memory."""
    trainer.go.clear()
    id_ = jobs.start(QUICK)
    until(jobs, id_, lambda run: run.evaluations)
    run = FineTuningFolder(jobs.folder(id_))
    for step in range(1, steps + 1):
        run.append({"step": step, "loss": 1.0 / step, "gradient": 1.0, "s": 0.1})
    run.append({"what": "look", "step": 0, "metric": "text", "value": 0.2, "low": 0.1, "high": 0.3, "n": 400})
    run.write(run.read() | {"state": "running", "steps_done": steps - steps % KEEP_EVERY})
    return id_


def started_anew(jobs: Jobs, trainer: Trainer) -> Jobs:
    """Another server on the same folder."""
    return Jobs(jobs.workbench, root=jobs.root, runner=trainer)


def test_what_was_right_at_each_evaluation_outlives_the_server(jobs: Jobs, trainer: Trainer) -> None:
    id_ = cut(jobs, trainer, 7)
    folder = FineTuningFolder(jobs.folder(id_))
    share = {"metric": "text", "value": 0.2, "low": 0.1, "high": 0.3, "n": 400}
    folder.append({"what": "look", "step": 5, **share, "pictures": "f0"})
    run = started_anew(jobs, trainer).get(id_)
    assert [(one.step, one.pictures) for one in run.evaluations] == [(0, ""), (5, "f0")]  # the first is an older row
    trainer.go.set()


@pytest.mark.parametrize(("steps", "kept"), [(0, 0), (7, 0), (23, 20), (40, 40)])
def test_a_run_that_the_server_s_end_cut_goes_on_by_its_id(jobs: Jobs, trainer: Trainer, steps: int, kept: int) -> None:
    id_ = cut(jobs, trainer, steps)
    fresh, after = Trainer(), Trainer()
    again = started_anew(jobs, after)
    run = again.get(id_)
    assert (run.state, run.step, run.saved_step, run.is_over) == ("interrupted", steps, kept, True)
    assert (len(run.points), len(run.evaluations)) == (steps, 1)
    again.resume(id_)
    run = until(again, id_, over)
    assert (run.state, run.step, run.written) == ("finished", QUICK.steps, True)
    assert [point.step for point in run.points] == list(range(1, QUICK.steps + 1))
    assert len(run.evaluations) == 1
    assert started_anew(jobs, fresh).get(id_).state == "finished"
    trainer.go.set()


def test_a_run_that_waited_when_the_server_ended_is_not_lost(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    first, second, third = (jobs.start(QUICK) for _ in range(3))
    jobs.stop(third)
    again = started_anew(jobs, Trainer())
    assert (again.get(second).state, again.get(third).state) == ("interrupted", "stopped")
    again.resume(second)
    assert until(again, second, over).state == "finished"
    trainer.go.set()
    until(jobs, first, over)


@pytest.mark.parametrize("anew", [False, True])
def test_a_run_that_is_over_goes_on_to_more_steps_alone(jobs: Jobs, trainer: Trainer, anew: bool) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    until(jobs, id_, lambda run: not jobs.is_busy)
    server = started_anew(jobs, trainer) if anew else jobs
    for steps, said in ((None, "has finished its 40 steps"), (39, "40 to 2,000"), (2_001, "at most 2,000 steps")):
        with pytest.raises(UserError, match=said):
            server.resume(id_, steps)
    server.resume(id_, 60)
    run = until(server, id_, over)
    assert (run.state, run.step, run.recipe.steps) == ("finished", 60, 60)
    assert [point.step for point in run.points] == list(range(1, 61))


def test_more_steps_give_another_model_under_the_same_name(jobs: Jobs) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    until(jobs, id_, lambda run: not jobs.is_busy)
    name = jobs.model(id_)
    first = jobs.workbench.scorer(name)
    assert jobs.workbench.scorer(jobs.model(id_)) is first
    jobs.resume(id_, 60)
    until(jobs, id_, over)
    assert jobs.model(id_) == name
    assert jobs.workbench.scorer(name) is not first


def test_a_run_extended_just_before_a_restart_is_interrupted(jobs: Jobs) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    write_request(jobs.folder(id_), replace(QUICK, steps=60))
    run = started_anew(jobs, Trainer()).get(id_)
    assert (run.state, run.step, run.recipe.steps) == ("interrupted", 40, 60)


def test_more_steps_that_were_withdrawn_stay_withdrawn_after_a_restart(jobs: Jobs, trainer: Trainer) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    trainer.go.clear()
    first = jobs.start(QUICK)
    until(jobs, first, lambda run: run.evaluations)
    jobs.resume(id_, 60)
    jobs.stop(id_)
    before = jobs.get(id_)
    after = started_anew(jobs, Trainer()).get(id_)
    assert (
        (before.state, before.step, before.written) == (after.state, after.step, after.written) == ("stopped", 40, True)
    )
    assert before.record == after.record
    assert before.record["steps_done"] == 40
    trainer.go.set()
    until(jobs, first, over)


def test_a_finished_model_stays_its_owner_s_where_more_steps_fail(jobs: Jobs, trainer: Trainer) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    until(jobs, id_, lambda run: not jobs.is_busy)
    trainer.breaks = UserError("No GPU could be had.")
    jobs.resume(id_, 60)
    run = until(jobs, id_, over)
    assert (run.state, run.reason, run.written) == ("failed", "No GPU could be had.", True)
    assert run.record["steps_done"] == 40


def test_a_resumed_run_says_saved_only_once_its_new_weights_are(jobs: Jobs, trainer: Trainer) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    until(jobs, id_, lambda run: not jobs.is_busy)
    trainer.go.clear()
    jobs.resume(id_, 60)
    going = until(jobs, id_, lambda run: run.state != "waiting")
    assert (going.written, going.record) == (False, {})
    assert "Stopped and saved" not in finetune_html.status_html(replace(going, state="stopping"))
    trainer.go.set()
    assert until(jobs, id_, over).written


def test_a_run_that_goes_on_is_not_resumed_twice(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    id_ = jobs.start(QUICK)
    with pytest.raises(UserError, match="still going"):
        jobs.resume(id_)
    trainer.go.set()
    until(jobs, id_, over)


def test_a_stop_that_comes_with_the_resumption_is_obeyed(jobs: Jobs, trainer: Trainer) -> None:
    id_, asked = cut(jobs, trainer, 23), threading.Event()

    class Clearing(Trainer):
        """Takes away an old wish to stop as it begins, as `finetune` does."""

        def __call__(self, recipe: Recipe, folder: Path, **options: Any) -> Iterator[Any]:
            assert asked.wait(60)
            FineTuningFolder(folder).clear_stop()
            yield from super().__call__(recipe, folder, **options)

    again = started_anew(jobs, Clearing())
    again.resume(id_)
    until(again, id_, lambda run: run.state != "waiting")
    again.stop(id_)
    asked.set()
    assert until(again, id_, over).state == "stopped"
    trainer.go.set()


def test_the_rate_after_a_resumption_is_that_of_the_new_steps() -> None:
    run = Job(id="x", recipe=replace(QUICK, steps=40), step=30, begun_at=20, seconds=5.0)
    assert (run.rate, run.left) == (2.0, 5.0)


def test_the_base_evaluated_again_stays_the_first_of_a_run_s_evaluations() -> None:
    share = Proportion(value=0.5, low=0.4, high=0.6, n=100)
    run = Job(id="a", recipe=Recipe(steps=50), state="stopped", saved_step=25)
    for step in (0, 25):
        run = replace(run, **changes_by(Evaluated(step=step, metric="text", share=share), run))
    run = resumed(run, run.recipe)
    again = replace(run, **changes_by(Evaluated(step=0, metric="text", share=replace(share, value=0.4)), run))
    assert [(one.step, one.value) for one in again.evaluations] == [(0, 0.4), (25, 0.5)]


def test_old_runs_of_an_earlier_server_are_deleted_and_nothing_else(
    jobs: Jobs, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = cut(jobs, trainer, 7)
    other = jobs.root / "somebody's notes"
    other.mkdir()
    again = started_anew(jobs, Trainer())
    again.tidy()
    assert again.get(id_).state == "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(again, "_ages", Ages(lambda: 1e12))
        again.tidy()
    with pytest.raises(UserError, match="no such run here"):
        again.get(id_)
    assert other.is_dir()


@pytest.mark.parametrize("name", ["asked.json", "run.json", "log.jsonl"])
def test_damaged_files_of_a_run_are_a_state_and_never_a_traceback(jobs: Jobs, trainer: Trainer, name: str) -> None:
    id_ = cut(jobs, trainer, 23)
    path = jobs.folder(id_) / name
    whole, again, states = path.read_bytes(), started_anew(jobs, Trainer()), set()
    for seed in range(400):
        path.write_bytes(damaged(whole, seed, lines=name.endswith("l")))
        try:
            run = again.get(id_)
        except UserError:
            states.add("unknown")
        else:
            states.add(run.state)
            finetune_html.status_html(run)
            finetune_html.result_html(run)
            training_curves.losses_svg(run.points, run.recipe.steps)
            training_curves.evaluations_svg(run.evaluations, run.recipe.steps)
    assert len(states) > 1
    trainer.go.set()
