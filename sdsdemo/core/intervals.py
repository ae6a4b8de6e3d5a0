"""Shares, paired tests and paired differences with their uncertainty, from plain arrays.

Wilson's interval of a share, McNemar's exact test, Bonett and Price's interval of a paired change, Student's t, and the
Monte-Carlo error of a denoising loss over timesteps and noise draws. `bootstrap` has intervals over bases and seeds.

Shape suffixes: E example, T timestep, N noise draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

TAIL = 1e-4
"""Quantiles further out than this are rejected: no interval here needs them."""

SUMMED = 10_000
"""Examples up to which McNemar's p is summed in whole numbers; the time grows with their square."""


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

    1 if they never differ; of more than `SUMMED` examples to about 10 digits. Raises `ValueError` for a negative count.
    Source: McNemar 1947.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"only_a and only_b must be at least 0; they were {only_a} and {only_b}")
    n = only_a + only_b
    if n > SUMMED:
        from scipy.special import bdtr

        return min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))
    # not scipy for these: stored values of p would differ from it in their last digit
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
    """Share right afterwards minus before, on the same examples: `change_of` of their counts.

    Raises `ValueError` for empty or unequal arrays.
    """
    before_E, after_E = np.asarray(before_E, dtype=bool), np.asarray(after_E, dtype=bool)
    if before_E.shape != after_E.shape or before_E.ndim != 1 or not len(before_E):
        raise ValueError(f"before_E and after_E must be equally long; they were {before_E.shape}, {after_E.shape}")
    return change_of(int((after_E & ~before_E).sum()), int((before_E & ~after_E).sum()), len(before_E))


def change_of(gained: int, lost: int, n: int) -> Change:
    """Change of a share, with the adjusted Wald interval for matched pairs, from how many examples changed.

        d -+ z sqrt( (g + l - d^2) / (n + 2) ),    d = g - l,   g = (gained + 1) / (n + 2),   l = (lost + 1) / (n + 2)

    Raises `ValueError` for counts that are not of n examples. Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37(4).
    """
    if min(gained, lost) < 0 or not 0 < n >= gained + lost:
        raise ValueError(f"gained and lost must be counts of n > 0 examples; they were {gained}, {lost} and {n}")
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


def student_t_p(t: float, dof: float) -> float:
    """Two-sided p of Student's T with dof degrees of freedom: P(|T| >= |t|); 0 for an infinite t.

    Raises `ValueError` for dof below 1.
    """
    if not dof >= 1:
        raise ValueError(f"dof must be at least 1; it was {dof}")
    from scipy.special import stdtr

    return float(2 * stdtr(dof, -abs(t)))


def same_tail(t: float, dof: float, other: float) -> float:
    """The bound that Student's T with `other` degrees of freedom exceeds as rarely as t is with `dof`.

    Raises `ValueError` for degrees of freedom below 1.
    """
    if not min(dof, other) >= 1:
        raise ValueError(f"dof and other must be at least 1; they were {dof} and {other}")
    from scipy.special import stdtr, stdtrit

    return -float(stdtrit(other, stdtr(dof, -t)))


def independent_draws(value_TN: np.ndarray, antithetic: bool, axis: int = -1) -> np.ndarray:
    """What a standard error may take for independent: the draws, or the means of antithetic pairs.

    value_TN: noise draws along `axis`; with `antithetic`, draw 2k + 1 has the opposite noise of draw 2k. Raises
    `ValueError` for an odd number of those. Source: Hammersley & Morton 1956, Proc. Camb. Phil. Soc. 52(3).
    """
    value_TN = np.asarray(value_TN)
    if not antithetic:
        return value_TN
    moved = np.moveaxis(value_TN, axis, -1)
    if moved.shape[-1] % 2:
        raise ValueError(f"antithetic draws come in pairs; there were {moved.shape[-1]}")
    mean = moved.reshape(*moved.shape[:-1], -1, 2).mean(axis=-1, dtype=np.float64)
    return np.moveaxis(mean, -1, axis)


