"""The shapes of a result, the dict of `evaluate --json`. Reads and computes none.

An undefined number is NaN in memory and None in a file. Unlisted keys are kept.
"""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class Share(TypedDict):
    """A share of n with its 95 % interval: `intervals.Proportion`."""

    value: float
    low: float
    high: float
    n: int


Shares = dict[str, Share]
"""By metric."""


class Settings(TypedDict):
    """The settings that every result has; more in `store.header.Settings`."""

    timesteps: int
    noises: int
    seed: int


class Pair(TypedDict):
    """Two models by one metric, on the examples that both score."""

    a: str
    b: str
    metric: str
    n: NotRequired[int]
    both: int
    only_a: int
    only_b: int
    neither: int
    transitions: NotRequired[dict[str, int]]
    p: float
    """Exact McNemar."""


class Skipped(TypedDict):
    """An example that is in no share, and why."""

    example: str
    reason: str


class TextOnly(TypedDict):
    """SugarCrepe++'s text-only task of one model: its shares, or only `name` and `missing`."""

    name: str
    missing: NotRequired[str]
    """Why it is missing, in a phrase."""
    rule: NotRequired[str]
    chance: NotRequired[float]
    accuracy: NotRequired[Share]
    by_tag: NotRequired[dict[str, Shares]]
    apart: NotRequired[dict[str, int]]
    """`n`, and of these how many are `not_finite` and `ties`."""


class Apart(TypedDict):
    """What is counted apart for one model: how many of `n` examples."""

    n: int
    not_finite: int
    ties: dict[str, int]
    """By metric."""
    truncated: int
    equal_captions: int
    unknown_words: int


class Average(TypedDict):
    """An average as a set's authors report it: over as many groups of so many, in units such as "tags"."""

    value: float | None
    rule: str
    groups: int
    of: int
    unit: str


Entry = dict[str, Any]
"""One model: a share by metric, beside `apart`, `below_chance`, `by_tag` and what else `summary` finds."""


class Summary(TypedDict):
    """The models' scores, summarised."""

    chance: dict[str, float]
    """By metric."""
    models: dict[str, Entry]
    paired: list[Pair]


class Result(Summary):
    """The whole dict."""

    benchmark: str
    n: int
    """Examples that count."""
    of: int
    """Examples in the benchmark."""
    asked: NotRequired[int]
    """Of these, those that the run was to score: fewer with `--limit`. Older results do not say."""
    differs: NotRequired[list[str]]
    """How it differs from the published set, in sentences."""
    skipped: NotRequired[list[Skipped]]
    notes: NotRequired[list[str]]
    settings: Settings
    processes: NotRequired[int]
    warnings: NotRequired[list[str]]
    """What the shares do not show, in sentences."""
