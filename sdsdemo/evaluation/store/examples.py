"""examples.jsonl: a run's record of each example, and whether it has changed since. Knows no scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from sdsdemo.data.published.sets import SET, TRUE
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json, to_json, whole_lines
from sdsdemo.runtime.shapes import shaped
from sdsdemo.types import Example

EXAMPLES = "examples.jsonl"
DECISIVE = (SET, TRUE)
"""Kinds of tags that say how an example is scored. All others only group examples."""


class ExampleRow(TypedDict):
    """A line of examples.jsonl."""

    id: str
    tags: dict[str, str]
    images: int
    captions: int
    made_of: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class StoredExample:
    """A run's record of an example, without pictures and captions."""

    id: str
    tags: Mapping[str, str]
    images: int
    captions: int
    made_of: str = ""
    """Digest of its captions and pictures; empty if an older version kept none."""


def fits(stored: str, now: str, *, captions_only: bool = False) -> bool:
    """Whether two digests are of the same captions and pictures, as far as both are known (`picture_digest.made_of`).

    One of an earlier version has no third part; its second is then equal to the second or third of the other.
    """
    old_captions, old_pictures, old_before = _parts(stored)
    captions, pictures, before = _parts(now)
    if old_captions and captions and old_captions != captions:
        return False
    if captions_only or not old_pictures or not pictures or old_pictures == pictures:
        return True
    return (not old_before and old_pictures == before) or (not before and pictures == old_before)


def _parts(made_of: str) -> tuple[str, str, str]:
    """Digests of the captions, of the pictures, and of these as earlier versions had it; empty if unknown."""
    captions, _, rest = made_of.partition("-")
    pictures, _, before = rest.partition("-")
    return captions, pictures, before


def differs(stored: StoredExample, now: StoredExample) -> bool:
    """Whether an example has changed, so that its scores no longer count. A tag changes none, but for `DECISIVE`."""
    shape = (stored.images, stored.captions) != (now.images, now.captions)
    tags = any(kind in stored.tags and now.tags.get(kind) != stored.tags[kind] for kind in DECISIVE)
    return shape or tags or not fits(stored.made_of, now.made_of)


def retagged(
    stored: Iterable[Mapping[str, str]], now: Iterable[Mapping[str, str]]
) -> Callable[[Mapping[str, str], Mapping[str, str]], dict[str, str]]:
    """How to bring stored tags up to date: a function of an example's stored and current tags.

    stored, now: the tags of all examples. Kinds that none has any more, such as labels that are not on this machine,
    stay as they were stored; all others are as they are now.
    """
    here = {kind for tags in now for kind in tags}
    gone = {kind for tags in stored for kind in tags} - here
    return lambda old, new: {**{kind: tag for kind, tag in old.items() if kind in gone}, **new}


def completed(stored: StoredExample, now: StoredExample) -> StoredExample:
    """The current example; if its pictures are missing now, with their stored digest."""
    captions, _, pictures = now.made_of.partition("-")
    if pictures or not stored.made_of:
        return now
    old_captions, _, old_pictures = stored.made_of.partition("-")
    return replace(now, made_of=f"{captions or old_captions}-{old_pictures}")


def stored_of(example: Example, made_of: str) -> StoredExample:
    return StoredExample(
        id=example.id,
        tags=dict(example.tags),
        images=len(example.images),
        captions=len(example.captions),
        made_of=made_of,
    )


def example_line(example: StoredExample) -> str:
    return to_json({key: value for key, value in asdict(example).items() if key != "made_of" or value})


def read_examples(path: Path) -> tuple[StoredExample, ...]:
    if not (path / EXAMPLES).is_file():
        raise UserError(f"{EXAMPLES} is missing in '{path}': evaluate again with a new --out.")
    found: dict[str, StoredExample] = {}
    for number, line in enumerate(whole_lines(path / EXAMPLES), start=1):
        try:
            row = shaped(from_json(line), ExampleRow)
            example = StoredExample(**{name: row[name] for name in ExampleRow.__annotations__ if name in row})
            _check_example(example, found)
        except ValueError as error:
            raise UserError(
                f"Line {number} of {EXAMPLES} in '{path}' cannot be read ({error}): evaluate again with a new --out."
            ) from error
        found[example.id] = example
    if not found:
        raise UserError(f"{EXAMPLES} in '{path}' holds no example: evaluate again with a new --out.")
    return tuple(found.values())


def _check_example(example: StoredExample, before: Mapping[str, StoredExample]) -> None:
    """Raises `ValueError` for a duplicate id, and for numbers of images or captions that no benchmark has."""
    if example.id in before:
        raise ValueError(f"the id {example.id} appears twice")
    if example.images < 1 or example.captions < 1:
        raise ValueError("it has no image, or no caption")
    first = next(iter(before.values()), example)
    if example.images != first.images or (example.images > 1 and example.captions != first.captions):
        raise ValueError("its number of images or captions differs from the first one's")
