"""Files that the page links to: the project's documents, and results to download. Each is made when it is asked for.

`docs/NAME` is a document, where the project's folder of documents is here (an installed package has none).
`results/NAME.csv`, `.json`, `.png` and `.svg` are a result's files. `runs/NAME/model.safetensors` and `run.json` are
the files of a visitor's run, by its download name. All lie at the root of the app: such a part further on in a path is
the rest of the app's. Everything in a path is taken for hostile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from starlette.responses import FileResponse

from sdsdemo.errors import UserError
from sdsdemo.ui.documents import DOCS, NAME, is_document
from sdsdemo.ui.refusals import path_of
from sdsdemo.ui.result_files import KINDS, File

DOCUMENT = re.compile(rf"/docs/({NAME})")
RESULT = re.compile(rf"/results/(.+)\.({'|'.join(KINDS)})")
RUN = re.compile(r"/runs/([A-Za-z0-9_-]{22})/(model\.safetensors|run\.json)")
TYPES = {".md": "text/plain; charset=utf-8", ".png": "image/png"}
"""Markdown is shown as text."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
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

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            path = path_of(scope)
            if (document := DOCUMENT.fullmatch(path)) and is_document(document[1]):
                await _send(send, _document(DOCS / document[1]))
                return
            offered = _offered.get(getattr(scope.get("app"), "blocks", None))
            if offered and (result := RESULT.fullmatch(path)):
                await _send(send, await asyncio.to_thread(_made, offered[0], result[1], result[2]))
                return
            if offered and (run := RUN.fullmatch(path)):
                found = await asyncio.to_thread(offered[1], run[1], run[2])
                await (_response(found)(scope, receive, send) if found else _send(send, None))
                return
        await self.app(scope, receive, send)


def _document(path: Path) -> File:
    return File(kind=TYPES[path.suffix], body=path.read_bytes())


def _response(path: Path) -> FileResponse:
    """Sends a file in parts, since weights can be large; resuming a run writes them anew, so nothing keeps a copy."""
    return FileResponse(path, filename=path.name, headers={"cache-control": "no-store"})


def _made(make: Make, name: str, kind: str) -> File | None:
    try:
        return make(name, kind)
    except UserError:
        return None


async def _send(send: Send, file: File | None) -> None:
    """None: there is no such file."""
    status, file = (
        (200, file) if file else (404, File(kind="text/plain; charset=utf-8", body=b"There is no such file."))
    )
    headers = [(b"content-type", file.kind.encode()), (b"content-length", str(len(file.body)).encode())]
    if file.name:
        headers.append((b"content-disposition", f'attachment; filename="{file.name}"'.encode("ascii", "replace")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": file.body})
