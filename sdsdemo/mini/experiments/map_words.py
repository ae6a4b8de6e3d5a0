"""The study of maps as a table and in sentences, for the documents and the shell. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.core.number_format import points_words, share_words
from sdsdemo.mini.experiments.map_scenes import THINGS
from sdsdemo.mini.experiments.map_variants import CANDIDATES, RIVALS, SIGNED, VARIANTS
from sdsdemo.mini.experiments.tables import as_markdown

HEAD = (
    "map",
    "mass on the touched things, %",
    "signed minus this",
    "rank correlation",
    "signed minus this",
    "order, %",
)


def maps_grid(found: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per map: its level on each test, and the signed map's difference from it."""
    against = {row["rival"]: row for row in found["contrasts"] if row["map"] == SIGNED}
    rows = [list(HEAD)]
    for name in VARIANTS:
        level, row = found["levels"][name], against.get(name)
        place = points_words(row["place"]) if row else ""
        prediction = correlation_words(row["prediction"], sign="+") if row else ""
        rows.append(
            [name, share_words(level["place"]), place, correlation_words(level["prediction"]), prediction,
             share_words(level["order"])]
        )  # fmt: skip
    return rows


def kinds_grid(found: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per kind of scene and swap: the candidates' levels."""
    heads = [f"{name}: {test}" for name in CANDIDATES for test in ("mass, %", "rank correlation")]
    rows = [["scene, swap", "n", *heads]]
    for kind, by in found["kinds"].items():
        cells = [
            words
            for name in CANDIDATES
            for words in (share_words(by[name]["place"]), correlation_words(by[name]["prediction"]))
        ]
        rows.append([kind, str(by["n"]), *cells])
    return rows


def correlation_words(effect: Mapping[str, float], sign: str = "") -> str:
    """`0.62 [0.55, 0.68]`."""
    value, low, high = (f"{round(effect[key], 2) + 0.0:{sign}.2f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def maps_markdown(found: Mapping[str, Any]) -> str:
    """The tables and what they are of."""
    return "\n\n".join([scenes_words(found), as_markdown(maps_grid(found)), empty_words(found), rule_words(found)])


def scenes_words(found: Mapping[str, Any]) -> str:
    """What was scored, and how much a repaint changes."""
    declared, change = found["declared"], found["change"]
    ratio = change["touched"] / change["distractors"]
    return (
        f"n = {found['n']} scenes of {THINGS} things, {declared['model']}, {declared['timesteps']} timesteps of "
        f"{declared['noises']} noise draws; the loss is lower under the true caption in {100 * found['right']:.1f} % "
        f"of them. A repaint of a touched thing changes the difference of the losses {ratio:.1f} times as much as a "
        f"repaint of a distractor."
    )


def empty_words(found: Mapping[str, Any]) -> str:
    """In how many scenes a masked map shows nothing."""
    said = ", ".join(f"{count} of *{name}*" for name, count in found["empty"].items() if count)
    return f"Maps without a single place found, which count as uniform: {said or 'none'}."


def rule_words(found: Mapping[str, Any]) -> str:
    """Which candidates passed, and which rival stopped those that did not."""
    return " ".join(_candidate_words(found, name) for name in CANDIDATES)


def _candidate_words(found: Mapping[str, Any], name: str) -> str:
    if name in found["passed"]:
        return f"*{name}* beats all {len(RIVALS)} rivals on both tests."
    lost = [
        f"{row['rival']} ({test})"
        for row in found["contrasts"]
        for test in ("place", "prediction")
        if row["map"] == name and row[test]["low"] <= 0
    ]
    return f"*{name}* is not shown to beat {', '.join(lost)}."


def as_text(found: Mapping[str, Any]) -> str:
    """The same for the shell."""
    grid = maps_grid(found)
    wide = [max(len(row[k]) for row in grid) for k in range(len(HEAD))]
    lines = ["  ".join(f"{cell:{size}}" for cell, size in zip(row, wide, strict=True)).rstrip() for row in grid]
    return "\n".join([*lines, "", scenes_words(found), empty_words(found), rule_words(found)])
