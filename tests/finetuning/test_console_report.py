"""The progress line of a run in the shell: how fast it goes, and how long it takes still."""

from __future__ import annotations

import pytest

from sdsdemo.finetuning import console_report
from sdsdemo.finetuning.events import Step, Working


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
