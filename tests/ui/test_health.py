"""`/health` answers a machine, and every other address is the page's."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from sdsdemo import __version__
from sdsdemo.ui.health import Health
from sdsdemo.ui.page import launch_options
from tests.ui.asgi import finished, nothing


class Line(list[int]):
    """Stands for the line of requests."""

    stopped = False


def answered(path: str, root: str = "", *, stopped: bool = False) -> list[Any]:
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        sent.append("the page")

    async def send(message: Any) -> None:
        sent.append(message)

    line = Line([1, 2])
    line.stopped = stopped
    app = SimpleNamespace(blocks=SimpleNamespace(_queue=line))
    finished(Health(inner)({"type": "http", "path": path, "root_path": root, "app": app}, nothing, send))
    return sent


def test_a_server_that_answers_is_well() -> None:
    start, body = answered("/health")
    assert start["status"] == 200
    assert json.loads(body["body"]) == {"status": "ok", "version": __version__, "waiting": 2}
    assert answered("/sub/health", "/sub")[0]["status"] == 200
    assert answered("/health", "/sub")[0]["status"] == 200, "the proxy has taken the folder off, or there was none"


def test_a_server_whose_line_has_stopped_is_to_be_restarted() -> None:
    start, body = answered("/health", stopped=True)
    assert start["status"] == 503
    assert json.loads(body["body"])["status"] == "stopped"


def test_other_addresses_are_the_pages() -> None:
    for path in ("/", "/healthy", "/x/health"):
        assert answered(path) == ["the page"]


def test_the_page_is_served_with_it() -> None:
    assert Health in [kind for kind, *_ in launch_options("127.0.0.1", 7860)["app_kwargs"]["middleware"]]
