"""Compound modifiers ("a snow covered hill") stay whole in a swapped caption, or the caption has no swap."""

from __future__ import annotations

import re

import pytest

from sdsdemo.captions.lexicon import lists
from sdsdemo.captions.swap_rules import SAME_WORDS, swaps_of


def texts(caption: str) -> list[str]:
    return [found.text for found in swaps_of(caption) if found.kind in SAME_WORDS]


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A skier standing on a snow covered hill.", "A snow covered hill standing on a skier."),
        ("A dog in a pick up truck.", "A pick up truck in a dog."),
        ("A cat on a king sized bed.", "A king sized bed on a cat."),
        ("A cake in a heart shaped pan.", "A heart shaped pan in a cake."),
        ("A cat on a glass topped table.", "A glass topped table on a cat."),
        ("A cat on a fold out couch.", "A fold out couch on a cat."),
        ("A duck on a man made lake.", "A man made lake on a duck."),
        ("A cat on a hand made quilt.", "A hand made quilt on a cat."),
        ("A child under a well stocked shelf.", "A well stocked shelf under a child."),
        ("A dog in a well kept yard.", "A well kept yard in a dog."),
        ("A pot on a wood burning stove.", "A wood burning stove on a pot."),
        ("A dog in a cream colored dining room.", "A cream colored dining room in a dog."),
        ("A woman under a see through umbrella.", "A see through umbrella under a woman."),
        ("A bowl of chocolate covered nuts on a table.", "A table on a bowl of chocolate covered nuts."),
        ("A dog in a red and white striped shirt.", "A red and white striped shirt in a dog."),
        ("A cat on a stuffed animal.", "A stuffed animal on a cat."),
    ],
)
def test_a_known_compound_moves_as_a_whole(caption: str, twin: str) -> None:
    assert texts(caption) == [twin]


def test_an_object_that_is_a_compound_moves_as_a_whole() -> None:
    assert texts("A man in a button down shirt on a horse.") == [
        "A button down shirt in a man on a horse.",
        "A man in a horse on a button down shirt.",
    ]


@pytest.mark.parametrize(
    "caption",
    [
        "A cow behind a barb wired fence.",
        "A table in front of a stain glassed window.",
        "A bear on an odd looking chair.",
        "A pot on a gas burning stove.",
        "A toy pick up truck on a table.",
        "A dog in a family friendly park.",
        "A bowl of barb wired nuts on a table.",
        "A cat on a suit and barb wired fence.",
        "A man near a cat on a museum kept chair.",
        "A banana on a fruit stand.",
        "A fruit stand on a street.",
        "A cat in a baby play pen.",
        "A man on a two story building.",
        "A candle on a three layer cake.",
    ],
)
def test_where_a_phrase_may_only_begin_a_compound_there_is_no_swap(caption: str) -> None:
    assert texts(caption) == []


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A man wearing glasses on a horse.", "Glasses wearing a man on a horse."),
        ("A cat on a train passing trees.", "A train on a cat passing trees."),
        ("A tree behind a plane flying low.", "A plane behind a tree flying low."),
        ("A man seated holding a dog.", "A dog seated holding a man."),
        ("A man quietly eating bread.", "Bread quietly eating a man."),
        ("A sheep in a field being followed by a dog.", "A field in a sheep being followed by a dog."),
        ("A man and a woman sit on two benches.", "Two benches sit on a man and a woman."),
        ("A cat behind a bus parked nearby.", "A bus behind a cat parked nearby."),
    ],
)
def test_what_a_thing_does_is_no_compound(caption: str, twin: str) -> None:
    assert twin in texts(caption)


@pytest.mark.parametrize("word", sorted(lists()["compound_ends"]))
@pytest.mark.parametrize("caption", ["A cat on a hay {} chair.", "Two men near a hay {} car in a hay {} barn."])
def test_no_word_is_left_behind(word: str, caption: str) -> None:
    for text in texts(caption.format(word, word)):
        assert len(re.findall(f"hay {word} (?:chair|car|barn)", text)) == caption.count("{}")


def test_other_words_still_replace_those_around_a_compound() -> None:
    found = {twin.text for twin in swaps_of("A red pick up truck on a huge snow covered hill.")}
    assert "A blue pick up truck on a huge snow covered hill." in found
    assert "A red pick up truck on a tiny snow covered hill." in found
    assert not any("closed" in twin.text for twin in swaps_of("An open faced sandwich on a plate."))


@pytest.mark.parametrize("piece", ["a cat eating cat ", "snow covered ", "a pick up ", "a well cat parking "])
def test_a_thousand_such_words_raise_nothing(piece: str) -> None:
    assert isinstance(swaps_of(piece * 400), list)
