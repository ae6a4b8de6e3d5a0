"""Which examples of a benchmark can be opened, found out as they are scored; of the others, why not. Scores nothing.

A picture is opened before its example is handed on, and kept until it is asked for, so that none is decoded twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from PIL.Image import Image

from sdsdemo.errors import UserError
from sdsdemo.models.images import FRAMES
from sdsdemo.types import Example, Picture

KEPT_PIXELS = 40_000_000
"""Of pictures that are open and not asked for yet: 120 MB."""


class Opening:
    """Hands on the examples whose pictures can be opened."""

    def __init__(self, total: int) -> None:
        """total: how many examples there are. Where more than half cannot be opened, it stops."""
        self.total = total
        self.broken: dict[str, str] = {}
        """By example, why not."""
        self.sizes: dict[str, tuple[int, int]] = {}
        """Width and height of each picture that was opened."""
        self.animated = 0
        """How many of them are animations."""
        self._open: OrderedDict[str, Image] = OrderedDict()
        self._sound: set[str] = set()
        """Pictures that could be opened."""

    def usable(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples that can be opened, in their order. Raises `UserError` where most of them cannot."""
        for example in examples:
            if self.can_open(example):
                yield replace(example, images=tuple(map(self._at_hand, example.images)))

    def can_open(self, example: Example) -> bool:
        """Whether all its pictures can be opened. Raises `UserError` where those of most examples cannot."""
        for picture in example.images:
            name = _name(picture)
            if name in self._sound:
                continue
            reason = self._try(name, picture)
            if reason:
                self.broken[example.id] = reason
                if 2 * len(self.broken) > self.total:
                    raise UserError(_most(self.broken, self.total))
                return False
        return True

    def _try(self, name: str, picture: Picture) -> str:
        """Why a picture cannot be opened; empty where it can, and then it is kept."""
        try:
            image = picture.open()
        except UserError as error:
            return str(error)
        except MemoryError:
            raise
        except Exception as error:  # decoders answer a broken file with errors of every kind
            return f"{picture.name} is not an image, or is damaged ({type(error).__name__})."
        self._sound.add(name)
        self.sizes[name] = image.size
        self.animated += FRAMES in image.info
        self._open[name] = image
        while sum(kept.width * kept.height for kept in self._open.values()) > KEPT_PIXELS:
            self._open.popitem(last=False)
        return ""

    def _at_hand(self, picture: Picture) -> Picture:
        return replace(picture, open=partial(self._take, _name(picture), picture))

    def _take(self, name: str, picture: Picture) -> Image:
        kept = self._open.pop(name, None)
        return picture.open() if kept is None else kept


def left_out(broken: dict[str, str], total: int) -> str:
    """What was left out, in a sentence."""
    examples = "; ".join(f"{id_} ({reason.rstrip('.')})" for id_, reason in broken.items())
    return f"{len(broken)} of {total} examples are left out because their pictures cannot be opened: {examples}."


def _most(broken: dict[str, str], total: int) -> str:
    first, reason = next(iter(broken.items()))
    return (
        f"The pictures of more than half of the {total} examples cannot be opened; the first is {first}: {reason} "
        "Fix them and run again: scores so far are kept."
    )


def _name(picture: Picture) -> str:
    """Of a picture without a key: its place in memory, where it stays for as long as its benchmark."""
    return picture.key or f"at {id(picture)}"
