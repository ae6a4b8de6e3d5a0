"""Every model has one glyph and one colour, in figures as on the page."""

from __future__ import annotations

import re

from sdsdemo.evaluation.model_marks import KNOWN, MARKS, mark_of, marks_of
from sdsdemo.settings import ASSETS

CAPTIONS = {"#2563eb", "#d97706"}


def test_the_page_has_the_colours_of_the_figures():
    light = (ASSETS / "style" / "base.css").read_text().replace(".dark .k", "")
    on_page = dict(re.findall(r"\.k(\d) \{ --model: (#\w+)", light))
    assert on_page == {str(mark.slot): mark.colour for mark in MARKS}


def test_models_differ_in_glyph_and_colour_and_from_captions():
    for looks in zip(*((mark.glyph, mark.colour, mark.shape) for mark in MARKS), strict=True):
        assert len(set(looks)) == len(MARKS)
    assert not CAPTIONS & {mark.colour for mark in MARKS}


def test_models_shown_together_have_different_marks():
    names = [*KNOWN, "a", "b", "c"]
    for start in range(len(names) - len(MARKS)):
        shown = names[start : start + len(MARKS)]
        assert len(set(marks_of(shown).values())) == len(MARKS)


def test_a_model_s_mark_does_not_depend_on_the_others():
    assert (
        mark_of("a model of someone") == mark_of("a model of someone") == marks_of(["a model of someone"]).popitem()[1]
    )
    for together in (["mini-clip", "mini-diffusion", "mini-sds-clip"], ["mini-sds-clip", "mini-clip"]):
        assert marks_of(together) == {name: mark_of(name) for name in together}
