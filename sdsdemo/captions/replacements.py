"""Replaces a word or phrase of a caption, so that a true caption becomes a false one. The bag of words changes.

    new-relation   a cat on a couch            ->  a cat under a couch
    new-state      a man sitting on a bench    ->  a man standing on a bench
    new-colour     a red bus                   ->  a blue bus
    new-number     two dogs on a bed           ->  four dogs on a bed

Follows SugarCrepe's replacements (Hsieh et al. 2023, 2306.14610), with the tables of `swaps.toml`. A bag-of-words model
can tell these from the caption, unlike the swaps of `swap_rules`. Never sees the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from sdsdemo.captions.lexicon import (
    adverb,
    among,
    animate,
    colour_groups,
    content,
    is_finite,
    is_plural,
    lists,
    size_sides,
    verb_form,
)
from sdsdemo.captions.phrases import end_of_run, simple_phrase, with_of
from sdsdemo.captions.stays_true import may_face

KINDS = ("new-relation", "new-state", "new-colour", "new-number")

AGES = ("year", "years", "yr", "month", "months", "week", "weeks", "day", "days")

Edit = tuple[str, int, int, str]
"""(kind, start, end, new words): the words start..end (end excluded) are replaced."""


def replacements(words: Sequence[str]) -> Iterator[Edit]:
    """Every replacement that the rules allow, by kind in the order of `KINDS`, then from left to right."""
    for rule in (_relations, _states, _colours, _numbers):
        yield from rule(words)


@cache
def _table(name: str) -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """By first word: (words, their replacement), longest first."""
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for old, new in sorted(lists()[name], key=lambda pair: -len(pair[0].split())):
        found.setdefault(old.split()[0], []).append((tuple(old.split()), new))
    return found


def _entry_at(words: Sequence[str], k: int, name: str) -> tuple[int, str] | None:
    """(the end of the table's entry at k, its replacement)."""
    for old, new in _table(name).get(words[k], ()):
        if tuple(words[k : k + len(old)]) == old:
            return k + len(old), new
    return None


def _relations(words: Sequence[str]) -> Iterator[Edit]:
    k = 1
    while k < len(words):
        found = _entry_at(words, k, "opposite_relations")
        end, new = found or (k + 1, _in_or_with(words, k))
        thing = with_of(words, end) if new and _relates(words, k) else None
        if thing is not None and words[thing.end - 1] not in words[:k]:  # "a dog behind a brown dog" holds both ways
            if new in ("behind", "in front of") and may_face(words[:k], words[thing.start : thing.end]):
                new = "far away from"
            yield "new-relation", k, end, new
        k = end


def _in_or_with(words: Sequence[str], k: int) -> str:
    """The replacement of "in" before "a kitchen", or of "with" in "a man with a beard"; empty if there is none."""
    phrase = simple_phrase(words, k + 1) if words[k] in ("in", "with") else None
    if phrase is None:
        return ""
    head, before = words[phrase.end - 1], words[k - 1]
    if words[k] == "in":
        return "outside" if among(head, "outside_of") else ""
    named = content(before) and not verb_form(before) and not is_finite(before)
    return "without" if named and not among(head, "without_places", "people") else ""


def _relates(words: Sequence[str], k: int) -> bool:
    """Whether the relation follows a word that it can belong to: a noun, a participle, a form of "be"."""
    before = words[k - 1]
    if among(before, "not_placed"):
        return False
    return content(before) or is_finite(before) or adverb(before) or before in ("together", "around", "asleep")


def _states(words: Sequence[str]) -> Iterator[Edit]:
    for k in range(len(words)):
        if (
            (found := _entry_at(words, k, "opposite_states"))
            and k
            and _is_animate(words, k)
            and _placed(words, found[0])
        ):
            yield "new-state", k, *found
        if (found := _entry_at(words, k, "opposite_acts")) and k and with_of(words, found[0]) is not None:
            yield "new-state", k, *found
        partly = k > 0 and words[k - 1] in ("partially", "partly", "partial", "half", "sliced")
        if not partly and (found := _entry_at(words, k, "opposite_words")) and _describes_a_noun(words, *found):
            end, new = found
            yield "new-state", k, end, "young" if new == "new" and _is_alive(words, end) else new


def _is_animate(words: Sequence[str], k: int) -> bool:
    """Whether the nearest noun before k is a person or an animal."""
    start = k - 1
    while start > 0 and (among(words[start], "be", "particles") or adverb(words[start])):
        start -= 1
    return animate(words[start])


def _placed(words: Sequence[str], k: int) -> bool:
    """Whether a place follows, so that "standing" fits where "sitting" did."""
    return k < len(words) and words[k] in (
        "on",
        "in",
        "at",
        "near",
        "next",
        "beside",
        "behind",
        "under",
        "by",
        "inside",
    )


def _describes_a_noun(words: Sequence[str], end: int, new: str) -> bool:
    """Whether a noun follows, and no other modifier of it would contradict the new word."""
    rest = words[end : end_of_run(words, end)]
    if not rest or not content(rest[0]) or new in words or (new == "new" and _is_age(words, end - 1)):
        return False
    if words[end - 1] == "clean" and rest[0] in ("shaven", "cut"):
        return False
    if any(_acts(rest, k) or word in size_sides() for k, word in enumerate(rest)):
        return False
    if new == "old" and any(among(word, "children") for word in rest):
        return False
    return not any(among(word, "size_idioms", "measured_by_length") for word in rest)


def _is_alive(words: Sequence[str], start: int) -> bool:
    """Whether the words from here on name people or animals, which are young where they are not old."""
    return animate(words[end_of_run(words, start) - 1])


def _is_age(words: Sequence[str], k: int) -> bool:
    """Whether "old" at k is said of an age: "a two year old child", "a 2-year old child"."""
    return k > 0 and (words[k - 1].endswith(AGES) or words[k - 1].isdigit())


def _acts(rest: Sequence[str], k: int) -> bool:
    """Whether word k is a participle, other than "covered" of "huge snow covered hill", unlike that of "open faced"."""
    return verb_form(rest[k]) and not among(rest[k], "ing_modifiers", *["compound_ends"] * (k > 0))


def _colours(words: Sequence[str]) -> Iterator[Edit]:
    groups = colour_groups()
    for k, word in enumerate(words):
        found = _entry_at(words, k, "other_colours")
        if found is None or _beside_colour(words, k):
            continue
        stop = end_of_run(words, k + 1)
        if (
            stop == k + 1
            or not content(words[k + 1])
            or any(among(w, "people", "pictures") for w in words[k + 1 : stop] if w != "up")
        ):
            continue
        present = {groups[other] for other in words if other in groups}
        new = next((c for c in (found[1], "purple", "green", "blue") if groups[c] not in present), None)
        if new is not None and word in groups:
            yield "new-colour", k, k + 1, new


def _beside_colour(words: Sequence[str], k: int) -> bool:
    """Whether the colour is one of several colours of a thing, or has a shade."""
    near = [*words[max(0, k - 2) : k], *words[k + 1 : k + 3]]
    return any(word in colour_groups() for word in near) or (k > 0 and among(words[k - 1], "shades"))


def _numbers(words: Sequence[str]) -> Iterator[Edit]:
    for k in range(len(words)):
        found = _entry_at(words, k, "other_numbers")
        if found is None or (k > 0 and words[k - 1] in ("a", "the", "of", "these", "those", "number")):
            continue
        stop = end_of_run(words, k + 1)
        if (
            stop > k + 1
            and is_plural(words[stop - 1])
            and not any(among(w, "not_counted") for w in words[k + 1 : stop])
        ):
            yield "new-number", k, *found
