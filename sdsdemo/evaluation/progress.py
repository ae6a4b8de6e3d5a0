"""How far long work is, a line every two seconds. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sdsdemo.data.files.picture_digest import made_of
from sdsdemo.types import Example

REPORTED_EVERY = 2.0
"""Seconds between progress reports."""
BAR = 24
Progress = Callable[[str], None]


def silent(line: str) -> None:
    """Discards a line."""


def row_name(model: str, what: str) -> str:
    """what: "" for a model's own scores, else such as "blind"."""
    return f"{model} ({what})" if what else model


def scoring_line(name: str, done: int, total: int, rate: float) -> str:
    """rate: examples a second."""
    bar = "#" * (BAR * done // total)
    return f"{name}  [{bar:-<{BAR}}]  {done} of {total}  {rate:.1f} a second  {(total - done) / rate:.0f} s left"


class Digests:
    """`made_of` of examples, each computed once: the pictures of a large set take minutes to read."""

    def __init__(self, progress: Progress = silent) -> None:
        self._progress = progress
        self._known: dict[int, tuple[Example, str]] = {}
        """By address, which is an example's own while it is kept here."""

    def of(self, examples: Sequence[Example]) -> dict[str, str]:
        """By example id."""
        said, found = time.perf_counter(), {}
        for number, example in enumerate(examples):
            if id(example) not in self._known:
                self._known[id(example)] = example, made_of(example)
            found[example.id] = self._known[id(example)][1]
            if time.perf_counter() - said > REPORTED_EVERY:
                said = time.perf_counter()
                self._progress(f"Checking the pictures of {number + 1:,} of {len(examples):,} examples")
        return found
