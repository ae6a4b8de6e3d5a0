"""Hard negatives of image captions: the same words in another order, so that a true caption becomes a false one.

    noun        a cat on a red couch                 ->  a red couch on a cat
    object      a man on a bench in a park           ->  a man on a park in a bench
    colour      a black dog and a white cat          ->  a white dog and a black cat
    size        a big dog in a small car             ->  a small dog in a big car
    number      two men riding three horses          ->  three men riding two horses
    attribute   a wooden table with a red cup        ->  a red table with a wooden cup

Rules over the word lists of `swaps.toml`, in the spirit of SugarCrepe's swaps (Hsieh et al. 2023, 2306.14610), which a
language model wrote. Only a / an and capitals are adjusted: where a verb or pronoun would have to change, there is no
swap. A caption without a swap may have a *replacement* (`replacements`, kinds that begin with "new-").
The rules know no grammar, no picture and no likelihood: a swap may be absurd, and a model can then reject it without
the picture. Where they are unsure they make no swap, so the captions that have one are not a random sample.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdsdemo.captions import replacements
from sdsdemo.captions.lexicon import (
    among,
    colour_groups,
    content,
    describes,
    determiner,
    is_finite,
    is_plural,
    size_sides,
    verb_form,
)
from sdsdemo.captions.phrases import MOST_WORDS, Phrase, end_of_run, entry_length, noun_ends, read, relations, with_of
from sdsdemo.captions.stays_true import holds_both_ways, objects_can_swap
from sdsdemo.captions.word_bounds import begins_sentence, is_named, stands_alone

SAME_WORDS = ("noun", "object", "colour", "size", "number", "attribute")
"""Kinds that only reorder the caption's words."""
OTHER_WORDS = replacements.KINDS
KINDS = (*SAME_WORDS, *OTHER_WORDS)
MINI_SWAPS = ("noun", "colour", "size", "number")
"""Kinds of swap that Mini's sentences can have."""
REACH = 4
"""An attribute is swapped only with one of the next REACH: keeps the work linear in the caption's length."""


