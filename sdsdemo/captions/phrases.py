"""Finds noun phrases and relations in a caption ("a big red bus", "sitting on") with the word lists of `swaps.toml`.

Where a word is ambiguous, no phrase is found. Changes no caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdsdemo.captions.lexicon import (
    adverb,
    among,
    animate,
    base_form,
    colour_groups,
    content,
    describes,
    determiner,
    is_finite,
    is_plural,
    lists,
    split,
    verb_form,
)

MOST_WORDS = 5
"""Most words after the determiner of a noun phrase; longer ones are not parsed."""
MOST_BETWEEN = 4
"""Most words such as "is", "sitting", "up" before a preposition."""
AGREES_WITHIN = 4
"""Words after a phrase in which a pronoun may agree with it, on top of the length of one phrase."""

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_")


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """The words start..end (end excluded) of a caption that name one or more things."""

    start: int
    end: int
    plural: bool | None
    """None if unknown."""


def read(caption: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The caption's words and punctuation marks in lower case, and the span of each."""
    matches = list(_TOKEN.finditer(caption))
    return [match.group().lower() for match in matches], [match.span() for match in matches]


def end_of_run(words: Sequence[str], start: int) -> int:
    """The end of the run of adjectives and nouns that begins at `start`; compounds such as "snow covered" are in it."""
    end, noun = start, False
    while end < len(words) and end - start <= MOST_WORDS:
        word = words[end]
        if _both_colours(words, end) or (not noun and _compound(words, end)):
            end += 2
            continue
        if not content(word) or (verb_form(word) and not (_modifies(words, end) if noun else _leads_on(words, end))):
            break
        noun = noun or not (describes(word) or verb_form(word))
        end += 1
    return end


def _both_colours(words: Sequence[str], k: int) -> bool:
    """ "black and" of "a black and white cat"."""
    return k + 2 < len(words) and words[k + 1] == "and" and {words[k], words[k + 2]} <= colour_groups().keys()


def _compound(words: Sequence[str], k: int) -> bool:
    """ "pick up" of "a pick up truck", "well stocked" of "a well stocked fridge"."""
    if not _leads_on(words, k + 1):
        return False
    return entry_length(words, k, "compounds") == 2 or (words[k] == "well" and verb_form(words[k + 1]))


def _modifies(words: Sequence[str], k: int) -> bool:
    """ "covered" of "a snow covered hill", "parking" of "a city parking lot"."""
    by_thing = among(words[k], "ing_modifiers") and not animate(words[k - 1])
    return _leads_on(words, k) and (by_thing or among(words[k], "compound_ends"))


def _leads_on(words: Sequence[str], k: int) -> bool:
    return k + 1 < len(words) and content(words[k + 1])


def noun_ends(words: Sequence[str], start: int, end: int) -> bool:
    """Whether the words start..end end with a noun that is no part of a compound, and every noun before is singular."""
    if not 0 < end - start <= MOST_WORDS:
        return False
    head = words[end - 1]
    if (describes(head) and head != "orange") or verb_form(head) or _goes_on(words, end):
        return False
    return not any(is_plural(word) for word in words[start : end - 1] if word != "and")


def _goes_on(words: Sequence[str], end: int) -> bool:
    """Whether the noun before `end` may begin a compound that no list has: "a stain" of "a stain glassed window"."""
    if not _leads_on(words, end) or is_plural(words[end - 1]) or among(words[end + 1], "no_nouns"):
        return False
    word, alive = words[end], animate(words[end - 1])
    if word.endswith("ing"):
        last = words[max(end_of_run(words, end + 1), end + 2) - 1]
        takes = among(word, "acts") or is_plural(last) or among(last, "mass") or describes(last)
        return verb_form(word) and not (alive or takes)  # "a train passing trees"
    if verb_form(words[end + 1]) and (adverb(word) or alive or not _leads_on(words, end + 1)):
        return False  # "a man seated holding a dog"
    return verb_form(word) or adverb(word) or among(word, "in_compounds")


def simple_phrase(words: Sequence[str], start: int) -> Phrase | None:
    """ "a big red bus", "two dogs", "people", "snow": a determiner and a noun, or a noun that needs none."""
    if start >= len(words):
        return None
    first = words[start]
    few = first == "a" and words[start + 1 : start + 2] == ["few"]
    inner = start + few + determiner(first)
    if first == "the" and inner < len(words) and among(words[inner], "plural_determiners"):
        first, inner = words[inner], inner + 1
    end = end_of_run(words, inner)
    if not noun_ends(words, inner, end):
        return None
    head, plural = words[end - 1], is_plural(words[end - 1])
    if few or among(first, "plural_determiners"):
        return None if plural is False else Phrase(start=start, end=end, plural=True)
    if among(first, "singular_determiners"):
        return None if plural else Phrase(start=start, end=end, plural=None if among(head, "collectives") else False)
    if inner == start and not (plural or among(head, "mass")):
        return None
    return Phrase(start=start, end=end, plural=plural)


