"""Swapped twins of Mini sentences as hard negatives: the same words in another order, each checked to be false.

    colour   a red star and a blue circle        ->  a blue star and a red circle
    noun     a red star left of a blue circle    ->  a blue circle left of a red star
    size     a big star and a small circle       ->  a small star and a big circle
    number   two stars and three circles         ->  three stars and two circles

`is_true` reads a sentence as a visitor would and checks it against the drawn layout. It ignores how the sentence was
generated, so it finds that "A and B" turned into "B and A" is no swap at all. Knows no model and no pixel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sdsdemo.captions.swap_rules import MINI_SWAPS
from sdsdemo.data.mini.scenes import COLOURS, SHAPES, Scene, Spot, Thing
from sdsdemo.data.mini.sentences import NUMBERS, PLURALS, RELATION_WORDS, SIZES, Sentence

COUNTED = {word: number for number, word in NUMBERS.items()}
SINGULAR = {plural: shape for shape, plural in PLURALS.items()}
TOLERANCE = 0.02
"""Centres closer than this along an axis, in picture sides, do not count as left of or above one another."""


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A false sentence with the same words."""

    kind: str
    """What was swapped: one of MINI_SWAPS."""
    sentence: Sentence


@dataclass(frozen=True, kw_only=True)
class _Named:
    """What a sentence says about one thing; None for what it leaves out."""

    shape: str
    colour: str | None = None
    size: str | None = None
    number: int = 1


def twins_of(scene: Scene, sentence: Sentence) -> list[Twin]:
    """The swaps that make a true sentence about two things false, at most one per kind, in order of MINI_SWAPS."""
    if set(sentence.owner) - {-1} != {0, 1}:
        return []
    found = [Twin(kind=kind, sentence=twin) for kind in MINI_SWAPS if (twin := _swapped(sentence, kind)) is not None]
    return [twin for twin in found if not is_true(scene, twin.sentence.words)]


def false_twin(
    rng: np.random.Generator, scene: Scene, sentence: Sentence, without: Collection[str] = ()
) -> Twin | None:
    """One of `twins_of` at random, except for the kinds in `without`; None if there is none."""
    found = [twin for twin in twins_of(scene, sentence) if twin.kind not in without]
    return found[rng.integers(len(found))] if found else None


def is_true(scene: Scene, words: Sequence[str]) -> bool:
    """Whether a sentence about one or two things is true of a scene as drawn.

    Raises `ValueError` for words that are not a sentence of this world.
    """
    named, joint = _read(words)
    seen = [[k for k, thing in enumerate(scene.things) if _fits(thing, n, scene)] for n in named]
    if len(named) == 1:
        return bool(seen[0])
    pairs = [(a, b) for a in seen[0] for b in seen[1] if a != b]
    return any(_stand(joint, _spots(scene, a), _spots(scene, b)) for a, b in pairs)


def _swapped(sentence: Sentence, kind: str) -> Sentence | None:
    """The sentence with the words of one kind swapped between its two things; None if they do not differ."""
    if kind == "noun":
        return _exchanged_phrases(sentence)
    words = list(sentence.words)
    pool = {"colour": COLOURS, "size": SIZES, "number": ("two", "three")}[kind]
    at = {word_owner: k for k, word_owner in enumerate(sentence.owner) if word_owner >= 0 and words[k] in pool}
    if set(at) != {0, 1} or words[at[0]] == words[at[1]]:
        return None
    words[at[0]], words[at[1]] = words[at[1]], words[at[0]]
    return Sentence(words=tuple(with_articles(words)), owner=sentence.owner)


def _exchanged_phrases(sentence: Sentence) -> Sentence:
    """The sentence with its two phrases swapped; all other words stay in place."""
    first = sentence.owner.index(0), sentence.owner.index(1)
    a, b = sorted((k, sentence.owner.count(owner), owner) for owner, k in enumerate(first))
    order = [
        *range(a[0]),
        *range(b[0], b[0] + b[1]),
        *range(a[0] + a[1], b[0]),
        *range(a[0], a[0] + a[1]),
        *range(b[0] + b[1], len(sentence.words)),
    ]
    return Sentence(words=tuple(sentence.words[k] for k in order), owner=tuple(sentence.owner[k] for k in order))


def with_articles(words: list[str]) -> list[str]:
    """The words with `a` or `an` corrected for the next word."""
    articles = {"a", "an"}
    ahead = [*words[1:], ""]
    return [("an" if after[:1] in "aeiou" and after else "a") if word in articles else word
            for word, after in zip(words, ahead, strict=True)]  # fmt: skip


def _read(words: Sequence[str]) -> tuple[list[_Named], str]:
    """The things that are named, and the relation of the first to the second; `is red` describes the preceding thing.

    A sentence that begins with the relation names the second thing first, so its things are reversed.
    """
    named: list[_Named] = []
    said: dict[str, Any] = {}
    joint, fronted = "", False
    for before, word in zip(("", *words), words, strict=False):
        attribute = _attribute(word)
        if attribute and before == "is" and named:
            named[-1] = replace(named[-1], **attribute)
        elif attribute:
            said |= attribute
        elif word in RELATION_WORDS:
            joint, fronted = word, not named
        elif word in SHAPES or word in SINGULAR:
            named.append(_Named(shape=SINGULAR.get(word, word), **said))
            said = {}
    if not 1 <= len(named) <= 2:
        raise ValueError(f"words must name one or two things; they were {' '.join(words)!r}")
    return named[::-1] if fronted else named, joint


def _attribute(word: str) -> dict[str, Any]:
    if word in COLOURS:
        return {"colour": word}
    if word in SIZES:
        return {"size": word}
    return {"number": COUNTED[word]} if word in COUNTED else {}


def _fits(thing: Thing, named: _Named, scene: Scene) -> bool:
    """Whether a thing matches its description. A size is compared if named; the number is counted in the scene."""
    count = len(_spots(scene, scene.things.index(thing)))
    return (
        thing.shape == named.shape
        and named.colour in (None, thing.colour)
        and named.size in (None, thing.size)
        and named.number == count
    )


def _spots(scene: Scene, thing: int) -> list[Spot]:
    return [spot for spot in scene.spots if spot.thing == thing]


def _stand(joint: str, a: Sequence[Spot], b: Sequence[Spot]) -> bool:
    """Whether every spot of a has this relation to every spot of b; y points down."""

    def holds(p: Spot, q: Spot) -> bool:
        if joint == "inside":
            return np.hypot(p.x - q.x, p.y - q.y) < q.radius and p.radius < q.radius
        along = {"left": q.x - p.x, "right": p.x - q.x, "above": q.y - p.y, "below": p.y - q.y}
        return joint == "" or along[joint] > TOLERANCE

    return all(holds(p, q) for p in a for q in b)
