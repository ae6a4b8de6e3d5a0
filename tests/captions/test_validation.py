"""Captions as people type them: tidied, or one sentence that says what to change."""

from __future__ import annotations

import pytest

from sdsdemo.captions import cleaning, validation
from sdsdemo.captions.validation import check_captions
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS

FINE = "a red square"


@pytest.mark.parametrize(
    ("typed", "tidy"),
    [
        ("  a   red\tsquare \n", "a red square"),
        ("a red\r\nsquare", "a red square"),
        ("a\u00a0red\u2003square", "a red square"),
        ("a r\x00e\x07d squ\x1bare", "a red square"),
        ("\ufeffa \u200b red\u202e square", "a red square"),
        ("a red \ud800square", "a red square"),
        ("A Red Square!", "A Red Square!"),
        ("un carré rouge", "un carré rouge"),
        ("👩‍🚀 می‌خواهم", "👩‍🚀 می‌خواهم"),
    ],
)
def test_a_caption_is_tidied_and_its_words_are_kept(typed, tidy):
    assert check_captions([typed, "another"]) == [tidy, "another"]


def test_captions_keep_their_order_and_number():
    many = [f"caption {i}" for i in range(LIMITS.captions)]
    assert check_captions(many) == many
    assert check_captions(tuple(many[::-1])) == many[::-1]


def test_tidying_twice_changes_nothing():
    once = check_captions(["  a \u200b\x00 red\n square ", "b"])
    assert check_captions(once) == once


@pytest.mark.parametrize("empty", ["", "   ", "\n\t", "\x00\x01", "\u200b", "\u200d \u200c"])
@pytest.mark.parametrize(("place", "letter"), [(0, "A"), (1, "B"), (2, "C")])
def test_an_empty_caption_is_named(empty, place, letter):
    captions = [FINE, "another", "a third"]
    captions[place] = empty
    with pytest.raises(UserError, match=f"^Caption {letter} is empty: write"):
        check_captions(captions)


@pytest.mark.parametrize(("captions", "missing"), [([FINE], "B"), ([], "A")])
def test_a_missing_caption_is_asked_for(captions, missing):
    with pytest.raises(UserError, match=f"Write caption {missing}"):
        check_captions(captions)


def test_a_long_caption_is_told_its_length_and_the_limit():
    with pytest.raises(UserError, match=rf"Caption B has 5,000 characters: shorten it to {LIMITS.caption_characters}"):
        check_captions([FINE, "x" * 5000])


def test_a_caption_is_measured_before_it_is_cleaned(monkeypatch):
    """Cleaning escapes within escapes takes time that grows with the square of the length: days for 2 MB."""
    monkeypatch.setattr(validation, "clean_captions", lambda captions: pytest.fail("it was cleaned"))
    with pytest.raises(UserError, match="Caption B has 40,002 characters: shorten it"):
        check_captions([FINE, "é&" + "amp;" * 10_000])


def test_long_texts_are_not_kept_in_memory():
    cleaning._remembered.cache_clear()
    assert cleaning.clean_caption("é" * (cleaning.LONGEST_REMEMBERED + 1)) != ""
    assert cleaning._remembered.cache_info().currsize == 0
    assert cleaning.clean_caption("é") == cleaning.clean_caption("é")
    assert cleaning._remembered.cache_info().hits == 1


def test_the_limit_is_allowed_and_counts_what_is_left_after_cleaning():
    longest = "x" * LIMITS.caption_characters
    assert check_captions([FINE, f"   {longest}\x00   "]) == [FINE, longest]
    with pytest.raises(UserError, match=f"{LIMITS.caption_characters + 1} characters"):
        check_captions([FINE, longest + "x"])


@pytest.mark.parametrize("same", [FINE, "A Red SQUARE", " a  red\nsquare ", "a red\u200b square", "a r\x00ed square"])
def test_captions_that_are_equal_but_for_case_and_spacing_are_refused(same):
    with pytest.raises(UserError, match=r"Captions A and C are the same.*change one"):
        check_captions([FINE, "another", same])


def test_letters_that_look_the_same_are_the_same():
    with pytest.raises(UserError, match="A and B are the same"):
        check_captions(["un carr\u00e9", "un carre\u0301"])
    with pytest.raises(UserError, match="A and B are the same"):
        check_captions(["die STRASSE", "die straße"])


def test_other_order_is_another_caption():
    pair = ["a red square left of a blue circle", "a blue circle left of a red square"]
    assert check_captions(pair) == pair


def test_too_many_captions_are_told_how_many_there_may_be():
    with pytest.raises(UserError, match=f"at most {LIMITS.captions} captions; there were {LIMITS.captions + 1}"):
        check_captions([f"caption {i}" for i in range(LIMITS.captions + 1)])


@pytest.mark.parametrize("wrong", ["two captions in one text", [FINE, 3], [FINE, None]])
def test_what_is_no_list_of_texts_is_refused(wrong):
    with pytest.raises(UserError, match="list of two or more texts"):
        check_captions(wrong)
