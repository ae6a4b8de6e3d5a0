"""The shapes of the experiment's files, as far as they are shown. Reads none of them.

Keys that are not named here are kept. Before its first run, a study holds `declared` and empty lists.
"""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class Effect(TypedDict):
    """A difference of shares, with its interval."""

    value: float
    low: float
    high: float


class Skill(Effect):
    """An effect on zero-shot or retrieval, and whether it is non-inferior (`kept`)."""

    n: int
    kept: bool | None


class Cell(TypedDict):
    """Means over the runs of one cell."""

    text: float
    image: float
    group: float
    seeds: int
    zero_shot: Skill
    retrieval: Skill
    cosine: dict[str, float]
    controls: NotRequired[dict[str, dict[str, float]]]
    h_w_r2: NotRequired[float | None]
    """Absent if h_w began at random; None if its R2 is unknown."""


class Withheld(Effect):
    """An effect on a subset of the examples."""

    of: str
    n: int


class OnSkill(Effect):
    """An effect on a skill, relative to the control."""

    n: int


class Contrast(Effect):
    """One cell against its control."""

    cell: str
    control: str
    seeds: int
    by_base: list[float]
    holm: float
    withheld: dict[str, Withheld]
    skills: dict[str, OnSkill]


class Study(TypedDict):
    """One study."""

    declared: dict[str, int]
    """Its bases, seeds and runs."""
    made: NotRequired[int]
    """Runs that have a line."""
    bases: list[str]
    seeds: list[int]
    exploratory: NotRequired[bool]
    benchmark: NotRequired[str]
    n: NotRequired[int]
    cells: NotRequired[dict[str, Cell]]
    contrasts: NotRequired[list[Contrast]]


class Gate(TypedDict):
    """Each base's gain from true labels."""

    least: float
    by_base: dict[str, Effect]


class GeneralEffect(Effect):
    """An effect on bases in general."""

    dof: int
    bases: int


class GeneralSkill(GeneralEffect):
    """An effect on a skill, and whether it is non-inferior (`kept`)."""

    n: int
    kept: bool | None
    within: Effect


class GeneralContrast(GeneralEffect):
    """One cell against its control, on bases in general, within these, and among some of them."""

    cell: str
    control: str
    by_base: list[float]
    gains: bool
    holm: float
    differing: float
    within: Effect
    among: dict[str, GeneralEffect]
    skills: dict[str, GeneralSkill]


class TenGate(TypedDict):
    """By towers, each base's gain from true labels."""

    least: float
    both: dict[str, Effect]
    image: dict[str, Effect]


class TenBases(TypedDict):
    """The study of ten bases."""

    declared: dict[str, int]
    made: NotRequired[int]
    bases: list[str]
    seeds: list[int]
    n: NotRequired[int]
    gate: NotRequired[TenGate]
    groups: NotRequired[dict[str, list[str]]]
    contrasts: NotRequired[list[GeneralContrast]]


class CoverageRow(TypedDict):
    """What a contrast varies with, and how often intervals hold the truth, by design and interval."""

    cell: str
    control: str
    spread: dict[str, float]
    three: dict[str, dict[str, float]]
    ten: dict[str, dict[str, float]]


class Coverage(TypedDict):
    """Simulated coverage, from one study's components."""

    study: str
    rows: list[CoverageRow]


class SeedNoise(TypedDict):
    """How a recipe's figures differ between seeds."""

    what: str
    shipped: str
    bases: int
    seeds: int
    metrics: dict[str, dict[str, float]]


Findings = TypedDict(
    "Findings",
    {
        "bases": NotRequired[dict[str, dict[str, Any]]],
        "confirm": Study,
        "control": NotRequired[Study],
        "screen": NotRequired[Study],
        "return": NotRequired[Study],
        "tower": NotRequired[Study],
        "dealt": NotRequired[Study],
        "mislabelled": NotRequired[Study],
        "better": NotRequired[Study],
        "channel": NotRequired[Study],
        "weights": NotRequired[Study],
        "sources": NotRequired[Study],
        "ten-bases": NotRequired[TenBases],
        "gate": NotRequired[Gate],
        "coverage": NotRequired[Coverage],
        "seed_noise": NotRequired[list[SeedNoise]],
    },
)
"""`experiment.json`: the bases by name, and every study."""


class Cost(TypedDict):
    """What an objective costs."""

    step_seconds: float
    run_seconds: float
    forward: int
    forward_and_back: int


class Cheaper(TypedDict):
    """When querying the teacher beforehand becomes cheaper."""

    pairs: int
    asking_seconds: float
    steps: int
    epochs: float
    students: float
    loop_ratio: float
    loop_ratio_text: float


class Costs(TypedDict):
    """`costs.json`."""

    cells: dict[str, Cost]
    steps: int
    batch: int
    cheaper: Cheaper
    machine: str
    operations: NotRequired[dict[str, dict[str, float]]]
    whole: NotRequired[dict[str, float]]


class Line(TypedDict, total=False):
    """A line of a study's `.jsonl`: one run's correctness on each benchmark, as bits."""

    run: str
    base: str
    teacher: str
    tag_share: float
    right: dict[str, dict[str, str]]
    n: dict[str, int]


class MapLine(TypedDict):
    """A line of `maps.jsonl`: one scene."""

    scene: int
    kind: str
    difference: float
    change: list[list[float]]
    mass: dict[str, list[float]]
    empty: list[str]


class MapLevel(TypedDict):
    """A map's mean on each test."""

    place: Effect
    prediction: Effect
    order: Effect


class MapContrast(TypedDict):
    """A map's paired difference from a rival, on each test."""

    map: str
    rival: str
    place: Effect
    prediction: Effect


class MapFindings(TypedDict):
    """`maps.json`."""

    declared: dict[str, Any]
    n: int
    right: float
    change: dict[str, float]
    empty: dict[str, int]
    levels: dict[str, MapLevel]
    kinds: dict[str, dict[str, Any]]
    contrasts: list[MapContrast]
    weighted: list[MapContrast]
    p: dict[str, float]
    passed: list[str]


class NoiseFindings(TypedDict):
    """`noise.json`."""

    timesteps: dict[str, dict[str, Any]]
    teachers: dict[str, dict[str, Any]]
    adaptive: dict[str, dict[str, Any]]
    bounds: list[float]


class Point(TypedDict):
    """A point of a learning curve: the step, and the losses under their own names."""

    step: float
