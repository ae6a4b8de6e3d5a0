"""Runs a coroutine of an ASGI app to its end, whether or not a browser test has left a loop running in this thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.types import Message


def finished(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs it in a thread of its own, which has no loop yet."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


async def nothing() -> Message:
    """The `receive` of a request without a body."""
    raise AssertionError("a body was asked for")


async def nowhere(message: Message) -> None:
    """The `send` of an answer that no one reads."""
