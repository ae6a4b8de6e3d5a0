"""Caches Mini pairs, sets and CLIP inputs across the runs of one process. Trains nothing.

Studies have hundreds of runs, many on the same pairs, and all evaluated on the same sets. It takes a few hundred
megabytes, so the page, which makes a run only now and then, does without it.
"""

from __future__ import annotations

from torch import Tensor

from sdsdemo.finetuning.before_after import mini_sets
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.training_pairs import MINI_SETTINGS, Source, read_source
from sdsdemo.models.clip import ClipModel
from sdsdemo.types import Example


class MiniCache:
    """Pairs with their pictures, sets, and the images of the sets as CLIP takes them."""

    def __init__(self) -> None:
        self._sources: dict[tuple[object, ...], Source] = {}
        self._sets: dict[str, dict[str, list[Example]]] = {}
        self._inputs: dict[str, dict[str, Tensor]] = {}

    def source(self, recipe: Recipe) -> Source:
        """A recipe's pairs; the last Mini pairs are cached with their pictures.

        Raises `UserError` for data that is missing or cannot be used.
        """
        if not recipe.is_mini:
            return read_source(recipe)
        key = tuple(getattr(recipe, name) for name in MINI_SETTINGS)
        if key not in self._sources:
            self._sources = {key: read_source(recipe)}
        return self._sources[key]

    def sets(self, name: str) -> dict[str, list[Example]]:
        """`mini_sets` of a pair-of-pairs set, cached."""
        if name not in self._sets:
            self._sets[name] = mini_sets(name)
        return self._sets[name]

    def inputs(self, model: ClipModel) -> dict[str, Tensor]:
        """Cached inputs by image key, shared by CLIPs with the same preprocessing."""
        return self._inputs.setdefault(str(model.preprocess), {})
