"""Late answers: a network that holds one request back, or its answer, and models that take their time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route

from sdsdemo.app.workbench import Workbench
from tests.conftest import WAIT_MS

CALLS = re.compile(r"/gradio_api/(run|queue/join)\b")


def asked_by(page: Page, elem_id: str) -> str:
    """What the requests of a component have in them."""
    found = page.evaluate("name => gradio_config.components.find((one) => one.props.elem_id === name).id", elem_id)
    return f'"trigger_id":{found},'


def held_back(page: Page, holds: str, *, before: bool) -> Callable[[], None]:
    """The next request that holds a text, or its answer, waits until what comes back is called; all others pass.

    before: the request itself is held back, and not its answer.
    """
    held: list[Route] = []
    answers: list[APIResponse] = []

    def handle(route: Route) -> None:
        if held or holds not in (route.request.post_data or ""):
            route.continue_()
        else:
            held.append(route)  # before the answer is fetched, since another click may come meanwhile
            if not before:
                answers.append(route.fetch())

    def let_go() -> None:
        deadline = time.monotonic() + WAIT_MS / 1_000
        while not (held if before else answers):
            assert time.monotonic() < deadline, f"no request held {holds!r}"
            page.wait_for_timeout(50)
        held[0].continue_() if before else held[0].fulfill(response=answers[0])
        page.wait_for_timeout(500)
        page.unroute_all(behavior="wait")

    page.route(CALLS, handle)
    return let_go


def until_quiet(page: Page, requests: list[str]) -> None:
    """Returns once the page has asked for nothing in a second; fails for one that asks for ever."""
    for _ in range(30):
        before = len(requests)
        page.wait_for_timeout(1_000)
        if len(requests) == before:
            return
    pytest.fail(f"the page asks for ever, last for {requests[-1]}")


def listen_to(button: Locator) -> None:
    """Notes what a button says from now on, for `until_said`: also what it says for two seconds alone."""
    button.evaluate(
        "button => { window.said = []; new MutationObserver(() => said.push(button.textContent))"
        ".observe(button, {childList: true, characterData: true, subtree: true}); }"
    )


def until_said(page: Page, words: str) -> None:
    """Returns once the button has said so."""
    page.wait_for_function("words => said.some((one) => one.trim() === words)", arg=words)


@contextmanager
def slow(workbench: Workbench, caption_a: str) -> Iterator[None]:
    """What is asked about this caption is answered only after the block, also where the answer is kept."""
    go, compare, has_kept = Event(), workbench.compare, workbench.has_kept

    def later(image: Any, captions: Any, models: Any, spend: Any, **options: Any) -> Iterator[Any]:
        if captions[0] == caption_a:
            go.wait(60)
        yield from compare(image, captions, models, spend, **options)

    def unless_late(captions: Any, *asked: Any, **options: Any) -> bool:
        return captions[0] != caption_a and has_kept(captions, *asked, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench, "compare", later)
        patch.setattr(workbench, "has_kept", unless_late)
        try:
            yield
        finally:
            go.set()
