"""The Mini world: small scenes of coloured shapes. Knows no pixel, no word and no model.

A scene holds one or two kinds of *thing* (a shape with a colour, maybe a size or a number) in a *family* of layouts:

    single   a red star                         and      a red star and a blue circle
    left     a red star left of a blue circle   above    a red star above a blue circle
    size     a big red star and a small blue circle
    inside   a red star inside a blue circle    count    two red stars and three blue circles

Scenes of and, left and above may be *small* (drawn small) or *crowded*: with one or two bystanders of other shapes that
no sentence mentions. Some bindings of shape and colour, such as a black heart, are *rare* in training.

The held-out unit is the *combination* {shape, shape} x {colour, colour}: a scene and its swapped twin share it. A hash
assigns combinations to `train`, `validation` and `benchmark`. A scene belongs to the split of the things that sentences
mention, and a training scene shows no combination of another split, not even with a bystander. So nothing that a
benchmark asks about was ever seen in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np

Split = Literal["train", "validation", "benchmark"]
SPLITS: tuple[Split, ...] = get_args(Split)
Size = Literal["", "big", "small"]
Family = Literal["single", "and", "left", "above", "size", "inside", "count"]
Look = Literal["", "small", "crowded"]

SHAPES = (
    "circle", "square", "triangle", "star", "heart", "moon", "cross", "ring", "diamond", "arrow", "flower", "house",
)  # fmt: skip
HOLDERS = ("circle", "square", "heart", "diamond", "flower", "house")
"""Shapes with room for another one inside."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
BACKGROUNDS = ("cream", "sky", "mint", "lilac")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "inside": "outside"}
RARE = frozenset(
    {("heart", "black"), ("star", "pink"), ("moon", "green"), ("house", "purple"), ("flower", "black"),
     ("circle", "pink"), ("diamond", "orange"), ("cross", "blue"), ("arrow", "yellow"), ("square", "purple")}
)  # fmt: skip
"""Rare bindings: most training scenes with one are rejected."""
RARE_KEPT = 0.1
"""Share of training scenes with a rare binding that are kept."""

