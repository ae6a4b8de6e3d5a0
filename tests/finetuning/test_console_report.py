"""What a run says in the shell: how fast it goes, how long it takes still, and what comes next. Trains nothing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.cli.main import _parser
from sdsdemo.finetuning import console_report
from sdsdemo.finetuning.console_report import as_text, measured_lines
from sdsdemo.finetuning.events import Step, Working


def ended(state: str, data: str) -> list[str]:
    record = {"state": state, "steps_done": 3, "seconds": 2.0, "recipe": {"data": data, "steps": 9}}
    return as_text(record, Path("runs/my run")).splitlines()


@pytest.mark.parametrize("data", ["mini", "folder:mine"])
@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_a_run_ends_with_commands_for_whatever_comes_next(state: str, data: str) -> None:
    commands = [line.partition(": python -m sdsdemo ")[2] for line in ended(state, data) if ": python" in line]
    asked = [_parser().parse_args(shlex.split(command)) for command in commands]
    verbs = ["finetune"] if state == "stopped" else []
    assert [command.split()[0] for command in commands] == [*verbs, "evaluate" if data == "mini" else "score", "export"]
    if state == "stopped":
        assert (asked[0].resume, asked[0].out) == (True, Path("runs/my run"))
    assert asked[-1].model == "sds-clip:runs/my run/model.safetensors"
    assert not any("winoground" in command for command in commands)


@pytest.mark.parametrize(("high", "words"), [(0.4, "(chance 50.0; below it before)"), (0.6, "(chance 50.0)")])
def test_a_share_is_shown_beside_chance(high: float, words: str) -> None:
    share = {"value": 0.3, "low": 0.2, "high": high, "n": 20}
    change = {"value": 0.0, "low": -0.1, "high": 0.1, "n": 20, "gained": 0, "lost": 0, "p": 1.0}
    found: dict[str, Any] = {"n": 20, "metrics": {"accuracy": {"before": share, "after": share, "change": change}}}
    (older,) = measured_lines({"sets": {"held-out swaps": found}})
    (line,) = measured_lines({"sets": {"held-out swaps": found | {"chance": {"accuracy": 0.5}}}})
    assert words in line
    assert "chance" not in older


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "4.0 steps/s  17 min left"), (6.0, "6.0 s per step  6.7 h left"), (25.0, "25.0 s per step  27.8 h left")],
)
def test_a_slow_run_gives_its_pace_in_words_that_fit(seconds: float, words: str) -> None:
    said: list[str] = []
    line = console_report._Line(4_002, said.append)
    for k in (1, 2):
        line._said = float("-inf")
        line.show(Step(step=k, losses={"loss": 1.0}, gradient_norm=0.0, seconds=k * seconds))
    assert said[-1].endswith(words)


def test_a_long_preparation_says_how_long_it_takes_still(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    line = console_report._Line(10, said.append)
    for now, done in ((1000.0, 0), (1004.0, 2)):
        monkeypatch.setattr(console_report.time, "monotonic", lambda now=now: now)
        line.show(Working(text="asking the teacher", done=done, total=3_602))
    assert said == ["asking the teacher  0 of 3602", "asking the teacher  2 of 3602  2.0 h left"]
