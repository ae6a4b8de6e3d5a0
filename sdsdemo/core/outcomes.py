"""Which examples a model got right, left in a tie, or said nothing about. Pure: knows no benchmark and no page.

    right    margin > resolution                  margin: the smallest difference that the metric asks for (`metrics`)
    tied     |margin| <= resolution               a failure by the official rule; counted beside the share
    neither  a score is not a finite number       in no share, no interval and no paired test; counted apart

Shape suffixes: E example, I image, C caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdsdemo.core.metrics import margins
from sdsdemo.types import Scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """How a model did on each example, by metric."""

    margin: Mapping[str, np.ndarray]
    """float64; NaN where a score is not a finite number."""
    resolution_E: np.ndarray
    """What a margin must exceed to be one."""

    @property
    def metrics(self) -> list[str]:
        return list(self.margin)

    @property
    def finite(self) -> np.ndarray:
        """finite_E: whether the model says anything about an example."""
        finite_E: np.ndarray = ~np.isnan(next(iter(self.margin.values())))
        return finite_E

    @property
    def right(self) -> dict[str, np.ndarray]:
        return {metric: margin_E > self.resolution_E for metric, margin_E in self.margin.items()}

    @property
    def tied(self) -> dict[str, np.ndarray]:
        return {metric: np.abs(margin_E) <= self.resolution_E for metric, margin_E in self.margin.items()}


def judge(scores_E: Sequence[Scores], true_E: Sequence[int] | None = None) -> Judged:
    """How the scores of a pair of pairs each, or of one image and k captions each, come out.

    true_E: how many captions of an example with one image are true, the first ones; 1 where it is not given.
    """
    matrices, resolution_E = [scores.score_IC for scores in scores_E], [scores.resolution for scores in scores_E]
    return judge_matrices(matrices, resolution_E, true_E)


def judge_matrices(
    score_E: Sequence[np.ndarray], resolution_E: Sequence[float], true_E: Sequence[int] | None = None
) -> Judged:
    """The same of bare scores, with the resolution of each."""
    counts = true_E or [1] * len(score_E)
    margin_E = [margins(score_IC, true) for score_IC, true in zip(score_E, counts, strict=True)]
    metrics = margin_E[0] if margin_E else ()
    return Judged(
        margin={metric: np.array([found[metric] for found in margin_E]) for metric in metrics},
        resolution_E=np.array(resolution_E, dtype=np.float64),
    )


def best_first(score_C: np.ndarray) -> list[int]:
    """Places of the captions, the best first: equal ones in their order, those whose score is no number last."""
    places: list[int] = np.argsort(-np.where(np.isnan(score_C), -np.inf, score_C), kind="stable").tolist()
    return places


def contest(score_C: np.ndarray, true: int) -> tuple[int, int] | None:
    """The weakest of the first `true` captions, and the strongest rival: their difference is the margin of `accuracy`.

    None where every caption is true.
    """
    ranks = best_first(score_C)
    truths, rivals = [c for c in ranks if c < true], [c for c in ranks if c >= true]
    return (truths[-1], rivals[0]) if rivals else None


def apart(scores_E: Sequence[Scores], judged: Judged) -> dict[str, Any]:
    """How many examples are in no share, or in it only as failures, and of how many the captions are not all read."""
    unread = [kind for scores in scores_E for kind in set(scores.unread)]
    return {
        "n": len(scores_E),
        "not_finite": int((~judged.finite).sum()),
        "ties": {metric: int(tied_E.sum()) for metric, tied_E in judged.tied.items()},
        "truncated": unread.count("truncated"),
        "equal_captions": unread.count("equal-captions"),
        "unknown_words": unread.count("unknown-words"),
    }
