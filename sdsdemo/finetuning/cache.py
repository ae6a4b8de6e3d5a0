"""What is drawn for one run on the Mini world and is there for the next ones of the same process. Trains nothing.

Studies have hundreds of runs, of which many have the same pairs, and all are measured on the same sets. It holds some
hundred megabytes for as long as somebody holds it, so a page that makes a run now and then does without.
"""

from __future__ import annotations

from torch import Tensor

from sdsdemo.finetuning.before_after import mini_sets
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.training_pairs import MINI_SETTINGS, Source, read_source
from sdsdemo.models.clip import ClipModel
from sdsdemo.types import Example


class Drawn:
    """Pairs with their pictures, sets, and the images of the sets as CLIP takes them."""

    def __init__(self) -> None:
        self._sources: dict[tuple[object, ...], Source] = {}
        self._sets: dict[str, dict[str, list[Example]]] = {}
        self._inputs: dict[str, dict[str, Tensor]] = {}

    def source(self, recipe: Recipe) -> Source:
        """The pairs that a recipe names; of those of the Mini world the last ones are kept, with what was drawn.

        Raises `UserError` for data that is missing or cannot be used.
        """
        if not recipe.is_mini:
            return read_source(recipe)
        key = tuple(getattr(recipe, name) for name in MINI_SETTINGS)
        if key not in self._sources:
            self._sources = {key: read_source(recipe)}
        return self._sources[key]

    def sets(self, name: str) -> dict[str, list[Example]]:
        """`measures.mini_sets` of a pair-of-pairs set."""
        if name not in self._sets:
            self._sets[name] = mini_sets(name)
        return self._sets[name]

    def inputs(self, model: ClipModel) -> dict[str, Tensor]:
        """The images that were met so far, by key, as this CLIP and all that prepare them in the same way take them."""
        return self._inputs.setdefault(str(model.preprocess), {})
