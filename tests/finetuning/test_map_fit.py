"""Which images h_w is fitted and tested on, and what is said of its R2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sdsdemo.finetuning.events import Notice, result_of
from sdsdemo.finetuning.map_fit import BEFORE_UNIT, fit_map
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_size import LEAST_TESTED, MOST_TESTED, fit_and_test
from sdsdemo.finetuning.training_pairs import Pair
from sdsdemo.types import Picture
from tests.finetuning.runs import done

WIDTH = 96


class Numbered:
    """So many images, epoch by epoch in another order; its places are numbered in the first epoch's."""

    def __init__(self, images: int, again: bool) -> None:
        """again: begin again after the last whole draw, as a pool of one's own data does."""
        self.images, self.again = images, again

    def draw(self, step: int, size: int) -> list[Pair]:
        step %= max(1, self.images // size) if self.again else step + 1
        return [self._pair(place) for place in range(step * size, (step + 1) * size)]

    def _pair(self, place: int) -> Pair:
        epoch, number = divmod(place, self.images)
        if epoch:
            number = int(np.random.default_rng(epoch).permutation(self.images)[number])
        picture = Picture(name="", open=lambda: Image.new("F", (1, 1), number), key=f"image {number}")
        return Pair(picture=picture, caption="", twin=None)


class Fitted:
    """A student that remembers the numbers of the images it was fitted and tested on."""

    from_patches = False

    def __init__(self, r2: float = 0.5, *, unit_variance: bool = False) -> None:
        self.r2, self.unit_variance = r2, unit_variance
        self.fitted, self.tested = list[int](), list[int]()

    def fit(self, read_N: Tensor, latent_N: Tensor) -> None:
        self.fitted = read_N[:, 0].int().tolist()
        assert self.fitted == latent_N[:, 0].int().tolist()

    def explains(self, read_N: Tensor, latent_N: Tensor) -> float:
        self.tested = read_N[:, 0].int().tolist()
        return self.r2


def numbers(images: Sequence[Image.Image]) -> Tensor:
    return torch.tensor([image.getpixel((0, 0)) for image in images])[:, None].expand(-1, WIDTH)


def fit(
    fitted_on: int, images: int, *, again: bool = False, r2: float = 0.5, unit_variance: bool = False
) -> tuple[Fitted, dict[str, Any], str]:
    """The student, what is recorded, and what is said."""
    student, said = Fitted(r2, unit_variance=unit_variance), list[str]()
    plan = SimpleNamespace(recipe=Recipe(fitted_on=fitted_on), device=torch.device("cpu"), stop_if_asked=lambda: None)
    loaded: Any = SimpleNamespace(
        plan=plan, source=Numbered(images, again), base=SimpleNamespace(encode_images=numbers, device=plan.device)
    )
    batches: Any = SimpleNamespace(latents=lambda pairs: numbers([pair.picture.open() for pair in pairs]))
    model: Any = student
    facts = result_of(
        fit_map(loaded, model, batches),
        lambda event: said.append(event.text) if isinstance(event, Notice) else None,
    )
    return student, facts, " ".join(said)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("fitted_on", "images"),
    [(8, 4_000), (32, 4_000), (64, 4_000), (100, 4_000), (128, 4_000), (300, 4_000), (100, 130), (70, 130),
     (2_000, 4_000), (2_000, 800), (2_000, 2_000), (2_000, 2_240), (2_000, 130)],
)  # fmt: skip
def test_r2_is_of_images_that_h_w_was_not_fitted_on(fitted_on: int, images: int, again: bool) -> None:
    student, facts, said = fit(fitted_on, images, again=again)
    assert not set(student.fitted) & set(student.tested)
    assert len(set(student.tested)) == len(student.tested) == facts["h_w_r2_n"]
    assert LEAST_TESTED <= len(student.tested) <= MOST_TESTED
    assert facts["h_w_fitted_on"] == len(set(student.fitted))
    assert f"(n = {len(student.tested)}; fitted on {len(set(student.fitted)):,} images" in said
    assert ("too few images for --fitted-on" in said) == (len(student.fitted) < fitted_on)


@pytest.mark.parametrize(("unit_variance", "r2"), [(False, 0.5), (True, 0.5), (True, -math.inf)])
def test_r2_of_a_map_brought_to_unit_variance_is_said_to_be_before_it(unit_variance: bool, r2: float) -> None:
    said = fit(64, 4_000, r2=r2, unit_variance=unit_variance)[2]
    assert (BEFORE_UNIT in said) == (unit_variance and math.isfinite(r2))


@pytest.mark.parametrize("images", [4_000, 8_000])
@pytest.mark.parametrize("fitted_on", [256, 512, 2_000])
def test_fits_that_were_tested_on_others_are_those_of_stored_runs(fitted_on: int, images: int) -> None:
    whole, rest = divmod(fitted_on, 64)
    again = list(range(whole * rest, (whole + 1) * rest))  # the short draw's step, in draws of its own size
    first = 64 * (whole + (rest > 0))
    student, facts, said = fit(fitted_on, images)
    assert student.fitted == [*range(64 * whole), *again]
    assert student.tested == list(range(first, first + min(256, fitted_on // 4)))
    assert facts["h_w_fitted_on"] == 64 * whole
    assert (f"{rest} of them twice" in said) == (rest > 0)


@pytest.mark.parametrize(("fitted_on", "images", "used"), [(8, 16, 8), (2_000, 79, 79), (64, 70, 64)])
def test_too_few_images_to_test_h_w_give_no_r2(fitted_on: int, images: int, used: int) -> None:
    student, facts, said = fit(fitted_on, images)
    assert (student.tested, len(set(student.fitted))) == ([], used)
    assert facts == {"h_w_r2": None, "h_w_r2_n": 0, "h_w_fitted_on": used}
    assert "explains" not in said
    assert f"fitted on {used} images, and not tested on others" in said
    assert "at least 80" in said


def test_held_out_latents_that_are_all_alike_give_no_r2() -> None:
    facts, said = fit(64, 4_000, r2=-math.inf)[1:]
    assert (facts["h_w_r2"], facts["h_w_r2_n"]) == (None, 16)
    assert "all alike" in said


@pytest.mark.parametrize(
    ("fitted_on", "images", "cure"),
    [(100, 4_000, "raise --fitted-on"), (2_000, 90, "give more images"), (128, 4_000, ""), (2_000, 400, "")],
)
def test_memorising_is_said_of_distinct_images(fitted_on: int, images: int, cure: str) -> None:
    said = fit(fitted_on, images)[2]
    assert ("memorises" in said) == bool(cure)
    assert cure in said


@pytest.mark.parametrize("fitted_on", [2, 8, 64, 65, 100, 1_024, 2_000])
def test_a_split_never_needs_more_images_than_there_are(fitted_on: int) -> None:
    for images in range(1, 2_400):
        fitted, tested = fit_and_test(fitted_on, images)
        assert 1 <= fitted <= min(fitted_on, images)
        assert fitted + tested <= images
        assert tested == 0 or LEAST_TESTED <= tested <= fit_and_test(fitted_on)[1]


@pytest.mark.usefixtures("small_sets")
def test_a_run_without_images_to_test_h_w_records_no_r2(run: Any) -> None:
    record = done(run(objective="sds", steps=0)).record
    assert (record["h_w_r2"], record["h_w_r2_n"], record["h_w_fitted_on"]) == (None, 0, 8)
