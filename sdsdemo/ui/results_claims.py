"""What the Results tab concludes, in sentences from stored results: a number that changes sides turns its sentence.

The study's own sentences are in `mini/experiments/verdict.py`. Knows no HTML.
"""

from __future__ import annotations

from typing import NamedTuple

from sdsdemo.core.number_format import is_of_nothing
from sdsdemo.evaluation.result_schema import Result, Share

STUDENT = "mini-clip"
"""The model that the others are compared with, where it was measured."""
SPACE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit."""
DIFFERENT = 0.05
"""Largest p of two models that are called different."""
SIMILAR_COST = 3.0
"""A model up to this many times as slow as the fastest costs "about as much"."""


class Ranked(NamedTuple):
    """Two models by one metric: the one with more right, and the other."""

    best: str
    other: str
    metric: str
    p: float


def ranked(result: Result) -> Ranked | None:
    """The best model by the first metric, against CLIP (or the next best); None if fewer than two have a score."""
    metric = next(iter(result["chance"]))
    scored = [name for name, entry in result["models"].items() if not is_of_nothing(entry[metric])]
    if len(scored) < 2:
        return None
    best, second, *_ = sorted(scored, key=lambda name: -result["models"][name][metric]["value"])
    other = STUDENT if STUDENT in scored and best != STUDENT else second
    pairs = {frozenset((pair["a"], pair["b"])): pair["p"] for pair in result["paired"] if pair["metric"] == metric}
    return Ranked(best, other, metric, pairs.get(frozenset((best, other)), 1.0))


def gap_claim(result: Result) -> str:
    """How far the best model is from CLIP and from chance; empty if fewer than two models have a score."""
    found = ranked(result)
    if found is None:
        return ""
    best, other = (result["models"][name][found.metric] for name in (found.best, found.other))
    at_best, at_other, chance = (f"{100 * v:.1f}{SPACE}%" for v in (best["value"], other["value"], _chance(result)))
    score, chance = _named(found.metric), chance.replace(".0", "")
    if found.p >= DIFFERENT:
        return (
            f"{found.best} and {found.other} cannot be told apart by {score}: {at_best} and {at_other} of "
            f"{result['n']:,} examples, where guessing gets {chance}."
        )
    beside = _beside_chance(other, best, _chance(result))
    return f"{found.best} reaches {at_best} {score}; {found.other}, with {at_other}, {beside} ({chance})."


def _chance(result: Result) -> float:
    return next(iter(result["chance"].values()))


def _beside_chance(share: Share, best: Share, chance: float) -> str:
    """Where the lower of two scores lies."""
    if share["high"] < chance:
        return "does worse than guessing"
    if share["low"] <= chance:
        return "does no better than guessing"
    is_near = share["value"] - chance < best["value"] - share["value"]
    return "is closer to guessing" if is_near else "is well above guessing"


def below_chance_words(result: Result) -> str:
    """The models with a score below chance; empty if there is none."""
    said = []
    for metric in result["chance"]:
        names = [name for name, entry in result["models"].items() if metric in entry.get("below_chance", ())]
        said += [f"{_named(metric)}: {', '.join(names)}"] if names else []
    return f"Below chance, with the whole interval, in {'; in '.join(said)}." if said else ""


class Costed(NamedTuple):
    """What a model costs for one example, and its first score."""

    name: str
    milliseconds: float
    evaluations: float
    share: Share


def costed(result: Result) -> list[Costed]:
    """The models with a cost and a score, the fastest first."""
    metric = next(iter(result["chance"]))
    found = [
        Costed(name, 1000 * entry["seconds_per_example"], entry.get("evaluations_per_example", 0), entry[metric])
        for name, entry in result["models"].items()
        if entry.get("seconds_per_example", 0) > 0 and not is_of_nothing(entry[metric])
    ]
    return sorted(found, key=lambda one: (one.milliseconds, one.name))


def cost_claim(result: Result) -> str:
    """What the best model costs beside CLIP, and what the best of those costs that are about as fast."""
    found = {one.name: one for one in costed(result)}
    if len(found) < 2:
        return ""
    fastest = found.get(STUDENT) or next(iter(found.values()))
    best = max(found.values(), key=lambda one: one.share["value"])
    if best.milliseconds <= SIMILAR_COST * fastest.milliseconds:
        return f"The best model, {best.name}, is also among the fastest: {_cost_words(best)} an example."
    said = (
        f"{best.name} scores best and costs {_times(best, fastest)} times as much as {fastest.name}: "
        f"{_cost_words(best)} against {_cost_words(fastest)} an example"
    )
    near = [one for one in found.values() if one.milliseconds <= SIMILAR_COST * fastest.milliseconds]
    gains = max(near, key=lambda one: one.share["value"])
    gap = best.share["value"] - fastest.share["value"]
    won = gains.share["value"] - fastest.share["value"]
    if gains is fastest or won <= 0:
        return f"{said}, and no model about as fast as {fastest.name} does better."
    return f"{said}; {gains.name}, about as fast, closes {100 * won:.0f} of the {100 * gap:.0f} points between them."


def _times(one: Costed, other: Costed) -> str:
    ratio = one.milliseconds / other.milliseconds
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _cost_words(one: Costed) -> str:
    return f"{one.milliseconds:.0f}{SPACE}ms" if one.milliseconds >= 1 else f"{one.milliseconds:.2g}{SPACE}ms"


def _named(metric: str) -> str:
    return metric if metric == "accuracy" else f"{metric.replace('_', '-')} score"
