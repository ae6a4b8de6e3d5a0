"""Whether a typed caption is true of a Mini scene. Reads whole sentences of Mini's language, and nothing else.

    a red star                                   the star is red and the circle is blue
    a red star left of a blue circle             to the left of the blue circle is a red star
    a picture of two stars with three circles    this is a big star and a small circle

Unlike `hard_negatives.is_true`, which checks sentences that this project wrote, it says None where a reader would
hesitate: other words, another grammar, "a star" where there are two, a thing that is half inside another or nearly
level with it, a size that is neither big nor small, and a scene in which one thing hides another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sdsdemo.data.mini.hard_negatives import COUNTED, SINGULAR, TOLERANCE
from sdsdemo.data.mini.scenes import COLOURS, HOLDERS, SHAPES, Scene, Size, Spot
from sdsdemo.data.mini.sentences import SIZES
from sdsdemo.data.mini.sketches import size_of

SIZE_OF: Mapping[str, Size] = {"big": "big", "small": "small"}
CLEARLY = 0.08
"""Centres closer than this along an axis, in picture sides, are nearly level."""
MOSTLY = 0.7
"""A share of a radius: a thing that lies within another by as much is inside it, though its tip may reach out."""


def _any(words: Sequence[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_NAMED = (
    rf"(?:(?P<det{{0}}>a|an|the|{_any(tuple(COUNTED))}) )?(?:(?P<size{{0}}>{_any(SIZES)}) )?"
    rf"(?:(?P<colour{{0}}>{_any(COLOURS)}) )?(?P<shape{{0}}>{_any((*SHAPES, *SINGULAR))})"
)
_NAMES = _NAMED.format(0), _NAMED.format(1)
_PREFIX = r"(?:(?:a (?:picture|drawing) of|this is|these are|there is|there are) )?"
_PLACE = r"(?:to the )?(?P<side>left|right) of|(?P<place>above|below|inside)"
_WITH, _BESIDE = r"and|with", r"(?P<beside>(?:is |are )?(?:next to|beside))"
_IS = rf"(?:is|are) (?P<is{{0}}>{_any((*COLOURS, *SIZES))})"
FORMS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_PREFIX}{_NAMES[0]}",
        rf"{_PREFIX}{_NAMES[0]} (?:(?:is |are )?(?:{_PLACE})|{_WITH}|{_BESIDE}) {_NAMES[1]}",
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
    size: Size = ""
    number: int = 0
    """0 for "a" and "the"."""
    predicate: str = field(default="", compare=False)
    """Which of colour and size is said after "is", as in "the star is red"; it does not tell which star is meant."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a sentence claims: one or two things, and how the first lies to the second."""

    things: tuple[Named, ...]
    relation: str = ""
    is_beside: bool = field(default=False, compare=False)
    """Whether they are said to be next to one another, and not only both there."""


def read_claim(caption: str) -> Claim | None:
    """What a caption claims; None if it is not a sentence of Mini's language."""
    words = " ".join(caption.casefold().strip(" .!").split())
    found = next((match for form in FORMS if (match := form.fullmatch(words))), None)
    if found is None:
        return None
    said = {name: value or "" for name, value in found.groupdict().items()}
    things = tuple(_named(said, str(k)) for k in (0, 1) if said.get(f"shape{k}"))
    if any(one is None for one in things):
        return None
    return Claim(
        things=tuple(one for one in things if one),
        relation=said.get("side") or said.get("place") or "",
        is_beside=bool(said.get("beside")),
    )


def truth_of(scene: Scene, caption: str) -> bool | None:
    """Whether a caption is true of a scene as drawn; None if that cannot be said."""
    claim = read_claim(caption)
    return None if claim is None else _holds(scene, claim)


def index_of_truth(scene: Scene, captions: Sequence[str]) -> int | None:
    """The index of the only true caption; None unless all others are false."""
    truths = [truth_of(scene, caption) for caption in captions]
    return truths.index(True) if truths.count(True) == 1 and None not in truths else None


def _holds(scene: Scene, claim: Claim) -> bool | None:
    if _hides(scene):
        return None
    seen = [_fitting(scene, one) for one in claim.things]
    if any(map(_is_vague, [scene] * len(seen), claim.things)):
        return None
    counts = [(len(spots), one.number) for spots, one in zip(seen, claim.things, strict=True)]
    if any(found == 0 or (asked and found != asked) for found, asked in counts):
        return False
    if any(found > 1 and not asked for found, asked in counts):
        return None
    return True if len(seen) == 1 else _related(scene, claim, *seen)


def _related(scene: Scene, claim: Claim, firsts: Sequence[Spot], seconds: Sequence[Spot]) -> bool | None:
    """Whether every one of the first has the relation to every one of the second."""
    if any(spot in seconds for spot in firsts):
        return None
    held = [_stand(scene, claim, p, q) for p in firsts for q in seconds]
    return False if False in held else None if None in held else True


def _hides(scene: Scene) -> bool:
    """Whether a thing lies on another so that little of that is seen; the later ones lie on top."""
    return any(
        on_top.radius > MOSTLY * below.radius and _apart(on_top, below) < below.radius / 2
        for k, below in enumerate(scene.spots)
        for on_top in scene.spots[k + 1 :]
    )


def _is_vague(scene: Scene, named: Named) -> bool:
    """Whether it cannot be said which thing is meant, or whether it is big or small."""
    meant = replace(named, colour="") if named.predicate == "colour" else replace(named, size="")
    if named.predicate and not named.number and len(_fitting(scene, meant)) > 1:
        return True
    return bool(named.size) and any(not size_of(spot) for spot in _fitting(scene, replace(named, size="")))


def _fitting(scene: Scene, named: Named) -> list[Spot]:
    return [
        spot
        for spot in scene.spots
        if scene.things[spot.thing].shape == named.shape
        and named.colour in ("", scene.things[spot.thing].colour)
        and named.size in ("", size_of(spot))
    ]


def _apart(p: Spot, q: Spot) -> float:
    return float(np.hypot(p.x - q.x, p.y - q.y))


def _stand(scene: Scene, claim: Claim, p: Spot, q: Spot) -> bool | None:
    """Whether p has the claim's relation to q; None where a reader would hesitate. y points down."""
    apart = _apart(p, q)
    if claim.relation == "inside":
        if p.radius >= q.radius or apart >= p.radius + q.radius:
            return False
        is_within = apart + MOSTLY * p.radius <= q.radius and scene.things[q.thing].shape in HOLDERS
        return True if is_within else None
    if not claim.relation and not claim.is_beside:
        return True
    if apart < max(p.radius, q.radius):
        return None
    if not claim.relation:
        return True
    along = {"left": q.x - p.x, "right": p.x - q.x, "above": q.y - p.y, "below": p.y - q.y}[claim.relation]
    return True if along > CLEARLY else False if along <= TOLERANCE else None


def _named(said: Mapping[str, str], k: str) -> Named | None:
    """One thing of a sentence; None if an attribute is said twice, or a plural has no number."""
    shape = said["shape" + k]
    named = Named(
        shape=SINGULAR.get(shape, shape),
        colour=said["colour" + k],
        size=SIZE_OF.get(said["size" + k], ""),
        number=COUNTED.get(said["det" + k], 0),
    )
    if (shape in SINGULAR) != (named.number > 1):
        return None
    said_after = said.get("is" + k, "")
    if not said_after:
        return named
    if said_after in COLOURS:
        return None if named.colour else replace(named, colour=said_after, predicate="colour")
    return None if named.size else replace(named, size=SIZE_OF[said_after], predicate="size")
