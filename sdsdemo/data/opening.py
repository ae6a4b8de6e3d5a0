"""Checks during scoring which examples of a benchmark can be opened, and why others cannot. Scores nothing.

A picture is opened before its example is passed on, and cached until it is used, while there is room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from PIL.Image import Image

from sdsdemo.data.files.quoting import MOST
from sdsdemo.errors import UserError
from sdsdemo.models.images import FRAMES
from sdsdemo.types import Example, Picture

KEPT_PIXELS = 40_000_000
"""Most pixels of opened pictures that wait to be used: 120 MB."""


class Opening:
    """Passes on the examples whose pictures can be opened."""

    def __init__(self, total: int) -> None:
        """total: number of examples. If more than half cannot be opened, scoring stops."""
        self.total = total
        self.broken: dict[str, str] = {}
        """Example id -> why it cannot be opened."""
        self.sizes: dict[str, tuple[int, int]] = {}
        """Width and height of each opened picture."""
        self.animated = 0
        """Number of animations among them."""
        self._open: OrderedDict[str, Image] = OrderedDict()
        self._sound: set[str] = set()
        """Pictures that could be opened."""

    def usable(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples that can be opened, in order, and their pictures opened. Raises `UserError` if most cannot."""
        met: set[str] = set()
        self._open.clear()
        for example in examples:
            if self.can_open(example):
                self._open_ahead(example, met)
                yield replace(example, images=tuple(map(self._at_hand, example.images)))

    def _open_ahead(self, example: Example, met: set[str]) -> None:
        """Opens each picture once a pass, so that no model's seconds hold reading it, be it first or a later one.

        Where pictures are so large that the next ones would crowd out those that wait, models read them themselves.
        met: the pictures of this pass so far. One that cannot be opened any more is left to the model to meet.
        """
        for picture in example.images:
            name = _name(picture)
            width, height = self.sizes[name]
            if name not in met and name not in self._open and self._kept_pixels + width * height <= KEPT_PIXELS:
                self._try(name, picture)
            met.add(name)

    def can_open(self, example: Example) -> bool:
        """Whether all its pictures can be opened. Raises `UserError` if those of most examples cannot."""
        for picture in example.images:
            name = _name(picture)
            if name in self._sound:
                continue
            reason = self._try(name, picture)
            if reason:
                self.broken[example.id] = reason
                refuse_most(self.broken, self.total)
                return False
        return True

    def _try(self, name: str, picture: Picture) -> str:
        """Why a picture cannot be opened; empty if it can, and then it is cached."""
        try:
            image = picture.open()
        except UserError as error:
            return str(error)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of every kind for a broken file
            return f"{picture.name} is not an image, or is damaged ({type(error).__name__})."
        self.animated += FRAMES in image.info and name not in self._sound
        self._sound.add(name)
        self.sizes[name] = image.size
        self._open[name] = image
        while self._kept_pixels > KEPT_PIXELS:
            self._open.popitem(last=False)
        return ""

    @property
    def _kept_pixels(self) -> int:
        return sum(kept.width * kept.height for kept in self._open.values())

    def _at_hand(self, picture: Picture) -> Picture:
        return replace(picture, open=partial(self._take, _name(picture), picture))

    def _take(self, name: str, picture: Picture) -> Image:
        kept = self._open.pop(name, None)
        return picture.open() if kept is None else kept


def left_out(broken: dict[str, str], total: int) -> str:
    """How many examples are left out, and the first of them, in a sentence."""
    first = [f"{id_} ({reason.rstrip('.')})" for id_, reason in islice(broken.items(), MOST)]
    more = f"; and {len(broken) - MOST:,} more" if len(broken) > MOST else ""
    names = "; ".join(first) + more
    return f"{len(broken):,} of {total:,} examples are left out because their pictures cannot be opened: {names}."


def refuse_most(broken: dict[str, str], total: int) -> None:
    """Raises `UserError` if more than half of the examples are broken."""
    if 2 * len(broken) <= total:
        return
    first, reason = next(iter(broken.items()))
    raise UserError(
        f"The pictures of more than half of the {total} examples cannot be opened; one is {first}: {reason} "
        "Fix them and run again: scores so far are kept."
    )


def _name(picture: Picture) -> str:
    """A picture's key, or else its memory address, which is stable while its benchmark lives."""
    return picture.key or f"at {id(picture)}"
