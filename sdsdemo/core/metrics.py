"""Verdicts, proportions, paired tests and their errors, from plain arrays. Knows no model, no benchmark and no page.

    text         s(c0,i0) > s(c1,i0)  and  s(c1,i1) > s(c0,i1)
    image        s(c0,i0) > s(c0,i1)  and  s(c1,i1) > s(c1,i0)
    group        text and image
    group match  s(c0,i0) + s(c1,i1) > s(c1,i0) + s(c0,i1)

All strict: a tie is a failure. Thrush et al. 2022 (2204.03162), section 4. Group match cancels whatever a caption or an
image adds to all of its scores. With one image and k captions, `accuracy` requires each true caption (the first ones)
to beat all others. Scores that differ by no more than their `resolution` are tied: rounding alone may explain it.

Shape suffixes: E example, I image, C caption, T timestep, N noise draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

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

TAIL = 1e-4
"""Quantiles further out than this are rejected: no interval here needs them."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a model did on one pair of pairs."""

    text: bool
    image: bool
    group: bool
    group_match: bool
    mode: str
    """A key of `MODES`."""


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share of n with its 95 % interval (Wilson)."""

    value: float
    """NaN for n = 0."""
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Loss of b minus loss of a over the same (timestep, noise), with Monte-Carlo error only."""

    mean: float
    stderr: float | None
    """None if unknown: with a single noise draw per timestep, or a non-finite loss."""
    dof: float | None
    """Degrees of freedom of `stderr`; None if that is None."""
    mean_T: np.ndarray
    stderr_T: np.ndarray
    """NaN if unknown, like the bands."""
    low_T: np.ndarray
    high_T: np.ndarray
    """95 % band of each timestep separately."""


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


def proportion(successes: int, n: int) -> Proportion:
    """successes / n with the 95 % Wilson interval, which is 0 to 1 for n = 0."""
    low, high = wilson(successes, n)
    return Proportion(value=successes / n if n else math.nan, low=low, high=high, n=n)


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a proportion p = successes / n.

        ( p + z^2 / 2n  -+  z sqrt( p (1 - p) / n + z^2 / 4n^2 ) ) / (1 + z^2 / n)

    Raises `ValueError` for successes outside 0..n, or a level outside (0, 1). Source: Wilson 1927.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be from 0 to n = {n}; it was {successes}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; it was {level}")
    if n == 0:
        return 0.0, 1.0
    # not scipy.stats.binomtest: stored intervals would differ from it in their last digit
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, shrink = successes / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / shrink
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """p value of "a and b are right equally often", from the examples that only one of them got right.

        p = min( 1, 2 P( X <= min(only_a, only_b) ) ),     X ~ Binomial(only_a + only_b, 1/2)

    Exact at any size; 1 if they never differ. Raises `ValueError` for a negative count. Source: McNemar 1947.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"only_a and only_b must be at least 0; they were {only_a} and {only_b}")
    n = only_a + only_b
    # not scipy.stats.binomtest: stored values of p would differ from it in their last digit
    ways, tail = 1, 0
    for k in range(min(only_a, only_b) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    p: float = 2 * tail / 2**n  # integers up to here, so nothing under- or overflows
    return min(1.0, p)


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of a share on the same n examples, with its 95 % interval and the paired test."""

    value: float
    low: float
    high: float
    n: int
    gained: int
    """Right only afterwards."""
    lost: int
    """Right only before."""
    p: float
    """Exact McNemar."""


def paired_change(before_E: np.ndarray, after_E: np.ndarray) -> Change:
    """Share right afterwards minus before, on the same examples, with the adjusted Wald interval for matched pairs.

        d -+ z sqrt( (g + l - d^2) / (n + 2) ),    d = g - l,   g = (gained + 1) / (n + 2),   l = (lost + 1) / (n + 2)

    Raises `ValueError` for empty or unequal arrays. Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37(4).
    """
    before_E, after_E = np.asarray(before_E, dtype=bool), np.asarray(after_E, dtype=bool)
    if before_E.shape != after_E.shape or before_E.ndim != 1 or not len(before_E):
        raise ValueError(f"before_E and after_E must be equally long; they were {before_E.shape}, {after_E.shape}")
    n = len(before_E)
    gained, lost = int((after_E & ~before_E).sum()), int((before_E & ~after_E).sum())
    g, l = (gained + 1) / (n + 2), (lost + 1) / (n + 2)  # noqa: E741 the formula's letter
    half = NormalDist().inv_cdf(0.975) * math.sqrt((g + l - (g - l) ** 2) / (n + 2))
    return Change(
        value=(gained - lost) / n,
        low=max(-1.0, g - l - half),
        high=min(1.0, g - l + half),
        n=n,
        gained=gained,
        lost=lost,
        p=mcnemar_exact(lost, gained),
    )


