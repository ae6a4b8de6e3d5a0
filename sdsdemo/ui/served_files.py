"""Files that the page links to: the project's documents, and results to download. Each is made when it is asked for.

`docs/NAME` is a document, where the project's folder of documents is here (an installed package has none).
`results/NAME.csv`, `.json`, `.png` and `.svg` are a result's files. `runs/NAME/model.safetensors` and `run.json` are
the files of a visitor's run, by its download name. All lie at the root of the app: such a part further on in a path is
the rest of the app's. Everything in a path is taken for hostile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sdsdemo.errors import UserError
from sdsdemo.ui.documents import DOCS, NAME, is_document
from sdsdemo.ui.refusals import path_of
from sdsdemo.ui.result_files import KINDS, File

DOCUMENT = re.compile(rf"/docs/({NAME})")
RESULT = re.compile(rf"/results/(.+)\.({'|'.join(KINDS)})")
RUN = re.compile(r"/runs/([A-Za-z0-9_-]{22})/(model\.safetensors|run\.json)")
TYPES = {".md": "text/plain; charset=utf-8", ".png": "image/png"}
"""Markdown is shown as text."""

Make = Callable[[str, str], File]
"""A result's file by its name and kind. Raises `UserError` if there is no such result."""
Find = Callable[[str, str], Path | None]
"""The path of a run's file by the run's download name and the file's name; None if there is no such file."""

_offered: WeakKeyDictionary[Any, tuple[Make, Find]] = WeakKeyDictionary()


def offer(page: Any, make: Make, find: Find) -> None:
    """Offers a page's results, and the files of its visitors' runs, for download. page: its `gr.Blocks`."""
    _offered[page] = make, find


class ServedFiles:
    """Answers what asks for a document or for a result's file, and passes the rest on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        answer = (await _answer(scope) if is_asked else None) or self.app
        await answer(scope, receive, send)


async def _answer(scope: Scope) -> Response | None:
    """None: the path is not of these files."""
    path = path_of(scope)
    if (document := DOCUMENT.fullmatch(path)) and is_document(document[1]):
        return _response(_document(DOCS / document[1]))
    offered = _offered.get(getattr(scope.get("app"), "blocks", None))
    if offered and (result := RESULT.fullmatch(path)):
        return _response(await asyncio.to_thread(_made, offered[0], result[1], result[2]))
    if offered and (run := RUN.fullmatch(path)):
        return _in_parts(await asyncio.to_thread(offered[1], run[1], run[2]))
    return None


def _document(path: Path) -> File:
    return File(kind=TYPES[path.suffix], body=path.read_bytes())


def _in_parts(path: Path | None) -> Response:
    """Sends a file in parts, since weights can be large; resuming a run writes them anew, so nothing keeps a copy."""
    if path is None:
        return _response(None)
    return FileResponse(path, filename=path.name, headers={"cache-control": "no-store"})


def _made(make: Make, name: str, kind: str) -> File | None:
    try:
        return make(name, kind)
    except UserError:
        return None


def _response(file: File | None) -> Response:
    """None: there is no such file."""
    if file is None:
        return PlainTextResponse("There is no such file.", 404)
    name = file.name.encode("ascii", "replace").decode()
    headers = {"content-disposition": f'attachment; filename="{name}"'} if name else None
    return Response(file.body, media_type=file.kind, headers=headers)
