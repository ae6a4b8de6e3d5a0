"""Orders of examples to look through, from plain values. Knows no run.

Shape suffix: E example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

MANY = 300
"""Above so many kinds they are not alternated: that takes time by the square of their number, .01 s for 300."""


def varied(first_E: Sequence[Hashable], second_E: Sequence[Hashable]) -> np.ndarray:
    """Places in an order in which neighbours differ: one example of each kind, then the others evenly spread.

    A kind is a pair of values, such as (tag, outcome). The order is a function of the values alone.
    """
    members: dict[tuple[Hashable, Hashable], list[int]] = {}
    for place, kind in enumerate(zip(first_E, second_E, strict=True)):
        members.setdefault(kind, []).append(place)
    turns = {kind: turn for turn, kind in enumerate(_alternating(list(members)))}
    at = np.zeros(len(first_E))
    for kind, places in members.items():
        spread = (np.arange(len(places)) + turns[kind] / len(turns)) / len(places)
        at[places] = np.where(np.arange(len(places)) == 0, turns[kind] - len(turns), spread)
    return np.argsort(at, kind="stable")


def _alternating(kinds: Sequence[tuple[Hashable, Hashable]]) -> list[tuple[Hashable, Hashable]]:
    """The kinds so that both values change from one to the next if possible; many kinds as they are, which is quick."""
    if len(kinds) > MANY:
        return list(kinds)
    left, found = list(kinds), list(kinds[:0])
    counts = [Counter(kind[side] for kind in left) for side in (0, 1)]
    while left:
        last = found[-1] if found else None
        clashes = [0 if last is None else (one[0] == last[0]) + (one[1] == last[1]) for one in left]
        rests = [counts[0][one[0]] + counts[1][one[1]] for one in left]
        chosen = min(range(len(left)), key=lambda place: (clashes[place], -rests[place], place))
        found.append(left.pop(chosen))
        for side in (0, 1):
            counts[side][found[-1][side]] -= 1
    return found


def apart(a_E: np.ndarray, b_E: np.ndarray) -> np.ndarray:
    """How far apart two models rank an example; NaN, sorted last, if one has no score."""
    return np.where(np.isnan(a_E + b_E), np.nan, np.abs(_ranks(a_E) - _ranks(b_E)))


def _ranks(value_E: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(value_E, kind="stable"), kind="stable")
