"""Verdicts and benchmark scores from plain arrays. Knows no model, no benchmark and no page.

    text         s(c0,i0) > s(c1,i0)  and  s(c1,i1) > s(c0,i1)
    image        s(c0,i0) > s(c0,i1)  and  s(c1,i1) > s(c1,i0)
    group        text and image
    group match  s(c0,i0) + s(c1,i1) > s(c1,i0) + s(c0,i1)

All strict: a tie is a failure. Thrush et al. 2022 (2204.03162), section 4. Group match cancels whatever a caption or an
image adds to all of its scores. With one image and k captions, `accuracy` requires each true caption (the first ones)
to beat all others. Scores that differ by no more than their `resolution` are tied: rounding may explain that.

Shape suffixes: E example, I image, C caption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sdsdemo.core.intervals import Proportion, proportion

NO_EVIDENCE = "no evidence"
TIE = "tie"
RIGHT, ONE, SWAPPED = "right", "one", "swapped"

_MODE_OF = {
    (RIGHT, RIGHT): "right",
    (RIGHT, ONE): "one image wins",
    (ONE, RIGHT): "one caption wins",
    (ONE, ONE): "one of each wins",
    (ONE, SWAPPED): "one caption wins, images swapped",
    (SWAPPED, ONE): "captions swapped, one image wins",
    (SWAPPED, SWAPPED): "swapped",
}
"""(outcome for captions, outcome for images) -> mode. Two cells cannot occur: captions right with images swapped would
need s00 > s01 > s11 > s10 > s00, and likewise the other way round."""

MODES = {
    "right": "Each image picks its own caption, and each caption picks its own image.",
    "one image wins": "Each image picks its own caption, but both captions pick the same image.",
    "one caption wins": "Each caption picks its own image, but both images pick the same caption.",
    "one of each wins": "Both images pick the same caption, and both captions pick the same image.",
    "one caption wins, images swapped": "Both images pick the same caption, and each caption picks the other's image.",
    "captions swapped, one image wins": "Each image picks the other's caption, and both captions pick the same image.",
    "swapped": "Each image picks the other's caption, and each caption picks the other's image.",
    TIE: "Two scores that are compared do not differ beyond rounding, so at least one of the four picks is not made.",
    NO_EVIDENCE: "A score is not a finite number, so nothing can be said.",
}
"""Every mode of a verdict, explained in one line."""

METRICS = ("text", "image", "group", "group_match")
ACCURACY = "accuracy"
CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6, "group_match": 1 / 2}
"""Chance level of four independent random scores: 6, 6 and 4 of their 24 orders are right; group match is a coin flip.
"""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a model did on one pair of pairs."""

    text: bool
    image: bool
    group: bool
    group_match: bool
    mode: str
    """A key of `MODES`."""


def margins(score_IC: np.ndarray, true: int = 1) -> dict[str, float]:
    """Margin by metric: the smallest of the differences that must be positive. NaN if any score is not finite.

    score_IC: [2, 2], caption k belongs to image k; or [1, C], the first `true` captions are true. Raises `ValueError`.
    """
    score_IC = np.asarray(score_IC, dtype=np.float64)
    if score_IC.shape == (2, 2):
        (s00, s01), (s10, s11) = score_IC.tolist()
        if not np.isfinite(score_IC).all():
            return dict.fromkeys(METRICS, math.nan)
        text, image = min(s00 - s01, s11 - s10), min(s00 - s10, s11 - s01)
        match = math.fsum((s00, s11, -s01, -s10))  # fsum: the sign is exact, however small the margin
        return {"text": text, "image": image, "group": min(text, image), "group_match": match}
    if score_IC.ndim != 2 or len(score_IC) != 1 or not score_IC.size:
        raise ValueError(f"score_IC must be of shape (2, 2) or (1, captions); it was {score_IC.shape}")
    if not np.isfinite(score_IC).all():
        return {ACCURACY: math.nan}
    return {ACCURACY: float(score_IC[0, :true].min() - score_IC[0, true:].max(initial=-math.inf))}


def verdict(score_IC: np.ndarray, resolution: float = 0.0) -> Verdict:
    """Verdict on one pair of pairs: caption k belongs to image k. score_IC: [2, 2], higher is better.

    A score that is NaN or infinite fails everything. Raises `ValueError` for another shape.
    """
    score_IC = np.asarray(score_IC, dtype=np.float64)
    if score_IC.shape != (2, 2):
        raise ValueError(f"score_IC must be of shape (2, 2); it was {score_IC.shape}")
    right = {metric: margin > resolution for metric, margin in margins(score_IC).items()}
    return Verdict(**right, mode=_mode(score_IC, resolution))


def _mode(score_IC: np.ndarray, resolution: float) -> str:
    if not np.isfinite(score_IC).all():
        return NO_EVIDENCE
    captions, images = _picks(score_IC, resolution), _picks(score_IC.T, resolution)
    return TIE if TIE in (captions, images) else _MODE_OF[captions, images]


def benchmark_scores(score_EIC: np.ndarray) -> dict[str, Proportion]:
    """The share of examples that are right by each of `METRICS`. score_EIC: [E, 2, 2].

    Examples without evidence count as failures. Raises `ValueError` for another shape.
    """
    score_EIC = np.asarray(score_EIC, dtype=np.float64)
    if score_EIC.ndim != 3 or score_EIC.shape[1:] != (2, 2):
        raise ValueError(f"score_EIC must be of shape (examples, 2, 2); it was {score_EIC.shape}")
    verdicts = [verdict(score_IC) for score_IC in score_EIC]
    return {name: proportion(sum(getattr(v, name) for v in verdicts), len(verdicts)) for name in METRICS}


def _picks(score_RC: np.ndarray, resolution: float) -> str:
    """Which column each of two rows picks: its own, the same one, the other's; or a tie."""
    (s00, s01), (s10, s11) = score_RC.tolist()
    if abs(s00 - s01) <= resolution or abs(s11 - s10) <= resolution:
        return TIE
    return (SWAPPED, ONE, RIGHT)[(s00 > s01) + (s11 > s10)]
