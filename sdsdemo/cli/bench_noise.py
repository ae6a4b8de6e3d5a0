"""What antithetic noise and adaptive scoring save, on pictures of Mini and noise that nothing else has seen.

antithetic_variance    variance of the difference of two losses: of pairs over plain noise, with as many evaluations
adaptive_over_fixed    evaluations a caption, over those of the fixed budget that errs as rarely in `mini noise`
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sdsdemo.core.intervals import paired_difference
from sdsdemo.data.mini.benchmarks import Pair, benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from sdsdemo.mini.experiments.noise import NOISE_FILE
from sdsdemo.mini.experiments.shapes import NoiseFindings
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import budget
from sdsdemo.types import Budget

SEED = 53_011
"""Of the first repeat's pictures and noise; the next repeat has the next."""
PICTURES = 8
DRAWS = 8


def saved_by_noise(scorer: DiffusionScorer, repeat: int) -> dict[str, float]:
    """Both ratios on pictures of their own for each repeat."""
    pairs = benchmark_pairs(SEED + repeat, "validation", PICTURES)
    plain = budget(noises=DRAWS, seed=SEED + repeat, antithetic=False)
    variance = {on: _variance(scorer, pairs, replace(plain, antithetic=on)) for on in (False, True)}
    fixed = shipped(NOISE_FILE, NoiseFindings)["adaptive"][scorer.card.name]["best_fixed"]
    return {
        "antithetic_variance": variance[True] / variance[False],
        "adaptive_over_fixed": _evaluations(scorer, pairs, SEED + repeat) / fixed,
    }


def _variance(scorer: DiffusionScorer, pairs: list[Pair], spend: Budget) -> float:
    """Sum over pictures of the squared standard error of the difference."""
    total = 0.0
    for pair in pairs:
        found = scorer.score([draw(pair.scenes[0])], [sentence.text for sentence in pair.sentences], spend).evidence
        assert found is not None
        paired = paired_difference(*found.loss_ICTN[0, :2], antithetic=spend.antithetic)
        total += (paired.stderr or 0.0) ** 2
    return total


def _evaluations(scorer: DiffusionScorer, pairs: list[Pair], seed: int) -> float:
    """Mean evaluations a caption."""
    spend = budget(noises=16, seed=seed, adaptive=True)
    spent = []
    for pair in pairs:
        found = scorer.score([draw(pair.scenes[0])], [sentence.text for sentence in pair.sentences], spend).evidence
        assert found is not None
        spent.append(found.evaluations / 2)
    return float(np.mean(spent))
