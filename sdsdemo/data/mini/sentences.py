"""Sentences about Mini scenes: full ones, shorter ones, and tags. Draws no pixel.

phrases       a picture of a red star to the left of a blue circle
fronted       to the left of the blue circle is a red star
predicates    the star is red and the circle is blue
shorter       a star left of a circle (no colours); a red star (one thing only)
tags          star blue left circle red (content words, shuffled)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sdsdemo.data.mini.scenes import COLOURS, SHAPES, Scene, Thing

Form = Literal["phrases", "fronted", "predicates"]

NUMBERS = {1: "one", 2: "two", 3: "three"}
SIZES = ("big", "small")
RELATION_WORDS = ("left", "right", "above", "below", "inside")
PLACES = (*RELATION_WORDS, "outside")
PREFIXES = ("", "", "a picture of", "a drawing of", "this is", "there is")
PLURAL_PREFIX = {"this is": "these are", "there is": "there are"}
"""Prefixes used if the first thing is plural."""
PLURALS = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
CONTENT_WORDS = frozenset(
    (*SHAPES, *PLURALS.values(), *COLOURS, *RELATION_WORDS, *NUMBERS.values(), *SIZES, "next", "beside")
)
"""Words that a tag-like caption keeps."""
FUNCTION_WORDS = (
    "a", "an", "the", "and", "of", "to", "is", "are", "with", "picture", "drawing", "this", "these", "there",
)  # fmt: skip
WORDS = tuple(sorted(CONTENT_WORDS | set(FUNCTION_WORDS)))
LONGEST = 13
"""Number of words in the longest sentence."""

COLOURLESS_SHARE, ONE_THING_SHARE = 0.12, 0.06
"""Shares of training sentences about two things that omit the colours, or one of the things, as people do."""
FRONTED_SHARE, PREDICATES_SHARE = 0.2, 0.2
"""Shares of these forms among the scenes that allow them."""
THE_SHARE = 0.15
"""Share of sentences without a prefix that use `the` instead of `a`."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A caption as words; `owner` is the index of the thing that a word describes, -1 for none."""

    words: tuple[str, ...]
    owner: tuple[int, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, kw_only=True)
class Template:
    """The template of a sentence about two things; two scenes can share it."""

    order: tuple[int, int]
    joint: tuple[str, ...] = ("and",)
    form: Form = "phrases"
    prefix: str = ""
    article: str = "a"


def describe(rng: np.random.Generator, scene: Scene, colours: bool = True) -> Sentence:
    """A random full sentence that is true of the scene; the order of the two things is random too."""
    if len(scene.mentioned) == 1:
        return name_of(scene, 0, prefix=str(rng.choice(PREFIXES)))
    return sentence_of(scene, random_template(rng, scene, colours=colours), colours=colours)


def training_sentence(rng: np.random.Generator, scene: Scene) -> Sentence:
    """Like `describe`, but some sentences omit the colours or one of two things."""
    if len(scene.mentioned) == 1:
        return describe(rng, scene)
    draw = rng.random()
    if draw < ONE_THING_SHARE:
        return name_of(scene, int(rng.integers(2)), prefix=str(rng.choice(PREFIXES)))
    return describe(rng, scene, colours=draw >= ONE_THING_SHARE + COLOURLESS_SHARE)


def random_template(rng: np.random.Generator, scene: Scene, form: Form | None = None, colours: bool = True) -> Template:
    """A random template that fits the scene. form: None for a random one."""
    order = (0, 1) if rng.random() < 0.5 else (1, 0)
    if scene.family == "inside":
        order = (0, 1) if scene.things[0].place == "inside" else (1, 0)
    form = form or _random_form(rng, scene, colours)
    if form == "predicates":
        return Template(order=order, form=form, article="the")
    joints = joints_of(scene, order)
    joint = joints[rng.integers(len(joints))]
    prefix = "" if joint[0] == "is" or form == "fronted" else str(rng.choice(PREFIXES))
    article = "the" if not prefix and rng.random() < THE_SHARE else "a"
    if form == "fronted":
        return Template(order=order, joint=joint, form=form, article=article)
    return Template(order=order, joint=joint, prefix=prefix, article=article)