ATTRIBUTES = (*SAME_WORDS[2:], "new-colour", "new-state")
"""Kinds of swap that may meet a word that is part of a name."""


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A swapped caption."""

    text: str
    kind: str
    """One of `KINDS`."""


@dataclass(frozen=True, kw_only=True)
class _Attribute:
    """A colour, size, number or other adjective at words start..end (end excluded), and the thing it describes."""

    start: int
    end: int
    word: str
    rest: tuple[str, ...]
    """The other words of its phrase, without articles; the last is the noun."""


def swaps_of(caption: str) -> list[Swap]:
    """Every swap and replacement that the rules allow: by kind in the order of `KINDS`, then from left to right."""
    words, spans = read(caption)
    related = list(relations(words))
    found = [("noun", (x.start, x.end), (y.start, y.end)) for x, y in related if _can_swap(words, x, y)]
    found += [("object", (y.start, y.end), (z.start, z.end)) for y, z in _objects(words)]
    for kind in SAME_WORDS[2:]:
        found += [(kind, (a.start, a.end), (b.start, b.end)) for a, b in _pairs(words, kind, related)]
    swaps: dict[str, Swap] = {}
    for kind, a, b in found:
        if not (_is_free(caption, spans, kind, *a) and _is_free(caption, spans, kind, *b)):
            continue
        text = _swapped(caption, spans, a, b)
        if text.lower() != caption.lower():
            swaps.setdefault(text, Swap(text=text, kind=kind))
    for kind, start, end, new in replacements.replacements(words):
        if not _is_free(caption, spans, kind, start, end):
            continue
        text = _replaced(caption, spans, start, end, new)
        swaps.setdefault(text, Swap(text=text, kind=kind))
    return list(swaps.values())


def _is_free(caption: str, spans: Sequence[tuple[int, int]], kind: str, start: int, end: int) -> bool:
    """Whether the words start..end may be moved or replaced: they are whole, and an attribute is no part of a name."""
    first, last = spans[start][0], spans[end - 1][1]
    return stands_alone(caption, first, last) and not (kind in ATTRIBUTES and is_named(caption, first, last))


def swap(caption: str, rng: np.random.Generator, without: Collection[str] = ()) -> Swap | None:
    """A random swap of a kind not in `without`; if there is none, a random replacement; None if there is neither.

    Raises `ValueError` for a kind that is not in `KINDS`.
    """
    if unknown := sorted(set(without) - set(KINDS)):
        raise ValueError(f"without must hold kinds of {', '.join(KINDS)}; it held {', '.join(unknown)}")
    swaps = [found for found in swaps_of(caption) if found.kind not in without]
    swaps = [found for found in swaps if found.kind in SAME_WORDS] or swaps
    return swaps[rng.integers(len(swaps))] if swaps else None


# --- nouns


def _can_swap(words: Sequence[str], x: Phrase, y: Phrase) -> bool:
    """False if the swap may stay true ("a dog behind a brown dog") or what follows would attach to another noun."""
    if y.end < len(words) and among(words[y.end], "leading_on"):
        return False
    if x.start > 0 and among(words[x.start - 1], "be") and words[y.start] in ("the", "this", "these", "those"):
        return False  # "there is the table on a cup"
    rests = [{word for word in words[p.start : p.end] if not determiner(word)} for p in (x, y)]
    if holds_both_ways(words, x, y):
        return False
    return not (rests[0] <= rests[1] or rests[1] <= rests[0])


def _objects(words: Sequence[str]) -> Iterator[tuple[Phrase, Phrase]]:
    """(Y, Z) of "X on Y in Z": the objects of two relations of one thing, where they can be swapped."""
    for start in range(1, len(words)):
        first = _relation_end(words, start)
        y = with_of(words, first) if first else None
        if y is None or y.end >= len(words):
            continue
        k = y.end + (verb_form(words[y.end]) and not among(words[y.end], "transitive"))
        second = _relation_end(words, k) if k < len(words) else 0
        z = with_of(words, second) if second else None
        if z is not None and objects_can_swap(words, words[start:first], words[k:second], y, z):
            yield y, z


def _relation_end(words: Sequence[str], k: int) -> int:
    """The end of the relation at k, or 0. A relation is a preposition or a transitive verb."""
    if among(words[k], "transitive", "transitive_finite"):
        return k + 1
    size = entry_length(words, k, "exclusive_relations") or entry_length(words, k, "side_relations")
    return k + size if size else 0


# --- colours, sizes, numbers


def _pairs(
    words: Sequence[str], kind: str, related: Sequence[tuple[Phrase, Phrase]]
) -> Iterator[tuple[_Attribute, _Attribute]]:
    """The pairs of attributes of a kind that can be swapped, from left to right."""
    find, may = RULES[kind]
    if kind == "number" and any(is_finite(word) for word in words) and "one" in words:
        return
    found = [attribute for k in range(len(words)) if (attribute := find(words, k)) is not None]
    for k, a in enumerate(found):
        for b in found[k + 1 : k + 1 + REACH]:
            if b.start >= a.end + len(a.rest) and may(a, b) and (a.rest != b.rest or _are_related(a, b, related)):
                yield a, b


def _are_related(a: _Attribute, b: _Attribute, related: Sequence[tuple[Phrase, Phrase]]) -> bool:
    """Whether a relation links the nouns of a and b: "a red car and a blue car" says the same either way round."""
    return any(x.start <= a.start < x.end and y.start <= b.start < y.end for x, y in related)


def _attribute(words: Sequence[str], start: int, end: int) -> _Attribute | None:
    """The attribute at words start..end with the words that follow; None if no noun follows."""
    stop = end_of_run(words, end)
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
    """The colour at k with its shade ("dark blue"); None if its noun has several colours or is a person."""
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
    """Whether they are opposite ends of one scale; hair is long or short, never tall."""
    scales = {s for s, side in size_sides()[a.word] for t, other in size_sides()[b.word] if s == t and side != other}
    by_length = [any(among(word, "measured_by_length") for word in attribute.rest) for attribute in (a, b)]
    return bool(scales) and (not any(by_length) or {a.word, b.word} == {"long", "short"})


def _number(words: Sequence[str], k: int) -> _Attribute | None:
    """The number at k before a plural noun; before one like "sheep", also "one"."""
    if not among(words[k], "numbers") or (k > 0 and among(words[k - 1], "singular_determiners", "numbers")):
        return None
    end = end_of_run(words, k + 1)
    if not noun_ends(words, k + 1, end) or any(among(word, "not_counted") for word in words[k + 1 : end]):
        return None
    plural = is_plural(words[end - 1])
    if plural is False or (plural and words[k] == "one"):
        return None
    return _Attribute(start=k, end=k + 1, word=words[k], rest=tuple(words[k + 1 : end]))


def _numbers_may(a: _Attribute, b: _Attribute) -> bool:
    if a.word == b.word:
        return False
    return "one" not in (a.word, b.word) or all(is_plural(x.rest[-1]) is None for x in (a, b))


def _quality(words: Sequence[str], k: int) -> _Attribute | None:
    """The only adjective of a noun, a colour or another; None for words that may fit anything."""
    if not describes(words[k]) or among(words[k], "not_exchanged") or words[k] == "orange":
        return None
    attribute = _attribute(words, k, k + 1)
    if attribute is None or any(describes(word) or verb_form(word) for word in attribute.rest):
        return None
    coloured = words[k] in colour_groups() and any(among(word, "people", "more_people") for word in attribute.rest)
    joined = k > 0 and words[k - 1] in ("and", "or", ",", "&", "very")
    return None if coloured or joined or any(_counts(word) for word in attribute.rest) else attribute


def _qualities_may(a: _Attribute, b: _Attribute) -> bool:
    """Two colours, like two sizes, are a kind of their own; and people get no colour."""
    sorts = [(word in colour_groups(), word in size_sides()) for word in (a.word, b.word)]
    if a.word == b.word or (sorts[0] == sorts[1] != (False, False)):
        return False
    to_people = (
        x.word in colour_groups() and any(among(w, "people", "more_people") for w in y.rest)
        for x, y in ((a, b), (b, a))
    )
    return not any(to_people)


RULES = {
    "colour": (_colour, _colours_may),
    "size": (_size, _sizes_may),
    "number": (_number, _numbers_may),
    "attribute": (_quality, _qualities_may),
}
"""By kind: the function that finds an attribute at a word, and the one that says whether two can be swapped."""


# --- the text


def _swapped(caption: str, spans: Sequence[tuple[int, int]], a: tuple[int, int], b: tuple[int, int]) -> str:
    """The caption with words a and words b (start, end) swapped; a / an and capitals of sentences adjusted."""
    (a0, a1), (b0, b1) = ((spans[start][0], spans[end - 1][1]) for start, end in (a, b))
    at_a, at_b = (_begins_with_capital(caption, start) for start in (a0, b0))
    first, second = _recased(caption[a0:a1], at_a, at_b), _recased(caption[b0:b1], at_b, at_a)
    capitals = caption.isupper()
    head, middle = _with_article(caption[:a0], second, capitals), _with_article(caption[a1:b0], first, capitals)
    return head + second + middle + first + caption[b1:]


def _begins_with_capital(caption: str, start: int) -> bool:
    """Whether a sentence begins here with a capital letter, in a caption that is not all capitals."""
    return caption[start].isupper() and not caption.isupper() and begins_sentence(caption, start)


def _recased(phrase: str, began: bool, begins: bool) -> str:
    """The phrase where it `begins` a sentence or not; whether it `began` one before. "TVs" and "T-shirt" stay."""
    word = re.split(r"\W", phrase, maxsplit=1)[0]
    name = word[1:2].isupper() or (len(word) == 1 and word != "A")
    if began and not name:
        phrase = phrase[0].lower() + phrase[1:]
    return phrase[0].upper() + phrase[1:] if begins else phrase


def _replaced(caption: str, spans: Sequence[tuple[int, int]], start: int, end: int, new: str) -> str:
    """The caption with words start..end replaced; a / an and capitals adjusted."""
    first, last = spans[start][0], spans[end - 1][1]
    old = caption[first:last]
    if old.isupper() and len(old) > 1:
        new = new.upper()
    elif old[0].isupper():
        new = new[0].upper() + new[1:]
    return _with_article(caption[:first], new, caption.isupper()) + new + caption[last:]


def _with_article(before: str, phrase: str, capitals: bool) -> str:
    """The text before a phrase, with its article, a or an, made to fit. capitals: the caption has no other letters."""
    n = "n" if phrase[0].lower() in "aeiou" and not phrase.lower().startswith("one") else ""
    n = n.upper() if capitals else n
    return re.sub(r"\b([Aa])[nN]?(\s+)$", lambda match: match[1] + n + match[2], before)
