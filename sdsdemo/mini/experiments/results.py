"""Computes the experiment's results: effects with uncertainty, non-inferiority of skills, failures. Trains nothing.

Every figure is computed from the per-example bits in the lines, so anyone who has the lines can check it or ask another
question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from sdsdemo.core.bootstrap import Effect, holm, nested_effect
from sdsdemo.core.intervals import proportion
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.finetuning.before_after import MEANT_FOR, NON_INFERIORITY_MARGIN, withheld_rows
from sdsdemo.mini.experiments.declared import BESIDE, CONTROLS, DECLARED, LEAST_GAIN, SCREENED, STUDIES
from sdsdemo.mini.experiments.interval_coverage import coverage_findings
from sdsdemo.mini.experiments.seed_noise import seed_noise
from sdsdemo.mini.experiments.skills import SKILLS, reported_set, unseen
from sdsdemo.mini.experiments.study import Rows, Study, complete, declared_and_made, differences, right_of
from sdsdemo.mini.experiments.tables import TEN
from sdsdemo.mini.experiments.ten_bases import over_ten_bases, with_lines_beside
from sdsdemo.types import Example

ASIDE = {"attribute": "mini-attribute", "relation": "mini-relation", "order": "mini-order"}
"""Further sets with one image and k captions."""


def findings(bases: Rows, studies: Mapping[str, Rows]) -> dict[str, Any]:
    """Every figure of the experiment that is shown, ready for JSON. bases: the lines of the bases themselves."""
    found: dict[str, Any] = {"bases": {row["base"]: _levels(row) for row in bases}}
    for name, rows in studies.items():
        beside = [row for other in BESIDE.get(name, ()) for row in studies.get(other, ())]
        if name == TEN:
            found[name] = over_ten_bases(STUDIES[TEN], with_lines_beside(STUDIES[TEN], rows, beside, bases), bases)
        else:
            found[name] = _study(STUDIES[name], rows, bases, pairs_of(name, STUDIES[name]), beside)
    gate = _gate(studies.get("dealt", ()), studies.get("confirm", ()))
    noise = seed_noise({name: (STUDIES[name], studies.get(name, ())) for name in ("confirm", "return")}, bases)
    return found | {key: part for key, part in (("gate", gate), ("seed_noise", noise)) if part}


def coverage_of(bases: Rows, studies: Mapping[str, Rows]) -> dict[str, Any]:
    """What intervals cover, from the ten bases where they are done, else from the confirmation; empty before that."""
    beside = [row for other in BESIDE[TEN] for row in studies.get(other, ())]
    ten = with_lines_beside(STUDIES[TEN], studies.get(TEN, ()), beside, bases)
    for name, rows in ((TEN, ten), ("confirm", studies.get("confirm", ()))):
        study = STUDIES[name]
        done = complete(study, rows)
        if done == (study.bases, study.seeds):
            pairs = pairs_of(name, study)
            return coverage_findings({p: differences(rows, *p, *done, study.measure) for p in pairs}, name)
    return {}


def _gate(dealt: Rows, confirm: Rows) -> dict[str, Any]:
    """Each base's gain from true labels over L_CLIP alone; empty until all of these runs are done.

    A base's interval resamples its seeds and the examples.
    """
    study, rows = STUDIES["dealt"], [*dealt, *confirm]
    made = {row["run"] for row in rows}
    if not all(f"{cell} {b} {s}" in made for cell in ("labels", "clip") for b in study.bases for s in study.seeds):
        return {}
    difference_BSE = differences(rows, "labels", "clip", study.bases, study.seeds, study.measure)
    effects = {base: nested_effect(difference_BSE[b : b + 1]) for b, base in enumerate(study.bases)}
    by_base = {
        base: {key: round(getattr(effect, key), 4) for key in ("value", "low", "high")}
        for base, effect in effects.items()
    }
    return {"least": LEAST_GAIN, "by_base": by_base}


def pairs_of(name: str, study: Study) -> list[tuple[str, str]]:
    """(treated, control) of a study."""
    if name in DECLARED:
        return list(DECLARED[name])
    against = {**CONTROLS, **SCREENED}
    controls = {*against.values(), "clip"}
    return [(cell, against.get(cell, "clip")) for cell in study.cells if cell not in controls]


def _study(
    study: Study, rows: Rows, base_rows: Rows, pairs: Sequence[tuple[str, str]], beside: Rows = ()
) -> dict[str, Any]:
    """beside: lines of other studies whose cells the contrasts use."""
    bases, seeds = complete(study, rows)
    made, both = {row["run"] for row in rows}, [*beside, *rows]
    if study.exploratory:
        bases = study.bases

    def seeds_of(*cells: str) -> tuple[int, ...]:
        """The seeds that count for these cells."""
        if not study.exploratory:
            return seeds
        return tuple(s for s in study.seeds if all(f"{cell} {base} {s}" in made for cell in cells for base in bases))

    pairs = [pair for pair in pairs if seeds_of(*pair) and _has_lines(both, pair, bases, seeds_of(*pair))]
    begun = declared_and_made(study, rows)
    if not bases or not pairs:
        return begun | {"bases": [], "seeds": []}
    difference = {
        (cell, control): differences(both, cell, control, bases, seeds_of(cell, control), study.measure)
        for cell, control in pairs
    }
    effects = {pair: nested_effect(difference_BSE) for pair, difference_BSE in difference.items()}
    adjusted = holm({f"{cell} - {control}": effect.p for (cell, control), effect in effects.items()})
    cells = {cell: seeds_of(cell) for cell in study.cells}
    return begun | {
        "exploratory": study.exploratory,
        "bases": list(bases),
        "seeds": sorted({seed for own in cells.values() for seed in own}),
        "benchmark": study.measure,
        "n": rows[0]["n"][study.measure],
        "cells": {
            cell: _cell(cell, study, rows, base_rows, bases, own) | {"seeds": len(own)}
            for cell, own in cells.items()
            if own
        },
        "contrasts": [
            _contrast(pair, effect, adjusted[f"{pair[0]} - {pair[1]}"])
            | {
                "withheld": _withheld(study, difference[pair]),
                "skills": _skills(both, *pair, bases, seeds_of(*pair)),
            }
            for pair, effect in effects.items()
        ],
    }


def _has_lines(rows: Rows, pair: tuple[str, str], bases: Sequence[str], seeds: Sequence[int]) -> bool:
    """Whether both cells have their lines: those of a study beside may be in another folder."""
    made = {row["run"] for row in rows}
    return all(f"{cell} {base} {seed}" in made for cell in pair for base in bases for seed in seeds)


def _contrast(pair: tuple[str, str], effect: Effect, holm_p: float) -> dict[str, Any]:
    cell, control = pair
    seeds = effect.shape[1]
    return {"cell": cell, "control": control, "seeds": seeds, **_effect(effect), "holm": round(holm_p, 4)}


def _withheld(study: Study, difference_BSE: np.ndarray) -> dict[str, Any]:
    """The effect on examples whose swap was withheld from training, and on the rest."""
    recipe = next(iter(study.cells.values()))
    chosen = withheld_rows(_examples(study.measure), recipe)
    if not chosen:
        return {}
    rest_E = ~np.any(list(chosen.values()), axis=0)
    return {
        what: {"of": getattr(recipe, f"withheld_{what}", ""), "n": int(chosen_E.sum())}
        | _effect(nested_effect(difference_BSE[..., chosen_E]))
        for what, chosen_E in (chosen | {"rest": rest_E}).items()
    }


def _skills(
    rows: Rows, cell: str, control: str, bases: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Skill -> the effect on it relative to the control, which has drifted from the base too."""
    runs = {f"{one} {base} {seed}" for one in (cell, control) for base in bases for seed in seeds}
    own = [row for row in rows if row["run"] in runs]
    found = {}
    for name, of in SKILLS.items():
        set_ = reported_set(of, own)
        change_BSE = differences(own, cell, control, bases, seeds, set_, "accuracy")
        effect = nested_effect(unseen(set_, change_BSE))
        found[name] = {"n": effect.shape[-1], **_effect(effect)}
    return found


