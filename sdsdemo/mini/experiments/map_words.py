"""The study of maps as tables and in sentences, for the documents and the shell. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.core.number_format import points_words, share_words
from sdsdemo.evaluation.tables import p_words
from sdsdemo.mini.experiments.map_scenes import THINGS
from sdsdemo.mini.experiments.map_variants import CANDIDATES, RIVALS, SIGNED, VARIANTS, WEIGHTED, WINNER
from sdsdemo.mini.experiments.tables import Grid, as_markdown

LEVEL_HEAD = ("map", "mass on the touched things, %", "rank correlation", "right order of the touched two, %")
TESTS = ("place", "prediction")


def levels_grid(found: Mapping[str, Any]) -> Grid:
    """A header and a row per map: its level on each test."""
    rows = [list(LEVEL_HEAD)]
    for name in VARIANTS:
        level = found["levels"][name]
        rows.append(
            [
                f"**{name}**" if name in CANDIDATES else name,
                share_words(level["place"]),
                correlation_words(level["prediction"]),
                share_words(level["order"]),
            ]
        )
    return rows


def contrasts_grid(found: Mapping[str, Any]) -> Grid:
    """A header and a row per rival: each candidate's paired difference from it on each test, or nothing."""
    by_pair = {(row["map"], row["rival"]): row for row in found["contrasts"]}
    rows = [["minus this rival", *(f"{name}: {test}" for name in CANDIDATES for test in ("mass", "correlation"))]]
    for rival in RIVALS[WEIGHTED]:
        cells = [_difference_words(by_pair.get((name, rival)), test) for name in CANDIDATES for test in TESTS]
        rows.append([rival, *cells])
    return rows


def kinds_grid(found: Mapping[str, Any]) -> Grid:
    """A header and a row per kind of scene and swap: the candidates' levels."""
    rows = [["scene, swap", "n", *(f"{name}: {test}" for name in CANDIDATES for test in ("mass, %", "correlation"))]]
    for kind, by in found["kinds"].items():
        levels = [(share_words(by[name]["place"]), correlation_words(by[name]["prediction"])) for name in CANDIDATES]
        rows.append([kind, str(by["n"]), *(words for both in levels for words in both)])
    return rows


def _difference_words(row: Mapping[str, Any] | None, test: str) -> str:
    if row is None:
        return ""
    return points_words(row[test]) if test == "place" else correlation_words(row[test], sign="+")


def correlation_words(effect: Mapping[str, float], sign: str = "") -> str:
    """`0.62 [0.55, 0.68]`."""
    value, low, high = (f"{round(effect[key], 2) + 0.0:{sign}.2f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def maps_markdown(found: Mapping[str, Any]) -> str:
    """What was scored, the levels, and what passes."""
    parts = (scenes_words(found), as_markdown(levels_grid(found)), empty_words(found), rule_words(found))
    return "\n\n".join(parts)


def further_markdown(found: Mapping[str, Any]) -> str:
    """The differences from each rival, and the levels by kind."""
    return "\n\n".join(
        [
            "Paired differences from each rival, mass in points:",
            as_markdown(contrasts_grid(found)),
            "By kind of scene and swap:",
            as_markdown(kinds_grid(found)),
        ]
    )


def scenes_words(found: Mapping[str, Any]) -> str:
    """What was scored, and how much a repaint changes."""
    declared, change = found["declared"], found["change"]
    ratio = change["touched"] / change["distractors"]
    return (
        f"n = {found['n']} scenes of {THINGS} things, {declared['model']}, {declared['timesteps']} timesteps of "
        f"{declared['noises']} noise draws; the loss is lower given the true caption in {100 * found['right']:.1f} % "
        f"of them. A repaint of a touched thing changes the difference of the losses {ratio:.1f} times as much as a "
        f"repaint of a distractor."
    )


def empty_words(found: Mapping[str, Any]) -> str:
    """In how many scenes a candidate shows nothing."""
    counts = found["empty"]
    return (
        f"A map in which no place is found counts as uniform: {counts[SIGNED]} of *{SIGNED}*, {counts[WINNER]} of "
        f"*{WINNER}*."
    )


def rule_words(found: Mapping[str, Any]) -> str:
    """Which candidates passed, which rivals stopped the others, and whether attention adds anything."""
    said = [_candidate_words(found, name) for name in CANDIDATES]
    for row in found["weighted"]:
        said.append(
            f"*{WEIGHTED}* minus *{row['rival']}*: {_difference_words(row, 'place')} points of mass, "
            f"{_difference_words(row, 'prediction')} of correlation."
        )
    return "\n".join(f"- {line}" for line in said)


def _candidate_words(found: Mapping[str, Any], name: str) -> str:
    p = f"{p_words(found['p'][name])} after Holm"
    if name in found["passed"]:
        return f"*{name}* beats all {len(RIVALS[name])} rivals on both tests ({p})."
    lost = [
        f"{row['rival']} ({'mass' if test == 'place' else 'correlation'})"
        for row in found["contrasts"]
        for test in TESTS
        if row["map"] == name and row[test]["low"] <= 0
    ]
    return f"*{name}* is not shown to beat {', '.join(lost) or 'its rivals'} ({p})."


def as_text(found: Mapping[str, Any]) -> str:
    """The levels and what passes, for the shell."""
    grid = levels_grid(found)
    wide = [max(len(row[k]) for row in grid) for k in range(len(LEVEL_HEAD))]
    lines = ["  ".join(f"{cell:{size}}" for cell, size in zip(row, wide, strict=True)).rstrip() for row in grid]
    return "\n".join([*lines, "", scenes_words(found), empty_words(found), rule_words(found)])
