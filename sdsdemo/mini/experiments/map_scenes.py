"""The scenes on which maps are judged: four things, captions that swap two of them, repaints of each, and their cells.

    things 0, 1   touched: the captions A (true) and B (false) swap their colours or their nouns
    things 2, 3   distractors: neither caption mentions them

All four are of one size and anywhere, and both pairs meet the same conditions: only the words say which are touched. In
the world's own crowded scenes, bystanders are smaller than what captions mention, and the map of any two captions sits
on the larger things.

Beside A and B there are two unrelated pairs of the same form and in other words: the same swap of the distractors, and
of two things that the scene does not show. A repaint gives one thing another colour or another shape, found nowhere
else in the scene. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sdsdemo.data.mini.drawing import MODEL_PIXELS, draw
from sdsdemo.data.mini.hard_negatives import is_true, twins_of
from sdsdemo.data.mini.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Family,
    Scene,
    Split,
    Spot,
    Thing,
    combination,
    random_things,
    split_of,
)
from sdsdemo.data.mini.sentences import Sentence, Template, random_template, sentence_of

KINDS: tuple[tuple[Family, str], ...] = (
    ("and", "colour"),
    ("left", "colour"),
    ("left", "noun"),
    ("above", "colour"),
    ("above", "noun"),
)
"""Family and swap, in turn."""
TOUCHED, THINGS = 2, 4
"""Things that the captions swap, and all things."""
REPAINTS = ("colour", "shape")
"""What a thing is repainted with, each once."""
RADIUS = 0.12
"""Mean radius of a thing in picture sides, between that of mentioned things and of bystanders in crowded scenes."""
APART = 0.15
"""How far apart the two things of a pair are along the axis of the scene's relation, in picture sides; at least."""
COVER = 0.1
"""Least share of a cell that a thing covers for the cell to be its own."""
SEEN = 12
"""Least change of a channel, of 255, for a pixel to count as covered."""


@dataclass(frozen=True, kw_only=True)
class MapScene:
    """A scene with its captions, unrelated captions and repaints."""

    scene: Scene
    kind: str
    """What is swapped: "colour" or "noun"."""
    captions: tuple[str, str]
    """A, true of the scene, and B, false."""
    distractors: tuple[str, str]
    """The same swap of the distractors: true, false."""
    absent: tuple[str, str]
    """The same swap of two things that are not shown: both false."""
    repainted: tuple[tuple[Scene, ...], ...]
    """For each thing, the scene with that thing repainted, in order of REPAINTS."""


def map_scene(seed: int, split: Split, number: int) -> MapScene:
    """The scene of this number; its touched things are a combination of the split.

    Each has a generator of its own, so that any one can be made alone.
    """
    rng = np.random.default_rng((seed, number))
    family, kind = KINDS[number % len(KINDS)]
    while True:
        found = _with_captions(rng, _random_scene(rng, family, split), kind)
        if found is not None:
            return found


def _random_scene(rng: np.random.Generator, family: Family, split: Split) -> Scene:
    """Two pairs of things, in four shapes and colours; each pair is a combination of the split."""
    while True:
        things = (*random_things(rng, family), *random_things(rng, family))
        distinct = len({one.shape for one in things}) == len({one.colour for one in things}) == THINGS
        if distinct and {split_of(combination(pair)) for pair in (things[:TOUCHED], things[TOUCHED:])} == {split}:
            spots = _random_spots(rng, things)
            background = str(rng.choice(BACKGROUNDS))
            return Scene(family=family, things=things, spots=spots, background=background, bystanders=2, look="crowded")


def _random_spots(rng: np.random.Generator, things: tuple[Thing, ...]) -> tuple[Spot, ...]:
    """Anywhere, not touching, and each pair as its places say."""
    while True:
        radius_K = RADIUS * rng.uniform(0.9, 1.1, size=THINGS)
        point_KD = rng.uniform(radius_K[:, None] + 0.04, 0.96 - radius_K[:, None], size=(THINGS, 2))
        turn_K = rng.uniform(-0.2, 0.2, size=THINGS)
        if _stand_apart(radius_K, point_KD) and all(_in_place(things[k], *point_KD[k : k + 2]) for k in (0, 2)):
            return tuple(
                Spot(thing=k, x=float(x), y=float(y), radius=float(radius_K[k]), turn=float(turn_K[k]))
                for k, (x, y) in enumerate(point_KD)
            )


def _stand_apart(radius_K: np.ndarray, point_KD: np.ndarray) -> bool:
    distance_KK = np.hypot(*(point_KD[:, None] - point_KD[None]).transpose(2, 0, 1))
    least_KK = (radius_K[:, None] + radius_K[None]) * 1.12 + 0.02
    return bool((distance_KK > least_KK)[~np.eye(THINGS, dtype=bool)].all())


