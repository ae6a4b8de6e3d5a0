"""Orders of examples to look through: neighbours differ, and many kinds take no time."""

from __future__ import annotations

from collections import Counter

from sdsdemo.evaluation.orders import varied


def test_neighbours_differ_in_both_values_as_long_as_they_can() -> None:
    tags, right = ["a", "a", "a", "b", "b", "b"], [True, True, False, False, False, True]
    order = varied(tags, right)
    assert sorted(order) == list(range(6))
    first = [(tags[place], right[place]) for place in order[:4]]
    assert len(set(first)) == 4
    assert first[0][0] != first[1][0]
    assert first[0][1] != first[1][1]


def test_thousands_of_kinds_are_not_compared_with_each_other() -> None:
    """As in VG-Attribution, whose tags are pairs of attributes: the time would grow by the square of their number."""
    count, compared = 4_000, Counter[str]()

    class Tag(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared["=="] += 1
            assert compared["=="] < count
            return super().__eq__(other)

    assert sorted(varied([Tag(place) for place in range(count)], [0] * count)) == list(range(count))
