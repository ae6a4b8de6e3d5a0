"""The swapped twins: rules by hand-made examples, and 200 sentences of our own with a hand label each."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.captions.swap_rules import KINDS, OTHER_WORDS, SAME_WORDS, Swap, swap, swaps_of

SENTENCES = [
    json.loads(line)
    for line in Path(__file__).with_name("swap_sentences.jsonl").read_text(encoding="utf-8").splitlines()
]
"""`good` is a hand label: the swapped sentence is grammatical, and false of a picture that the caption is true of."""


def of_same_words(caption: str) -> list[Swap]:
    return [found for found in swaps_of(caption) if found.kind in SAME_WORDS]


def texts(caption: str, kind: str | None = None) -> list[str]:
    return [found.text for found in of_same_words(caption) if kind in (None, found.kind)]


def bag(text: str) -> Counter[str]:
    return Counter("a" if word == "an" else word for word in re.findall(r"\w+", text.lower()))


def test_there_are_two_hundred_different_sentences() -> None:
    assert len({row["caption"] for row in SENTENCES}) == len(SENTENCES) == 200


@pytest.mark.parametrize("row", SENTENCES, ids=lambda row: row["caption"][:40])
def test_the_first_swap_is_the_one_that_was_labelled(row: dict) -> None:
    first = next(iter(of_same_words(row["caption"])), None)
    assert (first and first.text, first and first.kind) == (row["swap"], row["kind"])
    assert (row["good"] is None) == (first is None)


def test_nine_swaps_in_ten_are_good() -> None:
    labels = [row["good"] for row in SENTENCES if row["swap"] is not None]
    assert len(labels) > 130
    assert sum(labels) / len(labels) >= 0.9


def test_every_kind_occurs_among_the_sentences() -> None:
    assert {row["kind"] for row in SENTENCES} == {"noun", "object", "colour", "size", "number", None}


def test_a_swap_has_the_same_words_and_is_another_text() -> None:
    for row in SENTENCES:
        for text in texts(row["caption"]):
            assert bag(text) == bag(row["caption"])
            assert text.lower() != row["caption"].lower()
            assert (text[0].isupper(), text[-1]) == (True, ".")


@pytest.mark.parametrize(
    ("caption", "kind", "twin"),
    [
        ("A cat on a red couch.", "noun", "A red couch on a cat."),
        ("a picture of a cup of tea behind an old radio", "noun", "a picture of an old radio behind a cup of tea"),
        ("A man riding two horses.", "noun", "Two horses riding a man."),
        ("A dog and a cat under a bed.", "noun", "A bed under a dog and a cat."),
        ("An orange cat near a black dog", "colour", "A black cat near an orange dog"),
        ("A light blue car beside a red van", "colour", "A red car beside a light blue van"),
        ("A huge dog and a tiny cat", "size", "A tiny dog and a huge cat"),
        ("An enormous hat beside a small shoe", "size", "A small hat beside an enormous shoe"),
        ("Two dogs near three cats!", "number", "Three dogs near two cats!"),
        ("One sheep with two deer", "number", "Two sheep with one deer"),
        ("A man waits on a bench in a park.", "object", "A man waits on a park in a bench."),
        ("A dog next to an old man on a red sofa.", "object", "A dog next to a red sofa on an old man."),
        ("A wooden table with a red cup", "attribute", "A red table with a wooden cup"),
    ],
)
def test_each_kind_by_hand(caption: str, kind: str, twin: str) -> None:
    assert texts(caption, kind) == [twin]


@pytest.mark.parametrize("relation", ["and", "next to", "near", "beside", "with", "facing", "or"])
def test_nouns_are_not_exchanged_across_a_relation_that_holds_both_ways(relation: str) -> None:
    assert texts(f"A cat {relation} a dog.") == []
    assert texts(f"A red car {relation} a blue car.") == []
    assert texts(f"Two big dogs {relation} two small dogs.") == []


@pytest.mark.parametrize(
    "caption", ["A red and white bus.", "A red, white and blue flag.", "A black and white cat, a dog"]
)
def test_two_colours_of_one_noun_are_no_swap(caption: str) -> None:
    assert swaps_of(caption) == []


def test_two_names_of_one_colour_are_no_swap() -> None:
    assert texts("A gray cat near a grey wall.") == []


@pytest.mark.parametrize(
    "caption", ["A man is riding two horses.", "There is a cat on the bed.", "Two boys sit on a bench."]
)
def test_there_is_no_swap_where_a_verb_would_have_to_change(caption: str) -> None:
    assert texts(caption) == []


def test_a_twin_that_stays_true_is_no_swap() -> None:
    assert texts("A dog behind another dog.") == texts("A dog behind a brown dog.") == []


def test_kinds_that_are_ruled_out_are_not_drawn() -> None:
    caption = (
        "A big red dog on a small blue chair in a park with two legs beside three cats, a wooden cup, a green pen."
    )
    assert {found.kind for found in swaps_of(caption)} == set(KINDS)
    for kind in SAME_WORDS:
        others = {drawn.kind for seed in range(80) if (drawn := swap(caption, np.random.default_rng(seed), {kind}))}
        assert others == set(SAME_WORDS) - {kind}
    for kind in OTHER_WORDS:
        without = {*SAME_WORDS, kind}
        others = {drawn.kind for seed in range(80) if (drawn := swap(caption, np.random.default_rng(seed), without))}
        assert others == set(OTHER_WORDS) - {kind}
    assert swap(caption, np.random.default_rng(0), KINDS) is None


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noun, object, colour, .*; it held color"):
        swap("a cat on a mat", np.random.default_rng(0), ["color"])


def test_the_same_seed_draws_the_same_swap() -> None:
    for row in SENTENCES:
        first, again = (swap(row["caption"], np.random.default_rng(5)) for _ in range(2))
        assert first == again
        assert first is None or first in swaps_of(row["caption"])


@pytest.mark.parametrize(
    "text", ["", " ", "🐈 on a 🛋", "...", "a", "an on", "the the the", "two", "'", "red red red", "12 x 3"]
)
def test_odd_text_has_no_swap_and_raises_nothing(text: str) -> None:
    assert swaps_of(text) == []


@pytest.mark.parametrize(
    "piece", ["a red cat on a blue dog. ", "two big dogs and three small cats ", "a cat on ", "red "]
)
def test_the_work_is_linear_in_the_number_of_words(piece: str) -> None:
    swaps_of(piece)  # reads the word lists
    assert calls_of(piece * 20) < 2.5 * calls_of(piece * 10)


def calls_of(text: str) -> int:
    """How many functions are called to find the swaps of a text."""
    calls: Counter[str] = Counter()
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: calls.update([event]))
    try:
        swaps_of(text)
    finally:
        sys.setprofile(before)
    return calls["call"] + calls["c_call"]


@pytest.mark.parametrize(
    "caption",
    [
        "A cat in a hat with a tie",
        "A cake on a plate on a table",
        "A cake on a plate on top of a table",
        "Men riding skateboards on a ramp",
        "Cows in a pasture on a farm",
        "A girl holding a plate with a sandwich",
        "Men sit on a chair and a bench in a park and a yard",
    ],
)
def test_what_may_hold_of_both_things_is_not_exchanged(caption: str) -> None:
    assert texts(caption, "object") == []


@pytest.mark.parametrize(
    ("caption", "kind", "twin"),
    [
        ("A cat on a couch.", "new-relation", "A cat under a couch."),
        ("A cup in front of an old radio.", "new-relation", "A cup behind an old radio."),
        ("A dog next to a tree.", "new-relation", "A dog far away from a tree."),
        ("A woman in a kitchen.", "new-relation", "A woman outside a kitchen."),
        ("A MAN WITH A BEARD.", "new-relation", "A MAN WITHOUT A BEARD."),
        ("Two women sitting on the grass.", "new-state", "Two women standing on the grass."),
        ("A boy riding a horse.", "new-state", "A boy carrying a horse."),
        ("A closed umbrella.", "new-state", "An open umbrella."),
        ("An old man.", "new-state", "A young man."),
        ("An old bus.", "new-state", "A new bus."),
        ("A grey bus.", "new-colour", "An orange bus."),
        ("Two dogs.", "new-number", "Four dogs."),
    ],
)
def test_each_replacement_by_hand(caption: str, kind: str, twin: str) -> None:
    assert twin in [found.text for found in swaps_of(caption) if found.kind == kind]


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("A cup sitting on the table.", "new-state"),
        ("A dog behind a brown dog.", "new-relation"),
        ("A bowl filled with soup.", "new-relation"),
        ("A man on his back.", "new-relation"),
        ("Two dogs in a row.", "new-relation"),
        ("A black and white photo of a dog.", "new-colour"),
        ("A dark blue car.", "new-colour"),
        ("A black man.", "new-colour"),
        ("A two story house.", "new-number"),
        ("A young girl.", "new-state"),
        ("A 2-year old child.", "new-state"),
        ("A two year old dog.", "new-state"),
        ("A clean shaven man.", "new-state"),
        ("A partially open door.", "new-state"),
    ],
)
def test_what_may_stay_true_or_break_the_sentence_is_not_replaced(caption: str, kind: str) -> None:
    assert [found.text for found in swaps_of(caption) if found.kind == kind] == []


def test_a_replacement_is_drawn_only_where_the_same_words_have_no_swap() -> None:
    for row in SENTENCES:
        drawn = {found.kind for seed in range(5) if (found := swap(row["caption"], np.random.default_rng(seed)))}
        assert drawn <= set(SAME_WORDS) if of_same_words(row["caption"]) else drawn <= set(OTHER_WORDS)


def test_no_replacement_is_of_the_same_words() -> None:
    found = [(row["caption"], twin) for row in SENTENCES for twin in swaps_of(row["caption"])]
    others = [(caption, twin.text) for caption, twin in found if twin.kind in OTHER_WORDS]
    assert len(others) > 100
    assert all(bag(caption) != bag(text) and text[0].isupper() for caption, text in others)
