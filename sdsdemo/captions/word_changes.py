"""Changes of a caption that a model should notice: the same words in another order, or one word replaced."""

from __future__ import annotations

from dataclasses import dataclass

from sdsdemo.captions.swap_rules import SAME_WORDS, swaps_of

KIND_WORDS = {
    "noun": "nouns swapped", "object": "objects swapped", "colour": "colours swapped", "size": "sizes swapped",
    "number": "numbers swapped", "attribute": "attributes swapped", "new-relation": "another relation",
    "new-state": "another state", "new-colour": "another colour", "new-number": "another number",
}  # fmt: skip
"""What the page calls the kinds of `swap_rules.KINDS`."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A caption changed in one way."""

    text: str
    group: str
    """What was changed: a kind of swap, or the word that was replaced."""
    label: str
    """What is new: the words that differ, or the word that stands in its place."""
    same_words: bool
    """Whether it only reorders the caption's words, but for a / an: a model that sees a bag of words cannot tell it."""


def changes_of(caption: str) -> list[Change]:
    """Every change that the rules of `swap_rules` allow, those with the same words first."""
    return [
        Change(text=swap.text, group=KIND_WORDS[swap.kind], label=swap.text, same_words=swap.kind in SAME_WORDS)
        for swap in swaps_of(caption)
    ]
