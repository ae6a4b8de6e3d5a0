"""Hostile values for every event of the page, named or not, through the line or past it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.damage import VALUES
from tests.hostile.http_edges import SCRIPT
from tests.hostile.page import Page, file_data

HOSTILE: tuple[Any, ...] = (
    *(value for value in VALUES if value == value and value not in (float("inf"), "\ud800")),
    SCRIPT, "../../../../etc/passwd", "/etc/passwd", "a\0b", "a" * 20_000, "{{7*7}}", "%s%n", "\u202e", "=cmd|'/c'!A1",
    -(2**63), 1e300, ["x"] * 2_000, {"__class__": "x"}, {"value": "x", "__type__": "update"}, [[["a"]]], "mini-clip",
    file_data("/etc/passwd"), file_data("../../etc/passwd"), {"path": "/etc/passwd"}, file_data(""),
    {**file_data("x"), "url": "http://127.0.0.1:1/"}, {"url": "data:image/png;base64,AAAA", "path": "x"},
    file_data("https://example.com/a.png"),
    "open_clip:local-dir:/etc", "/root", "hub:../x", "run-of-another", "vlm:/etc/passwd", "0" * 5_000,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One hostile request to an event."""

    event: dict[str, Any]
    how: str
    data: list[Any]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.event['id']} {self.event['api_name']}: {self.how}"


def page_calls(page: Page, seed: int) -> Iterator[Asked]:
    """Several of each event."""
    draw = random.Random(seed)
    for event in page.events:
        if not event["backend_fn"]:
            yield Asked(event=event, how="an event of the browser", data=[])
            continue
        count = len(event["inputs"])
        ways: dict[str, Callable[[], list[Any]]] = {
            "hostile values": lambda count=count: [draw.choice(HOSTILE) for _ in range(count)],
            "other hostile values": lambda count=count: [draw.choice(HOSTILE) for _ in range(count)],
            "one hostile value": lambda event=event: _one(page.usual(event), draw),
            "too few values": lambda count=count: [None] * max(0, count - 1),
            "too many values": lambda count=count: [None] * (count + 3),
        }
        for how, make in ways.items():
            chosen = {"event_data": draw.choice(HOSTILE)} if draw.random() < 0.3 else {}
            yield Asked(event=event, how=how, data=make(), options=chosen)


def _one(values: list[Any], draw: random.Random) -> list[Any]:
    """The usual values with one of them replaced."""
    if values:
        values[draw.randrange(len(values))] = draw.choice(HOSTILE)
    return values
