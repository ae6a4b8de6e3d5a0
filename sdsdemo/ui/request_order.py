"""Keeps requests in the order in which a visitor made them, even if the network delivers them in another.

`scripts/request_order.js` numbers the requests of a session. A request is late if a newer one from the same part of the
page has already been answered; a late request changes nothing that is shown or remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import gradio as gr

from sdsdemo.ui.templates import script_element

HEADER = "x-sdsdemo-request"
LOST = "x-sdsdemo-lost"
"""A header of pages to which an answer never arrived."""
COMING = "x-sdsdemo-coming"
"""A header with the tabs that the answer to an earlier request is about to fill in, or with a `~`, just has."""
MOST_SESSIONS = 1_000
MOST_DIGITS = 15


def head() -> str:
    """The script for the page's head."""
    return str(script_element("request_order"))


def number_of(request: gr.Request | None) -> int:
    """The number that the page gave a request; 0 if it has none."""
    text = "" if request is None else str(request.headers.get(HEADER, ""))
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else 0


def is_coming(request: gr.Request | None, tab: str) -> bool:
    """Whether an earlier request of the page is about to fill in this tab: what is on it was not asked for."""
    return request is not None and tab in str(request.headers.get(COMING, "")).split(",")


def has_come(request: gr.Request | None, tab: str) -> bool:
    """Whether an earlier request is about to fill in this tab, or just has."""
    return is_coming(request, tab) or is_coming(request, f"~{tab}")


class LastSent:
    """The last answer of one kind sent to each session, so that none is sent twice. Safe to share between threads."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, tuple[int, object]] = OrderedDict()
        self._lock = Lock()

    def is_same(self, request: gr.Request | None, what: object) -> bool:
        """Whether the last thing sent to this session was the same; records it as sent. False without a session.

        The answer to an earlier request than that of the last thing is not recorded: the page may drop it.
        """
        number, session = number_of(request), "" if request is None else str(request.session_hash or "")
        if not session or request is None or LOST in request.headers:
            return False
        with self._lock:
            before = self._sent.pop(session, (0, None))
            is_late = 0 < number < before[0]
            self._sent[session] = before if is_late else (number, what)
            while len(self._sent) > MOST_SESSIONS:
                self._sent.popitem(last=False)
        return before[1] == what


class InOrder:
    """The newest request of one kind, such as clicks, in each session. Safe to share between threads.

    Kinds are separate because the page makes some requests by itself, and those must not make a click late.
    """

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def is_late(self, request: gr.Request | None) -> bool:
        """Whether a newer request of this session came first. A request without a number is never late."""
        number, session = number_of(request), "" if request is None else str(request.session_hash or "")
        if not session or not number:
            return False
        with self._lock:
            late = number < self._newest.get(session, 0)
            self._newest[session] = max(number, self._newest.pop(session, 0))
            while len(self._newest) > MOST_SESSIONS:
                self._newest.popitem(last=False)
        return late
