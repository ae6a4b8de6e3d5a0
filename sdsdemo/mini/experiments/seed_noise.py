"""How far the figures of one training lie from those of the same recipe with another seed. Trains nothing.

between seeds    sqrt( mean over bases of the variance over seeds )  of a run's score
of examples      sqrt( p (1 - p) / n ),  the standard error of one run's score over the examples
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdsdemo.mini.experiments.skills import SKILLS, reported_set, unseen
from sdsdemo.mini.experiments.study import BENCHMARK, Rows, Study, complete, right_of
from sdsdemo.mini.models.clip import BASES, FURTHER

PAIR_METRICS = ("text", "image", "group")
SHIPPED = {"preference, every parameter": "mini-preference-clip"}
"""Cell -> the shipped model that is one of its runs."""
Run = Mapping[str, Any]


def seed_noise(studies: Mapping[str, tuple[Study, Rows]], base_rows: Rows) -> list[dict[str, Any]]:
    """A row for the bases and one for every cell with two seeds, ready for JSON."""
    before = {row["base"]: row for row in base_rows}
    seeds = [name for name in (*BASES, *FURTHER) if name in before and _tag_share(name) == BASES["mini-clip"].tag_share]
    rows = []
    if len(seeds) > 1:
        rows.append(_row("a base", seeds[0], [[before[name] for name in seeds]]))
    for study, lines in studies.values():
        bases, of = complete(study, lines)
        by_run = {row["run"]: row for row in lines}
        for cell in study.cells if len(of) > 1 else ():
            runs_BS = [[by_run[f"{cell} {base} {seed}"] for seed in of] for base in bases]
            rows.append(_row(cell, SHIPPED.get(cell, ""), runs_BS))
    return rows


def _tag_share(base: str) -> float:
    return (BASES | FURTHER)[base].tag_share


def _row(what: str, shipped: str, runs_BS: Sequence[Sequence[Run]]) -> dict[str, Any]:
    runs = [run for runs_S in runs_BS for run in runs_S]
    sets = {name: (BENCHMARK, name) for name in PAIR_METRICS}
    sets |= {name: (reported_set(of, runs), "accuracy") for name, of in SKILLS.items()}
    metrics = {}
    for name, (set_, metric) in sets.items():
        right_BSE = np.array([[unseen(set_, right_of(run, set_, metric)) for run in runs_S] for runs_S in runs_BS])
        metrics[name] = _spread(right_BSE)
    return {"what": what, "shipped": shipped, "bases": len(runs_BS), "seeds": len(runs_BS[0]), "metrics": metrics}


def _spread(right_BSE: np.ndarray) -> dict[str, float]:
    """Standard deviation between seeds, standard error over examples, and the mean."""
    score_BS = right_BSE.mean(-1)
    error = math.sqrt(float((score_BS * (1 - score_BS)).mean()) / right_BSE.shape[-1])
    between = math.sqrt(float(score_BS.var(1, ddof=1).mean()))
    return {"mean": round(float(score_BS.mean()), 4), "seeds": round(between, 4), "examples": round(error, 4)}
