"""The Mini world: small scenes of coloured shapes, and sentences that describe them. Draws no pixel, knows no model.

A scene holds one or two kinds of *thing* (a shape with a colour, maybe a size or a number) in a *family* of layouts:

    single   a red star                         and      a red star and a blue circle
    left     a red star left of a blue circle   above    a red star above a blue circle
    size     a big red star and a small blue circle
    inside   a red star inside a blue circle    count    two red stars and three blue circles

The unit of hold-out is the *combination* {shape, shape} x {colour, colour}: a scene and its swapped twin share it.
Combinations are dealt to `train`, `validation` and `benchmark` by a hash, so no benchmark pair was ever trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Split = Literal["train", "validation", "benchmark"]
Size = Literal["", "big", "small"]
Family = Literal["single", "and", "left", "above", "size", "inside", "count"]

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "moon",
    "cross",
    "ring",
    "diamond",
    "arrow",
    "flower",
    "house",
)
HOLDERS = ("circle", "square", "heart", "diamond", "flower", "house")
"""Shapes roomy enough to have another one drawn inside."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
BACKGROUNDS = ("cream", "sky", "mint", "lilac")
NUMBERS = {1: "one", 2: "two", 3: "three"}
PLACES = ("left", "right", "above", "below", "inside", "outside")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "inside": "outside"}
PREFIXES = ("", "a picture of", "a drawing of", "this is")
PLURALS = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
CONTENT_WORDS = frozenset(
    (*SHAPES, *PLURALS.values(), *COLOURS, *PLACES[:5], *NUMBERS.values(), "big", "small", "next")
)
"""Words that a tag-like caption keeps."""
FUNCTION_WORDS = ("a", "an", "the", "and", "of", "to", "is", "with", "picture", "drawing", "this")
WORDS = tuple(sorted(CONTENT_WORDS | set(FUNCTION_WORDS)))

