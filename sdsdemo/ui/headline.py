"""One sentence that sums an answer up: who chose which caption, and what that shows. Knows no Gradio."""

from __future__ import annotations

from collections.abc import Sequence

from sdsdemo.captions.swap_rules import swaps_of
from sdsdemo.core.wording import and_list
from sdsdemo.types import Answer

LETTERS = "AB"
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
SAW = {
    "colour": "saw which thing has which colour",
    "size": "saw which thing is the larger one",
    "number": "saw how many there are of each",
    "noun": "saw which thing is where",
    "object": "saw which thing is where",
    "attribute": "saw which word describes which thing",
}
"""What a right choice shows, by the kind of swap."""
RIGHT = "chose the right one"


def headline(captions: Sequence[str], answers: Sequence[Answer], truth: int | None = None) -> str:
    """A sentence about all models that decided between two captions; empty if none did or there are not two.

    truth: index of the true caption; None if unknown.
    """
    chosen = [(a.card.title, a.preference) for a in answers if a.preference and a.preference.preferred is not None]
    if len(captions) != 2 or not chosen:
        return ""
    sides: list[list[str]] = [[title for title, p in chosen if p.decided and p.preferred == c] for c in (0, 1)]
    undecided = [title for title, p in chosen if not p.decided]
    sentence = _of_truth(captions, sides[truth], sides[1 - truth]) if truth is not None else _of_sides(sides)
    return _capital(_with_undecided(sentence, undecided))


def kind_of_swap(captions: Sequence[str]) -> str:
    """The kind of swap that turns one caption into the other; empty if the rules know none."""
    for one, other in (captions, captions[::-1]):
        for swap in swaps_of(one):
            if swap.text.casefold().strip(" .") == other.casefold().strip(" ."):
                return swap.kind
    return ""


def _of_truth(captions: Sequence[str], right: list[str], wrong: list[str]) -> str:
    total = len(right) + len(wrong)
    if not total:
        return ""
    saw = SAW.get(kind_of_swap(captions), RIGHT)
    if not wrong:
        return f"{_all(right)} {saw}" if total > 1 else f"{right[0]} {saw}"
    if not right:
        return f"{_all(wrong)} chose the wrong caption"
    wrongly = f"{_some(wrong, total)} chose the wrong caption"
    if len(right) == 1:
        return f"{wrongly}; only {right[0]} {saw}"
    return f"{wrongly}; {and_list(right)} {saw}"


def _of_sides(sides: Sequence[list[str]]) -> str:
    total = sum(map(len, sides))
    if not total:
        return ""
    for side, letter in zip(sides, LETTERS, strict=True):
        if len(side) == total:
            return f"{_all(side)} {_verb(side, 'prefer')} {letter}"
    return "; ".join(
        f"{and_list(side)} {_verb(side, 'prefer')} {letter}" for side, letter in zip(sides, LETTERS, strict=True)
    )


def _with_undecided(sentence: str, undecided: list[str]) -> str:
    """The sentence, and who cannot tell."""
    if not undecided:
        return f"{sentence}." if sentence else ""
    cannot = f"{and_list(undecided)} cannot tell the captions apart"
    return f"{sentence}; {cannot}." if sentence else f"{cannot}."


def _all(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return "Both models" if len(names) == 2 else f"All {_number(len(names))} models"


def _some(names: list[str], total: int) -> str:
    """How many of all: by name if it is one alone."""
    return names[0] if len(names) == 1 else f"{_number(len(names))} of {_number(total)} models"


def _verb(names: list[str], verb: str) -> str:
    return f"{verb}s" if len(names) == 1 else verb


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
