"""What a visitor reads when the queue is full."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from sdsdemo.ui.full_queue import UNKNOWN_WAIT, FullQueue, wait_of, wait_words
from tests.ui.asgi import finished


def answered(status: int, body: bytes, path: str = "/gradio_api/queue/join", app: Any = None) -> tuple[int, bytes]:
    """Status and body of one request through the middleware."""
    sent: list[dict[str, Any]] = []

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})

    async def send(message):
        sent.append(message)

    finished(FullQueue(inner)({"type": "http", "path": path, "app": app}, None, send))
    assert [message["type"] for message in sent].count("http.response.start") == 1
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def full(seconds: float, waiting: int, at_once: int) -> SimpleNamespace:
    """An app whose queue holds questions of one kind."""
    part = SimpleNamespace(queue=[SimpleNamespace(fn="score")] * waiting, concurrency_limit=at_once)
    times = {"score": SimpleNamespace(avg_time=seconds)}
    queue = SimpleNamespace(process_time_per_fn=times, event_queue_per_concurrency_id={"score": part})
    return SimpleNamespace(blocks=SimpleNamespace(_queue=queue))


def test_a_full_queue_says_the_wait_and_no_sizes():
    status, body = answered(503, b'{"detail": "Queue is full. Max size is 16 and size is 16."}', app=full(3.0, 16, 2))
    sentence = json.loads(body)["detail"]
    assert status == 503
    assert "25 seconds" in sentence
    assert "size" not in sentence
    assert "safe" in sentence


@pytest.mark.parametrize(("status", "path"), [(200, "/gradio_api/queue/join"), (503, "/gradio_api/run/score")])
def test_every_other_answer_passes_as_it_is(status, path):
    assert answered(status, b"as it is", path) == (status, b"as it is")


def test_the_wait_is_read_from_gradio_itself():
    with gr.Blocks() as page:
        gr.Button().click(lambda: None, None, None)
    page.queue(max_size=3)
    queue = page._queue
    assert wait_of(SimpleNamespace(blocks=page)) == UNKNOWN_WAIT
    assert queue.process_time_per_fn[next(iter(page.fns.values()))].avg_time == 0, "the names that `wait_of` reads"
    assert wait_of(None) == UNKNOWN_WAIT
    assert wait_of(full(3.0, 16, 2)) == 24.0


def test_waits_are_said_as_people_say_them():
    assert [wait_words(seconds) for seconds in (0.2, 24, 89, 91)] == [
        "5 seconds",
        "25 seconds",
        "90 seconds",
        "2 minutes",
    ]


def test_the_page_is_served_with_it():
    from sdsdemo.ui.page import launch_options

    served = [kind for kind, *_ in launch_options("127.0.0.1", 7860)["app_kwargs"]["middleware"]]
    assert FullQueue in served
