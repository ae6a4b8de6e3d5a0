"""The server's log: a line of JSON an event, without captions, pictures, paths of visitors' files or secrets.

    {"time": "2026-11-29T12:00:00Z", "level": "INFO", "from": "sdsdemo.app.asking", "says": "scored", "seconds": 0.1}

A fault of ours is logged with the places in the code that it came through and the kind of error. What an error says
may quote what a visitor typed: it is left out, but for what the system says of a file or a device.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any, TextIO

ROOT = "sdsdemo"
USUAL = frozenset(vars(logging.makeLogRecord({})))
"""Attributes of every record: whatever else there is was given by `extra`."""


class JsonLines(logging.Formatter):
    """A record as a line of JSON, with what `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "from": record.name,
            "says": record.getMessage(),
        }
        said.update((name, value) for name, value in vars(record).items() if name not in USUAL)
        if record.exc_info and record.exc_info[1] is not None:
            said["error"] = said_by(record.exc_info[1])
        return json.dumps(said, default=str)


def said_by(error: BaseException) -> dict[str, Any]:
    """An error's kind, what the system says of it, and the places that it came through, the last one first."""
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in _frames(error)]
    found: dict[str, Any] = {"kind": type(error).__name__, "places": places}
    if isinstance(error, OSError) and error.strerror:
        found["system"] = error.strerror
    if error.__cause__ is not None:
        found["because"] = said_by(error.__cause__)
    return found


def configure(stream: TextIO = sys.stderr) -> None:
    """Sends what our modules log to a stream, a line of JSON each. A second call changes the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    ours = logging.getLogger(ROOT)
    ours.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(reversed(traceback.extract_tb(error.__traceback__)))
