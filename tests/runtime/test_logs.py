"""The server's log says what happened and where, and nothing that a visitor typed."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from sdsdemo.runtime import logs
from sdsdemo.settings import Settings, budget
from tests.fakes import FakeScorer

SECRET = "a caption that nobody else may read"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    ours = logging.getLogger(logs.ROOT)
    kept = ours.handlers[:], ours.level, ours.propagate
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    ours.handlers[:], ours.level, ours.propagate = kept


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_an_event_is_a_line_with_what_it_gives(log: io.StringIO) -> None:
    logging.getLogger("sdsdemo.somewhere").info("scored", extra={"model": "mini-clip", "seconds": 0.06})
    (line,) = lines(log)
    assert (line["level"], line["from"], line["says"]) == ("INFO", "sdsdemo.somewhere", "scored")
    assert (line["model"], line["seconds"]) == ("mini-clip", 0.06)


def test_a_fault_names_its_places_and_not_what_was_typed(log: io.StringIO) -> None:
    def broken() -> None:
        raise ValueError(f"no such caption: {SECRET}")

    try:
        try:
            broken()
        except ValueError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError:
        logging.getLogger("sdsdemo.somewhere").exception("%s failed", "mini-clip")
    (line,) = lines(log)
    assert SECRET not in log.getvalue()
    assert line["says"] == "mini-clip failed"
    assert line["error"]["kind"] == "RuntimeError"
    assert line["error"]["because"]["kind"] == "ValueError"
    assert line["error"]["because"]["places"][0].startswith("test_logs.py:")
    assert line["error"]["because"]["places"][0].endswith("broken")


def test_what_the_system_says_is_kept_without_the_path(log: io.StringIO) -> None:
    try:
        raise OSError(28, "No space left on device", "/home/visitor/secret.png")
    except OSError:
        logging.getLogger("sdsdemo.x").exception("not stored")
    assert lines(log)[0]["error"]["system"] == "No space left on device"
    assert "secret.png" not in log.getvalue()


def test_scoring_is_logged_without_captions(log: io.StringIO) -> None:
    class Breaks(FakeScorer):
        def score(self, images: Any, captions: Any, budget: Any) -> Any:
            raise ValueError(SECRET)

    image = draw(benchmark_pairs(1, "validation", 40)[0].scenes[0])
    for opener in (FakeScorer, Breaks):
        workbench = Workbench(Settings.from_environment({}), opener=opener)
        list(workbench.compare(image, [SECRET, f"not {SECRET}"], ["mini-clip"], budget()))
    good, bad = lines(log)
    assert (good["says"], good["model"], good["captions"]) == ("scored", "mini-clip", 2)
    assert good["seconds"] >= 0
    assert bad["says"] == "mini-clip failed"
    assert SECRET not in log.getvalue()


def test_configuring_twice_logs_once(log: io.StringIO) -> None:
    logs.configure(log)
    logging.getLogger("sdsdemo.x").info("once")
    assert len(lines(log)) == 1
