"""Pair-of-pairs benchmarks of the Mini world, generated from a seed, with combinations no model was trained on.

As in Winoground: two scenes and two sentences with the same words, each true only of its own scene.

    Object     two noun phrases are swapped                left, above, inside
    Relation   adjectives or numbers are swapped           colour-and, colour-relation, size, count
    Both       nouns and their sizes or numbers are        both-size, both-count

Ambiguous pairs, with both sentences true of both scenes, are never scored. Benchmarks of one image are in `choices`.
Knows no model and draws no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from sdsdemo.data.mini.scenes import (
    BACKGROUNDS,
    COLOURS,
    SPLITS,
    Family,
    Look,
    Scene,
    Split,
    Thing,
    combination,
    is_rare,
    laid_out,
    random_bystanders,
    random_scene,
    random_things,
    split_of,
)
from sdsdemo.data.mini.sentences import FRONTED_SHARE, Form, Sentence, Template, random_template, sentence_of

SwapKind = Literal[
    "left", "above", "inside", "colour-and", "colour-relation", "size", "count", "both-size", "both-count"
]
Category = Literal["", "small object", "crowded scene", "unusual combination", "two predicates"]
LOOK_OF: dict[Category, Look] = {"small object": "small", "crowded scene": "crowded"}


@dataclass(frozen=True, kw_only=True)
class SwapRecipe:
    """How one kind of benchmark example is generated: scene families, what is swapped, how many in 400."""

    families: tuple[Family, ...]
    swapped: Literal["things", "colour", "size", "number"]
    share: int
    tag: str
    collapsed_tag: Literal["Object", "Relation", "Both"]
    turned: bool = False
    """Whether the second sentence names the two things in reverse order, so that the colours keep their places."""
    categories: Mapping[Category, int] = field(default_factory=dict)
    """How many of them are hard in one of these ways."""


ROOMY_CATEGORIES: dict[Category, int] = {"small object": 10, "crowded scene": 10, "unusual combination": 8}
RARE_ONLY: dict[Category, int] = {"unusual combination": 8}
SWAPS: dict[SwapKind, SwapRecipe] = {
    "left": SwapRecipe(
        families=("left",), swapped="things", share=50, tag="Noun left/right", collapsed_tag="Object",
        categories=ROOMY_CATEGORIES,
    ),
    "above": SwapRecipe(
        families=("above",), swapped="things", share=50, tag="Noun above/below", collapsed_tag="Object",
        categories=ROOMY_CATEGORIES,
    ),
    "inside": SwapRecipe(
        families=("inside",), swapped="things", share=41, tag="Noun inside", collapsed_tag="Object",
        categories=RARE_ONLY,
    ),
    "colour-and": SwapRecipe(
        families=("and",), swapped="colour", share=75, tag="Adjective-Colour", collapsed_tag="Relation",
        categories={**ROOMY_CATEGORIES, "two predicates": 20},
    ),
    "colour-relation": SwapRecipe(
        families=("left", "above"), swapped="colour", share=58, tag="Adjective-Colour in a relation",
        collapsed_tag="Relation", categories=ROOMY_CATEGORIES,
    ),
    "size": SwapRecipe(
        families=("size",), swapped="size", share=55, tag="Adjective-Size", collapsed_tag="Relation",
        categories={**RARE_ONLY, "two predicates": 20},
    ),
    "count": SwapRecipe(
        families=("count",), swapped="number", share=45, tag="Determiner-Number", collapsed_tag="Relation",
        categories=RARE_ONLY,
    ),
    "both-size": SwapRecipe(
        families=("size",), swapped="colour", turned=True, share=13, tag="Noun, Adjective-Size", collapsed_tag="Both"
    ),
    "both-count": SwapRecipe(
        families=("count",), swapped="colour", turned=True, share=13, tag="Noun, Determiner-Number",
        collapsed_tag="Both",
    ),
}  # fmt: skip
"""141 Object, 233 Relation, 26 Both, as in Winoground."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two scenes and two sentences with the same words: sentence k is true of scene k and false of the other."""

    kind: SwapKind
    category: Category
    scenes: tuple[Scene, Scene]
    sentences: tuple[Sentence, Sentence]
    relation: str
    """The word or words between the two things."""
    predicates: int = 1
    """Number of main predicates per sentence."""


def random_pair(rng: np.random.Generator, kind: SwapKind, split: Split, category: Category = "") -> Pair:
    """A random pair of pairs of this kind, hard in the category's way, or in none.

    The second scene gets a new layout; the second sentence has the same words.
    """
    recipe = SWAPS[kind]
    family = recipe.families[rng.integers(len(recipe.families))]
    while True:
        pair = _tried_pair(rng, kind, family, split, category)
        if pair is not None and sorted(pair.sentences[0].words) == sorted(pair.sentences[1].words):
            return pair


