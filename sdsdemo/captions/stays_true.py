"""Which exchanges may stay true of the picture, so that they are no swaps.

    a man in front of a laptop      a laptop in front of a man        both have a front, and face each other
    a boy watching a dog            a dog watching a boy
    a dog on a leash                a leash on a dog
    a man riding a bike on a road   a man riding a road on a bike

Knows words and phrases, and no picture.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sdsdemo.captions.lexicon import among, animate, determiner, is_finite, lists, verb_form
from sdsdemo.captions.phrases import Phrase


def may_face(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one names people or animals and the other what they may face, such as a laptop or a plate.

    "A man in front of a laptop", "behind a laptop" and "a laptop in front of a man" may then all be true of a picture.
    """
    alive = [any(animate(word) for word in words) for words in (one, other)]
    return alive[0] != alive[1] and not any(among(word, "backdrops") for word in (other if alive[0] else one))


def holds_both_ways(words: Sequence[str], x: Phrase, y: Phrase) -> bool:
    """Whether the relation between X and Y may hold between Y and X too."""
    relation, ends = " ".join(words[x.end : y.start]), (words[x.end - 1], words[y.end - 1])
    names = words[x.start : x.end], words[y.start : y.end]
    if relation.endswith("in front of"):
        return may_face(*names)
    if relation.endswith(tuple(lists()["faced"])):
        acts = y.end < len(words) and verb_form(words[y.end])  # "a man watching a woman cutting a cake"
        return not acts and all(any(animate(word) for word in name) for name in names)
    on = relation.split()[-1:] == ["on"]
    return on and (ends[0] == "snow" or any(among(word, "tied") for word in ends))


def objects_can_swap(words: Sequence[str], first: Sequence[str], second: Sequence[str], y: Phrase, z: Phrase) -> bool:
    """False if both orders may well be true, or if what follows would attach to another noun."""
    acts = [among(relation[0], "transitive", "transitive_finite") for relation in (first, second)]
    sure = [
        act or " ".join(relation) in lists()["exclusive_relations"]
        for act, relation in zip(acts, (first, second), strict=True)
    ]
    nouns = [{word for word in words[p.start : p.end] if not determiner(word)} for p in (y, z)]
    heads = [words[p.end - 1] for p in (y, z)]
    if not any(sure) or first == second or acts[1] or nouns[0] & nouns[1]:
        return False
    if (acts[0] and second[0] == "with") or (first[0] == "at" and not sure[1]):
        return False
    if second[0] == "with" and not among(heads[0], "places"):
        return False
    if all(among(relation[0], "worn_by") for relation in (first, second)) or first[0] == second[0]:
        return False
    if all(among(head, "places") for head in heads) or (among(first[0], "ridden") and _any(nouns, "boards")):
        return False
    if _carries(first, second, nouns, heads):
        return False
    after = words[z.end] if z.end < len(words) else ""
    return not among(after, "leading_on") and after not in ("and", "or") and not is_finite(after)


def _carries(
    first: Sequence[str], second: Sequence[str], nouns: Sequence[Collection[str]], heads: Sequence[str]
) -> bool:
    """Whether one is a place and the other carries people there: on it or in it, they are there either way round."""
    if among(first[0], "ridden"):
        return second[0] == "on" and among(heads[1], "places", "ways")
    if not {first[0], second[0]} <= {"on", "in"}:
        return False
    return any(
        among(head, "places", "ways") and any(among(word, "boards", "mounts") for word in carrier)
        for head, carrier in zip(heads, nouns[::-1], strict=True)
    )


def _any(nouns: Sequence[Collection[str]], name: str) -> bool:
    return any(among(word, name) for words in nouns for word in words)
