"""Effects on bases in general: Student's t on the base means; and what intervals over bases cover, by simulation.

    d[b, s, e]  =  effect + B[b] + S[b, s] + E[e] + BE[b, e] + R[b, s, e]        right(treated) - right(control)
    m[b]        =  mean over s, e of  d[b, s, e]
    interval    =  mean of m  -+  t(.975, B - 1) x (standard deviation of m) / sqrt(B)

The interval takes bases for a sample of bases, and the examples for what they are: all bases share them, so E moves
every m alike and widens nothing. `coverage` simulates what that costs. B, S, E, BE and R have mean 0 and the variances
that `components` estimates from the mean squares of the balanced layout (Searle, Casella & McCulloch 1992, ch. 4):

    var R  = MS_R                        var S = (MS_S - MS_R) / n               var BE = (MS_BE - MS_R) / S
    var E  = (MS_E - MS_BE) / (B S)      var B = (MS_B - MS_S - MS_BE + MS_R) / (S n)

Shape suffixes: B base, S seed, E example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sdsdemo.core.bootstrap import checked
from sdsdemo.core.intervals import student_t_p, student_t_quantile

SIMULATIONS, SEED = 4_000, 20_025
"""Repetitions of an experiment, and the seed that they are drawn from."""
Interval = Callable[[np.ndarray], tuple[float, float]]
"""difference_BSE -> (low, high)."""


@dataclass(frozen=True, kw_only=True)
class GeneralEffect:
    """A mean over bases with its 95 % interval for bases in general; shares, so 0.1 is ten points."""

    value: float
    low: float
    high: float
    dof: int
    """Degrees of freedom: bases - 1."""
    p: float
    """Two-sided, of no effect."""
    by_base: tuple[float, ...]


def general_effect(difference_BSE: np.ndarray) -> GeneralEffect:
    """The effect on bases in general. Raises `ValueError` for fewer than two bases, or other axes."""
    difference_BSE = checked(difference_BSE)
    by_base = tuple(float(mean) for mean in difference_BSE.mean((1, 2)))
    low, high = over_bases(by_base)
    value, dof = float(np.mean(by_base)), len(by_base) - 1
    error = float(np.std(by_base, ddof=1)) / math.sqrt(len(by_base))
    t = value / error if error else math.inf * value if value else 0.0
    return GeneralEffect(value=value, low=low, high=high, dof=dof, p=student_t_p(t, dof), by_base=by_base)


def over_bases(by_base: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the effect on bases in general, from the base means.

    Raises `ValueError` for fewer than two bases.
    """
    if len(by_base) < 2:
        raise ValueError(f"An interval over bases needs at least two; there was {len(by_base)}.")
    mean_B = np.asarray(by_base, dtype=float)
    reach = student_t_quantile(0.975, len(mean_B) - 1) * mean_B.std(ddof=1) / np.sqrt(len(mean_B))
    return float(mean_B.mean() - reach), float(mean_B.mean() + reach)


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances of what a difference is the sum of."""

    base: float
    seed: float
    example: float
    both: float
    """Base and example: that some bases are moved on some examples."""
    rest: float


def components(difference_BSE: np.ndarray) -> Components:
    """The variances in a study, negative estimates as 0. Raises `ValueError` for fewer than two of an axis."""
    d_BSE = checked(difference_BSE)
    bases, seeds, n = d_BSE.shape
    if min(d_BSE.shape) < 2:
        raise ValueError(f"difference_BSE must have two bases, two seeds and two examples; its shape was {d_BSE.shape}")
    mean_B, mean_E = d_BSE.mean((1, 2), keepdims=True), d_BSE.mean((0, 1), keepdims=True)
    mean_BS, mean_BE, mean = d_BSE.mean(2, keepdims=True), d_BSE.mean(1, keepdims=True), d_BSE.mean()

    def square(part: np.ndarray, repeated: int, dof: int) -> float:
        """The mean square of a part, each of whose values stands for `repeated` differences."""
        return float(repeated * (part**2).sum() / dof)

    of_base = square(mean_B - mean, seeds * n, bases - 1)
    of_seed = square(mean_BS - mean_B, n, bases * (seeds - 1))
    of_example = square(mean_E - mean, bases * seeds, n - 1)
    of_both = square(mean_BE - mean_B - mean_E + mean, seeds, (bases - 1) * (n - 1))
    rest = square(d_BSE - mean_BS - mean_BE + mean_B, 1, bases * (seeds - 1) * (n - 1))
    return Components(
        base=max(0.0, of_base - of_seed - of_both + rest) / (seeds * n),
        seed=max(0.0, of_seed - rest) / n,
        example=max(0.0, of_example - of_both) / (bases * seeds),
        both=max(0.0, of_both - rest) / seeds,
        rest=rest,
    )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often an interval held each of the effects that it may be read as an interval of; shares."""

    general: float
    """The effect on bases and examples in general."""
    these_examples: float
    """The effect on bases in general, on these examples."""
    these_bases: float
    """The effect on these bases, on examples in general."""


def coverage(
    of: Components,
    shape: tuple[int, int, int],
    intervals: Mapping[str, Interval],
    simulations: int = SIMULATIONS,
    seed: int = SEED,
) -> dict[str, Coverage]:
    """How often each interval holds the truth in simulated experiments of this shape: bases, seeds, examples."""
    rng, held = np.random.default_rng(seed), {name: np.zeros((simulations, 3), bool) for name in intervals}
    for k in range(simulations):
        difference_BSE, truths = _simulated(of, shape, rng)
        for name, interval in intervals.items():
            low, high = interval(difference_BSE)
            held[name][k] = [low <= truth <= high for truth in truths]
    shares = {name: [float(share) for share in found.mean(0)] for name, found in held.items()}
    return {
        name: Coverage(general=general, these_examples=examples, these_bases=bases)
        for name, (general, examples, bases) in shares.items()
    }


def _simulated(
    of: Components, shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """difference_BSE of an experiment without an effect, and the three effects that `Coverage` names."""
    bases, seeds, n = shape

    def drawn(variance: float, *size: int) -> np.ndarray:
        return math.sqrt(variance) * rng.standard_normal(size)

    b_B11, s_BS1 = drawn(of.base, bases, 1, 1), drawn(of.seed, bases, seeds, 1)
    e_E, be_B1E = drawn(of.example, n), drawn(of.both, bases, 1, n)
    difference_BSE = b_B11 + s_BS1 + e_E + be_B1E + drawn(of.rest, bases, seeds, n)
    return difference_BSE, (0.0, float(e_E.mean()), float(b_B11.mean()))