@lru_cache(maxsize=2)
def _examples(benchmark: str) -> tuple[Example, ...]:
    return tuple(read_benchmark(benchmark))


def _cell(
    cell: str, study: Study, rows: Rows, base_rows: Rows, bases: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Mean scores over the runs of a cell, and the changes of its bases' skills."""
    own = {row["run"]: row for row in rows if row["run"].rpartition(" ")[0].rpartition(" ")[0] == cell}
    runs = [own[f"{cell} {base} {seed}"] for base in bases for seed in seeds]
    found: dict[str, Any] = {
        metric: round(float(np.mean([right_of(run, study.measure, metric).mean() for run in runs])), 4)
        for metric in ("text", "image", "group")
    }
    found["text_by_run"] = [round(float(right_of(run, study.measure, "text").mean()), 4) for run in runs]
    for name, of in ASIDE.items():
        found[name] = round(float(np.mean([right_of(run, of, "accuracy").mean() for run in runs])), 4)
    for name, of in SKILLS.items():
        found[name] = _skill(of, [[own[f"{cell} {base} {seed}"] for seed in seeds] for base in bases], base_rows)
    found["cosine"] = {
        side: round(float(np.mean([run["cosine"][side] for run in runs])), 4) for side in ("captions", "images")
    }
    if all("h_w_r2" in run for run in runs):
        found["h_w_r2"] = _mean_if_known([run["h_w_r2"] for run in runs])
    if all("controls" in run for run in runs):
        found["controls"] = {
            "before": _mean_of([run["controls"]["0"] for run in runs]),
            "after": _mean_of([run["controls"][max(run["controls"], key=int)] for run in runs]),
        }
    if all("preferences" in run for run in runs):
        found["teacher_right"] = round(float(np.mean([_right_about(run["preferences"]) for run in runs])), 4)
    found["seconds"] = round(float(np.mean([run["seconds"] for run in runs])), 1)
    return found


def _mean_if_known(values: Sequence[float | None]) -> float | None:
    """None if any is unknown."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if len(known) == len(values) else None


def _right_about(preferences: Mapping[str, Any]) -> float:
    """The share of swaps that the student's teacher was right about, after answers were reversed."""
    return float(preferences.get("reversed_to", preferences["teacher_right"]["value"]))


def _skill(of: str, runs_BS: Sequence[Rows], base_rows: Rows) -> dict[str, Any]:
    """The change of a skill from the base, and whether it is non-inferior; on the larger set if every line has it."""
    before = {row["base"]: row for row in base_rows}
    of = reported_set(of, [run for runs_S in runs_BS for run in (*runs_S, before[runs_S[0]["base"]])])

    def right(run: Mapping[str, Any]) -> np.ndarray:
        return unseen(of, right_of(run, of, "accuracy").astype(float))

    change_BSE = np.array([[right(run) - right(before[run["base"]]) for run in runs_S] for runs_S in runs_BS])
    level = float(np.mean([right(before[runs_S[0]["base"]]).mean() for runs_S in runs_BS]))
    effect = nested_effect(change_BSE)
    suits = MEANT_FOR[0] <= level <= MEANT_FOR[1]
    return {
        "n": change_BSE.shape[-1],
        "before": round(level, 4),
        **_effect(effect),
        "kept": effect.low > -NON_INFERIORITY_MARGIN if suits else None,
    }


def _mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([one[key] for one in found])), 4) for key in found[0]}


def _effect(effect: Effect) -> dict[str, Any]:
    rounded = {key: round(getattr(effect, key), 4) for key in ("value", "low", "high", "p")}
    return rounded | {"by_base": [round(value, 4) for value in effect.by_base]}


def _levels(row: Mapping[str, Any]) -> dict[str, Any]:
    """Every score of a line with its Wilson interval, on the examples that no choice looked at."""

    def level(name: str, metric: str) -> dict[str, Any]:
        right_E = unseen(name, right_of(row, name, metric))
        return asdict(proportion(int(right_E.sum()), len(right_E)))

    levels = {name: {metric: level(name, metric) for metric in own} for name, own in row["right"].items()}
    return levels | {"cosine": row["cosine"]}
