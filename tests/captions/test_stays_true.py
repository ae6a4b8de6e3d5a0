"""No swap is made where it may stay true of the same picture; where it cannot, the swap is still there."""

from __future__ import annotations

import pytest

from sdsdemo.captions.swap_rules import swaps_of


def texts(caption: str, *kinds: str) -> list[str]:
    return [found.text for found in swaps_of(caption) if found.kind in kinds]


@pytest.mark.parametrize(
    "caption",
    [
        "A man sitting in front of a laptop computer.",
        "A plate of food in front of a man.",
        "A child in front of a well stocked refrigerator.",
        "A man looking at a woman.",
        "A boy watching a dog.",
        "A dog on a leash.",
        "A house on fire.",
        "Snow on a bench.",
    ],
)
def test_nouns_stay_where_the_relation_may_hold_both_ways(caption: str) -> None:
    assert texts(caption, "noun") == []


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A man in front of a red bus.", "A red bus in front of a man."),
        ("A museum behind a statue of a lion.", "A statue of a lion behind a museum."),
        ("A cup in front of a laptop.", "A laptop in front of a cup."),
        ("A cat looking at a bird eating bread.", "A bird looking at a cat eating bread."),
        ("A man looking at a painting.", "A painting looking at a man."),
        ("A dog on a red fire hydrant.", "A red fire hydrant on a dog."),
        ("A dog on snow.", "Snow on a dog."),
    ],
)
def test_nouns_move_where_it_cannot(caption: str, twin: str) -> None:
    assert texts(caption, "noun") == [twin]


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A man sitting in front of a laptop.", "A man sitting far away from a laptop."),
        ("A woman behind a cake.", "A woman far away from a cake."),
        ("A pizza in front of a woman.", "A pizza far away from a woman."),
        ("A man in front of a red bus.", "A man behind a red bus."),
        ("A cup behind a laptop.", "A cup in front of a laptop."),
    ],
)
def test_in_front_becomes_far_away_where_behind_may_be_true_too(caption: str, twin: str) -> None:
    assert texts(caption, "new-relation") == [twin]


@pytest.mark.parametrize(
    "caption",
    [
        "A man riding a motorcycle on a track.",
        "Two people riding horses on a rock path.",
        "A person in the snow on some skis.",
        "A man on a surfboard in the ocean.",
        "People on a little boat in the ocean.",
        "A kid on a sled in the snow.",
        "A group of men traveling on horses in the water.",
    ],
)
def test_who_rides_somewhere_is_there_either_way_round(caption: str) -> None:
    assert texts(caption, "object") == []


@pytest.mark.parametrize(
    ("caption", "twin"),
    [
        ("A man riding a horse in a field.", "A man riding a field in a horse."),
        ("A man on a bench in a park.", "A man on a park in a bench."),
        ("A man riding a horse near a dog.", "A man riding a dog near a horse."),
    ],
)
def test_other_objects_of_two_relations_are_exchanged(caption: str, twin: str) -> None:
    assert texts(caption, "object") == [twin]
