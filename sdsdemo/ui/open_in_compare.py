"""Opens pictures of stored runs in Compare, losslessly and with their true caption.

A picture is written as PNG, so that Compare scores what the run scored. Compare recognises it by its pixels: it then
knows which caption is true, and the link to the answer names run, example and picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from PIL.Image import Image

from sdsdemo.app.jobs import SHIPPED_RUN
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.sharing import is_shared
from sdsdemo.errors import UserError
from sdsdemo.evaluation.numbers_alone import NOT_SHOWN
from sdsdemo.settings import budget, typed_range
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.known_pictures import KnownPictures, in_cache
from sdsdemo.ui.watched_pictures import examples_of

VALIDATION = "mini-validation"
COPIED = Path(SHIPPED_RUN).name
"""The run that each visitor's run is a copy of, with a model more. It names the pictures: a picture is recognised for
everybody, and a visitor's run is named to nobody else.
"""
NO_PICTURE = "There is no such picture in the run: open it from Browse."


class RunPictures:
    """The pictures of stored runs opened in Compare. Safe to share between threads."""

    def __init__(self, registry: RunRegistry) -> None:
        self.registry = registry
        self._known = KnownPictures()

    def take(
        self,
        run: str,
        example: str,
        picture: int,
        captions: Sequence[str],
        true: int,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> ShownExample:
        """A picture of a run, as a file, with the two captions to compare. Raises `UserError`.

        more: further query fields that a URL needs to name them.
        """
        catalogue = self.registry.catalogue(run)
        place = catalogue.place(example)
        if place is None or not 0 <= picture < len(catalogue.examples[place].images):
            raise UserError(NO_PICTURE)
        if catalogue.numbers_alone:
            raise UserError(NOT_SHOWN)
        image = catalogue.examples[place].images[picture].open()
        named = {"run": run, "example": example, "picture": str(picture), **more}
        return self._keep(image, f"{run} {example}", captions, true, named)

    def _keep(
        self, image: Image, name: str, captions: Sequence[str], true: int, query: Mapping[str, str]
    ) -> ShownExample:
        """A picture as a file that Compare recognises. query: how a URL names it."""
        first, second = captions
        shown = ShownExample(
            name=name,
            path=in_cache(image),
            captions=(first, second),
            true=true,
            title=f"Example {name.rpartition(' ')[2]}",
            query=query,
        )
        self._known.add(image, shown)
        return shown

    def pair(
        self, run: str, example: str, picture: int, true: int | None = None, rival: int | None = None
    ) -> ShownExample:
        """As `take`, with both captions of a pair; the picture's own is the true one.

        For one image with many captions: with a true caption and a rival, by index; by default the first of each.
        """
        run = COPIED if is_shared(run) else run
        if run == VALIDATION and not self.registry.has(run):
            return self.of_validation(example, picture)
        catalogue = self.registry.catalogue(run)
        place = catalogue.place(example)
        if place is None:
            raise UserError(NO_PICTURE)
        captions = catalogue.examples[place].captions
        if not catalogue.one_image:
            return self.take(run, example, picture, captions, picture)
        truths = catalogue.true[place]
        true, rival = true or 0, truths if rival is None else rival
        if not 0 <= true < truths <= rival < len(captions):
            raise UserError(NO_PICTURE)
        named = {"true": str(true), "rival": str(rival)}
        return self.take(run, example, picture, (captions[true], captions[rival]), 0, named)

    def of_validation(self, example: str, picture: int) -> ShownExample:
        """A picture of Mini's validation set, which belongs to no stored run. Raises `UserError`."""
        found = next((one for one in examples_of(VALIDATION) if one.id == example), None)
        if found is None or not 0 <= picture < len(found.images):
            raise UserError(NO_PICTURE)
        named = {"run": VALIDATION, "example": example, "picture": str(picture)}
        return self._keep(found.images[picture].open(), f"{VALIDATION} {example}", found.captions, picture, named)

    def settings(self, run: str) -> tuple[str, str]:
        """Region and timestep range that a run was scored with, as values of Compare's fields. Raises `UserError`."""
        settings = self.registry.run(run).settings
        spend = budget(region=settings["region"], timestep_range=settings.get("timestep_range"))
        return spend.region, typed_range(spend.timestep_range)

    def find(self, image: Image) -> ShownExample | None:
        """The example that a picture comes from, by its pixels; None if unknown."""
        return self._known.find(image)
