"""How many requests that do not wait in line an address may have under way: each takes one of the server's threads.

Gradio runs them as they come, so that a hundred at once, of what takes a second each, would leave no thread to anyone.
Here the rest wait for a turn, which takes none, and beyond a limit they are refused in a sentence.
"""

from __future__ import annotations

from asyncio import Semaphore

from starlette.types import ASGIApp, Receive, Scope, Send

from sdsdemo.settings import LIMITS
from sdsdemo.ui.client_address import address_of_scope
from sdsdemo.ui.refusals import DIRECT, path_of, refusal

BUSY = "Many requests have come from your network just now: wait a few seconds, then try again."


class DirectRequests:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turns: dict[str, Turns] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not DIRECT.fullmatch(path_of(scope)):
            await self.app(scope, receive, send)
            return
        address = address_of_scope(scope)
        turns = self._turns.setdefault(address, Turns())
        if turns.count >= LIMITS.queue_of_address:
            await refusal(429, BUSY)(scope, receive, send)
            return
        turns.count += 1
        try:
            async with turns.free:
                await self.app(scope, receive, send)
        finally:
            turns.count -= 1
            if not turns.count:
                del self._turns[address]


class Turns:
    """Those of one address."""

    def __init__(self) -> None:
        self.free = Semaphore(LIMITS.direct_of_address)
        self.count = 0
        """Under way or waiting."""
