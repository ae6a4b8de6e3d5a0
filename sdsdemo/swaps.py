"""Swapped twins of image captions: the same words in another order, so that a true caption becomes a false one.

    noun      a cat on a red couch              ->  a red couch on a cat
    colour    a black dog and a white cat       ->  a white dog and a black cat
    size      a big dog in a small car          ->  a small dog in a big car
    number    two men riding three horses       ->  three men riding two horses

Rules over the word lists of `swaps.toml`, in the spirit of SugarCrepe's swaps (Hsieh et al. 2023, 2306.14610), which a
language model wrote. Only a / an and capitals are mended: where a verb or pronoun would have to change, there is no
swap. Knows no grammar, no picture and no likelihood: a twin may be absurd, and then it can be told without the picture.
Where the rules are unsure there is no swap, so the captions that have one are no random sample of captions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdsdemo.swap_words import (
    adverb,
    among,
    colour_groups,
    content,
    describes,
    determiner,
    is_finite,
    is_plural,
    lists,
    size_sides,
    split,
    verb_form,
)

KINDS = ("noun", "colour", "size", "number")
MOST_WORDS = 5
"""A noun phrase with more words after its determiner is not understood."""
MOST_BETWEEN = 4
"""Words such as "is", "sitting", "up" that may come before a preposition."""
REACH = 4
"""A colour is exchanged with one of so many that follow: keeps the work linear in the caption's length."""

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_")


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A swapped caption."""

    text: str
    kind: str
    """One of `KINDS`."""


@dataclass(frozen=True, kw_only=True)
class _Phrase:
    """Words start..end (end excluded) of a caption that name one thing or more."""

    start: int
    end: int
    plural: bool | None
    """None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class _Attribute:
    """A colour, size or number at words start..end (end excluded), and what it is said of."""

    start: int
    end: int
    word: str
    rest: tuple[str, ...]
    """The other words of its phrase, without articles; the last is the noun."""


def swaps_of(caption: str) -> list[Swap]:
    """Every swap that the rules allow: by kind in the order of `KINDS`, then from left to right. May be empty."""
    words, spans = _read(caption)
    related = list(_relations(words))
    found = [("noun", (x.start, x.end), (y.start, y.end)) for x, y in related if _may_change_places(words, x, y)]
    for kind in KINDS[1:]:
        found += [(kind, (a.start, a.end), (b.start, b.end)) for a, b in _pairs(words, kind, related)]
    swaps: dict[str, Swap] = {}
    for kind, a, b in found:
        text = _exchanged(caption, spans, a, b)
        if text.lower() != caption.lower():
            swaps.setdefault(text, Swap(text=text, kind=kind))
    return list(swaps.values())


def swap(caption: str, rng: np.random.Generator, without: Collection[str] = ()) -> Swap | None:
    """One of the swaps at random, none of the kinds in `without`; None where there is none.

    Raises `ValueError` for a kind that is not in `KINDS`.
    """
    if unknown := sorted(set(without) - set(KINDS)):
        raise ValueError(f"without must hold kinds of {', '.join(KINDS)}; it held {', '.join(unknown)}")
    swaps = [found for found in swaps_of(caption) if found.kind not in without]
    return swaps[rng.integers(len(swaps))] if swaps else None


# --- phrases and relations


