"""Requests in the order in which a visitor made them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from sdsdemo.ui.compare import CompareTab
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.examples import read_examples
from sdsdemo.ui.page import launch_options
from sdsdemo.ui.request_order import COMING, HEADER, LOST, MOST_SESSIONS, InOrder, LastSent, has_come, head, is_coming
from tests.conftest import fake_workbench


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


def test_only_the_same_again_counts_as_sent() -> None:
    sent = LastSent()
    found = [sent.is_same(request(None, session), what) for session, what in ["ax", "ax", "bx", "ay", "ax", "bx"]]
    assert found == [False, True, False, False, False, True]
    assert not sent.is_same(request(1, None), "x")
    assert not sent.is_same(request(1, None), "x")


def test_an_answer_to_an_earlier_request_is_not_taken_for_the_last() -> None:
    sent = LastSent()
    found = [sent.is_same(request(number), what) for number, what in [(5, "b"), (4, "a"), (6, "b"), (3, "b")]]
    assert found == [False, False, True, True]


def test_a_page_that_lost_an_answer_is_sent_everything_again() -> None:
    sent, lost = LastSent(), request(2)
    sent.is_same(request(1), "a")
    lost.headers[LOST] = "1"
    assert not sent.is_same(lost, "a")


def test_a_tab_that_a_link_fills_in_is_known_before_and_just_after() -> None:
    before, after = request(1), request(2)
    before.headers[COMING], after.headers[COMING] = "compare,browse", "~browse"
    assert [is_coming(one, "browse") for one in (before, after, None)] == [True, False, False]
    assert [has_come(one, "browse") for one in (before, after, request(3))] == [True, True, False]


def test_the_page_carries_the_script() -> None:
    assert head() in launch_options("127.0.0.1", 1)["head"]


@pytest.mark.parametrize("refused", [(), (2,), (3,), (2, 3)])
@pytest.mark.parametrize("seed", range(20))
def test_however_answers_mix_the_last_form_is_what_is_shown(
    seed: int, refused: tuple[int, ...], example_assets: Path
) -> None:
    examples = read_examples(example_assets)
    with gr.Blocks():
        tab = CompareTab(fake_workbench(), examples, None, "")
    chance = np.random.default_rng(seed)
    going = {}
    for number in (1, 2, 3):
        captions = ["" if number in refused else f"caption {number}", "another"]
        form = Form(
            image=str(examples[0].path), captions=captions, models=["mini-clip", "mini-diffusion"],
            timesteps=1, noises=1, seed=0,
        )  # fmt: skip
        going[number] = tab._in_order(form, request(number))
    message, answer = "", ""
    while going:
        number = int(chance.choice(list(going)))
        found = next(going[number], None)
        if found is None:
            del going[number]
            continue
        message, answer = (
            new if isinstance(new, str) else old for new, old in zip(found[:2], (message, answer), strict=True)
        )
    last = max({1, 2, 3} - set(refused))
    assert f"caption {last}" in answer
    assert answer.count('class="verdict') == 2
    assert ("alert" in message) == (3 in refused)
