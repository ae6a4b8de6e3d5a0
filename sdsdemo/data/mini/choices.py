"""Mini benchmarks with one image and k sentences, the first of them true; generated from a seed.

Attribute and relation swaps, word orders, zero-shot names, retrieval. Knows no model and draws no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sdsdemo.captions.word_order import shuffled
from sdsdemo.data.mini.hard_negatives import is_true, twins_of
from sdsdemo.data.mini.scenes import ROOMY, SHAPES, TRAIN_SHARES, Family, Scene, Split, random_scene
from sdsdemo.data.mini.sentences import CONTENT_WORDS, RELATION_WORDS, Sentence, describe, name_of

ATTRIBUTE, RELATION, ORDER = "attribute", "relation", "order"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One scene and several sentences, only the first of them true."""

    scene: Scene
    captions: tuple[str, ...]
    collapsed_tag: str
    tag: str


def swap_choices(seed: int, count: int) -> Iterator[Choice]:
    """`count` scenes for each set, with a true sentence and one with swapped attributes or nouns."""
    rng = np.random.default_rng((seed, count, 1))
    families: dict[str, tuple[Family, ...]] = {
        ATTRIBUTE: ("and", "left", "above", "size", "count", "inside"),
        RELATION: ("left", "above", "inside"),
    }
    for number in range(2 * count):
        group = (ATTRIBUTE, RELATION)[number % 2]
        while True:
            scene = _held_out_scene(rng, families[group][rng.integers(len(families[group]))])
            sentence = describe(rng, scene)
            fitting = [t for t in twins_of(scene, sentence) if (t.kind == "noun") == (group == RELATION)]
            if fitting:
                break
        twin = fitting[rng.integers(len(fitting))]
        tag = next(word for word in sentence.words if word in RELATION_WORDS) if group == RELATION else twin.kind
        yield Choice(scene=scene, captions=(sentence.text, twin.sentence.text), collapsed_tag=group, tag=tag)


def order_choices(seed: int, count: int) -> Iterator[Choice]:
    """`count` scenes, each with a sentence and ARO's four shuffles of it, none of them a true sentence of the scene.

    Attributes are read before their nouns. Of `mini-orders`, 93 of 200 examples have a shuffle such as "is there a
    diamond yellow above a star pink", which is no English and still has each colour beside its shape: a model that
    knows what has which colour, and no grammar, cannot tell these from the sentence.
    """
    rng = np.random.default_rng((seed, count, 2))
    families = [family for family in TRAIN_SHARES if family != "single"]
    for _ in range(count):
        while True:
            scene = _held_out_scene(rng, families[rng.integers(len(families))])
            text = describe(rng, scene).text
            shuffles = shuffled(text, tag=_tagged)
            if len({text, *shuffles}) == 5 and not any(_may_be_true(scene, words) for words in shuffles):
                break
        yield Choice(scene=scene, captions=(text, *shuffles), collapsed_tag=ORDER, tag=scene.family)


def _held_out_scene(rng: np.random.Generator, family: Family) -> Scene:
    return random_scene(rng, family, "benchmark", "crowded" if family in ROOMY and rng.random() < 0.2 else "")


def _tagged(text: str) -> list[tuple[str, str]]:
    """Every content word but places is tagged a noun, so that, unlike in ARO, colours and shapes change places."""
    places = {"left", "right", "above", "below", "inside", "next", "beside"}
    return [(word, "NN" if word in CONTENT_WORDS - places else "IN") for word in text.split()]


def _may_be_true(scene: Scene, text: str) -> bool:
    """Whether a shuffle could be read as a true sentence, with each attribute before its noun."""
    try:
        return is_true(scene, text.split())
    except ValueError:
        return False


def retrieval_sets(
    seed: int, sets: int, size: int, split: Split = "benchmark"
) -> Iterator[list[tuple[Scene, Sentence]]]:
    """Sets of `size` held-out scenes, each with a full sentence; no two scenes of a set show the same things."""
    rng = np.random.default_rng((seed, size))
    families = [family for family in TRAIN_SHARES if family != "single"]
    shares = np.array([TRAIN_SHARES[family] for family in families])
    for _ in range(sets):
        chosen: dict[frozenset[tuple[str, str]], tuple[Scene, Sentence]] = {}
        while len(chosen) < size:
            scene = random_scene(rng, families[rng.choice(len(families), p=shares / shares.sum())], split)
            shown = frozenset((thing.shape, thing.colour) for thing in scene.things)
            chosen.setdefault(shown, (scene, describe(rng, scene)))
        yield list(chosen.values())


OTHERS = 2
"""Number of false names: other shapes of the same colour, since shapes are harder to tell apart than colours."""


def single_choices(seed: int, count: int) -> Iterator[tuple[Scene, tuple[str, ...]]]:
    """Scenes of one object with its name, first, and the names of OTHERS other shapes in the same colour."""
    rng = np.random.default_rng((seed, count))
    for _ in range(count):
        scene = random_scene(rng, "single", "train")
        thing = replace(scene.things[0], size="")
        others = rng.permutation([shape for shape in SHAPES if shape != thing.shape])[:OTHERS]
        named = [thing, *(replace(thing, shape=str(shape)) for shape in others)]
        yield scene, tuple(name_of(replace(scene, things=(one,)), 0, "a picture of").text for one in named)
