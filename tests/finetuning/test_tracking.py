"""`--track`: what a tracker hears, under which name, and that it can do a run no harm."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.cli import main
from sdsdemo.core.intervals import proportion
from sdsdemo.errors import UserError
from sdsdemo.finetuning import console_report, tracking
from sdsdemo.finetuning.events import DeviceChosen, Done, Evaluated, Event, Step
from sdsdemo.finetuning.recipe import PRESETS
from sdsdemo.finetuning.tracking import Tracker

RECIPE = PRESETS["quick"]
EVENTS: list[Event] = [
    DeviceChosen(device="cpu"),
    Evaluated(step=0, metric="text", share=proportion(40, 100)),
    Step(step=1, losses={"loss": 2.0, "clip": 1.5}, gradient_norm=0.25, seconds=1.0),
    Step(step=2, losses={"loss": 1.0, "clip": 0.5}, gradient_norm=0.5, seconds=2.0),
    Done(state="finished", record={"state": "finished"}),
]


class Module:
    """Has the signatures of trackio 0.43, and keeps what it hears. fails_at: the call, from 1 on, that raises."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails_at = fails_at

    def init(
        self, project: str, name: str | None = None, config: dict[str, Any] | None = None, resume: str = "never"
    ) -> None:
        self._told("init", {"project": project, "name": name, "config": config, "resume": resume})

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self._told("log", (step, metrics))

    def finish(self) -> None:
        self._told("finish", None)

    def _told(self, call: str, what: Any) -> None:
        print("* a tracker's chatter")
        self.calls.append((call, what))
        if len(self.calls) == self.fails_at:
            raise ConnectionError("the disk is full")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Module], tuple[Any, list[str]]]:
    """A run in the shell whose events are `EVENTS`; gives the record and what was said."""

    def events(*_: Any, **__: Any) -> Iterator[Event]:
        yield from EVENTS

    def go(module: Module) -> tuple[Any, list[str]]:
        said: list[str] = []
        tracker = Tracker(module, RECIPE, tmp_path, said.append)
        show: Any = {"progress": lambda line: None, "note": said.append}
        workbench: Any = None
        record = console_report.run_in_shell(
            RECIPE, tmp_path, workbench=workbench, resume=False, tracker=tracker, **show
        )
        return record, said

    monkeypatch.setattr(console_report, "finetune", events)
    return go


def test_a_tracker_hears_recipe_losses_gradient_and_evaluations(run: Any) -> None:
    module = Module()
    run(module)
    (first, begun), look, step, _, last = module.calls
    assert (first, begun["project"], begun["resume"]) == ("init", "sdsdemo", "allow")
    assert begun["config"] == RECIPE.as_dict() | {"device": "cpu"}
    share = proportion(40, 100)
    name = "held-out text"
    want = {name: 0.4, f"{name} low": share.low, f"{name} high": share.high, f"{name} n": 100}
    assert look == ("log", (0, want))
    assert step == ("log", (1, {"loss": 2.0, "clip": 1.5, "gradient": 0.25}))
    assert last == ("finish", None)


def test_a_resumed_run_continues_under_the_same_name(run: Any, tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        run(module := Module())
        names.append(module.calls[0][1]["name"])
    (tmp_path / "other").mkdir()
    assert names[0] == names[1] != tracking.run_name(tmp_path / "other")


@pytest.mark.parametrize("call", range(1, 6))
def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(run: Any, call: int) -> None:
    module = Module(fails_at=call)
    record, said = run(module)
    assert record["state"] == "finished"
    assert [line for line in said if "trackio" in line] == [
        "trackio failed (the disk is full): the run goes on without it."
    ]
    assert len(module.calls) == call


def test_a_trackers_own_words_stay_out_of_stdout(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(Module())
    shown = capsys.readouterr()
    assert "chatter" not in shown.out
    assert "chatter" in shown.err


def test_a_missing_tracker_is_a_sentence_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="pip install trackio"):
        tracking.find("trackio")
    assert main.main(["finetune", "--track", "trackio", "--out", str(tmp_path / "run")]) == 2
    assert "pip install trackio" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_stand_in_takes_what_the_package_takes() -> None:
    trackio = pytest.importorskip("trackio")
    for name in ("init", "log", "finish"):
        theirs = inspect.signature(getattr(trackio, name)).parameters
        ours = inspect.signature(getattr(Module(), name)).parameters
        assert {key: value.default for key, value in ours.items()} == {key: theirs[key].default for key in ours}
