"""The word lists of `swaps.toml`, and what kind of word each is: colour, size, number, relation, noun or verb."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

WORDS = Path(__file__).with_name("swaps.toml")


@cache
def lists() -> dict[str, Any]:
    """The lists of `swaps.toml`: a string becomes a set of words, a list stays a list."""
    found = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    return {name: frozenset(entry.split()) if isinstance(entry, str) else entry for name, entry in found.items()}


@cache
def union(*names: str) -> frozenset[str]:
    return frozenset().union(*(lists()[name] for name in names))


@cache
def split(name: str) -> dict[str, list[tuple[str, ...]]]:
    """The phrases of a list by their first word, longest first."""
    phrases: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted((tuple(entry.split()) for entry in lists()[name]), key=len, reverse=True):
        phrases.setdefault(phrase[0], []).append(phrase)
    return phrases


def among(word: str, *names: str) -> bool:
    return word in union(*names)


@cache
def colour_groups() -> dict[str, int]:
    return {word: k for k, entry in enumerate(lists()["colours"]) for word in entry.split()}


@cache
def size_sides() -> dict[str, frozenset[tuple[int, int]]]:
    """size word -> {(scale, side)}."""
    sides: dict[str, set[tuple[int, int]]] = {}
    for scale, pair in enumerate(lists()["sizes"]):
        for side, entry in enumerate(pair):
            for word in entry.split():
                sides.setdefault(word, set()).add((scale, side))
    return {word: frozenset(found) for word, found in sides.items()}


def determiner(word: str) -> bool:
    return among(word, "singular_determiners", "plural_determiners", "open_determiners")


@cache
def heads_of_prepositions() -> frozenset[str]:
    """First words of prepositions, which end a noun phrase; not "left" and "right", which are often adjectives."""
    return frozenset(split("prepositions")) - {"left", "right"}


def verb_form(word: str) -> bool:
    """A participle such as "sitting" or "parked"; before a noun it may be an adjective."""
    if word.endswith("ing"):
        return len(word) > 4 and not among(word, "ing_nouns")
    return word.endswith("ed") and len(word) > 4 and not among(word, "ed_nouns")


def adverb(word: str) -> bool:
    return len(word) > 4 and word.endswith("ly") and not (word.endswith("fly") or among(word, "ly_nouns"))


def is_finite(word: str) -> bool:
    return among(word, "be", "transitive_finite", "intransitive_finite", "finite") or word in ("has", "have")


def base_form(word: str) -> bool:
    """Whether the word is a verb in its base form, such as "stand"; after one thing it is a noun ("a fruit stand")."""
    return is_finite(word) and any(is_finite(form) for form in (f"{word}s", f"{word}es", f"{word[:-1]}ies"))


def animate(word: str) -> bool:
    """Whether the word names people or animals."""
    return among(word, "people", "animals", "more_people")


def content(word: str) -> bool:
    """Whether the word can be part of a noun phrase after its determiner."""
    if not word[0].isalpha() or determiner(word) or is_finite(word) or adverb(word):
        return False
    return not (among(word, "stops") or word in heads_of_prepositions() or among(word, "particles"))


def is_plural(word: str) -> bool | None:
    """Whether a noun is plural, judged by its form; None for one like "sheep"."""
    if among(word, "invariant"):
        return None
    if among(word, "plurals") or (word.endswith("men") and len(word) > 4):
        return True
    return word.endswith("s") and not word.endswith(("ss", "us", "is", "'s", "’s")) and not among(word, "singular_s")


def describes(word: str) -> bool:
    return among(word, "adjectives") or word in colour_groups() or word in size_sides()
