"""Whether a typed caption is true of a Mini scene. Reads whole sentences of Mini's language, and nothing else.

    a red star                                   the star is red and the circle is blue
    a red star left of a blue circle             to the left of the blue circle is a red star
    a picture of two stars with three circles    this is a big star and a small circle

Unlike `hard_negatives.is_true`, which checks sentences that this project wrote, it says None where a reader would
hesitate: other words, another grammar, or "a star" where there are two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdsdemo.data.mini.hard_negatives import COUNTED, SINGULAR, TOLERANCE
from sdsdemo.data.mini.scenes import COLOURS, SHAPES, Scene, Spot
from sdsdemo.data.mini.sentences import SIZES
from sdsdemo.data.mini.sketches import size_of

Attributes = Mapping[str, str]


def _any(words: Sequence[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_NAMED = (
    rf"(?:(?P<det{{0}}>a|an|the|{_any(tuple(COUNTED))}) )?(?:(?P<size{{0}}>{_any(SIZES)}) )?"
    rf"(?:(?P<colour{{0}}>{_any(COLOURS)}) )?(?P<shape{{0}}>{_any((*SHAPES, *SINGULAR))})"
)
_NAMES = _NAMED.format(0), _NAMED.format(1)
_PREFIX = r"(?:(?:a (?:picture|drawing) of|this is|these are|there is|there are) )?"
_PLACE = r"(?:to the )?(?P<side>left|right) of|(?P<place>above|below|inside)"
_BESIDE = r"and|with|next to|beside"
_IS = rf"(?:is|are) (?P<is{{0}}>{_any((*COLOURS, *SIZES))})"
FORMS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_PREFIX}{_NAMES[0]}",
        rf"{_PREFIX}{_NAMES[0]} (?:(?:is |are )?(?:{_PLACE}|next to|beside)|{_BESIDE}) {_NAMES[1]}",
        rf"(?:{_PLACE}) {_NAMES[1]} (?:is|are) {_NAMES[0]}",
        rf"{_NAMES[0]} {_IS.format(0)}",
        rf"{_NAMES[0]} {_IS.format(0)} and {_NAMES[1]} {_IS.format(1)}",
    )
)
"""The sentences that are read; group 0 is the thing that has the relation to thing 1."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a sentence says about one thing; empty for what it leaves out."""

    shape: str
    colour: str = ""
    size: str = ""
    number: int = 0
    """0 for "a" and "the"."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a sentence claims: one or two things, and how the first lies to the second."""

    things: tuple[Named, ...]
    relation: str = ""


def read_claim(caption: str) -> Claim | None:
    """What a caption claims; None if it is no sentence of Mini's language."""
    words = " ".join(caption.casefold().strip(" .!").split())
    found = next((match for form in FORMS if (match := form.fullmatch(words))), None)
    if found is None:
        return None
    said = {name: value or "" for name, value in found.groupdict().items()}
    things = tuple(_named(said, str(k)) for k in (0, 1) if said.get(f"shape{k}"))
    if any(one is None for one in things):
        return None
    return Claim(things=tuple(one for one in things if one), relation=said.get("side") or said.get("place") or "")


def truth_of(scene: Scene, caption: str) -> bool | None:
    """Whether a caption is true of a scene as drawn; None if that cannot be said."""
    claim = read_claim(caption)
    return None if claim is None else _holds(scene, claim)


def index_of_truth(scene: Scene, captions: Sequence[str]) -> int | None:
    """The index of the only true caption; None unless all others are false."""
    truths = [truth_of(scene, caption) for caption in captions]
    return truths.index(True) if truths.count(True) == 1 and None not in truths else None


def _holds(scene: Scene, claim: Claim) -> bool | None:
    seen = [_fitting(scene, one) for one in claim.things]
    if any(
        not spots or (one.number and len(spots) != one.number) for spots, one in zip(seen, claim.things, strict=True)
    ):
        return False
    if any(len(spots) > 1 and not one.number for spots, one in zip(seen, claim.things, strict=True)):
        return None
    if len(seen) == 1:
        return True
    if any(spot in seen[1] for spot in seen[0]):
        return None
    return all(_stand(claim.relation, p, q) for p in seen[0] for q in seen[1])


def _fitting(scene: Scene, named: Named) -> list[Spot]:
    return [
        spot
        for spot in scene.spots
        if scene.things[spot.thing].shape == named.shape
        and named.colour in ("", scene.things[spot.thing].colour)
        and named.size in ("", size_of(spot))
    ]


def _stand(relation: str, p: Spot, q: Spot) -> bool:
    """Whether p has this relation to q; y points down."""
    if relation == "inside":
        return bool(np.hypot(p.x - q.x, p.y - q.y) < q.radius and p.radius < q.radius)
    along = {"left": q.x - p.x, "right": p.x - q.x, "above": q.y - p.y, "below": p.y - q.y}
    return not relation or along[relation] > TOLERANCE


def _named(said: Mapping[str, str], k: str) -> Named | None:
    """One thing of a sentence; None if an attribute is said twice, or a plural has no number."""
    shape = said["shape" + k]
    named = Named(
        shape=SINGULAR.get(shape, shape),
        colour=said["colour" + k],
        size=said["size" + k],
        number=COUNTED.get(said["det" + k], 0),
    )
    if (shape in SINGULAR) != (named.number > 1):
        return None
    said_after = said.get("is" + k, "")
    if not said_after:
        return named
    if said_after in COLOURS:
        return None if named.colour else replace(named, colour=said_after)
    return None if named.size else replace(named, size=said_after)
