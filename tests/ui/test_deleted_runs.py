"""A visitor's run that was deleted is forgotten wherever it was shown, and its link says that it has gone."""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from weakref import ref

import gradio as gr
import pytest

from sdsdemo.app import jobs as jobs_module
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.shared_runs import SharedRuns
from sdsdemo.app.sharing import GONE, shared_name
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import HEADER, StoredRun
from sdsdemo.settings import FINETUNING, Settings
from sdsdemo.ui.results import ResultsTab
from tests.app.trainer import QUICK, Trainer, over, until


class Used(NamedTuple):
    """A finished run that Results has shown."""

    name: str
    folder: Path
    jobs: Jobs
    registry: RunRegistry
    results: ResultsTab


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Used:
    def score(workbench: Workbench, name: str, folder: Path) -> None:
        header = json.loads((folder / HEADER).read_text())
        header["models"][name] = "weights"
        (folder / HEADER).write_text(json.dumps(header))

    monkeypatch.setattr(jobs_module, "evaluate_on_mini", score)
    workbench = Workbench(Settings.from_environment({}))
    jobs, registry = Jobs(workbench, root=tmp_path, runner=Trainer()), RunRegistry(workbench.settings)
    SharedRuns(jobs, registry)
    id_ = jobs.start(QUICK)
    until(jobs, id_, over)
    jobs.evaluated(id_)
    name = shared_name(id_)
    with gr.Blocks():
        results = ResultsTab(registry)
    assert 'class="results"' in results.show(name)
    return Used(name, tmp_path / id_, jobs, registry, results)


def tidied(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day later."""
    monkeypatch.setattr(jobs_module, "FINETUNING", replace(FINETUNING, page_kept=0))
    used.jobs.tidy()
    assert not used.folder.exists()


def test_nothing_of_a_deleted_run_stays_in_memory(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    run: ref[StoredRun] = ref(used.registry.run(used.name))
    assert run() is not None
    assert used.name in used.results._summed
    tidied(used, monkeypatch)
    gc.collect()
    assert run() is None
    assert not {used.name} & (used.registry._lent.keys() | used.registry._read.keys() | used.results._summed.keys())


@pytest.mark.slow
def test_a_run_that_changes_is_summed_anew_and_kept_once(used: Used) -> None:
    kept, before = used.registry.run(used.name), used.results._summed[used.name][1]
    assert used.results._of_run(used.name) is before
    header = used.registry._lent[used.name] / HEADER
    header.write_text(header.read_text() + "\n")
    assert used.results._of_run(used.name) is not before
    del kept
    gc.collect()
    assert used.name in used.results._summed


@pytest.mark.parametrize("how", ["by the server", "by hand"])
def test_a_dead_link_says_that_the_model_has_gone(used: Used, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "by the server":
        tidied(used, monkeypatch)
    else:
        shutil.rmtree(used.folder)
    with pytest.raises(UserError, match=GONE):
        used.registry.catalogue(used.name)
    assert not used.registry.has(used.name)
    assert GONE in used.results.show(used.name)