TRAIN_SHARES: dict[Family, float] = {
    "single": 0.08, "and": 0.17, "left": 0.22, "above": 0.22, "size": 0.11, "inside": 0.09, "count": 0.11,
}  # fmt: skip
LOOKS: dict[Look, float] = {"": 0.7, "small": 0.12, "crowded": 0.18}
"""Shares of the looks in training, for the families of ROOMY."""
ROOMY = ("and", "left", "above")
"""Families that may be small or crowded."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One kind of object in a scene."""

    shape: str
    colour: str
    size: Size = ""
    number: int = 1
    place: str = ""
    """Its relation to the other mentioned thing: a key of OPPOSITE, "outside", or ""."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A drawn object: index of its thing, centre and radius in picture sides, rotation in radians."""

    thing: int
    x: float
    y: float
    radius: float
    turn: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Things, where they are drawn, and the background."""

    family: Family
    things: tuple[Thing, ...]
    """The mentioned things, then the bystanders."""
    spots: tuple[Spot, ...]
    background: str
    bystanders: int = 0
    look: Look = ""

    @property
    def mentioned(self) -> tuple[Thing, ...]:
        """The things that sentences mention: one or two."""
        return self.things[: len(self.things) - self.bystanders]

    @property
    def combination(self) -> str:
        """The held-out unit: unordered shapes and unordered colours of the mentioned things."""
        return combination(self.mentioned)

    @property
    def shown(self) -> frozenset[str]:
        """The combinations of all pairs of drawn things, including bystanders."""
        return frozenset(map(combination, combinations(self.things, 2))) or frozenset({self.combination})


def combination(things: tuple[Thing, ...]) -> str:
    """A key such as `circle+star|blue+red`, independent of the order of things and colours."""
    return "+".join(sorted(t.shape for t in things)) + "|" + "+".join(sorted(t.colour for t in things))


def split_of(key: str) -> Split:
    """The split of a combination: 70 % train, 10 % validation, 20 % benchmark. Single objects are always `train`."""
    if "+" not in key:
        return "train"
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 70 else "validation" if bucket < 80 else "benchmark"


def is_rare(things: tuple[Thing, ...]) -> bool:
    """Whether one of the things has a binding of RARE."""
    return any((thing.shape, thing.colour) in RARE for thing in things)


# ---------------------------------------------------------------------------------------------------- scenes


def random_scene(rng: np.random.Generator, family: Family, split: Split, look: Look = "") -> Scene:
    """A random scene of this family whose combination belongs to the split."""
    while True:
        things = random_things(rng, family)
        if split_of(combination(things)) == split:
            bystanders = random_bystanders(rng, things, split) if look == "crowded" else ()
            return laid_out(rng, family, things, bystanders, str(rng.choice(BACKGROUNDS)), look)


def laid_out(
    rng: np.random.Generator,
    family: Family,
    things: tuple[Thing, ...],
    bystanders: tuple[Thing, ...],
    background: str,
    look: Look,
) -> Scene:
    """A scene of exactly these things and bystanders on this background, with a random layout of the family."""
    spots = _random_spots(rng, family, things, SCALE[look])
    for k in range(len(bystanders)):
        spots = (*spots, _free_spot(rng, len(things) + k, spots))
    return Scene(
        family=family,
        things=(*things, *bystanders),
        spots=spots,
        background=background,
        bystanders=len(bystanders),
        look=look,
    )


def training_stream(seed: int, count: int) -> Iterator[Scene]:
    """`count` training scenes in the shares of TRAIN_SHARES and LOOKS, with few rare bindings."""
    rng = np.random.default_rng(seed)
    families = list(TRAIN_SHARES)
    for index in rng.choice(len(families), size=count, p=list(TRAIN_SHARES.values())):
        yield _training_scene(rng, families[index])


def _training_scene(rng: np.random.Generator, family: Family) -> Scene:
    look: Look = list(LOOKS)[rng.choice(len(LOOKS), p=list(LOOKS.values()))] if family in ROOMY else ""
    while True:
        scene = random_scene(rng, family, "train", look)
        if not is_rare(scene.things) or rng.random() < RARE_KEPT:
            return scene


def random_things(rng: np.random.Generator, family: Family) -> tuple[Thing, ...]:
    """Random things for a family, of any split."""
    pool = HOLDERS if family == "inside" else SHAPES
    shapes = [str(s) for s in rng.choice(pool, size=2, replace=False)]
    colours = [str(c) for c in rng.choice(COLOURS, size=2, replace=False)]
    a, b = (Thing(shape=s, colour=c) for s, c in zip(shapes, colours, strict=True))
    if family == "single":
        return (replace(a, size=SINGLE_SIZES[rng.choice(len(SINGLE_SIZES))]),)
    if family == "size":
        a_is_big = rng.random() < 0.5
        return replace(a, size="big" if a_is_big else "small"), replace(b, size="small" if a_is_big else "big")
    if family == "count":
        a_number, b_number = list(COUNTS)[rng.choice(len(COUNTS), p=list(COUNTS.values()))]
        return replace(a, number=a_number), replace(b, number=b_number)
    if family in ("left", "above", "inside"):
        place = {"left": ("left", "right"), "above": ("above", "below"), "inside": ("inside",)}[family]
        first_place = str(rng.choice(place))
        return replace(a, place=first_place), replace(b, place=OPPOSITE[first_place])
    return a, b


SINGLE_SIZES: tuple[Size, ...] = ("", "", "big", "small")
COUNTS = {(2, 3): 0.3, (3, 2): 0.3, (1, 2): 0.1, (2, 1): 0.1, (1, 3): 0.1, (3, 1): 0.1}
"""Numbers of the two things, with their shares."""


def random_bystanders(rng: np.random.Generator, things: tuple[Thing, ...], split: Split) -> tuple[Thing, ...]:
    """One or two things of other shapes, so that no sentence about the things is true of a bystander."""
    found: tuple[Thing, ...] = ()
    wanted = int(rng.integers(1, 3))
    while len(found) < wanted:
        taken = {thing.shape for thing in (*things, *found)}
        one = Thing(
            shape=str(rng.choice([shape for shape in SHAPES if shape not in taken])), colour=str(rng.choice(COLOURS))
        )
        beside = (combination((one, other)) for other in (*things, *found))
        if split != "train" or all(split_of(key) == "train" for key in beside):
            found = (*found, one)
    return found


# ----------------------------------------------------------------------------------------------------- spots

RADII = {"": 0.165, "big": 0.235, "small": 0.105}
SCALE: dict[Look, float] = {"": 1.0, "small": 0.66, "crowded": 0.78}
"""Scale of the mentioned things, by look."""
BYSTANDER_RADIUS = 0.115


def _random_spots(
    rng: np.random.Generator, family: Family, things: tuple[Thing, ...], scale: float
) -> tuple[Spot, ...]:
    if family == "single":
        radius = RADII[things[0].size] * rng.uniform(0.95, 1.1)
        x, y = rng.uniform(radius + 0.05, 0.95 - radius, size=2)
        return (_spot(rng, 0, x, y, radius),)
    if family == "inside":
        return _nested_spots(rng, things)
    if family == "count":
        return _counted_spots(rng, things)
    if family in ("left", "above"):
        return _placed_spots(rng, things, turn=0 if family == "left" else 1, scale=scale)
    return _apart_spots(rng, things, scale)


def _spot(rng: np.random.Generator, thing: int, x: float, y: float, radius: float) -> Spot:
    return Spot(thing=thing, x=float(x), y=float(y), radius=float(radius), turn=float(rng.uniform(-0.2, 0.2)))


def _placed_spots(rng: np.random.Generator, things: tuple[Thing, ...], turn: int, scale: float) -> tuple[Spot, ...]:
    """Two things side by side (turn 0) or one above the other (turn 1), as the first one's place says."""
    along = np.array([rng.uniform(0.22, 0.31), rng.uniform(0.69, 0.78)])
    across = 0.5 + rng.uniform(-0.2, 0.2) + rng.uniform(-0.06, 0.06, size=2)
    if things[0].place in ("right", "below"):
        along = along[::-1]
    points = np.stack([along, across], axis=1)[:, :: -1 if turn else 1]
    radii = [RADII[""] * scale * rng.uniform(0.92, 1.1) for _ in things]
    return tuple(_spot(rng, k, x, y, radii[k]) for k, (x, y) in enumerate(points))