def _random_form(rng: np.random.Generator, scene: Scene, colours: bool) -> Form:
    draw = rng.random()
    if scene.family in ("left", "above", "inside"):
        return "fronted" if draw < FRONTED_SHARE else "phrases"
    if scene.family == "size" or (scene.family == "and" and colours):
        return "predicates" if draw < PREDICATES_SHARE else "phrases"
    return "phrases"


def joints_of(scene: Scene, order: tuple[int, int]) -> tuple[tuple[str, ...], ...]:
    """The phrases for the relation of the first thing in the order to the second."""
    place = scene.things[order[0]].place
    if place in ("left", "right"):
        return ((place, "of"), ("is", place, "of"), ("to", "the", place, "of"))
    if place in ("above", "below", "inside"):
        return ((place,), ("is", place))
    if scene.family in ("size", "count"):
        return (("and",), ("with",))
    return (("and",), ("next", "to"), ("with",), ("beside",))


def sentence_of(scene: Scene, template: Template, colours: bool = True) -> Sentence:
    """The sentence about the scene's two mentioned things, by the template."""
    first, second = template.order
    if template.form == "predicates":
        says = {k: _predicate(scene.things[k], colours) for k in template.order}
        return _joined([(first, says[first]), (-1, ["and"]), (second, says[second])])
    phrases = {k: _phrase(scene.things[k], colours, template.article) for k in template.order}
    if template.form == "fronted":
        joint = [word for word in template.joint if word != "is"]
        return _joined([(-1, joint), (second, phrases[second]), (-1, ["is"]), (first, phrases[first])])
    prefix = _agreeing(template.prefix, scene.things[first])
    return _joined([(-1, prefix), (first, phrases[first]), (-1, list(template.joint)), (second, phrases[second])])


def name_of(scene: Scene, thing: int, prefix: str = "", colours: bool = True) -> Sentence:
    """The name of one thing."""
    one = scene.things[thing]
    return _joined([(-1, _agreeing(prefix, one)), (thing, _phrase(one, colours, "a"))])


def _agreeing(prefix: str, thing: Thing) -> list[str]:
    return (PLURAL_PREFIX.get(prefix, prefix) if thing.number > 1 else prefix).split()


def _joined(parts: Sequence[tuple[int, list[str]]]) -> Sentence:
    return Sentence(
        words=tuple(word for _, words in parts for word in words),
        owner=tuple(owner for owner, words in parts for _ in words),
    )


def _phrase(thing: Thing, colours: bool, article: str) -> list[str]:
    noun = [thing.size] * bool(thing.size) + [thing.colour] * bool(colours and thing.colour) + [thing.shape]
    if thing.number > 1:
        return [NUMBERS[thing.number], *noun[:-1], PLURALS[thing.shape]]
    if article == "a":
        article = "an" if noun[0][0] in "aeiou" else "a"
    return [article, *noun]


def _predicate(thing: Thing, colours: bool) -> list[str]:
    """`the red star is big`, or `the star is red` for a thing without a size."""
    if thing.size:
        return ["the", *[thing.colour] * colours, thing.shape, "is", thing.size]
    return ["the", thing.shape, "is", thing.colour]


def tags_of(rng: np.random.Generator, sentence: Sentence) -> Sentence:
    """Only the content words, shuffled, like much alt text on the web: who does what to whom is lost."""
    kept = [k for k, word in enumerate(sentence.words) if word in CONTENT_WORDS]
    kept = [kept[k] for k in rng.permutation(len(kept))]
    return Sentence(words=tuple(sentence.words[k] for k in kept), owner=tuple(sentence.owner[k] for k in kept))
