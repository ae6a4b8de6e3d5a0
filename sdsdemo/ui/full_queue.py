"""What a visitor reads when too many questions wait: how long the wait would be, in place of Gradio's sizes."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FULL = "Many people are asking at the moment. Your question is safe on this page: send it again in about {wait}."
UNKNOWN_WAIT, LEAST_WAIT = 30.0, 5.0
"""Seconds: what is said where no answer has been timed yet, and the shortest that is said."""
FULL_STATUS = 503


class FullQueue:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on; a refusal by the queue gets a sentence of ours."""
        if scope["type"] != "http" or not scope["path"].endswith("/queue/join"):
            await self.app(scope, receive, send)
            return
        is_full = False

        async def say(message: Message) -> None:
            nonlocal is_full
            if message["type"] == "http.response.start" and message["status"] == FULL_STATUS:
                is_full = True
                return
            if not is_full:
                await send(message)
            elif not message.get("more_body"):
                body = json.dumps({"detail": FULL.format(wait=wait_words(wait_of(scope.get("app"))))}).encode()
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": FULL_STATUS, "headers": headers})
                await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, say)


def wait_of(app: Any) -> float:
    """Seconds until the questions that wait now are answered, by Gradio's own times; 30 where it has none."""
    queue: Any = getattr(getattr(app, "blocks", None), "_queue", None)
    try:
        waits = [
            sum(queue.process_time_per_fn[event.fn].avg_time for event in part.queue) / (part.concurrency_limit or 1)
            for part in queue.event_queue_per_concurrency_id.values()
        ]
    except (AttributeError, KeyError, TypeError):  # parts of Gradio that it may change
        return UNKNOWN_WAIT
    return max([*waits, 0.0]) or UNKNOWN_WAIT


def wait_words(seconds: float) -> str:
    """Seconds as people say them, rounded up."""
    if seconds > 90:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{math.ceil(max(seconds, LEAST_WAIT) / 5) * 5} seconds"
