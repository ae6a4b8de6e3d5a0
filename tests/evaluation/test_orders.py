"""Orders of examples to look through: neighbours differ, and many kinds take no time."""

from __future__ import annotations

import time

from sdsdemo.evaluation.orders import MANY, varied


def test_neighbours_differ_in_both_values_as_long_as_they_can() -> None:
    tags, right = ["a", "a", "a", "b", "b", "b"], [True, True, False, False, False, True]
    order = varied(tags, right)
    assert sorted(order) == list(range(6))
    first = [(tags[place], right[place]) for place in order[:4]]
    assert len(set(first)) == 4
    assert first[0][0] != first[1][0]
    assert first[0][1] != first[1][1]


def test_thousands_of_kinds_take_no_time() -> None:
    """As in VG-Attribution, whose tags are pairs of attributes."""
    count = 12 * MANY
    began = time.process_time()
    assert sorted(varied(list(range(count)), [0] * count)) == list(range(count))
    assert time.process_time() - began < 0.5