def _tried_pair(
    rng: np.random.Generator, kind: SwapKind, family: Family, split: Split, category: Category
) -> Pair | None:
    """A pair; None if the random things do not fit."""
    recipe, look = SWAPS[kind], LOOK_OF.get(category, "")
    first = random_things(rng, family)
    if split_of(combination(first)) != split or (family == "count" and {t.number for t in first} != {2, 3}):
        return None
    second = swapped_things(first, recipe.swapped)
    bystanders = random_bystanders(rng, first, split) if look == "crowded" else ()
    rare = is_rare(first), is_rare(second)
    if is_rare(bystanders) or rare != (category == "unusual combination",) * 2:
        return None
    background = str(rng.choice(BACKGROUNDS))
    one, other = (laid_out(rng, family, things, bystanders, background, look) for things in (first, second))
    template = random_template(rng, one, _form(rng, family, category))
    turned = replace(template, order=template.order[::-1]) if recipe.turned else template
    return Pair(
        kind=kind,
        category=category,
        scenes=(one, other),
        sentences=(sentence_of(one, template), sentence_of(other, turned)),
        relation=_relation(one, template),
        predicates=2 if template.form == "predicates" else 1,
    )


def _form(rng: np.random.Generator, family: Family, category: Category) -> Form:
    """A sentence form, with two predicates only in that category."""
    if category == "two predicates":
        return "predicates"
    return "fronted" if family in ("left", "above", "inside") and rng.random() < FRONTED_SHARE else "phrases"


def _relation(scene: Scene, template: Template) -> str:
    place = scene.things[template.order[0]].place
    return place or " ".join(word for word in template.joint if word != "is")


def swapped_things(things: tuple[Thing, ...], what: str) -> tuple[Thing, ...]:
    """The two things with their colours, sizes or numbers swapped; `things` swaps everything but their places."""
    a, b = things
    if what == "things":
        return replace(b, place=a.place), replace(a, place=b.place)
    return replace(a, **{what: getattr(b, what)}), replace(b, **{what: getattr(a, what)})


def benchmark_pairs(seed: int, split: Split, count: int = 400) -> list[Pair]:
    """`count` pairs in the shares of SWAPS, all with combinations of one split, no two with the same sentences."""
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    slots = list(_slots())
    pairs: list[Pair] = []
    seen: set[frozenset[str]] = set()
    while len(pairs) < count:
        kind, category = slots[len(pairs) * len(slots) // count]
        pair = random_pair(rng, kind, split, category)
        key = frozenset(sentence.text for sentence in pair.sentences)
        if key not in seen:
            seen.add(key)
            pairs.append(pair)
    return pairs


def _slots() -> Iterator[tuple[SwapKind, Category]]:
    """Kind and category of each of 400 examples."""
    for kind, recipe in SWAPS.items():
        plain = recipe.share - sum(recipe.categories.values())
        for category, count in {"": plain, **recipe.categories}.items():
            yield from [(kind, category)] * count


# -------------------------------------------------------------------------------------------- ambiguous, never scored


def ambiguous_pairs(seed: int, count: int = 40) -> list[tuple[tuple[Scene, Scene], tuple[Sentence, Sentence]]]:
    """Two scenes of the same things and two sentences with the same words, both true of both scenes.

    Half turn "A and B" into "B and A"; half describe, without colours, a thing that is on both sides of another.
    """
    rng = np.random.default_rng((seed, count))
    makers = (_turned_round, _on_both_sides)
    return [makers[number % 2](rng) for number in range(count)]


def _turned_round(rng: np.random.Generator) -> tuple[tuple[Scene, Scene], tuple[Sentence, Sentence]]:
    first = random_scene(rng, "and", "benchmark")
    second = laid_out(rng, "and", first.things, (), first.background, "")
    template = random_template(rng, first, "phrases")
    says = (template, replace(template, order=template.order[::-1]))
    return (first, second), (sentence_of(first, says[0]), sentence_of(first, says[1]))


def _on_both_sides(rng: np.random.Generator) -> tuple[tuple[Scene, Scene], tuple[Sentence, Sentence]]:
    """A star left of a circle, and a circle left of a star: there is a star on either side."""
    first = random_scene(rng, "left", "benchmark")
    outer, middle = (replace(thing, place="") for thing in first.mentioned)
    scenes = tuple(_three_in_a_row(rng, outer, middle, first.background) for _ in range(2))
    left = replace(first, things=(replace(outer, place="left"), replace(middle, place="right")))
    template = replace(random_template(rng, left, "phrases"), order=(0, 1), joint=("left", "of"), article="a")
    one = sentence_of(left, template, colours=False)
    other = sentence_of(replace(left, things=(left.things[1], left.things[0])), template, colours=False)
    return (scenes[0], scenes[1]), (one, other)


def _three_in_a_row(rng: np.random.Generator, outer: Thing, middle: Thing, background: str) -> Scene:
    """The outer thing twice, in two colours, left and right of the middle one."""
    other = replace(outer, colour=str(rng.choice([c for c in COLOURS if c not in (outer.colour, middle.colour)])))
    row = laid_out(rng, "and", (outer, middle, other), (), background, "crowded")
    spots = tuple(
        replace(spot, x=x, y=float(0.5 + rng.uniform(-0.15, 0.15)))
        for spot, x in zip(row.spots, (0.2, 0.5, 0.8), strict=True)
    )
    return replace(row, spots=spots)
