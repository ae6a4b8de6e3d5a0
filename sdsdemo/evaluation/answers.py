"""Answers as plain dicts: what `score --json`, the page's `/score` and `sdsdemo.score` return.

A number that is not finite becomes None, since JSON has no word for it. Computes nothing and prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdsdemo.types import Answer, Evidence, Preference, Region, Scores


def answers_as_dict(
    image_name: str,
    captions: Sequence[str],
    answers: Sequence[Answer],
    notes: Sequence[str] = (),
    region: Region = "crop",
    timestep_range: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """One question, with the captions as they were read, and what each model says to it.

    `scores` has a number a caption, higher is better; `preferred` is the index of the best even when `decided` is
    false; `difference` is best minus second, and `tie` is there where that may be rounding. `problem` stands instead
    of scores; `notes` where there is something to explain. `region` is what of the picture every model
    was shown, `timestep_range` the part of the noise schedule that was asked for: None is each model's own.
    """
    return {
        "image": image_name,
        "captions": list(captions),
        "region": region,
        "timestep_range": None if timestep_range is None else list(timestep_range),
        **({"notes": list(notes)} if notes else {}),
        "models": [_answer(answer) for answer in answers],
    }


def _answer(answer: Answer) -> dict[str, Any]:
    notes = list(answer.notes)
    if answer.scores is None or answer.preference is None:
        return {"model": answer.card.name, "problem": answer.problem} | ({"notes": notes} if notes else {})
    scores, preference = answer.scores, answer.preference
    if preference.note and preference.note not in notes:
        notes.append(preference.note)
    return {
        "model": answer.card.name,
        **_verdict(scores, preference),
        **({"evidence": _evidence(scores.evidence)} if scores.evidence else {}),
        **({"notes": notes} if notes else {}),
    }


def _verdict(scores: Scores, preference: Preference) -> dict[str, Any]:
    return {
        "kind": scores.kind,
        "scores": [_number(score) for score in scores.score_IC[0]],
        "preferred": preference.preferred,
        "difference": _number(preference.difference),
        "stderr": _number(preference.stderr),
        "decided": preference.decided,
        **({"tie": True} if preference.tie else {}),
        "seconds": round(scores.seconds, 4),
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    """`loss` is [caption][timestep], a mean over the noise draws."""
    loss_CTN = evidence.loss_ICTN[0].astype(np.float64)
    return {
        "timesteps": [int(timestep) for timestep in evidence.timestep_T],
        "loss": [[_number(loss) for loss in loss_T] for loss_T in loss_CTN.mean(axis=2)],
        "noises": loss_CTN.shape[2],
        "unet_evaluations": evidence.evaluations,
        "seed": evidence.seed,
        "space": evidence.space,
    }


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
