"""What a recipe reads of its data, and the time that is said for it beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sdsdemo.finetuning import estimate as module
from sdsdemo.finetuning import teacher
from sdsdemo.finetuning.estimate import Estimate, asking_seconds, estimate
from sdsdemo.finetuning.events import Event, Notice, Step, Working
from sdsdemo.finetuning.map_fit import FITTING
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_size import images_of_fit, images_trained, pairs_drawn
from sdsdemo.finetuning.training_pairs import Pair
from sdsdemo.models import cards
from sdsdemo.types import Picture

OWN = Recipe(data="folder:PATH", steps=400, batch=32)
NO_TIME = Estimate(
    loading=0.0, item=0.0, frozen=0.0, step=0.0, image=0.0, image_again=0.0, images=0, first_images=0
)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "items", "images", "pairs"),
    [
        (Recipe(), None, 4_000, 4_000),
        (Recipe(pool=0), None, 8_000, 8_000),
        (Recipe(steps=10), 7, 4_000, 320),
        (OWN, None, 4_000, 4_000),
        (OWN, 1_000, 500, 500),
        (OWN, 100_000, 4_000, 4_000),
        (replace(OWN, pool=0), None, None, 12_800),
        (replace(OWN, pool=0), 1_000, 500, 500),
        (replace(OWN, pool=0, steps=2), 1_000, 500, 64),
    ],
)
def test_pairs_are_as_many_as_steps_pool_and_data_allow(
    recipe: Recipe, items: int | None, images: int | None, pairs: int
) -> None:
    assert (images_trained(recipe, items), pairs_drawn(recipe, items)) == (images, pairs)


@pytest.mark.parametrize(
    ("recipe", "items", "images"),
    [
        (Recipe(), None, 2_256),
        (Recipe(fitted_on=32), None, 48),
        (Recipe(pool=800), None, 800),
        (OWN, 1_000, 500),
        (replace(OWN, pool=0), None, 2_256),
        (Recipe(h_w="frozen"), None, 2_256),
        (Recipe(h_w="default"), None, 0),
        (Recipe(objective="preference"), None, 0),
    ],
)
def test_h_w_reads_images_to_fit_and_to_test_where_it_is_fitted(recipe: Recipe, items: int | None, images: int) -> None:
    assert images_of_fit(recipe, items) == images


def test_a_teacher_is_billed_for_the_pairs_that_there_are() -> None:
    asked = replace(OWN, objective="preference")
    for known, pairs in ((None, 4_000), (1_000, 500)):
        assert replace(NO_TIME, item=2.0, items=known).total(asked) == 2 * pairs
        assert replace(NO_TIME, frozen=3.0, items=known).total(replace(asked, objective="labels")) == 3 * pairs


def of_three_swaps(step: int, size: int) -> list[Pair]:
    """Pairs, three of which have a swap."""
    numbers = range(size)
    pictures = [Picture(name="", open=partial(Image.new, "L", (1, 1), n), key=f"image {n}") for n in numbers]
    return [Pair(picture=pictures[n], caption="a", twin="b" if n < 3 else None) for n in numbers]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of a machine on which an image of the fit takes two seconds and a step one; it times no evaluation."""
    now = [0.0]

    def prepare(loaded: Any) -> Iterator[Event]:
        assert loaded.recipe.h_w == "fit", "recipes with another h_w take the same estimate"
        yield Notice(text="Trained")
        for done in (32, 48):
            now[0] += 48.0
            yield Working(text=FITTING, done=done)
        return SimpleNamespace(facts={}, student=None, objective=None)

    def load(recipe: Recipe) -> Iterator[Event]:
        yield from ()
        return SimpleNamespace(recipe=recipe, data={"items": 1_000}, source=SimpleNamespace(draw=of_three_swaps))

    def steps(run: Any) -> Iterator[Event]:
        for step in range(4):
            now[0] += 1.0
            yield Step(step=step, losses={}, gradient_norm=0.0, seconds=0.0)

    for name, does in (("prepare", prepare), ("load", load), ("_steps", steps)):
        monkeypatch.setattr(module, name, does)
    monkeypatch.setattr(module, "plan", lambda recipe, workbench: recipe)
    monkeypatch.setattr(module, "_time_evaluations", lambda loaded: (0.0, 0.0, 0, 0))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("h_w", ["fit", "default"])
def test_an_image_of_the_fit_takes_its_share_of_all_that_were_read(h_w: str) -> None:
    workbench: Any = None
    found = estimate(replace(OWN, h_w=h_w), workbench)
    assert (found.item, found.step, found.items) == (2.0, 1.0, 1_000)
    assert found.total(replace(OWN, pool=0, h_w="fit")) == 500 * 2 + 400
    assert found.total(replace(OWN, h_w="default")) == 400


@pytest.mark.usefixtures("clock")
def test_a_teacher_is_billed_for_pairs_with_a_swap_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "asking_seconds", lambda *given: 2.0)
    workbench: Any = None
    asked = replace(OWN, objective="preference", batch=12, pool=0)
    found = estimate(asked, workbench)
    assert (found.item, found.asked) == (2.0, 0.25)
    assert found.total(asked) - replace(found, item=0.0).total(asked) == 500 * 0.25 * 2


def test_asking_is_timed_per_caption_with_a_swap(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    class Slow:
        """A teacher that takes two seconds for a caption and its swap."""

        def score_examples(self, examples: Any, budget: Any) -> Iterator[Any]:
            for _ in examples:
                clock[0] += 2.0
                yield SimpleNamespace(score_IC=np.array([[1.0, 0.0]]), evidence=None)

    monkeypatch.setattr(teacher, "load_teacher", lambda *given: None)
    monkeypatch.setattr(teacher, "as_scorer", lambda *given: Slow())
    workbench: Any = SimpleNamespace(card=cards.resolve, settings=None)
    plan, source = SimpleNamespace(device=torch.device("cpu")), SimpleNamespace(draw=of_three_swaps)
    loaded: Any = SimpleNamespace(plan=plan, source=source)
    recipe = Recipe(objective="preference", batch=12)
    assert asking_seconds(recipe, workbench, loaded) == 2.0
    source.draw = lambda step, size: of_three_swaps(step, size + 3)[3:]
    assert asking_seconds(recipe, workbench, loaded) == 0.0
