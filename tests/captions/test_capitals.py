"""Capitals of a swapped caption: nothing but its meaning tells it from a true one."""

from __future__ import annotations

import pytest

from sdsdemo.captions.swap_rules import SAME_WORDS, swaps_of


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A TV on a dresser in a bedroom.", "A dresser on a TV in a bedroom."),
        ("A DVD on a TV.", "A TV on a DVD."),
        ("A BMW parked in front of a house.", "A house parked in front of a BMW."),
        ("A CD in a black case.", "A black case in a CD."),
        ("TVs on two shelves.", "Two shelves on TVs."),
        ("TV equipment on some grass.", "Some grass on TV equipment."),
        ("T shirts on two shelves.", "Two shelves on T shirts."),
        ("An LED sign above a door.", "A door above an LED sign."),
        ("a TV on a dresser", "a dresser on a TV"),
        ("A MAN ON A HORSE.", "A HORSE ON A MAN."),
        ("AN ORANGE CAT NEAR A BLACK DOG", "A BLACK CAT NEAR AN ORANGE DOG"),
        ("a red ball and an ORANGE cat", "an ORANGE ball and a red cat"),
        ("A quiet room. A TV on a dresser.", "A quiet room. A dresser on a TV."),
        ("A red car. Black dogs run.", "A black car. Red dogs run."),
        ("Red cars beside a blue van", "Blue cars beside a red van"),
        ("Orange cats near a TV and a black dog", "Black cats near a TV and an orange dog"),
    ],
)
def test_a_moved_phrase_takes_the_capitals_of_its_place(caption: str, twin: str) -> None:
    assert twin in [found.text for found in swaps_of(caption) if found.kind in SAME_WORDS]
