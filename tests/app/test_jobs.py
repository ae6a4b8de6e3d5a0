"""Runs from the page: one trains, a few wait, each belongs to its id; limits hold whatever the page asked for."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.job_states import MOST_POINTS, Job, changes_by, write_request
from sdsdemo.app.jobs import FULL, Jobs
from sdsdemo.app.sharing import TUNED, shared_name
from sdsdemo.app.visitors import MANY_THERE, ONE_EACH, Visitor
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.intervals import proportion
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import HEADER, read_run
from sdsdemo.finetuning.events import DeviceChosen, Done, Evaluated, Notice, Step, WeightsSaved, Working
from sdsdemo.finetuning.recipe import PRESETS, Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.models import cards
from sdsdemo.runtime.ages import Ages
from sdsdemo.settings import CHECKPOINTS, FINETUNING, Settings
from sdsdemo.ui import finetune_html, training_curves
from tests.damage import damaged
from tests.fakes import FakeScorer

QUICK = PRESETS["quick"]
WAIT = 10.0
KEEP_EVERY = 10


class Trainer:
    """A stand-in for `finetune`: its events, as fast as it is let, and a real file in the end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.ran: list[Recipe] = []
        self.breaks: Exception | None = None

    def __call__(self, recipe: Recipe, folder: Path, **options: Any) -> Iterator[Any]:
        self.ran.append(recipe)
        kept = FineTuningFolder(folder)
        story: dict[str, Any] = {"recipe": recipe.as_dict(), "state": "running", "steps_done": 0, "device": "cpu"}
        done = kept.read()["steps_done"] if options["resume"] else 0
        kept.write(story | {"steps_done": done})
        yield DeviceChosen(device="cpu")
        yield Working(text="loading", done=1, total=2)
        yield Notice(text="a <note>")
        yield Evaluated(step=0, metric="text", share=proportion(80, 400))
        for step in range(done + 1, recipe.steps + 1):
            while not self.go.is_set() and not (folder / "STOP").exists():
                time.sleep(0.01)
            if (folder / "STOP").exists():
                break
            if self.breaks:
                raise self.breaks
            done = step
            losses = {"loss": 1.0 / done, "clip": 0.5}
            kept.append({"step": done, **losses, "gradient": 1.0, "s": 0.1})
            if done % KEEP_EVERY == 0:
                kept.write(story | {"steps_done": done})
            yield Working(text="evaluating")
            yield Step(step=done, losses=losses, gradient_norm=1.0, seconds=0.1 * done)
        shutil.copy(CHECKPOINTS / "mini-sds-clip.safetensors", folder / "model.safetensors")
        story |= {"steps_done": done, "state": "stopped" if done < recipe.steps else "finished"}
        kept.write(story)
        yield WeightsSaved(step=done)
        yield Done(state=story["state"], record=story)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def jobs(trainer: Trainer, tmp_path: Path) -> Jobs:
    workbench = Workbench(Settings.from_environment({}), opener=FakeScorer)
    return Jobs(workbench, root=tmp_path / "runs", runner=trainer)


def until(jobs: Jobs, id_: str, holds: Any) -> Job:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        run = jobs.get(id_)
        if holds(run):
            return run
        time.sleep(0.01)
    raise AssertionError(f"it stayed {jobs.get(id_).state}")


def over(run: Job) -> bool:
    return run.is_over


def test_a_run_goes_through_its_states_and_keeps_what_was_told(jobs: Jobs) -> None:
    id_ = jobs.start(QUICK)
    run = until(jobs, id_, over)
    assert (run.state, run.step, run.written, run.text) == ("finished", QUICK.steps, True, "")
    assert [point.step for point in run.points] == list(range(1, QUICK.steps + 1))
    assert run.notices == ("a <note>",)
    assert run.evaluations[0].n == 400
    assert (jobs.folder(id_) / "model.safetensors").is_file()


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
    asked = time.monotonic()
    jobs.stop(first)
    assert until(jobs, first, over).state == "stopped"
    assert time.monotonic() - asked < 1.5
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


def who(session: str, address: str = "1.1.1.1") -> Visitor:
    return Visitor(session=session, address=address)


