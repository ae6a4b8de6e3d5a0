"""Requests in the order in which a visitor made them, however the network brings them in.

`scripts/request_order.js` numbers the requests of a session; here a request is late where a later one of the same part
of the page has been answered before. A late one changes nothing: what is shown and what is remembered stay those of the
last.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import gradio as gr

from sdsdemo.ui.templates import script_element

HEADER = "x-sdsdemo-request"
MOST_SESSIONS = 1_000
MOST_DIGITS = 15


def head() -> str:
    """What the page's head needs."""
    return str(script_element("request_order"))


def number_of(request: gr.Request | None) -> int:
    """The number that the page gave a request; 0 where it has none."""
    text = "" if request is None else str(request.headers.get(HEADER, ""))
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else 0


class LastSent:
    """What each session was sent last of one kind, so that it is not sent twice. Safe to share between threads."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, object] = OrderedDict()
        self._lock = Lock()

    def is_same(self, request: gr.Request | None, what: object) -> bool:
        """Whether this session was sent the same last. It counts as sent now. Never where there is no session."""
        session = "" if request is None else str(request.session_hash or "")
        if not session:
            return False
        with self._lock:
            before = self._sent.pop(session, None)
            self._sent[session] = what
            while len(self._sent) > MOST_SESSIONS:
                self._sent.popitem(last=False)
        return before == what


class InOrder:
    """The newest request of each session of one kind, such as clicks. Safe to share between threads.

    Kinds are apart, since the page asks some things by itself: a click is not late because of those.
    """

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def is_late(self, request: gr.Request | None) -> bool:
        """Whether a later request of this session was here before. One without a number is never late."""
        number, session = number_of(request), "" if request is None else str(request.session_hash or "")
        if not session or not number:
            return False
        with self._lock:
            late = number < self._newest.get(session, 0)
            self._newest[session] = max(number, self._newest.pop(session, 0))
            while len(self._newest) > MOST_SESSIONS:
                self._newest.popitem(last=False)
        return late
