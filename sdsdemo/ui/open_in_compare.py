"""Pictures of stored runs that Compare is given: without loss, and with what is known of them.

A picture is written as PNG, so that Compare scores what the run scored. It is known again by its pixels: so is the
truth about its captions, and the address of the answer names run, example and picture.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL.Image import Image

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.errors import UserError
from sdsdemo.settings import budget, typed_range
from sdsdemo.ui.examples import ShownExample

REMEMBERED = 2_000
NO_PICTURE = "There is no such picture in the run: open it from Browse."


class Handed:
    """What Compare was given. Safe to share between threads."""

    def __init__(self, registry: RunRegistry) -> None:
        self.registry = registry
        self._known: OrderedDict[str, ShownExample] = OrderedDict()
        self._lock = Lock()

    def take(
        self,
        run: str,
        example: str,
        picture: int,
        captions: Sequence[str],
        true: int,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> ShownExample:
        """A picture of a run, as a file, with the two captions that it is asked about. Raises `UserError`.

        more: what else an address needs to name them.
        """
        catalogue = self.registry.catalogue(run)
        place = catalogue.place(example)
        if place is None or not 0 <= picture < len(catalogue.examples[place].images):
            raise UserError(NO_PICTURE)
        image = catalogue.examples[place].images[picture].open()
        first, second = captions
        shown = ShownExample(
            name=f"{run} {example}",
            path=Path(save_pil_to_cache(image, get_upload_folder(), format="png")),
            captions=(first, second),
            true=true,
            title=f"Example {example}",
            query={"run": run, "example": example, "picture": str(picture), **more},
        )
        with self._lock:
            self._known[_pixels(image)] = shown
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return shown

    def pair(
        self, run: str, example: str, picture: int, true: int | None = None, rival: int | None = None
    ) -> ShownExample:
        """As `take`, with both captions of a pair, of which the picture's own is true.

        Of one image: with a true caption and a rival of it, by their places, by default the first ones.
        """
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
        asked = {"true": str(true), "rival": str(rival)}
        return self.take(run, example, picture, (captions[true], captions[rival]), 0, asked)

    def settings(self, run: str) -> tuple[str, str]:
        """Region and timestep range that a run was scored with, as Compare's fields take them. Raises `UserError`."""
        settings = self.registry.run(run).settings
        spend = budget(region=settings["region"], timestep_range=settings.get("timestep_range"))
        return spend.region, typed_range(spend.timestep_range)

    def find(self, image: Image) -> ShownExample | None:
        """What is known of a picture, by its pixels."""
        with self._lock:
            return self._known.get(_pixels(image))


def _pixels(image: Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
