"""Requests that do not wait in line: one address cannot take all of the server's threads with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import gradio as gr
import pytest

from sdsdemo.settings import LIMITS
from sdsdemo.ui.direct_requests import DirectRequests
from sdsdemo.ui.page import launch_options
from tests.ui.asgi import finished, nothing

DIRECTLY = "/gradio_api/run/predict"


class Served:
    """An app behind the limit that answers when it is let."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.go = asyncio.Event()
        self.limit = DirectRequests(self._app)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.running[scope["client"][0]] += 1
        try:
            await self.go.wait()
        finally:
            self.running[scope["client"][0]] -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, count: int, address: str = "1.1.1.1", path: str = DIRECTLY) -> list[asyncio.Task[None]]:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses[message["status"]] += 1

        scope = {"type": "http", "method": "POST", "path": path, "client": (address, 1)}
        asked = [asyncio.ensure_future(self.limit(scope, nothing, send)) for _ in range(count)]
        await asyncio.sleep(0.01)
        return asked


def test_an_address_has_a_few_under_way_and_all_are_answered_in_the_end() -> None:
    async def look() -> None:
        served, many = Served(), 4 * LIMITS.direct_of_address
        asked = await served.ask(many)
        asked += await served.ask(1, "2.2.2.2")
        assert served.running == {"1.1.1.1": LIMITS.direct_of_address, "2.2.2.2": 1}
        served.go.set()
        await asyncio.gather(*asked)
        assert served.statuses == {200: many + 1}
        assert not served.limit._turns

    finished(look())


def test_beyond_a_limit_they_are_refused_until_a_client_leaves() -> None:
    async def look() -> None:
        served = Served()
        asked = await served.ask(LIMITS.queue_of_address + 3)
        assert served.statuses == {429: 3}
        for task in asked[: LIMITS.direct_of_address + 1]:
            task.cancel()
        await asyncio.sleep(0.01)
        assert served.running["1.1.1.1"] == LIMITS.direct_of_address
        asked += await served.ask(LIMITS.direct_of_address + 1)
        assert served.statuses == {429: 3}
        served.go.set()
        await asyncio.gather(*asked, return_exceptions=True)

    finished(look())


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload"])
def test_what_waits_in_line_or_uploads_has_limits_of_its_own(path: str) -> None:
    async def look() -> None:
        served = Served()
        asked = await served.ask(LIMITS.direct_of_address + 1, path=path)
        assert served.running["1.1.1.1"] == len(asked)
        served.go.set()
        await asyncio.gather(*asked)

    finished(look())


def test_handlers_do_not_take_the_threads_in_which_files_are_read() -> None:
    page = gr.Blocks()
    page.max_threads = launch_options("127.0.0.1", 7860)["max_threads"]
    page.create_limiter()
    assert page.limiter is not None  # None stands for the threads of the whole server


def test_the_page_is_served_with_it() -> None:
    kinds = [kind for kind, *_ in launch_options("127.0.0.1", 7860)["app_kwargs"]["middleware"]]
    assert DirectRequests in kinds