def _in_place(first: Thing, point_D: np.ndarray, other_D: np.ndarray) -> bool:
    """Whether the first thing of a pair is where its place says."""
    x, y = other_D - point_D
    ahead = {"left": x, "right": -x, "above": y, "below": -y}
    return first.place not in ahead or bool(ahead[first.place] > APART)


def _with_captions(rng: np.random.Generator, scene: Scene, kind: str) -> MapScene | None:
    """None if a caption is not as true as it should be."""
    template = random_template(rng, scene)
    shown = (scene, _of_distractors(scene), _of_absent(rng, scene))
    pairs = [_pair(one, template, kind) for one in shown]
    if [tuple(is_true(scene, said.words) for said in pair) for pair in pairs] != [(True, False)] * 2 + [(False, False)]:
        return None
    captions, distractors, absent = ((pair[0].text, pair[1].text) for pair in pairs)
    return MapScene(
        scene=scene,
        kind=kind,
        captions=captions,
        distractors=distractors,
        absent=absent,
        repainted=tuple(_repaints(rng, scene, thing) for thing in range(THINGS)),
    )


def _pair(shown: Scene, template: Template, kind: str) -> tuple[Sentence, ...]:
    """The sentence about the two mentioned things of a scene and its twin of that kind; empty if it has none."""
    sentence = sentence_of(shown, template)
    twins = [twin.sentence for twin in twins_of(shown, sentence) if twin.kind == kind]
    return (sentence, twins[0]) if twins else ()


def _of_distractors(scene: Scene) -> Scene:
    """A scene in which the distractors are the mentioned things, named in the order that their places allow."""
    order = (2, 3) if scene.things[2].place == scene.things[0].place else (3, 2)
    spots = tuple(replace(scene.spots[k], thing=number) for number, k in enumerate(order))
    return replace(scene, things=tuple(scene.things[k] for k in order), spots=spots, bystanders=0)


def _of_absent(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with its mentioned things replaced by two of shapes and colours that it does not show."""
    shapes = rng.permutation(_others(SHAPES, [thing.shape for thing in scene.things]))
    colours = rng.permutation(_others(COLOURS, [thing.colour for thing in scene.things]))
    things = tuple(
        replace(thing, shape=str(shape), colour=str(colour))
        for thing, shape, colour in zip(scene.mentioned, shapes, colours, strict=False)
    )
    return replace(scene, things=things, spots=scene.spots[:TOUCHED], bystanders=0)


def _repaints(rng: np.random.Generator, scene: Scene, thing: int) -> tuple[Scene, ...]:
    colour = rng.choice(_others(COLOURS, [one.colour for one in scene.things]))
    shape = rng.choice(_others(SHAPES, [one.shape for one in scene.things]))
    old = scene.things[thing]
    return tuple(
        _with_thing(scene, thing, new) for new in (replace(old, colour=str(colour)), replace(old, shape=str(shape)))
    )


def _with_thing(scene: Scene, thing: int, new: Thing) -> Scene:
    return replace(scene, things=(*scene.things[:thing], new, *scene.things[thing + 1 :]))


def _others(pool: tuple[str, ...], taken: list[str]) -> list[str]:
    return [one for one in pool if one not in taken]


# ------------------------------------------------------------------------------------------------------ cells


def owner_cells(scene: Scene, side: int) -> np.ndarray:
    """owner_HW, int: which thing each cell of a `side` x `side` grid belongs to, -1 for none.

    A cell belongs to the thing that covers most of it, if that is at least COVER.
    """
    empty = _pixels(replace(scene, spots=()))
    cover_KHW = np.zeros((len(scene.things), side, side))
    for spot in scene.spots:
        covered = (np.abs(_pixels(replace(scene, spots=(spot,))) - empty) >= SEEN).any(axis=2)
        cover_KHW[spot.thing] += _in_cells(covered.astype(float), side)
    return np.where(cover_KHW.max(axis=0) >= COVER, cover_KHW.argmax(axis=0), -1)


def edge_cells(scene: Scene, side: int) -> np.ndarray:
    """edge_HW: the mean length of the picture's gradient in each cell of the grid, summed over colours."""
    down, right = np.gradient(_pixels(scene), axis=(0, 1))
    return _in_cells(np.hypot(down, right).sum(axis=2), side)


def _pixels(scene: Scene) -> np.ndarray:
    return np.asarray(draw(scene, MODEL_PIXELS), dtype=float)


def _in_cells(value: np.ndarray, side: int) -> np.ndarray:
    """Means over the cells of a grid."""
    step = len(value) // side
    cells: np.ndarray = value.reshape(side, step, side, step).mean(axis=(1, 3))
    return cells
