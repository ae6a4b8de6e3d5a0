"""Which examples a model got right, tied or left unscored. Pure: knows no benchmark and no page.

    right    margin > resolution                  margin: the smallest difference that the metric requires (`metrics`)
    tied     |margin| <= resolution               a failure by the official rule; also counted separately
    neither  a score is not a finite number       excluded from shares, intervals and paired tests; counted separately

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
class Outcomes:
    """How a model did on each example, by metric."""

    margin: Mapping[str, np.ndarray]
    """float64; NaN if a score is not a finite number."""
    resolution_E: np.ndarray
    """Margins up to this count as ties."""

    @property
    def metrics(self) -> list[str]:
        return list(self.margin)

    @property
    def finite(self) -> np.ndarray:
        """finite_E: whether all scores of an example are finite."""
        finite_E: np.ndarray = ~np.isnan(next(iter(self.margin.values())))
        return finite_E

    @property
    def right(self) -> dict[str, np.ndarray]:
        return {metric: margin_E > self.resolution_E for metric, margin_E in self.margin.items()}

    @property
    def tied(self) -> dict[str, np.ndarray]:
        return {metric: np.abs(margin_E) <= self.resolution_E for metric, margin_E in self.margin.items()}


def judge(scores_E: Sequence[Scores], true_E: Sequence[int] | None = None) -> Outcomes:
    """Outcomes of examples that are pairs of pairs, or one image with k captions each.

    true_E: for examples with one image, how many captions are true (the first ones); 1 by default.
    """
    matrices, resolution_E = [scores.score_IC for scores in scores_E], [scores.resolution for scores in scores_E]
    return judge_matrices(matrices, resolution_E, true_E)


def judge_matrices(
    score_E: Sequence[np.ndarray], resolution_E: Sequence[float], true_E: Sequence[int] | None = None
) -> Outcomes:
    """Like `judge`, from bare score matrices and the resolution of each."""
    counts = true_E or [1] * len(score_E)
    margin_E = [margins(score_IC, true) for score_IC, true in zip(score_E, counts, strict=True)]
    metrics = margin_E[0] if margin_E else ()
    return Outcomes(
        margin={metric: np.array([found[metric] for found in margin_E]) for metric in metrics},
        resolution_E=np.array(resolution_E, dtype=np.float64),
    )


def best_first(score_C: np.ndarray) -> list[int]:
    """Indices of the captions, best first: equal scores in their order, NaN last."""
    places: list[int] = np.argsort(-np.where(np.isnan(score_C), -np.inf, score_C), kind="stable").tolist()
    return places


def contest(score_C: np.ndarray, true: int) -> tuple[int, int] | None:
    """Indices of the weakest true caption and the strongest false one; their difference is the margin of `accuracy`.

    None if every caption is true.
    """
    ranks = best_first(score_C)
    truths, rivals = [c for c in ranks if c < true], [c for c in ranks if c >= true]
    return (truths[-1], rivals[0]) if rivals else None


def caveat_counts(scores_E: Sequence[Scores], outcomes: Outcomes) -> dict[str, Any]:
    """How many examples are excluded as non-finite, tied, or have captions that the model did not read in full."""
    unread = [kind for scores in scores_E for kind in set(scores.unread)]
    return {
        "n": len(scores_E),
        "not_finite": int((~outcomes.finite).sum()),
        "ties": {metric: int(tied_E.sum()) for metric, tied_E in outcomes.tied.items()},
        "truncated": unread.count("truncated"),
        "equal_captions": unread.count("equal-captions"),
        "unknown_words": unread.count("unknown-words"),
    }
