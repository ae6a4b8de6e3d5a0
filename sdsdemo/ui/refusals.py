"""A request that does not fit the page is refused in a sentence; routes that the page has no use for are closed.

Gradio takes requests as its own page sends them. Any other ends there as a fault of the server: status 500, nothing
said, and a traceback in the log that may quote what a visitor typed. And it fetches whatever address a request names in
place of an uploaded file, of any size, past all limits on uploads: here it fetches nothing.
"""

from __future__ import annotations

import logging
import re
from html import escape
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdsdemo.errors import UserError

log = logging.getLogger(__name__)

UNFIT = "This request does not fit the page: reload the page, then try again."
ELSEWHERE = "The page fetches no picture from a URL: save the picture, then upload it here."
FAILED = "Something went wrong on our side; the server's log has the details. Reload the page, then try again."
CLOSED = re.compile(
    r"/gradio_api/(component_server|custom_component|deep_link|dev/|file[=/]https?:|process_recording|profiling|proxy="
    r"|run-history|stream/|undo-vibe-edit|vibe-).*|/(monitoring|pwa_icon/).*",
    re.DOTALL | re.IGNORECASE,
)
"""Gradio's routes for what this page does not have: recordings, streams, components' functions, other hosts' files."""
DIRECT = re.compile(r"/gradio_api/(run|api)/.*", re.DOTALL)
"""Events that do not wait in line: Gradio answers every refusal there with 500."""


class Page(gr.Blocks):
    """Gradio's page, whose events answer what does not fit, and what fails, in a sentence."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """As Gradio's: from a request's data to a handler's values."""
        try:
            traverse(inputs, _check_is_here, is_file_obj_with_meta)
            return await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except gr.Error:
            raise
        except Exception as error:
            log.info("a request does not fit its event", exc_info=error)
            raise gr.Error(UNFIT, print_exception=False) from error

    async def process_api(self, *arguments: Any, **options: Any) -> Any:
        """As Gradio's: a whole event."""
        try:
            return await super().process_api(*arguments, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error
        except Exception as error:
            log.exception("an event failed")
            raise gr.Error(FAILED, print_exception=False) from error


class Refusals:
    """ASGI middleware around Gradio's app, outside all others."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        if CLOSED.fullmatch(path):
            await refusal(404, "There is nothing here.")(scope, receive, send)
            return
        answering = _Answering(send, is_direct=bool(DIRECT.fullmatch(path)))
        try:
            await self.app(scope, receive, answering)
        except OSError:
            raise
        except Exception as error:
            if answering.has_started:
                raise
            log.info("a request could not be read", exc_info=error)
            await refusal(400, UNFIT)(scope, receive, send)


def path_of(scope: Scope) -> str:
    """The path that a request asks for, below the folder where a server or a proxy offers the app (`root_path`).

    A proxy may keep the folder in the path or leave it out, and a request to the server's own port has none.
    """
    path, root = str(scope.get("path", "")), root_of(scope)
    return path[len(root) :] if path.startswith(f"{root}/") else path


def root_of(scope: Scope) -> str:
    """The folder where a server or a proxy offers the app, without a slash at its end; empty if it is the root."""
    return str(scope.get("root_path") or "").rstrip("/")


class _Answering:
    """Passes an answer on. A refusal of a direct event is no fault of the server."""

    def __init__(self, send: Send, *, is_direct: bool) -> None:
        self.send, self.is_direct, self.has_started = send, is_direct, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            if self.is_direct and message["status"] == 500:
                message = {**message, "status": 422}
        await self.send(message)


def _check_is_here(file: dict[str, Any]) -> dict[str, Any]:
    """The file, as Gradio describes it. Raises `gr.Error` for one that Gradio would fetch."""
    if is_http_url_like(file["path"]):
        raise gr.Error(ELSEWHERE, print_exception=False)
    return file


def refusal(status: int, sentence: str, *, plainly: bool = False) -> Response:
    """An answer with a sentence, as Gradio's routes give it: under both names that Gradio's page looks for.

    plainly: the sentence alone, for uploads: Gradio's page shows their whole answer to the visitor.
    """
    if plainly:
        return PlainTextResponse(sentence, status)
    return JSONResponse({"detail": sentence, "error": sentence}, status)
