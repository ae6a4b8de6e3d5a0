"""Captions for a drawn scene, and edits of both: a true and a false caption, other words, the picture swapped.

Everything that is returned is checked against the scene with `truth.truth_of`, or made like a benchmark's pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from sdsdemo.data.mini.benchmarks import SwapKind, random_pair
from sdsdemo.data.mini.hard_negatives import Twin, twins_of
from sdsdemo.data.mini.scenes import COLOURS, OPPOSITE, Family, Scene, Thing
from sdsdemo.data.mini.sentences import describe, random_template, sentence_of
from sdsdemo.data.mini.sketches import objects_of, read_sketch, scene_of, write_sketch
from sdsdemo.data.mini.truth import CLEARLY, Claim, Named, index_of_truth, read_claim, truth_of

MOST_NUMBER = 3
"""Mini's sentences count no further."""
SURPRISES: tuple[SwapKind, ...] = ("left", "above", "inside", "colour-and", "colour-relation", "size", "count")
TRIES = 20

Captions = tuple[str, str]


def surprise(rng: np.random.Generator) -> tuple[Scene, Captions]:
    """A random scene whose combination no model was trained on, and its two captions in random order."""
    pair = random_pair(rng, SURPRISES[rng.integers(len(SURPRISES))], "benchmark")
    scene = read_sketch(write_sketch(pair.scenes[0]))
    first, second = (sentence.text for sentence in pair.sentences)
    return scene, (first, second) if rng.random() < 0.5 else (second, first)


def captions_for(rng: np.random.Generator, scene: Scene) -> Captions | None:
    """A true caption and a false one with the same words, in random order; None if the rules find none.

    A scene of one thing gets a false caption with another colour.
    """
    for view in _views(rng, scene):
        sentence = describe(rng, view)
        false = _false(rng, scene, view, twins_of(view, sentence))
        if false and truth_of(scene, sentence.text) is True:
            return (sentence.text, false) if rng.random() < 0.5 else (false, sentence.text)
    return None


def paraphrased(rng: np.random.Generator, captions: Sequence[str], scene: Scene) -> Captions | None:
    """Both captions in other words and in one form, as true of the scene as before.

    None if one is no sentence of Mini's language, or if no other words are found. "The flower is big" makes the claim
    of "a big flower", but where there are two flowers it leaves open which is meant.
    """
    claims = [read_claim(caption) for caption in captions]
    if len(claims) != 2 or claims[0] is None or claims[1] is None:
        return None
    truths = [truth_of(scene, caption) for caption in captions]
    for _ in range(TRIES):
        seed = int(rng.integers(2**32))
        first, second = (_worded(np.random.default_rng(seed), claim) for claim in (claims[0], claims[1]))
        is_same = [read_claim(first), read_claim(second)] == claims
        if is_same and [truth_of(scene, first), truth_of(scene, second)] == truths and [first, second] != [*captions]:
            return first, second
    return None


def picture_swapped(scene: Scene, captions: Sequence[str]) -> Scene | None:
    """A scene with the same things in which the other caption is true; None if no simple exchange makes one."""
    now = index_of_truth(scene, captions)
    if now is None:
        return None
    for one in _exchanged(scene):
        then = index_of_truth(one, captions)
        if then is not None and then != now:
            return one
    return None


def _views(rng: np.random.Generator, scene: Scene) -> Iterator[Scene]:
    """The scene as sentences can describe it: with each two of its things as the ones mentioned, in random order."""
    if len(scene.things) == 1:
        if scene.things[0].number <= MOST_NUMBER:
            yield replace(scene, things=(replace(scene.things[0], size=""),))
        return
    pairs = list(permutations(range(len(scene.things)), 2))
    for place in rng.permutation(len(pairs)):
        first, second = pairs[place]
        relations = _relations(scene, first, second)
        for k in rng.permutation(len(relations)):
            yield _mentioning(scene, first, second, *relations[k])


