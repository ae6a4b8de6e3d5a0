"""The experiment's effects as its sentences look them up: by what was treated, and its control. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdsdemo.evaluation.limits import has_all_bases
from sdsdemo.mini.experiments.tables import TEN


def effects(experiment: Mapping[str, Any], studies: Sequence[str]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(treated, control) -> effect, from these studies; of two, the later one's."""
    rows = [row for name in studies for row in experiment.get(name, {}).get("contrasts", [])]
    return {(row["cell"], row["control"]): row for row in rows}


def main_effects(experiment: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The effects that conclusions quote, by (treated, control): those on bases in general once all ten bases are done.

    Before that, those of the confirmation, on its bases alone; empty before the confirmation.
    """
    return _with_ten(experiment, ("confirm", "return"))


def label_effects(experiment: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Those beside labels, true or half of them wrong; against true labels also over ten bases, once these are done."""
    return _with_ten(experiment, ("dealt", "mislabelled"))


def _with_ten(experiment: Mapping[str, Any], studies: Sequence[str]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The effects of these studies, in their place those over ten bases once all of them are done."""
    return effects(experiment, (*studies, *([TEN] if has_all_bases(experiment.get(TEN, {})) else [])))


def side(effect: Mapping[str, float]) -> str:
    """`up` or `down` if the whole interval is on one side of zero, else `neither`."""
    return "up" if effect["low"] > 0 else "down" if effect["high"] < 0 else "neither"


VERBS = {"up": "raises", "down": "lowers", "neither": "does not measurably change"}
"""Side of an effect -> what is said of it."""


def still(first: Mapping[str, float], second: Mapping[str, float]) -> str:
    """The word between two gains."""
    return "still " if side(first) == side(second) == "up" else ""