def paired_difference(loss_a_TN: np.ndarray, loss_b_TN: np.ndarray, *, antithetic: bool = False) -> PairedDifference:
    """Loss of b minus loss of a, averaged: positive favours a.

        mean   = (1/T) sum_t m_t                       m_t = mean over n of (b - a)
        stderr = (1/T) sqrt( sum_t s_t^2 )             s_t = standard deviation over n of (b - a) / sqrt(N)
        dof    = (sum_t s_t^2)^2 / sum_t ( s_t^4 / (N - 1) )                            Satterthwaite 1946
        dof    = (sum_t s_t^2)^2 / sum_t ( s_t^4 / (N + 1) ) - 2     of pairs           Welch 1947
        band   = m_t -+ t(.975, N - 1) s_t
        band   = m_t -+ t(.975, K (N - 1)) sqrt( mean of s_u^2 )     of pairs; u: t and its K - 1 neighbours

    The timesteps are a fixed grid, so their spread adds no error; the draws at all (t, n) must be independent. With
    `antithetic` a draw is a pair of opposites, whose mean counts once; for two pairs Satterthwaite's estimate would
    be far too low (3 where 8 is right, over 8 timesteps), so Welch's is taken, which corrects for the noise in
    s_t^4. That is right if the timesteps' noise is alike: simulated with two pairs at 4 or 8 timesteps, the 95 %
    interval then misses in 5 %, but in 9 % if the noise halves from each timestep to the next, and in 10 to 14 %
    if one timestep has ten times the noise of the others. No formula for two pairs fixes it; more pairs do. A
    band from only two pairs would be 12.7 s_t wide, so neighbours, whose errors are much alike, are pooled.

    loss_a_TN, loss_b_TN: [T, N], entry (t, n) of both from the same noise. Raises `ValueError` for other shapes.
    """
    loss_a_TN, loss_b_TN = np.asarray(loss_a_TN, dtype=np.float64), np.asarray(loss_b_TN, dtype=np.float64)
    if loss_a_TN.ndim != 2 or loss_a_TN.shape != loss_b_TN.shape or loss_a_TN.size == 0:
        raise ValueError(
            "loss_a_TN and loss_b_TN must be of one shape (timesteps, noises); "
            f"they were {loss_a_TN.shape} and {loss_b_TN.shape}"
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity: the NaN is the answer
        difference_TN = independent_draws(loss_b_TN - loss_a_TN, antithetic)
        mean_T, stderr_T = difference_TN.mean(axis=1), _stderr_of_mean(difference_TN)
    noises = difference_TN.shape[1]
    reach_T = _reach(stderr_T, noises, pooled=antithetic)
    stderr, dof = _combined(stderr_T, noises, corrected=antithetic)
    return PairedDifference(
        mean=float(mean_T.mean()),
        stderr=stderr,
        dof=dof,
        mean_T=mean_T,
        stderr_T=stderr_T,
        low_T=mean_T - reach_T,
        high_T=mean_T + reach_T,
    )


def grid_stderr(loss_TN: np.ndarray, *, antithetic: bool = False) -> np.ndarray:
    """Monte-Carlo standard error of the mean loss over a fixed grid of timesteps, whose spread adds no error.

        sqrt( sum over t of Var_n(loss) / N ) / T

    loss_TN: [..., T, N]; the error has the leading shape. NaN with a single noise draw per timestep, or a single pair
    of `antithetic` draws.
    """
    loss_TN = independent_draws(loss_TN, antithetic)
    count_T, count_N = loss_TN.shape[-2:]
    if count_N < 2:
        return np.full(loss_TN.shape[:-2], np.nan)
    with np.errstate(invalid="ignore"):  # infinity minus infinity: the NaN is the answer
        variance_T = loss_TN.astype(np.float64).var(axis=-1, ddof=1)
    error: np.ndarray = np.sqrt((variance_T / count_N).sum(axis=-1)) / count_T
    return error


def _stderr_of_mean(value_TN: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis; NaN for a single value."""
    noises = value_TN.shape[-1]
    if noises == 1:
        return np.full(value_TN.shape[:-1], np.nan)
    spread_T: np.ndarray = value_TN.std(axis=-1, ddof=1)
    return spread_T / math.sqrt(noises)


def _reach(stderr_T: np.ndarray, noises: int, *, pooled: bool) -> np.ndarray:
    """Half of the 95 % band at each timestep; NaN for a single draw. pooled: with the variance of the neighbours."""
    if noises == 1:
        return stderr_T
    if not pooled:
        return student_t_quantile(0.975, noises - 1) * stderr_T
    beside = [slice(max(0, t - 1), t + 2) for t in range(len(stderr_T))]
    variance_T = np.array([np.square(stderr_T[u]).mean() for u in beside])
    quantile_T = np.array([student_t_quantile(0.975, len(stderr_T[u]) * (noises - 1)) for u in beside])
    reach_T: np.ndarray = quantile_T * np.sqrt(variance_T)
    return reach_T


def _combined(stderr_T: np.ndarray, noises: int, *, corrected: bool) -> tuple[float | None, float | None]:
    """Standard error of the mean over the grid, and its degrees of freedom. corrected: by Welch's formula."""
    if not np.isfinite(stderr_T).all():
        return None, None
    largest = float(stderr_T.max())
    if largest == 0:
        return 0.0, float(len(stderr_T) * (noises - 1))
    variance_T = np.square(stderr_T / largest)  # scaled: the fourth power of a small error would underflow
    total, squares = variance_T.sum() ** 2, np.square(variance_T).sum()
    dof = max(1.0, (noises + 1) * total / squares - 2) if corrected else (noises - 1) * total / squares
    return largest * math.sqrt(variance_T.sum()) / len(stderr_T), float(dof)
