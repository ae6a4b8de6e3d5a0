"""Effects over ten bases: intervals for bases in general and within these, the gate of every base, the skills.

Everything is computed from the lines. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdsdemo.core.bases import GeneralEffect, general_effect
from sdsdemo.core.bootstrap import holm, nested_effect
from sdsdemo.finetuning.before_after import MEANT_FOR, NON_INFERIORITY_MARGIN
from sdsdemo.mini.experiments.declared import ASKED_GAIN, GATES, LEAST_GAIN, TEN_CONTRASTS
from sdsdemo.mini.experiments.skills import SKILLS, reported_set, unseen
from sdsdemo.mini.experiments.study import (
    BASES,
    Rows,
    Study,
    complete,
    declared_and_made,
    differences,
    lines_alike,
    right_of,
)

Pair = tuple[str, str]
NEW = "new"
"""The bases that no setting was chosen on."""


def with_lines_beside(study: Study, rows: Rows, beside: Rows, base_rows: Rows) -> list[Mapping[str, Any]]:
    """The study's lines, and those of other studies that are runs of it."""
    weights = {row["base"]: row.get("base_fingerprint", "") for row in base_rows}
    own = {row["run"] for row in rows}
    return [*rows, *(row for row in lines_alike(study, beside, weights) if row["run"] not in own)]


def over_ten_bases(study: Study, rows: Rows, base_rows: Rows) -> dict[str, Any]:
    """Every figure of the study, ready for JSON; without contrasts until two bases are done.

    rows: from `with_lines_beside`. base_rows: the lines of the bases themselves.
    """
    begun = declared_and_made(study, rows)
    bases, seeds = complete(study, rows)
    if len(bases) < 2:
        return begun | {"bases": [], "seeds": []}
    difference = {pair: differences(rows, *pair, bases, seeds, study.measure) for pair in TEN_CONTRASTS}
    gate = _gate({towers: difference[pair] for towers, pair in GATES.items()}, bases)
    general = {pair: general_effect(difference_BSE) for pair, difference_BSE in difference.items()}
    adjusted = holm({" - ".join(pair): effect.p for pair, effect in general.items()})
    groups = _groups(gate, bases)
    return begun | {
        "bases": list(bases),
        "seeds": list(seeds),
        "benchmark": study.measure,
        "n": difference[TEN_CONTRASTS[0]].shape[-1],
        "gate": gate,
        "groups": {name: [bases[b] for b in chosen] for name, chosen in groups.items()},
        "contrasts": [
            {
                "cell": pair[0],
                "control": pair[1],
                **_general(effect),
                "gains": round(effect.value, 4) >= ASKED_GAIN and effect.low > 0,
                "holm": three_digits(adjusted[" - ".join(pair)]),
                "by_base": [round(value, 4) for value in effect.by_base],
                "within": _within(difference[pair]),
                "differing": round(float((difference[pair] != 0).mean()), 4),
                "among": _among(difference[pair], groups),
                "skills": _skills(rows, pair, bases, seeds, base_rows),
            }
            for pair, effect in general.items()
        ],
    }


def three_digits(p: float) -> float:
    """A p value of Student's t may be far below any fixed number of places."""
    return float(f"{p:.3g}")


def _general(effect: GeneralEffect) -> dict[str, Any]:
    """The effect on bases in general."""
    rounded = {key: round(getattr(effect, key), 4) for key in ("value", "low", "high")}
    return rounded | {"p": three_digits(effect.p), "dof": effect.dof, "bases": len(effect.by_base)}


def _within(difference_BSE: np.ndarray) -> dict[str, float]:
    """The interval of the effect on these bases."""
    effect = nested_effect(difference_BSE, within=True)
    return {key: round(getattr(effect, key), 4) for key in ("value", "low", "high")}


def _gate(difference: Mapping[str, np.ndarray], bases: Sequence[str]) -> dict[str, Any]:
    """By towers, each base's gain from true labels; its interval resamples its seeds and the examples."""
    found: dict[str, Any] = {"least": LEAST_GAIN}
    for towers, difference_BSE in difference.items():
        found[towers] = {base: _within(difference_BSE[b : b + 1]) for b, base in enumerate(bases)}
    return found


def _groups(gate: Mapping[str, Any], bases: Sequence[str]) -> dict[str, list[int]]:
    """Places of the bases that pass the gate with both towers, with the image tower too, and of the new ones."""
    passed = {towers: [gate[towers][base]["value"] >= LEAST_GAIN for base in bases] for towers in GATES}
    both = [b for b in range(len(bases)) if passed["both"][b]]
    return {
        "both": both,
        "image": [b for b in both if passed["image"][b]],
        NEW: [b for b, base in enumerate(bases) if base not in BASES],
    }


def _among(difference_BSE: np.ndarray, groups: Mapping[str, list[int]]) -> dict[str, Any]:
    """The effect on bases in general from some bases alone; left out where there are fewer than two."""
    return {name: _general(general_effect(difference_BSE[b])) for name, b in groups.items() if len(b) > 1}


def _skills(
    rows: Rows, pair: Pair, bases: Sequence[str], seeds: Sequence[int], base_rows: Rows
) -> dict[str, dict[str, Any]]:
    """By skill, the effect relative to the control on bases in general, and whether it is non-inferior."""
    runs = {f"{cell} {base} {seed}" for cell in pair for base in bases for seed in seeds}
    own = [row for row in rows if row["run"] in runs]
    before = [row for row in base_rows if row["base"] in bases]
    found = {}
    for name, of in SKILLS.items():
        set_ = reported_set(of, [*own, *before])
        effect_BSE = unseen(set_, differences(own, *pair, bases, seeds, set_, "accuracy"))
        effect = general_effect(effect_BSE)
        level = float(np.mean([unseen(set_, right_of(row, set_, "accuracy")).mean() for row in before]))
        suits = MEANT_FOR[0] <= level <= MEANT_FOR[1]
        kept = effect.low > -NON_INFERIORITY_MARGIN if suits else None
        found[name] = {"n": effect_BSE.shape[-1], **_general(effect), "within": _within(effect_BSE), "kept": kept}
    return found
