"""Requests in the order in which a visitor made them."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from sdsdemo.ui.order import HEADER, MOST_SESSIONS, InOrder, head
from sdsdemo.ui.page import launch_options


def request(number: object, session: str | None = "a") -> Any:
    headers = {} if number is None else {HEADER: str(number)}
    return SimpleNamespace(headers=headers, session_hash=session)


@pytest.mark.parametrize("order", permutations((1, 2, 3)))
def test_only_what_comes_after_a_later_one_is_late(order: tuple[int, ...]) -> None:
    in_order = InOrder()
    for place, number in enumerate(order):
        assert in_order.is_late(request(number)) == (number < max(order[: place + 1]))


@pytest.mark.parametrize("other", [request(None), request("x"), request(1, None), None])
def test_what_has_no_number_or_session_is_never_late(other: Any) -> None:
    in_order = InOrder()
    in_order.is_late(request(9))
    assert not in_order.is_late(other)


def test_visitors_do_not_count_for_each_other_and_few_are_remembered() -> None:
    in_order = InOrder()
    for visitor in range(2 * MOST_SESSIONS):
        assert not in_order.is_late(request(1, f"v{visitor}"))
    assert len(in_order._newest) == MOST_SESSIONS


def test_the_page_carries_the_script() -> None:
    assert launch_options("127.0.0.1", 1)["head"] == head()