def student_t_quantile(p: float, dof: float) -> float:
    """The t with P(T <= t) = p for Student's T with dof degrees of freedom (may be fractional or infinite).

    Raises `ValueError` for p outside 0.0001..0.9999 or dof below 1.
    """
    if not TAIL <= p <= 1 - TAIL:
        raise ValueError(f"p must be from {TAIL} to {1 - TAIL}; it was {p}")
    if not dof >= 1:
        raise ValueError(f"dof must be at least 1; it was {dof}")
    from scipy.special import stdtrit

    return float(stdtrit(dof, p))


def paired_difference(loss_a_TN: np.ndarray, loss_b_TN: np.ndarray) -> PairedDifference:
    """Loss of b minus loss of a, averaged: positive favours a.

        mean   = (1/T) sum_t m_t                       m_t = mean over n of (b - a)
        stderr = (1/T) sqrt( sum_t s_t^2 )             s_t = standard deviation over n of (b - a) / sqrt(N)
        dof    = (sum_t s_t^2)^2 / sum_t ( s_t^4 / (N - 1) )                            Satterthwaite 1946

    The timesteps are a fixed grid, so their spread adds no error; the draws at all (t, n) must be independent.

    loss_a_TN, loss_b_TN: [T, N], entry (t, n) of both from the same noise. Raises `ValueError` for other shapes.
    """
    loss_a_TN, loss_b_TN = np.asarray(loss_a_TN, dtype=np.float64), np.asarray(loss_b_TN, dtype=np.float64)
    if loss_a_TN.ndim != 2 or loss_a_TN.shape != loss_b_TN.shape or loss_a_TN.size == 0:
        raise ValueError(
            "loss_a_TN and loss_b_TN must be of one shape (timesteps, noises); "
            f"they were {loss_a_TN.shape} and {loss_b_TN.shape}"
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity: the NaN is the answer
        difference_TN = loss_b_TN - loss_a_TN
        mean_T, stderr_T = difference_TN.mean(axis=1), _stderr_of_mean(difference_TN)
    noises = difference_TN.shape[1]
    reach_T = student_t_quantile(0.975, noises - 1) * stderr_T if noises > 1 else stderr_T
    stderr, dof = _combined(stderr_T, noises)
    return PairedDifference(
        mean=float(mean_T.mean()),
        stderr=stderr,
        dof=dof,
        mean_T=mean_T,
        stderr_T=stderr_T,
        low_T=mean_T - reach_T,
        high_T=mean_T + reach_T,
    )


def grid_stderr(loss_TN: np.ndarray) -> np.ndarray:
    """Monte-Carlo standard error of the mean loss over a fixed grid of timesteps, whose spread adds no error.

        sqrt( sum over t of Var_n(loss) / N ) / T

    loss_TN: [..., T, N]; the error has the leading shape. NaN with a single noise draw per timestep.
    """
    count_T, count_N = loss_TN.shape[-2:]
    if count_N < 2:
        return np.full(loss_TN.shape[:-2], np.nan)
    variance_T = loss_TN.astype(np.float64).var(axis=-1, ddof=1)
    error: np.ndarray = np.sqrt((variance_T / count_N).sum(axis=-1)) / count_T
    return error


def _picks(score_RC: np.ndarray, resolution: float) -> str:
    """Which column each of two rows picks: its own, the same one, the other's; or a tie."""
    (s00, s01), (s10, s11) = score_RC.tolist()
    if abs(s00 - s01) <= resolution or abs(s11 - s10) <= resolution:
        return TIE
    return (SWAPPED, ONE, RIGHT)[(s00 > s01) + (s11 > s10)]


def _stderr_of_mean(value_TN: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis; NaN for a single value."""
    noises = value_TN.shape[-1]
    if noises == 1:
        return np.full(value_TN.shape[:-1], np.nan)
    spread_T: np.ndarray = value_TN.std(axis=-1, ddof=1)
    return spread_T / math.sqrt(noises)


def _combined(stderr_T: np.ndarray, noises: int) -> tuple[float | None, float | None]:
    """Standard error of the mean over the grid, and its degrees of freedom."""
    if not np.isfinite(stderr_T).all():
        return None, None
    largest = float(stderr_T.max())
    if largest == 0:
        return 0.0, float(len(stderr_T) * (noises - 1))
    variance_T = np.square(stderr_T / largest)  # scaled: the fourth power of a small error would underflow
    dof = (noises - 1) * variance_T.sum() ** 2 / np.square(variance_T).sum()
    return largest * math.sqrt(variance_T.sum()) / len(stderr_T), float(dof)
