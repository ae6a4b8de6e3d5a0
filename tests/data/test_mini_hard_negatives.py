"""Swapped twins of Mini sentences: the same words, false of the scene, and never "A and B" turned round."""

from __future__ import annotations

import numpy as np
import pytest

from sdsdemo.captions.swap_rules import MINI_SWAPS
from sdsdemo.data.benchmarks import MINI
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.hard_negatives import false_twin, is_true, twins_of
from sdsdemo.data.mini.scenes import training_stream
from sdsdemo.data.mini.sentences import Sentence, training_sentence
from sdsdemo.data.readers.pairs import read_pairs

SEED, COUNT = 7, 600


def drawn() -> list[tuple]:
    rng = np.random.default_rng(SEED)
    return [(scene, training_sentence(rng, scene)) for scene in training_stream(SEED, COUNT)]


def test_what_the_world_says_of_its_own_scenes_is_true() -> None:
    assert all(is_true(scene, sentence.words) for scene, sentence in drawn())


def test_each_sentence_is_true_of_its_own_scene_alone() -> None:
    for pair in benchmark_pairs(SEED, "validation", 100):
        for own in range(2):
            assert is_true(pair.scenes[own], pair.sentences[own].words)
            assert not is_true(pair.scenes[own], pair.sentences[1 - own].words)


def test_a_twin_has_the_same_words_and_is_false() -> None:
    kinds = set()
    for scene, sentence in drawn():
        for twin in twins_of(scene, sentence):
            alike = ["a" if word == "an" else word for word in sentence.words]
            assert sorted(alike) == sorted("a" if word == "an" else word for word in twin.sentence.words)
            assert not is_true(scene, twin.sentence.words)
            kinds.add(twin.kind)
    assert kinds == set(MINI_SWAPS)


def test_two_things_that_are_only_named_together_are_not_turned_round() -> None:
    for scene, sentence in drawn():
        if scene.family in ("and", "size", "count"):
            assert all(twin.kind != "noun" for twin in twins_of(scene, sentence))


def test_a_withheld_kind_is_never_drawn() -> None:
    rng = np.random.default_rng(SEED)
    found = [false_twin(rng, scene, sentence, without=("colour", "noun")) for scene, sentence in drawn()]
    assert {twin.kind for twin in found if twin is not None} == {"size", "number"}


def test_articles_follow_the_swapped_colour() -> None:
    scene, sentence = next(
        (scene, sentence)
        for scene, sentence in drawn()
        if "an" in sentence.words and any(twin.kind == "colour" for twin in twins_of(scene, sentence))
    )
    twin = next(twin for twin in twins_of(scene, sentence) if twin.kind == "colour")
    words = twin.sentence.words
    assert all(words[k + 1][0] in "aeiou" for k, word in enumerate(words) if word == "an")
    assert all(words[k + 1][0] not in "aeiou" for k, word in enumerate(words) if word == "a")


def test_the_shipped_captions_are_read_as_sentences_of_this_world() -> None:
    scene = next(iter(training_stream(SEED, 1)))
    for example in read_pairs(MINI)[:50]:
        for caption in example.captions:
            is_true(scene, caption.split())


def test_words_without_a_thing_are_refused() -> None:
    scene = next(iter(training_stream(SEED, 1)))
    with pytest.raises(ValueError, match="one or two things"):
        is_true(scene, Sentence(words=("a", "red"), owner=(-1, -1)).words)
