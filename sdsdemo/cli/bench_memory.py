"""How much a long run grows: synthetic examples through `evaluate` and its folder. On Linux alone.

growth  the most that the process holds after `WARM_UP` examples, less what it held then; looked at every `WARM_UP`

The pictures are blank and every caption another one. Of two kinds of models:

clip      small towers of random weights, with CLIP's own tokenizer and as many features as ViT-L/14, all remembered
denoiser  Mini's, whose losses are stored; it is asked for the first example alone, and its answer stands for the others
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.data import benchmarks
from sdsdemo.evaluation.run import evaluate
from sdsdemo.models.random_weights import read_shape, write_model
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Card, Concern, Example, Picture, Region, Scorer, Scores

EXAMPLES, WARM_UP = 10_000, 1_000
DENOISER = "mini-diffusion"
TOWERS: dict[str, dict[str, Any]] = {
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
ALLOWED_MB = 50.0
SYNTHETIC = "synthetic"
STATM = Path("/proc/self/statm")
"""Linux: sizes of this process in pages (`man 5 proc`), which are 4 kB, or 16 or 64 kB on some Arm machines."""


def growths_mb(examples: int = EXAMPLES, warm_up: int = WARM_UP) -> dict[str, float]:
    """By kind, the megabytes that a run grows by after its first `warm_up` examples; {} if the system does not say."""
    if not held_mb():
        return {}
    with tempfile.TemporaryDirectory() as place:
        shape = read_shape("clip-vit-l-14")
        shape["parts"]["clip"]["config"] |= TOWERS
        spec, _ = write_model(shape, Path(place) / "clip")
        return {kind: _growth_mb(model, examples, warm_up) for kind, model in (("clip", spec), ("denoiser", DENOISER))}


def _growth_mb(model: str, examples: int, warm_up: int) -> float:
    held: list[float] = []
    models = _Watched(model, lambda done: None if done % warm_up else held.append(held_mb()))
    benchmarks.NAMED[SYNTHETIC] = lambda: [_example(number) for number in range(examples)]
    try:
        with tempfile.TemporaryDirectory() as place:
            evaluate(SYNTHETIC, [model], workbench=models, budget=budget(), out=Path(place) / "run")
            return max(*held, held_mb()) - held[0]
    finally:
        del benchmarks.NAMED[SYNTHETIC]


def held_mb() -> float:
    """What this process holds in memory now; 0 where the system does not say."""
    if not STATM.is_file():
        return 0.0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _example(number: int) -> Example:
    """Two blank pictures and two captions that no other example has."""
    pictures = tuple(
        Picture(name=f"{number}-{k}.png", open=partial(Image.new, "RGB", (64, 64)), key=f"{SYNTHETIC} {number}-{k}")
        for k in range(2)
    )
    captions = (f"the red star is left of circle {number}", f"circle {number} is left of the red star")
    return Example(id=str(number), images=pictures, captions=captions, tags={"tag": SYNTHETIC})


class _Watched:
    """The source of one model, which tells how many examples it has scored."""

    def __init__(self, model: str, told: Callable[[int], None]) -> None:
        self.told, self._inner = told, Workbench().scorer(model)

    def scorer(self, name_or_spec: str) -> Scorer:
        return _Counting(self._inner, self.told)


@dataclass(frozen=True)
class _Counting:
    """A scorer that tells how many examples it has scored; a denoiser answers all with its answer to the first."""

    inner: Scorer
    told: Callable[[int], None]

    @property
    def card(self) -> Card:
        return self.inner.card

    def concerns(self, images: Any, captions: Any, region: Region = "crop") -> list[Concern]:
        self.inner.concerns(images, captions, region)
        return []  # Mini knows few words

    def share_seen(self, size: tuple[int, int], region: Region) -> float:
        return self.inner.share_seen(size, region)

    def score(self, images: Any, captions: Any, budget: Budget) -> Scores:
        return self.inner.score(images, captions, budget)

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        for done, scores in enumerate(self._scores(examples, budget), start=1):
            yield scores
            self.told(done)

    def _scores(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        if not self.card.denoises:
            yield from self.inner.score_examples(examples, budget)
            return
        first: Scores | None = None
        for example in examples:
            images = [picture.open() for picture in example.images]
            first = first or self.inner.score(images, example.captions, budget)
            assert first.evidence is not None
            evidence = replace(first.evidence, loss_ICTN=first.evidence.loss_ICTN.copy())
            yield replace(first, score_IC=first.score_IC.copy(), evidence=evidence)
