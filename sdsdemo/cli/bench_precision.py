"""Whether Mini decides in bfloat16 as it does in float32, and the time of one over the other. Judges nothing.

The same examples, which no model was trained on, are scored in both precisions in turn, a part of them at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from PIL.Image import Image

from sdsdemo.core.decision import decide
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from sdsdemo.models import cards, open_scorer
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Precision, Preference, Scorer

EXAMPLES = 400
PRECISIONS: tuple[Precision, Precision] = ("float32", "bfloat16")
SEED = 20_003
Question = tuple[Image, list[str]]


def compare_precisions(
    card: str,
    *,
    repeats: int,
    examples: int = EXAMPLES,
    spend: Budget | None = None,
    progress: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, Any], dict[Precision, list[float]]]:
    """What changes, and the seconds of each part: at most `repeats` of equal size. card: of a diffusion model."""
    scorers = {name: open_scorer(cards.resolve(card), device="cpu", precision=name) for name in PRECISIONS}
    questions = _questions(examples)
    said: dict[Precision, list[Preference]] = {name: [] for name in PRECISIONS}
    seconds: dict[Precision, list[float]] = {name: [] for name in PRECISIONS}
    size = -(-examples // repeats)
    for first in range(0, examples, size):
        progress(f"precision, {first} of {examples} examples")
        for name, scorer in scorers.items():
            start = clock()
            said[name] += [_ask(scorer, question, spend or budget()) for question in questions[first : first + size]]
            seconds[name].append(clock() - start)
    return what_differs(*(said[name] for name in PRECISIONS)), seconds


def what_differs(single: Sequence[Preference], half: Sequence[Preference]) -> dict[str, Any]:
    """Examples whose preferred caption changes, and how many of those were decided in float32."""
    other = [a for a, b in zip(single, half, strict=True) if a.preferred != b.preferred]
    return {"examples": len(single), "differ": len(other), "of_them_decided": sum(a.decided for a in other)}


def differing(found: dict[str, Any]) -> str:
    """The same in words."""
    decided = f", {found['of_them_decided']} of which were decided"
    words = f"bfloat16 prefers another caption than float32 in {found['differ']} of {found['examples']} examples"
    return words + (decided if found["differ"] else "")


def _questions(examples: int) -> list[Question]:
    """A picture and two captions each; which of them is true alternates."""
    pairs = benchmark_pairs(SEED, "validation", examples)
    return [(draw(pair.scenes[k % 2]), [s.text for s in pair.sentences]) for k, pair in enumerate(pairs)]


def _ask(scorer: Scorer, question: Question, spend: Budget) -> Preference:
    image, captions = question
    return decide(scorer.score([image], captions, spend))