def _read(caption: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The caption's words and marks in lower case, and where each stands."""
    matches = list(_TOKEN.finditer(caption))
    return [match.group().lower() for match in matches], [match.span() for match in matches]


def _run(words: Sequence[str], start: int) -> int:
    """Where the adjectives and nouns that begin at `start` end."""
    end, noun = start, False
    while end < len(words) and end - start <= MOST_WORDS:
        word = words[end]
        if _both_colours(words, end):
            end += 2
            continue
        if not content(word) or (verb_form(word) and (noun or not _leads_on(words, end))):
            break
        noun = noun or not (describes(word) or verb_form(word))
        end += 1
    return end


def _both_colours(words: Sequence[str], k: int) -> bool:
    """ "black and" of "a black and white cat"."""
    return k + 2 < len(words) and words[k + 1] == "and" and {words[k], words[k + 2]} <= colour_groups().keys()


def _leads_on(words: Sequence[str], k: int) -> bool:
    return k + 1 < len(words) and content(words[k + 1])


def _noun_ends(words: Sequence[str], start: int, end: int) -> bool:
    """Do the words start..end end with a noun, and is every noun before it in the singular?"""
    if not 0 < end - start <= MOST_WORDS:
        return False
    head = words[end - 1]
    if (describes(head) and head != "orange") or verb_form(head):
        return False
    return not any(is_plural(word) for word in words[start : end - 1] if word != "and")


def _simple(words: Sequence[str], start: int) -> _Phrase | None:
    """ "a big red bus", "two dogs", "people", "snow": a determiner and a noun, or a noun that needs none."""
    if start >= len(words):
        return None
    first = words[start]
    few = first == "a" and words[start + 1 : start + 2] == ["few"]
    inner = start + few + determiner(first)
    if first == "the" and inner < len(words) and among(words[inner], "plural_determiners"):
        first, inner = words[inner], inner + 1
    end = _run(words, inner)
    if not _noun_ends(words, inner, end):
        return None
    head, plural = words[end - 1], is_plural(words[end - 1])
    if few or among(first, "plural_determiners"):
        return None if plural is False else _Phrase(start=start, end=end, plural=True)
    if among(first, "singular_determiners"):
        return None if plural else _Phrase(start=start, end=end, plural=None if among(head, "collectives") else False)
    if inner == start and not (plural or among(head, "mass")):
        return None
    return _Phrase(start=start, end=end, plural=plural)


def _with_of(words: Sequence[str], start: int) -> _Phrase | None:
    """ "a cup of coffee", "a group of people": a simple phrase and what it is of. None where it is no thing."""
    phrase = _simple(words, start)
    if phrase is None:
        return None
    head = words[phrase.end - 1]
    inner = phrase.end + (words[phrase.end : phrase.end + 1] == ["full"]) + 1
    if words[inner - 1 : inner] != ["of"]:
        return None if among(head, "not_things") else phrase
    if among(head, "pictures"):
        return None
    if (of := _simple(words, inner)) is not None:
        return _Phrase(start=start, end=of.end, plural=phrase.plural)
    end = _run(words, inner)
    return _Phrase(start=start, end=end, plural=phrase.plural) if _noun_ends(words, inner, end) else None


def _whole(words: Sequence[str], start: int) -> _Phrase | None:
    """A phrase with the one joined by "and": "a cat and a dog", "a suit and tie". None where its end is not sure."""
    phrase = _with_of(words, start)
    if phrase is None or words[phrase.end : phrase.end + 1] not in (["and"], ["or"]):
        return phrase
    inner = phrase.end + 1
    if inner < len(words) and (verb_form(words[inner]) or is_finite(words[inner])):
        return phrase  # "a man on a horse and holding a flag": only the verbs are joined
    second = _with_of(words, inner)
    if second is None:
        end = _run(words, inner)
        return _Phrase(start=start, end=end, plural=True) if _noun_ends(words, inner, end) else None
    return _Phrase(start=start, end=second.end, plural=True)


def _object(words: Sequence[str], start: int) -> _Phrase | None:
    """What follows a relation. In "a cat on a chair and a dog under a bed" the dog is not part of it."""
    whole, alone = _whole(words, start), _with_of(words, start)
    if whole is None or alone is None or whole.end == alone.end:
        return whole
    second = _with_of(words, alone.end + 1)
    end, finite = _relation(words, second.end) if second else (0, False)
    if not end:
        return whole
    return None if finite else alone  # "a man wearing a coat and a hat sits on a bench": whose verb is it?


def _listed(words: Sequence[str], start: int, name: str) -> int:
    """How many words of an entry of the list stand at `start`."""
    if start >= len(words):
        return 0
    for phrase in split(name).get(words[start], ()):
        if tuple(words[start : start + len(phrase)]) == phrase:
            return len(phrase)
    return 0


def _relation(words: Sequence[str], start: int) -> tuple[int, bool]:
    """(where the relation that begins at `start` ends, or 0; does it hold a verb that must agree)."""
    finite, k = False, start
    while k < len(words) and k - start <= MOST_BETWEEN:
        word = words[k]
        if size := _listed(words, k, "relations") or _listed(words, k, "prepositions"):
            return k + size, finite or is_finite(word)
        if among(word, "transitive", "transitive_finite") and _determined(words, k + 1):
            return k + 1, finite or is_finite(word)
        if not (among(word, "be", "intransitive_finite", "particles") or adverb(word) or verb_form(word)):
            return 0, finite
        finite = finite or is_finite(word)
        k += 1
    return 0, finite


def _determined(words: Sequence[str], start: int) -> bool:
    return _simple(words, start) is not None


def _relations(words: Sequence[str]) -> Iterator[tuple[_Phrase, _Phrase]]:
    """(X, Y) wherever "X relation Y" begins a clause and X and Y may change places without a verb changing."""
    after_object = -1
    for start in range(len(words)):
        with_ = start > 0 and words[start - 1] == "with"
        if not (with_ or start == after_object or _begins(words, start)):
            continue
        x = _whole(words, start)
        if x is None:
            continue
        end, finite = _relation(words, x.end)
        if with_ and _listed(words, x.end, "prepositions") != end - x.end:
            continue
        if with_ and " ".join(words[x.end : end]) not in lists()["on_things"]:
            continue
        y = _object(words, end) if end else None
        if y is None:
            continue
        if y.end < len(words) and words[y.end] == "and":
            after_object = y.end + 1
        if (x.plural is not None and x.plural == y.plural) or not (finite or _number_shows(words, x, y)):
            yield x, y


def _begins(words: Sequence[str], start: int) -> bool:
    """Does a clause begin here, so that a phrase is its subject?"""
    if start == 0:
        return True
    last, before = words[start - 1], words[start - 2] if start > 1 else ""
    if last == "of":
        return among(before, "pictures")
    return last in (".", ";", "!", "?", '"', "“", "while", "where", "as") or (before == "there" and among(last, "be"))


def _number_shows(words: Sequence[str], x: _Phrase, y: _Phrase) -> bool:
    """Does "there is" before X, "is waving" after Y, or an "its" or "their" further on agree with X?"""
    if (x.start > 0 and among(words[x.start - 1], "be")) or (y.end < len(words) and is_finite(words[y.end])):
        return True
    return any(among(word, "pronouns") for word in words[y.end : y.end + REACH + MOST_WORDS])


def _may_change_places(words: Sequence[str], x: _Phrase, y: _Phrase) -> bool:
    """False where it stays true ("a dog behind a brown dog") or what follows would hang on another noun."""
    if y.end < len(words) and among(words[y.end], "leading_on"):
        return False
    if x.start > 0 and among(words[x.start - 1], "be") and words[y.start] in ("the", "this", "these", "those"):
        return False  # "there is the table on a cup"
    rests = [{word for word in words[p.start : p.end] if not determiner(word)} for p in (x, y)]
    return not (rests[0] <= rests[1] or rests[1] <= rests[0])


# --- colours, sizes, numbers


def _pairs(
    words: Sequence[str], kind: str, related: Sequence[tuple[_Phrase, _Phrase]]
) -> Iterator[tuple[_Attribute, _Attribute]]:
    """The pairs of attributes of a kind that may be exchanged, from left to right."""
    find, may = {"colour": (_colour, _colours_may), "size": (_size, _sizes_may), "number": (_number, _numbers_may)}[
        kind
    ]
    if kind == "number" and any(is_finite(word) for word in words) and "one" in words:
        return
    found = [attribute for k in range(len(words)) if (attribute := find(words, k)) is not None]
    for k, a in enumerate(found):
        for b in found[k + 1 : k + 1 + REACH]:
            if b.start >= a.end + len(a.rest) and may(a, b) and (a.rest != b.rest or _apart(a, b, related)):
                yield a, b


def _apart(a: _Attribute, b: _Attribute, related: Sequence[tuple[_Phrase, _Phrase]]) -> bool:
    """Is a's noun X and b's noun Y of a relation? "a red car and a blue car" says the same either way round."""
    return any(x.start <= a.start < x.end and y.start <= b.start < y.end for x, y in related)


def _attribute(words: Sequence[str], start: int, end: int) -> _Attribute | None:
    """The attribute at words start..end with the words that follow; None where no noun follows."""
    stop = _run(words, end)
    if stop == end or not content(words[end]) or words[stop - 1] in ("looking", "colored", "coloured"):
        return None
    first = start
    while first > 0 and start - first < MOST_WORDS and (content(words[first - 1]) or _counts(words[first - 1])):
        first -= 1
    rest = (*words[first:start], *words[end:stop])
    return _Attribute(start=start, end=end, word=words[end - 1], rest=rest)


def _counts(word: str) -> bool:
    return among(word, "numbers", "plural_determiners")


def _colour(words: Sequence[str], k: int) -> _Attribute | None:
    """The colour at k with its shade ("dark blue"); None for one of several on the same noun, or for a person's."""
    if words[k] not in colour_groups():
        return None
    start = k - 1 if k > 0 and among(words[k - 1], "shades") else k
    before = [word for word in words[max(0, start - 4) : start] if word not in ("and", "or", ",", "&")]
    joined = start > 0 and (words[start - 1] in ("and", "or", ",", "&") or words[start - 1] in colour_groups())
    if joined and before and before[-1] in colour_groups():
        return None
    attribute = _attribute(words, start, k + 1)
    if attribute is None or any(word in colour_groups() for word in attribute.rest):
        return None
    return None if any(among(word, "people") for word in attribute.rest) else attribute


def _colours_may(a: _Attribute, b: _Attribute) -> bool:
    return colour_groups()[a.word] != colour_groups()[b.word]


def _size(words: Sequence[str], k: int) -> _Attribute | None:
    if words[k] not in size_sides() or (k > 0 and words[k - 1] in size_sides()):
        return None
    attribute = _attribute(words, k, k + 1)
    if attribute is None or any(word in size_sides() or among(word, "size_idioms") for word in attribute.rest):
        return None
    return attribute


def _sizes_may(a: _Attribute, b: _Attribute) -> bool:
    """Opposite ends of one scale; hair is long or short, and never tall."""
    scales = {s for s, side in size_sides()[a.word] for t, other in size_sides()[b.word] if s == t and side != other}
    by_length = [any(among(word, "measured_by_length") for word in attribute.rest) for attribute in (a, b)]
    return bool(scales) and (not any(by_length) or {a.word, b.word} == {"long", "short"})


def _number(words: Sequence[str], k: int) -> _Attribute | None:
    """The number at k of a noun in the plural; of "sheep", also "one"."""
    if not among(words[k], "numbers") or (k > 0 and among(words[k - 1], "singular_determiners", "numbers")):
        return None
    end = _run(words, k + 1)
    if not _noun_ends(words, k + 1, end) or any(among(word, "not_counted") for word in words[k + 1 : end]):
        return None
    plural = is_plural(words[end - 1])
    if plural is False or (plural and words[k] == "one"):
        return None
    return _Attribute(start=k, end=k + 1, word=words[k], rest=tuple(words[k + 1 : end]))


def _numbers_may(a: _Attribute, b: _Attribute) -> bool:
    if a.word == b.word:
        return False
    return "one" not in (a.word, b.word) or all(is_plural(x.rest[-1]) is None for x in (a, b))


# --- the text


def _exchanged(caption: str, spans: Sequence[tuple[int, int]], a: tuple[int, int], b: tuple[int, int]) -> str:
    """The caption with words a and words b (start, end) in each other's place; a / an and the first letter mended."""
    (a0, a1), (b0, b1) = ((spans[start][0], spans[end - 1][1]) for start, end in (a, b))
    first, second = caption[a0:a1], caption[b0:b1]
    if (a[0] == 0 and not first.isupper()) or first in ("A", "An"):
        first = first[0].lower() + first[1:]
        if caption[a0].isupper():
            second = second[0].upper() + second[1:]
    head = _mended(caption[:a0], second)
    return head + second + _mended(caption[a1:b0], first) + first + caption[b1:]


def _mended(before: str, phrase: str) -> str:
    """The text before a phrase, with a or an as the phrase needs it."""
    article = "an" if phrase[0].lower() in "aeiou" and not phrase.lower().startswith("one") else "a"
    return re.sub(r"\b([Aa])n?(\s+)$", lambda match: match[1] + article[1:] + match[2], before)
