"""Runs from the page: one trains, a few wait, each belongs to its id, and what happens to it is told."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.job_states import MOST_POINTS, REQUEST, Job, changes_by
from sdsdemo.app.jobs import FULL, Jobs
from sdsdemo.app.sharing import TUNED, shared_name
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import HEADER, read_run
from sdsdemo.finetuning.events import Step, Working
from sdsdemo.models import cards
from sdsdemo.runtime.ages import Ages
from sdsdemo.settings import CHECKPOINTS, FINETUNING
from tests.app.trainer import QUICK, Trainer, over, until


def test_a_run_goes_through_its_states_and_keeps_what_was_told(jobs: Jobs) -> None:
    id_ = jobs.start(QUICK)
    run = until(jobs, id_, over)
    assert (run.state, run.step, run.written, run.text) == ("finished", QUICK.steps, True, "")
    assert [point.step for point in run.points] == list(range(1, QUICK.steps + 1))
    assert run.notices == ("a <note>",)
    assert run.evaluations[0].n == 400
    assert (jobs.folder(id_) / "model.safetensors").is_file()


def test_a_run_of_a_server_killed_while_it_was_asked_is_not_listed(jobs: Jobs) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    never = jobs.folder(id_).with_name("A" * len(id_))
    never.mkdir()
    (never / f"{REQUEST}.1.part").write_text("{")
    assert Jobs(jobs.workbench, root=jobs.root).ids == [id_]


def test_one_run_trains_the_other_waits_and_neither_sees_the_other(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    ids = [jobs.start(QUICK) for _ in range(3)]
    assert len(set(ids)) == 3
    until(jobs, ids[0], lambda run: run.state == "preparing" and run.evaluations)
    waiting = [jobs.get(id_) for id_ in ids[1:]]
    assert [(run.state, run.ahead) for run in waiting] == [("waiting", 1), ("waiting", 2)]
    assert all(not run.points and not run.notices for run in waiting)
    trainer.go.set()
    assert all(until(jobs, id_, over).state == "finished" for id_ in ids)


def test_stop_is_obeyed_at_once_and_the_next_one_starts(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    first, second = jobs.start(QUICK), jobs.start(QUICK)
    until(jobs, first, lambda run: run.evaluations)
    jobs.stop(first)
    assert until(jobs, first, over).state == "stopped"  # although its training is held
    assert (jobs.folder(first) / "model.safetensors").is_file()
    until(jobs, second, lambda run: run.state != "waiting")
    trainer.go.set()
    assert until(jobs, second, over).state == "finished"


@pytest.mark.parametrize(
    "event",
    [Working(text="loading"), Step(step=1, losses={"loss": 1.0}, gradient_norm=0.0, seconds=0.1)],
    ids=["prepares", "steps"],
)
def test_a_run_that_is_to_stop_says_so_until_it_has(event: Working | Step) -> None:
    run = Job(id="1", recipe=QUICK, state="running")
    assert changes_by(event, run)["state"] in ("running", "preparing")
    assert changes_by(event, replace(run, state="stopping"))["state"] == "stopping"


def test_a_waiting_run_leaves_the_queue_when_it_is_stopped(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    first, second = jobs.start(QUICK), jobs.start(QUICK)
    jobs.stop(second)
    assert jobs.get(second).state == "stopped"
    trainer.go.set()
    until(jobs, first, over)
    assert len(trainer.ran) == 1


def test_a_queue_that_is_full_says_so(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    ids = [jobs.start(QUICK)]
    until(jobs, ids[0], lambda run: run.state != "waiting")
    ids += [jobs.start(QUICK) for _ in range(FINETUNING.page_waiting)]
    with pytest.raises(UserError, match=re.escape(FULL.format(count=FINETUNING.page_waiting))):
        jobs.start(QUICK)
    trainer.go.set()
    for id_ in ids:
        until(jobs, id_, over)


def test_a_failure_is_told_and_the_next_run_goes_on(jobs: Jobs, trainer: Trainer) -> None:
    trainer.breaks = RuntimeError("secret /path")
    id_ = jobs.start(QUICK)
    run = until(jobs, id_, over)
    assert run.state == "failed"
    assert "bug in sdsdemo" in run.reason
    assert "secret" not in run.reason
    trainer.breaks = None
    assert until(jobs, jobs.start(QUICK), over).state == "finished"


def test_a_sentence_for_the_visitor_arrives_word_for_word(jobs: Jobs, trainer: Trainer) -> None:
    trainer.breaks = UserError("Make room on the disk.")
    assert until(jobs, jobs.start(QUICK), over).reason == "Make room on the disk."


def test_the_curve_stays_short_however_long_the_run(jobs: Jobs) -> None:
    run = until(jobs, jobs.start(replace(QUICK, steps=1_800)), over)
    assert len(run.points) <= MOST_POINTS
    assert run.points[-1].step == 1_800


def test_a_model_is_lent_under_its_shared_name_and_is_in_no_list(jobs: Jobs) -> None:
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    name = jobs.model(id_)
    card = jobs.workbench.card(name)
    assert name == shared_name(id_)
    assert name.startswith(TUNED)
    assert card.title == "Tuned here: sds, 40 steps"
    assert name not in [listed.name for listed in jobs.workbench.cards()]


def test_a_model_that_has_trained_on_since_is_scored_again(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []

    def evaluate(benchmark: str, models: list[str], *, workbench: Workbench, out: Path, **options: Any) -> None:
        header = json.loads((out / HEADER).read_text())
        header["models"][models[0]] = cards.fingerprint(workbench.card(models[0]))
        (out / HEADER).write_text(json.dumps(header))
        scored.append(models[0])

    monkeypatch.setattr("sdsdemo.evaluation.run.evaluate", evaluate)
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    name, folder = jobs.evaluated(id_)
    assert jobs.evaluated(id_) == (name, folder)
    assert scored == [name]
    shutil.copy(CHECKPOINTS / "mini-clip-control.safetensors", jobs.folder(id_) / "model.safetensors")
    assert jobs.evaluated(id_) == (name, folder)
    assert scored == [name, name]
    assert list(read_run(folder).header["models"])[-1] == name
    (folder / HEADER).write_text("{")
    assert jobs.evaluated(id_) == (name, folder)
    assert scored == [name, name, name]


def test_a_full_disk_under_the_evaluation_is_a_sentence(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: Any) -> None:
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device")])

    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(UserError, match="free space on the server's disk"):
        jobs.evaluated(id_)


def test_old_runs_are_deleted_with_their_models_and_running_ones_never(
    jobs: Jobs, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = jobs.start(QUICK)
    until(jobs, old, over)
    name, folder = jobs.model(old), jobs.folder(old)
    until(jobs, old, lambda run: not jobs.is_busy)
    monkeypatch.setattr(jobs, "_ages", Ages(lambda: 1e12))
    jobs.tidy()
    assert not folder.exists()
    with pytest.raises(UserError):
        jobs.get(old)
    with pytest.raises(UserError):
        jobs.workbench.card(name)


def test_of_many_runs_that_have_ended_the_newest_stay(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for _ in range(3):
        id_ = jobs.start(QUICK)
        until(jobs, id_, over)
        until(jobs, id_, lambda run: not jobs.is_busy)
        folders.append(jobs.folder(id_))
    monkeypatch.setattr("sdsdemo.app.jobs.FINETUNING", replace(FINETUNING, page_kept=2))
    jobs.tidy()
    assert [folder.is_dir() for folder in folders] == [False, True, True]


def test_the_time_left_comes_from_the_rate() -> None:
    run = Job(id="x", recipe=replace(QUICK, steps=40), step=10, seconds=5.0)
    assert (run.rate, run.left) == (2.0, 15.0)
    assert Job(id="x", recipe=QUICK).left is None
