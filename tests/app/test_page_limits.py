"""What a page lets its visitors train: places, sizes, paths and ids, whatever the page asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.job_states import write_request
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.visitors import MANY_THERE, ONE_EACH, Visitor
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.settings import FINETUNING, Settings
from tests.app.trainer import QUICK, Trainer, over, until
from tests.fakes import FakeScorer


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
    with pytest.raises(UserError, match="duplicate this Space with SDSDEMO_TRAINING=on"):
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


@pytest.mark.parametrize("id_", ["", "x", "../outside", ".", "." * 22, "a" * 22, "a" * 21 + "/", None, 7])
def test_an_id_is_no_path(jobs: Jobs, id_: Any) -> None:
    for folder in (jobs.root, jobs.root.parent / "outside", jobs.root / "x"):
        write_request(folder, QUICK)
    with pytest.raises(UserError, match="no such run here"):
        jobs.get(id_)
