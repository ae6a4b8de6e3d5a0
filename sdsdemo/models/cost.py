"""What a model costs on this machine, measured on the model itself: the source of every estimate of scoring.

    seconds = loading + pictures x p + captions x c + pairs x evaluations x s

pictures, captions   of all examples: each is encoded once
pairs                pictures x captions of each example
p, c, s              seconds to encode a picture, to encode a caption, and of one evaluation of a pair

A CLIP has s = 0; a vision-language model has p = c = 0 and one evaluation a pair. Reading picture files is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image

from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.clip_towers import BATCH
from sdsdemo.models.device_clock import Clock, clock_of
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.precision import exactly
from sdsdemo.settings import NOISES, TIMESTEPS, budget
from sdsdemo.types import Budget, Scorer

MINUTE = 60.0
CAPTIONS = ("a red star left of a blue circle", "a blue circle left of a red star")
SHARE = 0.1
"""Of the time to measure in, for a picture and for a caption each."""
MOST_REPEATS = 20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured seconds; see the module's formula."""

    picture: float
    caption: float
    evaluation: float
    denoises: bool
    """Whether a budget's evaluations count: each pair has them all."""
    loading: float = 0.0

    def seconds(self, examples: int, spend: Budget, *, pictures: int = 2, captions: int = 2) -> float:
        """Of a benchmark whose examples have so many pictures and captions: two and two, as in Winoground."""
        evaluations = spend.evaluations if self.denoises else 1
        each = pictures * self.picture + captions * self.caption
        return self.loading + examples * (each + pictures * captions * evaluations * self.evaluation)


def measure(scorer: Scorer, limit: float = MINUTE, clock: Clock = time.perf_counter) -> Cost:
    """The cost of a loaded model, without its loading.

    limit: seconds to measure in, exceeded only where the least that can be measured takes longer.
    """
    if isinstance(scorer, DiffusionScorer):
        return _of_denoiser(scorer, limit, clock_of(scorer.model.device, clock))
    if isinstance(scorer, ClipScorer):
        return _of_towers(scorer, limit, clock_of(scorer.model.device, clock))
    pair = _a_call(lambda: scorer.score([_picture(512)], CAPTIONS, budget()), limit, clock) / len(CAPTIONS)
    return Cost(picture=0.0, caption=0.0, evaluation=pair, denoises=False)


def _of_denoiser(scorer: DiffusionScorer, limit: float, clock: Clock) -> Cost:
    """s = (scoring - p - c) / evaluations of one caption, by the ordinary path, after a first and smallest score."""
    model, image, start = scorer.model, _picture(scorer.model.pixels), clock()
    scorer.score([image], CAPTIONS[:1], budget(1, 1))
    first = clock() - start
    with exactly(model.device):
        picture = _a_call(lambda: model.encode_images([image]), SHARE * limit, clock)
        caption = _a_call(lambda: model.encode_prompts(CAPTIONS[:1]), SHARE * limit, clock)
    encoding = picture + caption
    spend = _spend_within(limit - (clock() - start) - encoding, first - encoding, scorer.micro_batch)
    scoring = _a_call(lambda: scorer.score([image], CAPTIONS[:1], spend), limit - (clock() - start), clock)
    evaluation = max(scoring - encoding, 0.0) / spend.evaluations
    return Cost(picture=picture, caption=caption, evaluation=evaluation, denoises=True)


def _spend_within(seconds: float, one: float, most: int) -> Budget:
    """The evaluations that take so many seconds, as many as fill a batch at most. one: seconds of an evaluation."""
    fits = most if one <= 0 else int(max(1, min(most, seconds // one)))
    timesteps = min(TIMESTEPS.default, fits)
    return budget(timesteps, min(NOISES.high, fits // timesteps))


def _of_towers(scorer: ClipScorer, limit: float, clock: Clock) -> Cost:
    """Of pictures and of captions, as many at once as there is time for, and as a benchmark has at most."""
    model, image = scorer.model, _picture(max(scorer.model.image_size))

    def each(encode: Callable[[int], object]) -> float:
        start = clock()
        encode(1)
        first = clock() - start
        count = int(max(1, min(BATCH, limit / 4 // first))) if first > 0 else BATCH
        return _a_call(lambda: encode(count), limit / 2 - first, clock) / count

    with exactly(model.device):
        picture = each(lambda count: model.encode_images([image] * count))
        caption = each(lambda count: model.encode_texts([f"{CAPTIONS[0]} {k}" for k in range(count)]))
    return Cost(picture=picture, caption=caption, evaluation=0.0, denoises=False)


def _a_call(act: Callable[[], object], limit: float, clock: Clock) -> float:
    """Seconds of one call: the median of as many as there is time for, the first apart where there are more."""
    took: list[float] = []
    began = clock()
    while not took or (len(took) < MOST_REPEATS and clock() - began + took[-1] <= limit):
        start = clock()
        act()
        took.append(clock() - start)
    return median(took[1:] or took)


def _picture(pixels: int) -> Image.Image:
    """Grey noise, a quarter wider than high, as photographs are cropped."""
    level = np.random.default_rng(0).integers(0, 256, (pixels, pixels * 5 // 4, 3), dtype=np.uint8)
    return Image.fromarray(level)
