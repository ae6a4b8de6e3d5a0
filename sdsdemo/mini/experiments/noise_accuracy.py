"""Text, image and group of Mini's validation set by where evaluations are spent: 32 a score, as pairs of noise.

    even              8 timesteps of two pairs, all alike
    shifted           16 timesteps of one pair
    noise, signal     the weights of `noise_timesteps`, from pictures that are not in the set

Shape suffixes: E example, I image, C caption, T timestep, N noise draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.core.intervals import paired_change
from sdsdemo.core.metrics import benchmark_scores, verdict
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.mini.experiments.noise_draws import SEED, as_bytes
from sdsdemo.models import cards
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.families import load_diffusion
from sdsdemo.runtime import files
from sdsdemo.types import Budget, Example

BENCHMARK, EXAMPLES = "mini-validation", 200
"""Where accuracy is tested, and on how many examples: an even share of each tag."""
NOISE_SEED = SEED + 20_000
"""Example e has the noise of seed NOISE_SEED + e."""
GRIDS = {"even": (8, 4), "shifted": (16, 2)}
"""Timesteps and noise draws."""
METRICS = ("text", "image", "group")


def accuracy_findings(
    teacher: str, weight_T: Mapping[str, np.ndarray], work: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """By way of spending: each metric with its interval, and its change from `even` with that of the paired change."""
    losses = {name: _collect(teacher, name, work, progress) for name in GRIDS}
    scores = {name: -loss_EICTN.mean(axis=(3, 4)) for name, loss_EICTN in losses.items()}
    for rule, weight in weight_T.items():
        scores[rule] = -(losses["even"].mean(axis=4) @ (weight / weight.sum()))
    return {name: _figures(score_EIC, scores["even"]) for name, score_EIC in scores.items()}


def _figures(score_EIC: np.ndarray, even_EIC: np.ndarray) -> dict[str, Any]:
    shares = benchmark_scores(score_EIC)
    changes = {metric: paired_change(_right(even_EIC, metric), _right(score_EIC, metric)) for metric in METRICS}
    return {metric: {**asdict(shares[metric]), "change": asdict(changes[metric])} for metric in METRICS}


def _right(score_EIC: np.ndarray, metric: str) -> np.ndarray:
    return np.array([getattr(verdict(score_IC), metric) for score_IC in score_EIC])


def _collect(teacher: str, name: str, work: Path, progress: Callable[[str], None]) -> np.ndarray:
    """loss_EICTN, read from `work` if it is there."""
    path = work / f"{teacher}-{BENCHMARK}-{name}.npy"
    if not path.is_file():
        card = cards.resolve(teacher)
        scorer, (timesteps, noises) = DiffusionScorer(card, load_diffusion(card.spec)), GRIDS[name]
        found = []
        for e, example in enumerate(chosen(read_benchmark(BENCHMARK), EXAMPLES)):
            budget = Budget(timesteps=timesteps, noises=noises, seed=NOISE_SEED + e, antithetic=True)
            found.append(_losses(scorer, example, budget))
        files.write_whole(path, as_bytes(np.stack(found)))
        progress(f"{teacher}: {len(found)} examples of {BENCHMARK}, {timesteps} timesteps of {noises} draws")
    loss_EICTN: np.ndarray = np.load(path, allow_pickle=False).astype(np.float64)
    return loss_EICTN


def chosen(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` examples, in order, an even share of each tag: the k-th of a tag of n comes at (k + 1/2) / n.

    The stored figures are of these; `--limit` has chosen a few others since.
    """
    tag_of = [example.tags.get("tag", "") for example in examples]
    size, seen, depth = Counter(tag_of), Counter[str](), []
    for tag in tag_of:
        depth.append((seen[tag] + 0.5) / size[tag])
        seen[tag] += 1
    taken = sorted(range(len(examples)), key=depth.__getitem__)[:count]
    return [examples[e] for e in sorted(taken)]


def _losses(scorer: DiffusionScorer, example: Example, budget: Budget) -> np.ndarray:
    evidence = scorer.score([picture.open() for picture in example.images], list(example.captions), budget).evidence
    assert evidence is not None
    return evidence.loss_ICTN