def with_of(words: Sequence[str], start: int) -> Phrase | None:
    """ "a cup of coffee", "a group of people": a simple phrase with its "of" phrase. None if it names no thing."""
    phrase = simple_phrase(words, start)
    if phrase is None:
        return None
    head = words[phrase.end - 1]
    inner = phrase.end + (words[phrase.end : phrase.end + 1] == ["full"]) + 1
    if words[inner - 1 : inner] != ["of"]:
        return None if among(head, "not_things") else phrase
    if among(head, "pictures"):
        return None
    if (of := simple_phrase(words, inner)) is not None:
        return Phrase(start=start, end=of.end, plural=phrase.plural)
    end = end_of_run(words, inner)
    return Phrase(start=start, end=end, plural=phrase.plural) if noun_ends(words, inner, end) else None


def with_and(words: Sequence[str], start: int) -> Phrase | None:
    """A phrase with another joined by "and": "a cat and a dog", "a suit and tie". None if its end is unclear."""
    phrase = with_of(words, start)
    if phrase is None or words[phrase.end : phrase.end + 1] not in (["and"], ["or"]):
        return phrase
    inner = phrase.end + 1
    if inner < len(words) and (verb_form(words[inner]) or is_finite(words[inner])):
        return phrase  # "a man on a horse and holding a flag": only the verbs are joined
    second = with_of(words, inner)
    if second is None:
        end = end_of_run(words, inner)
        return Phrase(start=start, end=end, plural=True) if noun_ends(words, inner, end) else None
    return Phrase(start=start, end=second.end, plural=True)


def object_of(words: Sequence[str], start: int) -> Phrase | None:
    """The phrase after a relation. In "a cat on a chair and a dog under a bed" it does not include the dog."""
    both, alone = with_and(words, start), with_of(words, start)
    if both is None or alone is None or both.end == alone.end:
        return both
    second = with_of(words, alone.end + 1)
    end, finite = relation(words, second.end) if second else (0, False)
    if not end:
        return both
    return None if finite else alone  # "a man wearing a coat and a hat sits on a bench": whose verb is it?


def entry_length(words: Sequence[str], start: int, name: str) -> int:
    """The length in words of the list entry that begins at `start`; 0 if none does."""
    if start >= len(words):
        return 0
    for phrase in split(name).get(words[start], ()):
        if tuple(words[start : start + len(phrase)]) == phrase:
            return len(phrase)
    return 0


def relation(words: Sequence[str], start: int) -> tuple[int, bool]:
    """(the end of the relation that begins at `start`, or 0; whether it contains a verb that must agree)."""
    finite, k = False, start
    while k < len(words) and k - start <= MOST_BETWEEN:
        word = words[k]
        if size := entry_length(words, k, "relations") or entry_length(words, k, "prepositions"):
            return k + size, finite or is_finite(word)
        if among(word, "transitive", "transitive_finite") and _determined(words, k + 1):
            return k + 1, finite or is_finite(word)
        if not (among(word, "be", "intransitive_finite", "particles") or adverb(word) or verb_form(word)):
            return 0, finite
        finite = finite or is_finite(word)
        k += 1
    return 0, finite


def _determined(words: Sequence[str], start: int) -> bool:
    return simple_phrase(words, start) is not None


def relations(words: Sequence[str]) -> Iterator[tuple[Phrase, Phrase]]:
    """(X, Y) wherever "X relation Y" begins a clause, and swapping X and Y changes no verb."""
    after_object = -1
    for start in range(len(words)):
        with_ = start > 0 and words[start - 1] == "with"
        if not (with_ or start == after_object or _begins(words, start)):
            continue
        x = with_and(words, start)
        if x is None or _is_part(words, x):
            continue
        end, finite = relation(words, x.end)
        if with_ and entry_length(words, x.end, "prepositions") != end - x.end:
            continue
        if with_ and " ".join(words[x.end : end]) not in lists()["on_things"]:
            continue
        y = object_of(words, end) if end else None
        if y is None or (x.plural is False and _is_part(words, y)):
            continue
        if y.end < len(words) and words[y.end] == "and":
            after_object = y.end + 1
        if (x.plural is not None and x.plural == y.plural) or not (finite or _number_shows(words, x, y)):
            yield x, y


def _is_part(words: Sequence[str], phrase: Phrase) -> bool:
    """Whether the phrase is "a fruit" of "a fruit stand": one thing, and a verb that only fits several."""
    return phrase.plural is False and phrase.end < len(words) and base_form(words[phrase.end])


def _begins(words: Sequence[str], start: int) -> bool:
    """Whether a clause begins here, so that the phrase is its subject."""
    if start == 0:
        return True
    last, before = words[start - 1], words[start - 2] if start > 1 else ""
    if last == "of":
        return among(before, "pictures")
    return last in (".", ";", "!", "?", '"', "“", "while", "where", "as") or (before == "there" and among(last, "be"))


def _number_shows(words: Sequence[str], x: Phrase, y: Phrase) -> bool:
    """Whether "there is" before X, "is waving" after Y, or a later "its" or "their" may have to agree with X."""
    if (x.start > 0 and among(words[x.start - 1], "be")) or (y.end < len(words) and is_finite(words[y.end])):
        return True
    return any(among(word, "pronouns") for word in words[y.end : y.end + AGREES_WITHIN + MOST_WORDS])
