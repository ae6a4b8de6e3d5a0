"""Fits h_w to true latents before the first step, and tests it on images that it was not fitted on.

    h_w = least squares on `fitted_on` images (`Student.fit`)        R2 on a quarter as many others (`Student.explains`)

Images are drawn 64 at a time. Of those to fit, the last draw is shorter and meets images of earlier draws again: stored
runs were made so, and where the data have enough images, fits stay the same to the bit. Of further draws, only images
count that none before had. Where there are too few, h_w is fitted on four fifths of them and tested on the rest.

Shape suffix: N drawn images.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.events import Event, Notice, Working
from sdsdemo.finetuning.run_size import LEAST_TESTED, fit_and_test
from sdsdemo.finetuning.setup import Loaded
from sdsdemo.finetuning.student import Student
from sdsdemo.finetuning.training_pairs import Pair
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.precision import as_stored

FITTING = "fitting h_w to true latents"
"""What `Working` says, with the number of images read."""
AT_ONCE = 64
EXPLAINED = "Before the first step, h_w explains {r2:.1%} of the variance of held-out latents (n = {tested}; {fitted})."
BEFORE_UNIT = "That is of h_w's output before it is brought to unit variance."
UNTESTED = (
    "h_w is {fitted}, and not tested on others: the data have too few images for that. Give at least "
    f"{5 * LEAST_TESTED} to learn its R2."
)
ALIKE = "h_w is {fitted}. Its R2 is unknown, as the {tested} held-out latents are all alike."
FEWER = "The data have too few images for --fitted-on {wanted}."
FEW_FITTED = (
    "h_w is fitted on {count} images, fewer than the {width} dimensions of an image embedding, and memorises "
    "them: {cure}."
)


def fit_map(loaded: Loaded, student: Student, batches: PairBatches) -> Generator[Event, None, dict[str, Any]]:
    """Fits the student's h_w. For the record: its R2 on other images (None if unknown), n, distinct images fitted.

    Raises `StopAsked`.
    """
    wanted = loaded.plan.recipe.fitted_on
    drawn = yield from _draw(loaded, student, batches)
    fitted, tested = drawn.rows(wanted)
    student.fit(drawn.read_N[fitted], drawn.latent_N[fitted])
    r2 = student.explains(drawn.read_N[tested], drawn.latent_N[tested]) if tested else math.nan
    fit = _Fit(
        rows=len(fitted),
        images=len({drawn.keys[row] for row in fitted}),
        tested=len(tested),
        r2=r2 if math.isfinite(r2) else None,
    )
    for sentence in fit.words(wanted, 0 if student.from_patches else drawn.read_N.shape[1]):
        yield Notice(text=sentence)
    if student.unit_variance and fit.r2 is not None:
        yield Notice(text=BEFORE_UNIT)
    return {
        "h_w_r2": None if fit.r2 is None else round(fit.r2, 4),
        "h_w_r2_n": fit.tested,
        "h_w_fitted_on": fit.images,
    }


class _Fit(NamedTuple):
    rows: int
    images: int
    """Distinct ones of the fitted rows."""
    tested: int
    r2: float | None

    def words(self, wanted: int, width: int) -> list[str]:
        """Sentences. wanted: `fitted_on` of the recipe. width: of the embedding that h_w reads; 0 if it reads none."""
        twice = f", {self.rows - self.images:,} of them twice" if self.rows > self.images else ""
        fitted = f"fitted on {self.images:,} images{twice}"
        said = [self._tested_words(fitted)]
        if self.rows < wanted:
            said.append(FEWER.format(wanted=wanted))
        if self.images < width:
            cure = "raise --fitted-on" if self.rows == wanted else "give more images"
            said.append(FEW_FITTED.format(count=self.images, width=width, cure=cure))
        return said

    def _tested_words(self, fitted: str) -> str:
        if self.r2 is not None:
            return EXPLAINED.format(r2=self.r2, tested=self.tested, fitted=fitted)
        return (ALIKE if self.tested else UNTESTED).format(tested=self.tested, fitted=fitted)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """Images as they were drawn, some perhaps again."""

    keys: Sequence[str]
    """Of the images."""
    read_N: Tensor
    """What h_w reads of them."""
    latent_N: Tensor

    def rows(self, fitted_on: int) -> tuple[list[int], list[int]]:
        """Rows to fit h_w on, and rows of other images to test it on."""
        once = _first_rows(self.keys)
        others = [row for row in once if row >= fitted_on]
        if len(others) == fit_and_test(fitted_on)[1]:
            return list(range(fitted_on)), others
        fitted, tested = fit_and_test(fitted_on, len(once))
        return once[:fitted], once[len(once) - tested :]


def _first_rows(keys: Sequence[str]) -> list[int]:
    """The row where each image was met first."""
    found: dict[str, int] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, row)
    return list(found.values())


def _draw(loaded: Loaded, student: Student, batches: PairBatches) -> Generator[Event, None, _Drawn]:
    """Draws images to fit, then others until there are enough to test, or whole draws meet nothing new."""
    plan, (fitted_on, tested) = loaded.plan, fit_and_test(loaded.plan.recipe.fitted_on)
    keys, met = list[str](), set[str]()
    read, latents, step = list[Tensor](), list[Tensor](), 0
    short: int | None = None
    """The step of the shorter draw, until it is drawn whole."""
    while len(keys) < fitted_on + tested:
        size = min(AT_ONCE, fitted_on - len(keys)) if len(keys) < fitted_on else AT_ONCE
        pairs = loaded.source.draw(step, size)
        new = list({_key(pair): pair for pair in pairs if _key(pair) not in met}.values())
        if size < AT_ONCE:
            short = step
        elif not new:
            if short is None:
                break
            step, short = short, None
            continue
        if len(keys) >= fitted_on:
            pairs = new[: fitted_on + tested - len(keys)]
        keys += [_key(pair) for pair in pairs]
        met.update(keys[-len(pairs) :])
        read.append(_read(loaded.base, student, batches, pairs))
        latents.append(batches.latents(pairs))
        step += 1
        plan.stop_if_asked()
        yield Working(text=FITTING, done=len(keys), total=fitted_on + tested)
    return _Drawn(keys=keys, read_N=torch.cat(read), latent_N=torch.cat(latents).to(plan.device))


def _key(pair: Pair) -> str:
    return pair.picture.key or pair.picture.name


@torch.no_grad()
def _read(base: ClipModel, student: Student, batches: PairBatches, pairs: list[Pair]) -> Tensor:
    """What h_w reads of these images: features_BD, or patch_BPYX."""
    with as_stored(base.device):
        if student.from_patches:
            return student.encode(batches.inputs(pairs))[1]
        return base.encode_images([pair.picture.open() for pair in pairs])
