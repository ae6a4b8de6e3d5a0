"""The example pictures of the page, and which caption is true. Knows neither models nor the page.

`assets/mini/examples.json` lists them: image (below `assets/`), two captions, the index of the true one, a title.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from sdsdemo.data.mini.scenes import Scene
from sdsdemo.data.mini.sketches import read_sketch
from sdsdemo.data.mini.truth import index_of_truth
from sdsdemo.errors import UserError
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import ASSETS, LIMITS

EXAMPLES_FILE = "mini/examples.json"


class ListedExample(TypedDict):
    """An entry of `examples.json`."""

    image: str
    captions: list[str]
    true: int
    title: str
    scene: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """A picture whose true caption is known."""

    name: str
    """The file's stem; it names the example in a URL."""
    path: Path
    captions: tuple[str, str]
    true: int
    title: str
    query: Mapping[str, str] = field(default_factory=dict)
    """The query fields that name it in a URL."""
    scene: Scene | None = None
    """What a Mini picture shows; None if unknown."""

    def truth(self, captions: Sequence[str]) -> int | None:
        """Index of the true caption among `captions`: of the example's own in either order, or as the scene tells.

        None if that is unknown, or not exactly one is true.
        """
        given, own = [_folded(caption) for caption in captions], [_folded(caption) for caption in self.captions]
        if sorted(given) == sorted(own) and all(own):
            return given.index(own[self.true])
        return index_of_truth(self.scene, captions) if self.scene else None


def read_examples(assets: Path = ASSETS) -> list[ShownExample]:
    """The examples in the order of the strip; none if the file is missing. Raises `UserError` for a broken file."""
    listing = assets / EXAMPLES_FILE
    if not listing.is_file():
        return []
    listed: list[ListedExample] = shipped(listing, list[ListedExample])
    return [_example(item, assets, f"{EXAMPLES_FILE}, item {i}") for i, item in enumerate(listed)]


def find_example(examples: Sequence[ShownExample], path: Path) -> ShownExample | None:
    """The example whose file has the same bytes, even if a visitor saved and uploaded it again."""
    if path.stat().st_size > LIMITS.image_bytes:
        return None
    wanted = _digest(path)
    return next((example for example in examples if _digest(example.path) == wanted), None)


def _example(item: ListedExample, assets: Path, where: str) -> ShownExample:
    path = assets / item["image"]
    if not path.is_file():
        raise UserError(f"{where}: image must be a file below assets, it was {item['image']!r}")
    if len(item["captions"]) != 2 or item["true"] not in (0, 1):
        raise UserError(f"{where}: captions must be two and true must be 0 or 1")
    first, second = item["captions"]
    return ShownExample(
        name=path.stem,
        path=path,
        captions=(first, second),
        true=item["true"],
        title=item["title"],
        query={"example": path.stem},
        scene=read_sketch(item["scene"]) if "scene" in item else None,
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _folded(caption: str) -> str:
    return " ".join(caption.casefold().split())