def _apart_spots(rng: np.random.Generator, things: tuple[Thing, ...], scale: float) -> tuple[Spot, ...]:
    """Two things anywhere, not touching."""
    radii = [RADII[t.size] * scale * rng.uniform(0.93, 1.08) for t in things]
    while True:
        points = [rng.uniform(r + 0.04, 0.96 - r, size=2) for r in radii]
        if np.hypot(*(points[0] - points[1])) > sum(radii) * 1.12 + 0.02:
            return tuple(_spot(rng, k, x, y, radii[k]) for k, (x, y) in enumerate(points))


def _free_spot(rng: np.random.Generator, thing: int, taken: tuple[Spot, ...]) -> Spot:
    """A bystander where there is room; it shrinks if there is little."""
    radius = BYSTANDER_RADIUS * rng.uniform(0.9, 1.1)
    for _ in range(400):
        x, y = rng.uniform(radius + 0.04, 0.96 - radius, size=2)
        if all(np.hypot(x - spot.x, y - spot.y) > (radius + spot.radius) * 1.12 + 0.02 for spot in taken):
            return _spot(rng, thing, x, y, radius)
        radius = max(radius * 0.995, 0.07)
    raise AssertionError("a crowded scene must leave room for its bystanders")


def _nested_spots(rng: np.random.Generator, things: tuple[Thing, ...]) -> tuple[Spot, ...]:
    inner = 0 if things[0].place == "inside" else 1
    big = rng.uniform(0.34, 0.38)
    x, y = rng.uniform(big + 0.04, 0.96 - big, size=2)
    drop = 0.1 * big if things[1 - inner].shape == "house" else 0.0
    outer = _spot(rng, 1 - inner, x, y, big)
    return (outer, replace(_spot(rng, inner, x, y + drop, rng.uniform(0.125, 0.145)), turn=outer.turn))


def _counted_spots(rng: np.random.Generator, things: tuple[Thing, ...]) -> tuple[Spot, ...]:
    """Up to five objects on a jittered 3 x 3 grid."""
    cells = [(0.2 + 0.3 * column, 0.2 + 0.3 * row) for row in range(3) for column in range(3)]
    owners = [k for k, thing in enumerate(things) for _ in range(thing.number)]
    chosen = rng.permutation(len(cells))[: len(owners)]
    return tuple(
        _spot(rng, k, cells[c][0] + rng.uniform(-0.03, 0.03), cells[c][1] + rng.uniform(-0.03, 0.03), 0.112)
        for k, c in zip(owners, chosen, strict=True)
    )
