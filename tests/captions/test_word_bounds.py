"""Abbreviations, addresses, file names and names stay whole in a swapped caption, as in the alt text of the web."""

from __future__ import annotations

import pytest

from sdsdemo.captions.swap_rules import SAME_WORDS, swaps_of


def texts(caption: str, *kinds: str) -> list[str]:
    return [found.text for found in swaps_of(caption) if found.kind in (kinds or SAME_WORDS)]


@pytest.mark.parametrize(
    "caption",
    [
        "A man on a U.S. Navy ship",
        "A cup on a St. Louis table",
        "A dog on a beach http://example.com/dog.jpg",
        "Photo of a dog on a bed.jpg",
        "A dog on a bed/couch",
        "A red car and a blue.png",
        "Mr. Dogs on a bed.",
        "James riding a horse on a beach.",
        "Texas on a map.",
    ],
)
def test_what_is_no_whole_word_does_not_move(caption: str) -> None:
    assert texts(caption, "noun", "colour") == []


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A cat on a bed.", "A bed on a cat."),
        ("“A cat on a bed.”", "“A bed on a cat.”"),
        ("A cat on a bed, example.com/cat.jpg", "A bed on a cat, example.com/cat.jpg"),
        ("A cat on a bed—at night", "A bed on a cat—at night"),
        ("In the U.S. again. A cat on a bed.", "In the U.S. again. A bed on a cat."),
    ],
)
def test_whole_words_beside_punctuation_still_move(caption: str, twin: str) -> None:
    assert texts(caption) == [twin]


@pytest.mark.parametrize(
    "caption",
    [
        "The White House behind a green lawn.",
        "Red Sox and a blue bus",
        "a can of Red Bull on a white desk",
        "A Blue Jay on a red feeder",
        "Visitors in front of the White House.",
        "Two White Sox players",
        "Water traffic along the Thames by Big Ben",
    ],
)
def test_a_colour_or_size_of_a_name_stays(caption: str) -> None:
    found = texts(caption, "colour", "size", "attribute", "new-colour", "new-state")
    names = ["White House", "Red Sox", "Red Bull", "Blue Jay", "White Sox", "Big Ben"]
    assert all(name in text for text in found for name in names if name in caption)


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("Red cars beside a blue van", "Blue cars beside a red van"),
        ("A Red Car Beside a Blue Van", "A Blue Car Beside a Red Van"),
        ("A red Toyota beside a blue van", "A blue Toyota beside a red van"),
        ("A RED CAR BESIDE A BLUE VAN", "A BLUE CAR BESIDE A RED VAN"),
        ("Red TVs beside a blue van", "Blue TVs beside a red van"),
    ],
)
def test_a_colour_with_a_capital_for_another_reason_is_swapped(caption: str, twin: str) -> None:
    assert texts(caption, "colour") == [twin]
