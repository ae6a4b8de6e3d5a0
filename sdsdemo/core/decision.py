"""When a difference between two captions is decided, and how to say so. Knows no model and no page.

    tie          |difference| <= the resolution of the scores (`types.Scores`): it may be rounding
    similarity   decided unless it is a tie: nothing was sampled
    log-odds     the same
    denoising    decided if  |difference| > t_{.975, dof} * stderr  of the *paired* difference (`metrics`), and no tie

"Decided" means that other noise draws would hardly reverse the preference. It does not mean "right".

Shape suffixes: I image, C caption, T timestep, N noise draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sdsdemo.core.adaptive import FEWEST, bound_of, units
from sdsdemo.core.intervals import paired_difference, student_t_quantile
from sdsdemo.types import Evidence, Preference, Scores

NO_NUMBER = {
    "similarity": "A score of this model is not a finite number, so it is no evidence for either caption.",
    "log-odds": "A score of this model is not a finite number, so it is no evidence for either caption.",
    "denoising": "A loss of this model is not a finite number{where}, so it is no evidence for either caption.",
}
EXACT_TIE = "The best two captions have exactly the same score."
TIE = "The best two captions differ by no more than rounding: in another batch, the same model may swap them."
ONE_DRAW = "One noise draw per timestep gives no standard error of the difference: set two or more noise draws."
ONE_PAIR = "One antithetic pair per timestep gives no standard error of the difference: set four or more noise draws."
FEW_UNITS = (
    f"Adaptive scoring decides nothing on fewer than {FEWEST} pairs of opposite draws over all timesteps: set more "
    "timesteps or noise draws."
)
NO_LOSSES = "The losses behind these scores were not kept, so the error of the difference is unknown: score again."


def decide(scores: Scores, image: int = 0) -> Preference:
    """Which caption one model prefers for one image: the best against the second best.

    If any score or loss of this image is NaN or infinite, there is no preference. In a tie, the first of the best
    captions is named, whatever the batch, and nothing is decided.

    Raises `ValueError` for fewer than two captions, or an image that is not there.
    """
    if scores.score_IC.ndim != 2 or scores.score_IC.shape[1] < 2:
        raise ValueError(f"scores must hold images x at least two captions; score_IC was {scores.score_IC.shape}")
    if not 0 <= image < len(scores.score_IC):
        raise ValueError(f"image must be from 0 to {len(scores.score_IC) - 1}; it was {image}")
    if not _is_finite(scores, image):
        note = NO_NUMBER[scores.kind].format(where=_where(scores, image))
        return Preference(preferred=None, difference=None, stderr=None, decided=False, note=note)
    score_C = scores.score_IC[image].astype(np.float64)
    best, second = (int(c) for c in np.argsort(-score_C, kind="stable")[:2])
    difference = float(score_C[best] - score_C[second])
    stderr, needed, note = _error(scores, image, best, second)
    tie = difference <= scores.resolution
    if tie:
        best = int(np.flatnonzero(score_C >= score_C[best] - scores.resolution)[0])
        note = TIE if difference else EXACT_TIE
    return Preference(
        preferred=best,
        difference=difference,
        stderr=stderr,
        needed=None if stderr is None else needed,
        decided=not tie and needed is not None and difference > needed,
        tie=tie,
        note=note,
    )


def of_captions(scores: Scores, captions: Sequence[int]) -> Scores:
    """The scores of some captions alone, in that order."""
    kept = list(captions)
    found = scores.evidence
    return replace(
        scores,
        score_IC=scores.score_IC[:, kept],
        stderr_IC=None if scores.stderr_IC is None else scores.stderr_IC[:, kept],
        evidence=None if found is None else _evidence_of(found, kept),
    )


def _evidence_of(found: Evidence, kept: list[int]) -> Evidence:
    rounds_IC = None if found.rounds_IC is None else found.rounds_IC[:, kept]
    return replace(found, loss_ICTN=found.loss_ICTN[:, kept], rounds_IC=rounds_IC)


def verdict_words(preference: Preference, labels: Sequence[str]) -> str:
    """The preference in plain words. labels: a name per caption, such as "A" and "B"."""
    if preference.preferred is None:
        return "no verdict: a score is not a finite number"
    if preference.tie:
        return "a tie"
    if preference.decided:
        return f"prefers {labels[preference.preferred]}"
    if preference.stderr is None:
        return "undecided: the error of the difference is not known"
    return "undecided: the difference is within its error"


def _error(scores: Scores, image: int, best: int, second: int) -> tuple[float | None, float | None, str]:
    """Standard error of the difference, threshold for a decision (None: cannot be decided), note."""
    if scores.kind != "denoising":
        return None, 0.0, ""
    if scores.evidence is None:
        return None, None, NO_LOSSES
    loss_CTN = scores.evidence.loss_ICTN[image]
    if scores.evidence.rounds_IC is not None:
        return _adaptive_error(loss_CTN, scores.evidence.rounds_IC[image], best, second)
    paired = paired_difference(loss_CTN[best], loss_CTN[second], antithetic=scores.evidence.antithetic)
    if paired.stderr is None or paired.dof is None:
        return None, None, ONE_PAIR if scores.evidence.antithetic else ONE_DRAW
    return paired.stderr, student_t_quantile(0.975, paired.dof) * paired.stderr, ""


def _adaptive_error(
    loss_CTN: np.ndarray, rounds_C: np.ndarray, best: int, second: int
) -> tuple[float | None, float | None, str]:
    """As `_error`, over the rounds that both captions got, with the bound of that look."""
    rounds = int(min(rounds_C[best], rounds_C[second]))
    unit = units(loss_CTN[second, :, :rounds] - loss_CTN[best, :, :rounds])
    if unit.size < FEWEST:
        return None, None, FEW_UNITS
    stderr = float(unit.std(ddof=1)) / math.sqrt(unit.size)
    return stderr, bound_of(rounds, loss_CTN.shape[1]) * stderr, ""


def _is_finite(scores: Scores, image: int) -> bool:
    if scores.evidence is not None and not np.isfinite(_computed(scores.evidence, image)).all():
        return False
    return bool(np.isfinite(scores.score_IC[image]).all())


def _computed(evidence: Evidence, image: int) -> np.ndarray:
    """loss_CTN of an image, with zeros where adaptive scoring computed none."""
    loss_CTN: np.ndarray = evidence.loss_ICTN[image]
    if evidence.rounds_IC is None:
        return loss_CTN
    skipped_CN = np.arange(loss_CTN.shape[2]) >= evidence.rounds_IC[image][:, None]
    computed_CTN: np.ndarray = np.where(skipped_CN[:, None, :], 0.0, loss_CTN)
    return computed_CTN


def _where(scores: Scores, image: int) -> str:
    """The first timestep with a non-finite loss."""
    if scores.evidence is None:
        return ""
    lost_T = ~np.isfinite(_computed(scores.evidence, image)).all(axis=(0, 2))
    return f" (timestep {scores.evidence.timestep_T[lost_T.argmax()]})" if lost_T.any() else ""
