"""What other sites show of a link to the page: a title, a description and a picture, all from this server.

Sites that preview links run no script, and Gradio puts `head` in by script; its own tags name Gradio, and a picture on
another host. So they are replaced in the page's HTML on its way out. Everything in a URL is taken for hostile.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdsdemo.settings import ASSETS
from sdsdemo.ui.address import FIRST, TABS, Query
from sdsdemo.ui.refusals import path_of, root_of
from sdsdemo.ui.templates import render

PICTURE = ASSETS / "preview.png"
PICTURE_PATH = "/preview.png"
WORDS = {
    "compare": "Which caption belongs to the picture?",
    "browse": "Where do the models fail? Browse the examples of a benchmark",
    "finetune": "Fine-tune CLIP with the denoising score",
    "results": "How good is each model, with intervals",
    "about": "How it works",
}
DESCRIPTION = (
    "One picture, two captions with the same words: CLIP, a diffusion model's denoising score and SDS-CLIP, compared."
)
QUESTION = "“{}” or “{}”?"
AFTER = b'<meta charset="utf-8" />'
"""Comes first in a page."""
TAGS = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>')


def tags_html(query: str, origin: str) -> str:
    """The tags of a page for other sites. origin: the page's address, without a slash at the end."""
    named = re.search(r"(?:^|&)tab=(\w+)", query)
    tab = named[1] if named and named[1] in TABS else FIRST
    read = Query(tab, query)
    question = QUESTION.format(read.text("a"), read.text("b")) if tab == FIRST and "a" in read and "b" in read else ""
    return render(
        "page.preview",
        title=question or WORDS[tab],
        description=DESCRIPTION,
        picture=origin + PICTURE_PATH,
    )


class LinkPreview:
    """Replaces the tags in the page's HTML, and serves the picture."""

    def __init__(self, app: ASGIApp, picture: Path) -> None:
        self.app, self.picture = app, picture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or path not in ("/", PICTURE_PATH):
            await self.app(scope, receive, send)
        elif path == PICTURE_PATH:
            await Response(self.picture.read_bytes(), media_type="image/png")(scope, receive, send)
        else:
            await self.app(scope, receive, _Rewriting(send, tags_html(_query(scope), _origin(scope) + root_of(scope))))


class _Rewriting:
    """Passes a page on with other tags. The page is not streamed: it is sent once it is whole."""

    def __init__(self, send: Send, tags: str) -> None:
        self.send, self.tags = send, tags
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=list(self.start["headers"]))
        if headers.get("content-type", "").startswith("text/html") and self.body:
            self.body = TAGS.sub(b"", self.body).replace(AFTER, AFTER + self.tags.encode(), 1)
            headers["content-length"] = str(len(self.body))
        await self.send({**self.start, "headers": headers.raw})
        await self.send({**message, "body": self.body})


def _query(scope: Scope) -> str:
    return bytes(scope.get("query_string", b"")).decode("latin-1")


def _origin(scope: Scope) -> str:
    """The address under which a visitor sees the server, behind a proxy too."""
    headers = Headers(scope=scope)
    asked = headers.get("x-forwarded-proto", "").split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "")).split(",")[0].strip()
    return f"{asked if asked in ('http', 'https') else scope.get('scheme', 'http')}://{host}"