def test_a_visitor_of_a_shared_page_has_one_place(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    first = jobs.start(QUICK, who("a"))
    with pytest.raises(UserError, match=re.escape(ONE_EACH)):
        jobs.start(QUICK, who("a", "2.2.2.2"))
    jobs.start(QUICK, who("b"))
    with pytest.raises(UserError, match=re.escape(ONE_EACH)):
        jobs.start(QUICK, who("b"))
    trainer.go.set()
    until(jobs, first, over)
    again = jobs.start(QUICK, who("a"))
    assert until(jobs, again, over).state == "finished"


def test_an_address_leaves_places_to_others(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    for k in range(FINETUNING.page_places_of_address):
        jobs.start(QUICK, who(f"s{k}"))
    with pytest.raises(UserError, match=re.escape(MANY_THERE.format(count=FINETUNING.page_places_of_address))):
        jobs.start(QUICK, who("new"))
    jobs.start(QUICK, who("new", "2.2.2.2"))
    trainer.go.set()


def test_a_run_that_is_resumed_takes_a_place_too(jobs: Jobs, trainer: Trainer) -> None:
    ended = jobs.start(QUICK, who("a"))
    until(jobs, ended, over)
    trainer.go.clear()
    jobs.start(QUICK, who("a"))
    with pytest.raises(UserError, match=re.escape(ONE_EACH)):
        jobs.resume(ended, QUICK.steps + 10, who("a"))
    trainer.go.set()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": FINETUNING.page_steps + 1}, "at most 2,000 steps"),
        ({"batch": FINETUNING.page_batch + 1}, "at most 128 images a step"),
        ({"pool": FINETUNING.page_pool + 1}, "at most 8,000 images to train on"),
        ({"steps": 10**9}, "--steps must be"),
        ({"lam": -1.0}, "--lambda must be"),
        ({"base": "clip-vit-b-32"}, "downloads are off"),
        ({"teacher": "sd-v1-4"}, "downloads are off"),
    ],
)
def test_what_is_too_much_for_a_page_is_refused_on_the_server(jobs: Jobs, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        jobs.start(replace(QUICK, **changes))


def public(trainer: Trainer, tmp_path: Path, **environment: str) -> Jobs:
    settings = Settings.from_environment({"GRADIO_SERVER_NAME": "0.0.0.0", "SPACE_ID": "a/b", **environment})
    return Jobs(Workbench(settings, opener=FakeScorer), root=tmp_path / "runs", runner=trainer)


def test_a_space_without_a_gpu_does_not_train_unless_it_is_told_to(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="duplicate the Space"):
        public(trainer, tmp_path).start(QUICK)
    told = public(trainer, tmp_path, SDSDEMO_TRAINING="on")
    assert until(told, told.start(QUICK), over).state == "finished"


@pytest.mark.parametrize("changes", [{"data": "folder:/etc"}, {"base": "open_clip:local-dir:/etc"}])
def test_a_public_page_takes_no_path_of_the_server(trainer: Trainer, tmp_path: Path, changes: Any) -> None:
    jobs = public(trainer, tmp_path, SDSDEMO_TRAINING="on")
    with pytest.raises(UserError):
        jobs.start(replace(QUICK, **changes))
    assert trainer.ran == []


def test_training_can_be_off_at_home_too(trainer: Trainer, tmp_path: Path) -> None:
    settings = Settings.from_environment({"SDSDEMO_TRAINING": "off"})
    with pytest.raises(UserError, match="off on this page"):
        Jobs(Workbench(settings), root=tmp_path, runner=trainer).start(QUICK)


@pytest.mark.parametrize("deed", ["get", "stop", "folder", "model", "evaluated"])
def test_a_run_that_is_not_yours_is_not_known(jobs: Jobs, deed: str) -> None:
    with pytest.raises(UserError, match="no such run here"):
        getattr(jobs, deed)("../../etc")


def test_a_failure_is_told_and_the_next_run_goes_on(jobs: Jobs, trainer: Trainer) -> None:
    trainer.breaks = RuntimeError("secret /path")
    id_ = jobs.start(QUICK)
    run = until(jobs, id_, over)
    assert run.state == "failed"
    assert "bug of ours" in run.reason
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


def test_the_time_left_comes_from_the_rate() -> None:
    run = Job(id="x", recipe=replace(QUICK, steps=40), step=10, seconds=5.0)
    assert (run.rate, run.left) == (2.0, 15.0)
    assert Job(id="x", recipe=QUICK).left is None


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
    assert (before.state, before.step) == (after.state, after.step) == ("stopped", 40)
    trainer.go.set()
    until(jobs, first, over)


def test_a_run_that_goes_on_is_not_resumed_twice(jobs: Jobs, trainer: Trainer) -> None:
    trainer.go.clear()
    id_ = jobs.start(QUICK)
    with pytest.raises(UserError, match="still going"):
        jobs.resume(id_)
    trainer.go.set()
    until(jobs, id_, over)


def test_a_stop_that_comes_with_the_resumption_is_obeyed(jobs: Jobs, trainer: Trainer) -> None:
    id_ = cut(jobs, trainer, 23)

    class Clearing(Trainer):
        """Takes away an old wish to stop as it begins, as `finetune` does."""

        def __call__(self, recipe: Recipe, folder: Path, **options: Any) -> Iterator[Any]:
            time.sleep(0.2)
            FineTuningFolder(folder).clear_stop()
            yield from super().__call__(recipe, folder, **options)

    again = started_anew(jobs, Clearing())
    again.resume(id_)
    until(again, id_, lambda run: run.state != "waiting")
    again.stop(id_)
    assert until(again, id_, over).state == "stopped"
    trainer.go.set()


def test_the_rate_after_a_resumption_is_that_of_the_new_steps() -> None:
    run = Job(id="x", recipe=replace(QUICK, steps=40), step=30, begun_at=20, seconds=5.0)
    assert (run.rate, run.left) == (2.0, 5.0)


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


@pytest.mark.parametrize("id_", ["", "x", "../outside", ".", "." * 22, "a" * 22, "a" * 21 + "/", None, 7])
def test_an_id_is_no_path(jobs: Jobs, id_: Any) -> None:
    for folder in (jobs.root, jobs.root.parent / "outside", jobs.root / "x"):
        write_request(folder, QUICK)
    with pytest.raises(UserError, match="no such run here"):
        jobs.get(id_)


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
