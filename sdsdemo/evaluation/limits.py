"""How far the experiment's figures reach, in sentences that stand beside them in the documents and on the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sdsdemo.core.bootstrap import over_bases
from sdsdemo.core.number_format import points_words, signed

LESSON = (
    "The diffusion score's lead over CLIP rests mostly on the lesson that its text encoder had from text alone: "
    "without that lesson, teachers of a short course reached a text score of 54.8 and 36.5 in two runs."
)
"""Stands wherever the scores of Mini CLIP and Mini diffusion stand together."""
SHIPPED = (
    "The shipped mini-sds-clip is no run of this study: its lambda is 10, where the study has 1. Against "
    "mini-clip-control its image score is -2.3 [-3.6, -1.0] points on 3,200 fresh pairs, and its retrieval about 6 "
    "points lower."
)
CHOSEN_ON = 500
"""Retrieval examples that choices were made on: the first of the larger set."""
GENERAL = (
    ("confirm", "preference", "clip", "preference against L_CLIP alone"),
    ("confirm", "preference, every parameter", "clip, every parameter", "the same with every parameter"),
    ("return", "preference, every parameter, WiSE-FT", "clip, every parameter, WiSE-FT", "the same with WiSE-FT"),
)
"""Study, cell, control and what they are called, of the effects that are held against bases in general."""


def limits(experiment: Mapping[str, Any]) -> list[str]:
    """What the intervals do not cover, one sentence or two each."""
    said = [_bases_words(experiment), _gate_words(experiment.get("gate", {})), _chosen_words(experiment["confirm"])]
    return [*(part for part in said if part), SHIPPED]


def lesson_words(models: Collection[str]) -> str:
    """The sentence that belongs beside the scores of these models; empty where they do not show the lead."""
    return LESSON if {"mini-clip", "mini-diffusion"} <= set(models) else ""


def _bases_words(experiment: Mapping[str, Any]) -> str:
    """What the intervals draw, and what they are for bases that were not made."""
    bases = len(experiment["confirm"]["bases"])
    said = "The intervals draw bases, seeds and examples again"
    ranges = []
    for study, cell, control, called in GENERAL:
        for row in experiment.get(study, {}).get("contrasts", []):
            if (row["cell"], row["control"]) == (cell, control) and len(row["by_base"]) > 1:
                low, high = over_bases(row["by_base"])
                ranges.append(f"{signed(low)} to {signed(high)} for {called}")
    if not ranges:
        return f"{said}."
    return (
        f"{said}, and are about these {bases} bases only. For bases in general, by Student's t on the base means "
        f"({bases - 1} degrees of freedom), they are {', '.join(ranges)}."
    )


def _gate_words(gate: Mapping[str, Any]) -> str:
    """How far each base moves when told the truth, and which of them moves too little; empty before that was run."""
    if not gate:
        return ""
    least, by_base = gate["least"], gate["by_base"]
    moved = ", ".join(f"{points_words(found)} for {base}" for base, found in by_base.items())
    failed = [base for base, found in by_base.items() if found["value"] < least]
    asked = (
        f"A base was to gain {100 * least:.0f} points when told which caption is true, before anything is said of the "
        f"paper's term on it. Against L_CLIP alone that is {moved}"
    )
    if not failed:
        return f"{asked}: all pass."
    return f"{asked}: {' and '.join(failed)} failed, so that no gain there may only mean that it can hardly be moved."


def _chosen_words(study: Mapping[str, Any]) -> str:
    """That choices were made on a part of the retrieval examples; empty where these are others."""
    sizes = {row["skills"]["retrieval"]["n"] for row in study["contrasts"]}
    if len(sizes) != 1 or (size := sizes.pop()) <= CHOSEN_ON:
        return ""
    return (
        f"The learning rate and the share of WiSE-FT were chosen on {CHOSEN_ON} retrieval examples that are the first "
        f"of the {size:,} reported, so the retrieval figures are not independent of those choices."
    )