def _relations(scene: Scene, first: int, second: int) -> list[tuple[Family, str]]:
    """What can be said about two things: (family, place of the first)."""
    a, b = scene.things[first], scene.things[second]
    if max(a.number, b.number) > 1:
        return [("count", "")] if max(a.number, b.number) <= MOST_NUMBER else []
    p, q = (next(spot for spot in scene.spots if spot.thing == k) for k in (first, second))
    apart = np.hypot(p.x - q.x, p.y - q.y)
    if apart < q.radius:
        return [("inside", "inside")] if p.radius < q.radius else []
    if apart < p.radius:
        return []
    found: list[tuple[Family, str]] = [("and", "")]
    if abs(p.x - q.x) > CLEARLY:
        found.append(("left", "left" if p.x < q.x else "right"))
    if abs(p.y - q.y) > CLEARLY:
        found.append(("above", "above" if p.y < q.y else "below"))
    if {a.size, b.size} == {"big", "small"}:
        found.append(("size", ""))
    return found


def _mentioning(scene: Scene, first: int, second: int, family: Family, place: str) -> Scene:
    """The scene with these two things first, in this relation. Only sentences about sizes say them."""
    order = [first, second, *(k for k in range(len(scene.things)) if k not in (first, second))]
    things = [scene.things[k] if family == "size" else replace(scene.things[k], size="") for k in order]
    if place:
        things[0], things[1] = replace(things[0], place=place), replace(things[1], place=OPPOSITE[place])
    spots = tuple(replace(spot, thing=order.index(spot.thing)) for spot in scene.spots)
    return replace(scene, family=family, things=tuple(things), spots=spots, bystanders=len(things) - 2)


def _false(rng: np.random.Generator, scene: Scene, view: Scene, twins: Sequence[Twin]) -> str | None:
    texts = [twin.sentence.text for twin in twins]
    if len(view.things) == 1:
        others = [colour for colour in COLOURS if colour != view.things[0].colour]
        texts = [_worded(rng, _claim_of(replace(view.things[0], colour=others[rng.integers(len(others))])))]
    false = [text for text in texts if truth_of(scene, text) is False]
    return false[rng.integers(len(false))] if false else None


def _claim_of(thing: Thing) -> Claim:
    number = thing.number if thing.number > 1 else 0
    return Claim(things=(Named(shape=thing.shape, colour=thing.colour, size=thing.size, number=number),))


def _worded(rng: np.random.Generator, claim: Claim) -> str:
    """A random sentence that makes this claim."""
    things = tuple(
        Thing(shape=one.shape, colour=one.colour, size=one.size, number=max(1, one.number)) for one in claim.things
    )
    view = Scene(family="single", things=things, spots=(), background="")
    if len(things) == 2:
        view = _mentioning(view, 0, 1, _family(claim), claim.relation)
        view = replace(view, things=tuple(replace(a, size=b.size) for a, b in zip(view.things, things, strict=True)))
    colours = any(one.colour for one in claim.things)
    if len(things) == 1:
        return " ".join(describe(rng, view).text.split())
    return " ".join(sentence_of(view, random_template(rng, view, colours=colours), colours=colours).text.split())


def _family(claim: Claim) -> Family:
    if claim.relation:
        families: dict[str, Family] = {"left": "left", "right": "left", "inside": "inside"}
        return families.get(claim.relation, "above")
    if any(one.number > 1 for one in claim.things):
        return "count"
    return "size" if all(one.size for one in claim.things) else "and"


def _exchanged(scene: Scene) -> Iterator[Scene]:
    """The scene after each exchange of two of its kinds: their colours, all of what they are, their shapes."""
    objects = objects_of(scene)
    kinds = list(dict.fromkeys((thing.shape, thing.colour) for thing, _ in objects))
    for one, other in permutations(kinds, 2):
        if kinds.index(one) > kinds.index(other):
            continue
        for a, b in (
            ((one[0], other[1]), (other[0], one[1])),
            (other, one),
            ((other[0], one[1]), (one[0], other[1])),
        ):
            becomes = {one: a, other: b}
            yield scene_of(
                scene.background,
                [
                    (replace(thing, shape=shape, colour=colour), spot)
                    for thing, spot in objects
                    for shape, colour in [becomes.get((thing.shape, thing.colour), (thing.shape, thing.colour))]
                ],
            )
