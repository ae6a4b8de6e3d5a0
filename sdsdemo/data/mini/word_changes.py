"""All changes of one word in a caption of Mini's language, and all exchanges of two words of a kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from sdsdemo.captions.word_changes import Change
from sdsdemo.data.mini.hard_negatives import SINGULAR, with_articles
from sdsdemo.data.mini.scenes import COLOURS, SHAPES
from sdsdemo.data.mini.sentences import PLURALS, SIZES
from sdsdemo.data.mini.truth import Claim, read_claim

CLASSES: dict[str, tuple[str, ...]] = {
    "shapes": SHAPES,
    "shapes in the plural": tuple(PLURALS.values()),
    "colours": COLOURS,
    "sizes": SIZES,
    "numbers": ("two", "three"),
    "sides": ("left", "right"),
    "places": ("above", "below", "inside"),
}
"""Words that fit in each other's place."""
SWAPPED = {"shapes": "shapes swapped", "colours": "colours swapped", "sizes": "sizes swapped"}
NUMBERS_SWAPPED, ALL_SWAPPED = "numbers swapped", "things swapped"
ENDINGS_CHANGED = "shapes swapped, their endings changed"
"""A bag of words can tell "two moons and a ring" from "two rings and a moon"."""


def changes_of(caption: str) -> list[Change]:
    """Every exchange of two words of a kind, then every replacement of one word by another of its kind.

    Those with the same words come first: an exchange of shapes may give one of them a plural ending.
    None for a caption that is no sentence of Mini's language. A change that claims the same is left out.
    """
    words = caption.casefold().strip(" .!").split()
    claim = read_claim(caption)
    if claim is None:
        return []
    found = {change.text: change for change in (*_exchanges(words, claim), *_replacements(words)) if change.text}
    others = [change for change in found.values() if read_claim(change.text) not in (None, *_same(claim))]
    return sorted(others, key=lambda change: not change.same_words)


def _exchanges(words: Sequence[str], claim: Claim) -> Iterator[Change]:
    """Two words of a kind exchanged; then all of them at once, so that the two things have changed places."""
    both = list(words)
    for kind in ("shapes", "colours", "sizes", "numbers"):
        pool = (*SHAPES, *SINGULAR) if kind == "shapes" else CLASSES[kind]
        at = [k for k, word in enumerate(words) if word in pool]
        for i, j in combinations(at, 2):
            both[i], both[j] = words[j], words[i]
            swapped = list(words)
            swapped[i], swapped[j] = _fitted(words[j], words[i]), _fitted(words[i], words[j])
            text, same = " ".join(with_articles(swapped)), sorted(swapped) == sorted(words)
            group = SWAPPED.get(kind, NUMBERS_SWAPPED) if same else ENDINGS_CHANGED
            yield Change(text=text, group=group, label=text, same_words=same)
    if len(claim.things) == 2:
        text = " ".join(with_articles(both))
        yield Change(text=text, group=ALL_SWAPPED, label=text, same_words=True)


def _replacements(words: Sequence[str]) -> Iterator[Change]:
    for k, word in enumerate(words):
        pool = next((words_of for words_of in CLASSES.values() if word in words_of), ())
        for new in pool:
            if new != word:
                text = " ".join(with_articles([*words[:k], new, *words[k + 1 :]]))
                yield Change(text=text, group=_slot(words, k), label=new, same_words=False)


def _slot(words: Sequence[str], k: int) -> str:
    """The word to be replaced; if it stands there twice, with which of them it is."""
    count = words[: k + 1].count(words[k])
    return words[k] if words.count(words[k]) == 1 else f"{words[k]} ({count})"


def _fitted(word: str, place: str) -> str:
    """A shape's name in the number of the word whose place it takes."""
    if word in SHAPES and place in SINGULAR:
        return PLURALS[word]
    return SINGULAR.get(word, word) if word in SINGULAR and place in SHAPES else word


def _same(claim: Claim) -> tuple[Claim, ...]:
    """The claim, and what says the same in another order."""
    opposite = {"": "", "left": "right", "right": "left", "above": "below", "below": "above"}
    if len(claim.things) < 2 or claim.relation not in opposite:
        return (claim,)
    return claim, Claim(things=claim.things[::-1], relation=opposite[claim.relation])
