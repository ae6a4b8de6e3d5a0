"""How much of its data a recipe reads: what h_w is fitted and tested on, which pairs a teacher is asked about.

Knows no model: counts alone, for the run itself and for those who say beforehand how long it takes.
"""

from __future__ import annotations

from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.settings import FINETUNING

LEAST_TESTED, MOST_TESTED = 16, 256
"""Limits on the number of images that test h_w: a quarter of those it is fitted on, within these limits."""


def fit_and_test(fitted_on: int, images: int | None = None) -> tuple[int, int]:
    """How many images h_w is fitted on, and how many test it. images: how many there are; None: enough.

    The second is 0 where fewer than `LEAST_TESTED` could be spared.
    """
    tested = min(MOST_TESTED, max(LEAST_TESTED, fitted_on // 4))
    if images is None or images >= fitted_on + tested:
        return fitted_on, tested
    tested = min(MOST_TESTED, images // 5)
    return (images - tested, tested) if tested >= LEAST_TESTED else (min(fitted_on, images), 0)


def images_of_fit(recipe: Recipe, items: int | None = None) -> int:
    """Images that h_w is fitted and tested on; 0 where it is not fitted. items: as in `images_trained`."""
    if recipe.objective != "sds" or recipe.h_w == "default":
        return 0
    return sum(fit_and_test(recipe.fitted_on, images_trained(recipe, items)))


def pairs_drawn(recipe: Recipe, items: int | None = None) -> int:
    """Pairs that the steps draw, each once. items: as in `images_trained`."""
    drawn = recipe.steps * recipe.batch
    return min(drawn, images_trained(recipe, items) or drawn)


def images_trained(recipe: Recipe, items: int | None = None) -> int | None:
    """Images that steps may draw from; None if unknown. items: of one's own data, with those held out, if known."""
    if recipe.is_mini:
        return recipe.pool or FINETUNING.page_pool
    known = [recipe.pool, max(1, items - recipe.held_out) if items else 0]
    return min((count for count in known if count), default=None)