TRAIN_SHARES: dict[Family, float] = {
    "single": 0.08, "and": 0.17, "left": 0.22, "above": 0.22, "size": 0.11, "inside": 0.09, "count": 0.11,
}  # fmt: skip
COLOURLESS_SHARE = 0.12
"""Share of training captions of two things that leave the colours out, as people do."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One kind of object in a scene."""

    shape: str
    colour: str
    size: Size = ""
    number: int = 1
    place: str = ""
    """Where the caption puts it: one of PLACES, or nothing where the caption does not say."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A drawn object: which thing, its centre and radius in units of the picture's side, its turn in radians."""

    thing: int
    x: float
    y: float
    radius: float
    turn: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Things, where they are drawn, and on what."""

    family: Family
    things: tuple[Thing, ...]
    spots: tuple[Spot, ...]
    background: str

    @property
    def combination(self) -> str:
        """The unit of hold-out: unordered shapes and unordered colours."""
        return combination(self.things)


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A caption as words; `owner` says which thing a word describes, -1 for none."""

    words: tuple[str, ...]
    owner: tuple[int, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def combination(things: tuple[Thing, ...]) -> str:
    """`circle+star|blue+red`, whatever the order of the things and of their colours."""
    return "+".join(sorted(t.shape for t in things)) + "|" + "+".join(sorted(t.colour for t in things))


def split_of(key: str) -> Split:
    """Deal a combination to a split: 70 % train, 10 % validation, 20 % benchmark. Single objects are always `train`."""
    if "+" not in key:
        return "train"
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 70 else "validation" if bucket < 80 else "benchmark"


# ---------------------------------------------------------------------------------------------------- scenes


def random_scene(rng: np.random.Generator, family: Family, split: Split) -> Scene:
    """A scene of that family whose combination belongs to the split."""
    while True:
        things = _random_things(rng, family)
        if split_of(combination(things)) == split:
            return Scene(
                family=family,
                things=things,
                spots=_random_spots(rng, family, things),
                background=str(rng.choice(BACKGROUNDS)),
            )


def training_stream(seed: int, count: int) -> Iterator[Scene]:
    """`count` training scenes in the shares of TRAIN_SHARES."""
    rng = np.random.default_rng(seed)
    families = list(TRAIN_SHARES)
    for index in rng.choice(len(families), size=count, p=list(TRAIN_SHARES.values())):
        yield random_scene(rng, families[index], "train")


def _random_things(rng: np.random.Generator, family: Family) -> tuple[Thing, ...]:
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
RADII = {"": 0.165, "big": 0.235, "small": 0.105}


def _random_spots(rng: np.random.Generator, family: Family, things: tuple[Thing, ...]) -> tuple[Spot, ...]:
    if family == "single":
        radius = RADII[things[0].size] * rng.uniform(0.95, 1.1)
        x, y = rng.uniform(radius + 0.05, 0.95 - radius, size=2)
        return (_spot(rng, 0, x, y, radius),)
    if family == "inside":
        return _nested_spots(rng, things)
    if family == "count":
        return _counted_spots(rng, things)
    if family in ("left", "above"):
        return _placed_spots(rng, things, turn=0 if family == "left" else 1)
    return _apart_spots(rng, things)


def _spot(rng: np.random.Generator, thing: int, x: float, y: float, radius: float) -> Spot:
    return Spot(thing=thing, x=float(x), y=float(y), radius=float(radius), turn=float(rng.uniform(-0.2, 0.2)))


def _placed_spots(rng: np.random.Generator, things: tuple[Thing, ...], turn: int) -> tuple[Spot, ...]:
    """Two things side by side (turn 0) or one over the other (turn 1); the first where its place says."""
    along = np.array([rng.uniform(0.22, 0.31), rng.uniform(0.69, 0.78)])
    across = 0.5 + rng.uniform(-0.2, 0.2) + rng.uniform(-0.06, 0.06, size=2)
    if things[0].place in ("right", "below"):
        along = along[::-1]
    points = np.stack([along, across], axis=1)[:, :: -1 if turn else 1]
    return tuple(_spot(rng, k, x, y, RADII[""] * rng.uniform(0.92, 1.1)) for k, (x, y) in enumerate(points))


def _apart_spots(rng: np.random.Generator, things: tuple[Thing, ...]) -> tuple[Spot, ...]:
    """Two things anywhere, not touching."""
    radii = [RADII[t.size] * rng.uniform(0.93, 1.08) for t in things]
    while True:
        points = [rng.uniform(r + 0.04, 0.96 - r, size=2) for r in radii]
        if np.hypot(*(points[0] - points[1])) > sum(radii) * 1.12 + 0.02:
            return tuple(_spot(rng, k, x, y, radii[k]) for k, (x, y) in enumerate(points))


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


# ------------------------------------------------------------------------------------------------- sentences


def describe(rng: np.random.Generator, scene: Scene, colours: bool = True) -> Sentence:
    """A natural sentence that is true of the scene; the order of the two things is drawn too."""
    if len(scene.things) == 1:
        return sentence_of(scene, order=(0,), joint=(), prefix=str(rng.choice(PREFIXES)), colours=True)
    order = (0, 1) if rng.random() < 0.5 else (1, 0)
    if scene.family == "inside":
        order = (0, 1) if scene.things[0].place == "inside" else (1, 0)
    prefix, joint = _random_template(rng, scene, order)
    return sentence_of(
        scene,
        order=order,
        joint=joint,
        prefix=prefix,
        colours=colours,
        article="the" if rng.random() < 0.1 else "a",
    )


def training_sentence(rng: np.random.Generator, scene: Scene) -> Sentence:
    """As `describe`, leaving the colours out of COLOURLESS_SHARE of the sentences where nothing else is lost."""
    bare = len(scene.things) == 2 and rng.random() < COLOURLESS_SHARE
    return describe(rng, scene, colours=not bare)


def _random_template(rng: np.random.Generator, scene: Scene, order: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    """A prefix and a joint; a joint with a verb is a whole sentence and takes no prefix."""
    joints = joints_of(scene, order)
    joint = joints[rng.integers(len(joints))]
    return "" if joint[0] == "is" else str(rng.choice(PREFIXES)), joint


def joints_of(scene: Scene, order: tuple[int, int]) -> tuple[tuple[str, ...], ...]:
    """The ways to say how the first thing of the order stands to the second."""
    place = scene.things[order[0]].place
    if place in ("left", "right"):
        return ((place, "of"), ("is", place, "of"), ("to", "the", place, "of"))
    if place in ("above", "below", "inside"):
        return ((place,), ("is", place))
    if scene.family in ("size", "count"):
        return (("and",),)
    return (("and",), ("next", "to"), ("with",))


def sentence_of(
    scene: Scene,
    *,
    order: tuple[int, ...],
    joint: tuple[str, ...],
    prefix: str = "",
    colours: bool = True,
    article: str = "a",
) -> Sentence:
    """Prefix, first thing, joint, second thing."""
    words: list[str] = prefix.split()
    owner = [-1] * len(words)
    for position, k in enumerate(order):
        if position:
            words += joint
            owner += [-1] * len(joint)
        phrase = _phrase(scene.things[k], colours, article)
        words += phrase
        owner += [k] * len(phrase)
    return Sentence(words=tuple(words), owner=tuple(owner))


def _phrase(thing: Thing, colours: bool, article: str) -> list[str]:
    noun = [thing.size] * bool(thing.size) + [thing.colour] * colours + [thing.shape]
    if thing.number > 1:
        return [NUMBERS[thing.number], *noun[:-1], PLURALS[thing.shape]]
    if article == "a":
        article = "an" if noun[0][0] in "aeiou" else "a"
    return [article, *noun]


def tags_of(rng: np.random.Generator, sentence: Sentence) -> Sentence:
    """The content words alone, shuffled, as web alt-text often is: who does what to whom is lost."""
    kept = [k for k, word in enumerate(sentence.words) if word in CONTENT_WORDS]
    kept = [kept[k] for k in rng.permutation(len(kept))]
    return Sentence(words=tuple(sentence.words[k] for k in kept), owner=tuple(sentence.owner[k] for k in kept))


# ----------------------------------------------------------------------------------- swapped twins (benchmark)

SwapKind = Literal["left", "above", "colour-and", "colour-relation", "size", "inside", "count"]


@dataclass(frozen=True, kw_only=True)
class SwapRecipe:
    """How one kind of benchmark example is made: from which families, what is swapped, how many in 400."""

    families: tuple[Family, ...]
    swapped: Literal["things", "colour", "size", "number"]
    share: int
    tag: str
    collapsed_tag: Literal["Object", "Relation"]


SWAPS: dict[SwapKind, SwapRecipe] = {
    "left": SwapRecipe(families=("left",), swapped="things", share=50, tag="Noun left/right", collapsed_tag="Object"),
    "above": SwapRecipe(
        families=("above",), swapped="things", share=70, tag="Noun above/below", collapsed_tag="Object"
    ),
    "inside": SwapRecipe(families=("inside",), swapped="things", share=50, tag="Noun inside", collapsed_tag="Object"),
    "colour-and": SwapRecipe(
        families=("and",), swapped="colour", share=60, tag="Adjective-Colour", collapsed_tag="Relation"
    ),
    "colour-relation": SwapRecipe(
        families=("left", "above"), swapped="colour", share=60, tag="Adjective-Colour in a relation",
        collapsed_tag="Relation",
    ),
    "size": SwapRecipe(families=("size",), swapped="size", share=60, tag="Adjective-Size", collapsed_tag="Relation"),
    "count": SwapRecipe(
        families=("count",), swapped="number", share=50, tag="Determiner-Number", collapsed_tag="Relation"
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two scenes and two sentences of the same words: sentence k is true of scene k and false of the other."""

    kind: SwapKind
    scenes: tuple[Scene, Scene]
    sentences: tuple[Sentence, Sentence]


def random_pair(rng: np.random.Generator, kind: SwapKind, split: Split) -> Pair:
    """A pair of pairs of that kind: the twin scene is drawn anew, the twin sentence keeps the same words."""
    recipe = SWAPS[kind]
    family = recipe.families[rng.integers(len(recipe.families))]
    first = random_scene(rng, family, split)
    while kind == "count" and {t.number for t in first.things} != {2, 3}:
        first = random_scene(rng, family, split)
    things = swapped_things(first.things, recipe.swapped)
    second = Scene(family=family, things=things, spots=_random_spots(rng, family, things), background=first.background)
    order = (0, 1) if family != "inside" or first.things[0].place == "inside" else (1, 0)
    prefix, joint = _random_template(rng, first, order)
    says = tuple(sentence_of(scene, order=order, joint=joint, prefix=prefix) for scene in (first, second))
    pair = Pair(kind=kind, scenes=(first, second), sentences=(says[0], says[1]))
    assert sorted(says[0].words) == sorted(says[1].words)
    assert says[0] != says[1]
    return pair


def swapped_things(things: tuple[Thing, ...], what: str) -> tuple[Thing, ...]:
    """The two things with their colours, sizes or numbers exchanged; `things` exchanges all but the places."""
    a, b = things
    if what == "things":
        return replace(b, place=a.place), replace(a, place=b.place)
    return replace(a, **{what: getattr(b, what)}), replace(b, **{what: getattr(a, what)})


def benchmark_pairs(seed: int, split: Split, count: int = 400) -> list[Pair]:
    """`count` pairs in the shares of SWAPS, all from one split's combinations, no two with the same sentences."""
    rng = np.random.default_rng(seed)
    total = sum(recipe.share for recipe in SWAPS.values())
    kinds = [kind for kind, recipe in SWAPS.items() for _ in range(round(recipe.share * count / total))][:count]
    pairs: list[Pair] = []
    seen: set[frozenset[str]] = set()
    for kind in kinds:
        while True:
            pair = random_pair(rng, kind, split)
            key = frozenset(s.text for s in pair.sentences)
            if key not in seen:
                break
        seen.add(key)
        pairs.append(pair)
    return pairs


# ------------------------------------------------------------------------------------------------- retrieval


def retrieval_sets(seed: int, sets: int, size: int) -> Iterator[list[tuple[Scene, Sentence]]]:
    """Sets of `size` held-out scenes with a whole sentence each; in a set, no two scenes show the same."""
    rng = np.random.default_rng((seed, size))
    families = [family for family in TRAIN_SHARES if family != "single"]
    shares = np.array([TRAIN_SHARES[family] for family in families])
    for _ in range(sets):
        chosen: dict[frozenset[tuple[str, str]], tuple[Scene, Sentence]] = {}
        while len(chosen) < size:
            scene = random_scene(rng, families[rng.choice(len(families), p=shares / shares.sum())], "benchmark")
            shown = frozenset((thing.shape, thing.colour) for thing in scene.things)
            chosen.setdefault(shown, (scene, describe(rng, scene)))
        yield list(chosen.values())


# -------------------------------------------------------------------------------------- zero-shot classification

OTHERS = 2
"""Names of other objects beside the true one: other shapes of the same colour, the harder part of what is named."""


def single_choices(seed: int, count: int) -> Iterator[tuple[Scene, tuple[str, ...]]]:
    """Scenes of one object with its name, first, and the names of OTHERS other shapes in the same colour."""
    rng = np.random.default_rng((seed, count))
    for _ in range(count):
        scene = random_scene(rng, "single", "train")
        thing = replace(scene.things[0], size="")
        others = rng.permutation([shape for shape in SHAPES if shape != thing.shape])[:OTHERS]
        named = [thing, *(replace(thing, shape=str(shape)) for shape in others)]
        yield scene, tuple(" ".join(["a", "picture", "of", *_phrase(one, True, "a")]) for one in named)
