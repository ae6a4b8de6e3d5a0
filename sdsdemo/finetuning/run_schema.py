"""The schema of a fine-tuning run's files, checked when one is read. Reads no file itself."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

Plain = str | int | float | bool | None


class Share(TypedDict):
    """`intervals.Proportion` as stored; the value is None for n = 0."""

    value: float | None
    low: float
    high: float
    n: int


class Change(TypedDict):
    """`intervals.Change` as stored; the value is None for n = 0."""

    value: float | None
    low: float
    high: float
    n: int
    gained: int
    lost: int
    p: float


class Row(TypedDict):
    """One metric before and after."""

    before: Share
    after: Share
    change: Change


class Withheld(Row):
    """Results on swaps withheld from training."""

    withheld: str


class MeasuredSet(TypedDict):
    """One set of examples."""

    n: int
    metrics: dict[str, Row]
    chance: NotRequired[dict[str, float]]
    not_finite: NotRequired[dict[str, int]]
    kept: NotRequired[bool | None]


class Flipped(TypedDict):
    """Ids of the examples whose answer changed."""

    metric: str
    fixed: list[str]
    broken: list[str]


class Measured(TypedDict):
    """`Evaluator.compare`."""

    benchmark: str
    sets: dict[str, MeasuredSet]
    withheld: NotRequired[dict[str, Withheld]]
    cosine: NotRequired[dict[str, list[float | None]]]
    flipped: Flipped


class Preferred(TypedDict):
    """Queries to the teacher, and how often it was right."""

    pairs: int
    asked: int
    evaluations: int
    seconds: float
    stand_ins: NotRequired[int]
    teacher_right: NotRequired[Share | None]


class Record(TypedDict):
    """run.json, as far as it is read again. Other keys may hold anything."""

    format: int
    kind: str
    state: str
    recipe: dict[str, Plain]
    steps_done: NotRequired[int]
    base_fingerprint: NotRequired[str | None]
    teacher_fingerprint: NotRequired[str | None]
    device: NotRequired[str]
    reason: NotRequired[str]
    seconds: NotRequired[float]
    measured: NotRequired[Measured]
    preferences: NotRequired[Preferred]
    data_sha256: NotRequired[str | None]
    parts: NotRequired[int]


class LogRow(TypedDict):
    """A line of log.jsonl: a step, or whatever `what` names."""

    step: int
    what: NotRequired[str]


class EvaluationRow(LogRow):
    """A line of log.jsonl: held-out accuracy."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    pictures: NotRequired[str]
    """Which pictures had their own caption preferred, as bits; absent in earlier versions."""


class Answer(TypedDict):
    """A line of the teacher's preferences: the gap of one pair; None if the teacher's loss was not finite."""

    pair: str
    gap: float | None
