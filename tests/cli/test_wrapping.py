"""Wrapping: nothing is cut, lines are as long as they may be, commands stay whole."""

from __future__ import annotations

import pytest

from sdsdemo.cli.wrapping import wrapped

TEXT = "The weights are not here. Run `python -m sdsdemo fetch clip-vit-b-32` (0.6 GB), or start with --allow-download."
COMMAND = "`python -m sdsdemo fetch clip-vit-b-32`"


@pytest.mark.parametrize("width", [44, 60, 80, 120, 200])
def test_every_word_is_there_within_the_width(width: int) -> None:
    lines = wrapped(TEXT, width, "- ", "  ").splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == f"- {TEXT}"
    assert lines[0].startswith("- ")
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("width", [1, 20, 44, 60])
def test_a_command_stays_on_one_line_though_it_stick_out(width: int) -> None:
    assert COMMAND in wrapped(TEXT, width)
