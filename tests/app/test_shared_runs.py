"""Runs shared by name: they can be looked at and used, and nothing else; they outlive the server's process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.shared_runs import SharedRuns
from sdsdemo.app.sharing import GONE, TUNED, shared_name
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.settings import Settings
from tests.app.trainer import QUICK, Trainer, over, until


def server(root: Path) -> tuple[Jobs, RunRegistry, SharedRuns]:
    """A server on a folder of runs."""
    workbench = Workbench(Settings.from_environment({}))
    jobs, registry = Jobs(workbench, root=root, runner=Trainer()), RunRegistry(workbench.settings)
    return jobs, registry, SharedRuns(jobs, registry)


@pytest.fixture
def finished(tmp_path: Path) -> str:
    """The id of a run that has ended; its server has gone."""
    jobs, _, _ = server(tmp_path)
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    return id_


def test_a_shared_model_is_found_by_its_name_after_a_restart(finished: str, tmp_path: Path) -> None:
    jobs, registry, shared = server(tmp_path)
    name = shared_name(finished)
    assert shared.job(name).state == "finished"
    assert jobs.workbench.card(name).title == "Tuned here: sds, 40 steps"
    assert not registry.has(name)  # its owner has not scored it
    assert name not in [card.name for card in jobs.workbench.cards()]


def test_a_shared_name_gives_no_hold_on_the_run(finished: str, tmp_path: Path) -> None:
    jobs, _, _ = server(tmp_path)
    name = shared_name(finished)
    assert finished not in name
    for as_id in (name, name.removeprefix(TUNED)):
        for deed in (jobs.get, jobs.stop, jobs.resume, jobs.folder, jobs.model):
            with pytest.raises(UserError):
                deed(as_id)


@pytest.mark.parametrize("name", [TUNED, f"{TUNED}guessed", f"{TUNED}../../etc", "mini-clip", ""])
def test_what_was_never_shared_is_gone(finished: str, tmp_path: Path, name: str) -> None:
    _, registry, shared = server(tmp_path)
    assert shared.card(name) is None
    assert not registry.has(f"{TUNED}guessed")
    with pytest.raises(UserError, match=GONE):
        shared.job(name)


def test_a_shared_model_whose_files_are_deleted_is_gone_in_a_sentence(finished: str, tmp_path: Path) -> None:
    jobs, _, shared = server(tmp_path)
    shutil.rmtree(tmp_path / finished)
    assert shared.card(shared_name(finished)) is None
    with pytest.raises(UserError, match="no longer on this server"):
        jobs.workbench.card(shared_name(finished))
