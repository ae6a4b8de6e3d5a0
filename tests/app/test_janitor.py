"""What is no longer needed goes by a clock, whoever asks."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from sdsdemo.app.janitor import IN_USE, Janitor, janitor_of
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.settings import LIMITS


def test_duties_are_done_at_once_and_again_though_one_fails() -> None:
    rounds: list[int] = []
    twice = threading.Event()

    def fails() -> None:
        raise OSError(28, "No space left on device")

    def works() -> None:
        rounds.append(1)
        if len(rounds) == 2:
            twice.set()

    janitor = Janitor([fails, works], every=0.01)
    janitor.start()
    assert twice.wait(10)
    janitor.stop()
    assert not janitor._thread.is_alive()


def test_it_tidies_runs_uploads_and_what_was_made_of_them(tmp_path: Path) -> None:
    class Jobs:
        tidied = 0

        def tidy(self) -> None:
            self.tidied += 1

    jobs: Any = Jobs()
    ages = {"old": 3600 * LIMITS.temporary_hours + 1, "young": IN_USE + 60}
    for name, age in ages.items():
        (tmp_path / name).write_bytes(b"1")
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    now = {"old": 0.0, "young": ages["old"] - ages["young"]}
    times = iter([*now.values(), ages["old"]])
    once: ComputedOnce[str] = ComputedOnce(9, clock=lambda: next(times))
    for name in now:
        once.get(name, partial(str, name))
    janitor = janitor_of(jobs, tmp_path)
    janitor.start()
    janitor.stop()
    assert jobs.tidied == 1
    assert [path.name for path in tmp_path.iterdir()] == ["young"]
    assert [once.find(name) for name in now] == [None, "young"]
