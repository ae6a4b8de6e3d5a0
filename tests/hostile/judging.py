"""What must be true of every answer: no traceback, no path or secret of the server, no script, no fault of its own."""

from __future__ import annotations

import re
import site
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sdsdemo.settings import ROOT
from tests.hostile.page import output_of
from tests.hostile.wire import Answer

TRACES = (b"Traceback (most", b'File "/', b"site-packages", b"Internal Server Error", b"pydantic_core", b"orjson")
SCRIPT = b"<script>hostile()"
ELSEWHERE = b"--out /tmp/"
"""In commands that the page shows, for another machine."""
WITH_A_SENTENCE = (503, 507)
"""Statuses of a server that is busy or full, which says so."""
SECRETS = (b"root:x:0:", b"[core]\n", b"PATH=/", b"SHELL=/")
"""Of `/etc/passwd`, of `.git/config`, and of an environment."""


class Judge:
    """Knows the server's folders, and what it may say of them."""

    def __init__(self, uploaded: str, secret: str) -> None:
        """uploaded: the path of an upload, beside which lies all that the server offers; secret: in a file of ours."""
        folders = [ROOT, Path.home(), Path(sys.prefix), Path(tempfile.gettempdir()), *map(Path, site.getsitepackages())]
        places = {place for folder in folders for place in (folder, folder.resolve()) if len(str(folder)) > 1}
        self._folders = sorted(f"{place}/".encode() for place in places)
        offered = re.escape(str(Path(uploaded).parent.parent)).encode()
        self._offered = re.compile(offered + rb"/[0-9a-f]{64}/[^\"'<>\\\s]*")
        self._secrets = (*SECRETS, secret.encode())

    def faults(self, answer: Answer, sent: Iterable[bytes] = (), *, may_be_cut: bool = False) -> list[str]:
        """What is wrong with an answer. sent: what the request held, which may be repeated."""
        if not answer.status:
            return [] if may_be_cut else ["no answer"]
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).encode("utf-8", "replace")
        body = self._offered.sub(b"", head + b"\n\n" + answer.body).replace(ELSEWHERE, b"")
        found = [f"a traceback: {_around(body, trace)}" for trace in TRACES if trace in body]
        found += [f"a secret: {_around(body, secret)}" for secret in self._secrets if secret in body]
        for text in sorted(sent, key=len, reverse=True):
            body = body.replace(text, b"") if len(text) > 3 else body
        found += [f"a path: {_around(body, folder)}" for folder in self._folders if folder in body]
        kind = answer.headers.get("content-type", "")
        found += ["a script"] if SCRIPT in body and kind.startswith("text/html") else []
        if answer.status >= 500 and not (answer.status in WITH_A_SENTENCE and b"detail" in body):
            found.append(f"status {answer.status}: {answer.text[:120]}")
        return found + _without_a_sentence(answer)


def _without_a_sentence(answer: Answer) -> list[str]:
    """Of an event that failed."""
    output = output_of(answer)
    if "error" in output and not output["error"]:
        return ["refused without a sentence"]
    return []


def _around(body: bytes, mark: bytes) -> str:
    at = body.index(mark)
    return repr(body[max(0, at - 60) : at + len(mark) + 80].decode("utf-8", "replace"))
