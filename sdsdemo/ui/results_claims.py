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
    p: float | None
    """None if the two were not tested."""


def ranked(result: Result) -> Ranked | None:
    """The best model by the first metric, against CLIP (or the next best); None if fewer than two have a score."""
    metric = next(iter(result["chance"]))
    scored = [name for name, entry in result["models"].items() if not is_of_nothing(entry[metric])]
    if len(scored) < 2:
        return None
    best, second, *_ = sorted(scored, key=lambda name: -result["models"][name][metric]["value"])
    other = STUDENT if STUDENT in scored and best != STUDENT else second
    return Ranked(best, other, metric, p_between(result, best, other))


def p_between(result: Result, one: str, other: str) -> float | None:
    """The p of two models by the first metric; None if the result has none."""
    metric = next(iter(result["chance"]))
    for pair in result["paired"]:
        if pair["metric"] == metric and {pair["a"], pair["b"]} == {one, other}:
            found: float | None = pair["p"]  # None or NaN where undefined
            return found if found is not None and found == found else None
    return None


def gap_claim(result: Result) -> str:
    """How far the best model is from CLIP and from chance; empty if fewer than two models have a score."""
    found = ranked(result)
    if found is None:
        return ""
    best, other = (result["models"][name][found.metric] for name in (found.best, found.other))
    at_best, at_other, chance = (f"{100 * v:.1f}{SPACE}%" for v in (best["value"], other["value"], _chance(result)))
    score, chance = score_name(found.metric), chance.replace(".0", "")
    if found.p is None:
        return (
            f"On {result['n']:,} examples, {found.best} has {_a(score)} of {at_best} and {found.other} one of "
            f"{at_other}; guessing gets {chance}."
        )
    if found.p >= DIFFERENT:
        return (
            f"{found.best} and {found.other} cannot be told apart by {score}: {at_best} and {at_other} on "
            f"{result['n']:,} examples; guessing gets {chance}."
        )
    beside = _beside_chance(other, best, _chance(result))
    return f"{found.best} reaches {_a(score)} of {at_best}; {found.other}, with {at_other}, {beside} ({chance})."


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
        said += [f"{score_name(metric)}: {', '.join(names)}"] if names else []
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
    """What the best model costs beside CLIP, and what the best of those gains that are about as fast as the fastest.

    It ranks no two models that were not tested or cannot be told apart.
    """
    found = costed(result)
    if len(found) < 2:
        return ""
    best = max(found, key=lambda one: one.share["value"])
    other = _beside(best, found)
    p = p_between(result, best.name, other.name)
    if p is None or p >= DIFFERENT:
        return _unranked(result, best, other, p)
    if _is_fast(best, found):
        return f"The best model, {best.name}, is also among the fastest: {cost_words(best)} an example."
    return (
        f"{best.name} scores best and costs {_times(best, other)} times as much as {other.name}: "
        f"{cost_words(best)} against {cost_words(other)} an example{_gained(result, best, other, found)}."
    )


def _is_fast(one: Costed, found: list[Costed]) -> bool:
    """Whether it costs about as much as the fastest. found: the fastest first."""
    return one.milliseconds <= SIMILAR_COST * found[0].milliseconds


def _beside(best: Costed, found: list[Costed]) -> Costed:
    """Whom the best model is compared with: CLIP, else the next best; beside a slow one, CLIP only if it is fast."""
    student = next((one for one in found if one.name == STUDENT and one is not best), None)
    if not _is_fast(best, found):
        return student if student and _is_fast(student, found) else found[0]
    return student or max((one for one in found if one is not best), key=lambda one: one.share["value"])


def _unranked(result: Result, best: Costed, other: Costed, p: float | None) -> str:
    """What two models cost of which none is called better."""
    score = score_name(next(iter(result["chance"])))
    if p is None:
        at_best, at_other = (f"{100 * one.share['value']:.1f}{SPACE}%" for one in (best, other))
        return (
            f"{best.name} has {_a(score)} of {at_best} and {other.name} one of {at_other}; they cost "
            f"{cost_words(best)} and {cost_words(other)} an example."
        )
    said = f"{best.name} and {other.name} cannot be told apart by {score}"
    if best.milliseconds <= SIMILAR_COST * other.milliseconds:
        return f"{said}; they cost {cost_words(best)} and {cost_words(other)} an example."
    return (
        f"{said}, but {best.name} costs {_times(best, other)} times as much: {cost_words(best)} against "
        f"{cost_words(other)} an example."
    )


def _gained(result: Result, best: Costed, base: Costed, found: list[Costed]) -> str:
    """The end of the sentence: how much of the gap to the best model a fast one closes. Empty if it was not tested."""
    gains = max((one for one in found if _is_fast(one, found)), key=lambda one: one.share["value"])
    gap, won = (round(100 * (one.share["value"] - base.share["value"])) for one in (best, gains))
    if gains.share["value"] <= base.share["value"]:
        return f", and no model about as fast as {base.name} does better"
    p = p_between(result, gains.name, base.name)
    if p is None:
        return ""
    if p >= DIFFERENT or min(gap, won) < 1:
        return f", and no model about as fast as {base.name} does measurably better"
    return f"; {gains.name}, about as fast, closes {won} of the {gap} points between them"


def _times(one: Costed, other: Costed) -> str:
    ratio = one.milliseconds / other.milliseconds
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def cost_words(one: Costed) -> str:
    """`748 ms`; below 10 ms with two significant digits, so that a ratio can be checked."""
    time = f"{one.milliseconds:,.0f}" if one.milliseconds >= 9.95 else f"{one.milliseconds:#.2g}"
    return f"{time}{SPACE}ms"


def _a(score: str) -> str:
    """A score's name with its article."""
    return f"an {score}" if score[0] in "aeiou" else f"a {score}"


def score_name(metric: str) -> str:
    """A metric in words, without underscores: `text score`, `accuracy`."""
    return metric if metric == "accuracy" else f"{metric.replace('_', '-')} score"
