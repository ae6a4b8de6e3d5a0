"""The line of requests that wait for an answer: visitors take turns, and nobody waits for one whose client has gone.

Gradio's queue is first come, first served, so that one client's two hundred requests come before anyone else's first.
Here the next request is that of the address that was served longest ago, and of its visitors the one served longest
ago; on a shared page no visitor has more than half of the places. A request starts once somebody listens for its
answer; one that nobody listens for is dropped after a minute, or when its address has sent `UNHEARD` more.

A visitor is a session of the page (a tab of a browser) or of a client; an address is where it comes from, as the server
sees it (`client_address`): behind a proxy, what uvicorn makes of `X-Forwarded-For` (FORWARDED_ALLOW_IPS).

Source: fair queueing, Nagle 1987 (IEEE Transactions on Communications 35(4)), with requests for packets.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from gradio.queueing import Event, EventQueue, Queue
from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessGeneratingMessage
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from sdsdemo.settings import LIMITS
from sdsdemo.ui.client_address import address_of

FULL = "Many people are asking at the moment. Your question is safe on this page: send it again in about {wait}."
YOURS = "You have {count} requests waiting here already: wait for their answers, then send this one again."
DROPPED = "Nobody listened for this answer, so the request was dropped: send it again."
UNREAD = (
    "Your browser did not take the answers as fast as they came: reload the page. A training run continues; ask any "
    "other question again."
)
TOO_MANY_REQUESTS = 429
UNKNOWN_WAIT, LEAST_WAIT = 30.0, 5.0
"""Seconds: what is said where no answer has been timed yet, and the shortest that is said."""
LISTENED_WITHIN = 60.0
"""Seconds until a request is dropped that nobody listens for: time enough to type a second line of curl."""
UNHEARD = 32
"""Requests of an address that nobody listens for, yet or any more; beyond that, the oldest is dropped."""
MOST_UNREAD = 64
"""Parts of answers that wait in memory for a client to read them; beyond that, what it asked for ends."""
SESSIONS = 4_000
"""Sessions beyond which those that have gone are forgotten: more than Gradio keeps messages for."""
LOOK_EVERY = 0.02
"""Seconds between two looks for a request to start, while none could start."""
REMEMBERED = 4_096
"""Visitors and addresses whose last turn is remembered."""


class FairQueue(Queue):
    """Gradio's queue with turns. Lives in the server's event loop, as Gradio's does."""

    def __init__(
        self, *arguments: Any, is_shared: bool, clock: Callable[[], float] = time.monotonic, **options: Any
    ) -> None:
        """is_shared: whether a visitor leaves half of the places to others."""
        super().__init__(*arguments, **options)
        self._is_shared = is_shared
        self._clock = clock
        self._listeners: Counter[str] = Counter()
        self._turn = itertools.count(1)
        self._last_turn: dict[tuple[str, str], int] = {}
        self._next_look = 0.0

    def start(self) -> None:
        """As Gradio's, with a place for whatever may run: each part of the line has a limit of its own.

        Gradio has 40 places for all parts: as many pages that follow a run would keep everybody's questions waiting.
        """
        super().start()  # type: ignore[no-untyped-call]
        for fn in self.blocks.fns.values():
            if fn.queue and fn.fn is not None:
                self.create_event_queue_for_fn(fn)
        parts = self.event_queue_per_concurrency_id.values()
        self.active_jobs = [None] * sum(part.concurrency_limit or self.max_thread_count for part in parts)

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """As Gradio's. Raises `HTTPException` for a request beyond a limit, with a sentence of ours.

        Its status is 429. Gradio answers 503, for which the page shows a sentence of its own that names no wait.
        """
        refusal = self._refusal(body.session_hash or "", request)
        if refusal:
            raise HTTPException(TOO_MANY_REQUESTS, refusal)
        self._make_room(address_of(request))
        self._forget_sessions()
        pushed = await super().push(body, request, username)
        self._next_look = 0.0
        if pushed[2] == "queue_full":
            raise HTTPException(TOO_MANY_REQUESTS, FULL.format(wait=wait_words(self.wait)))
        return pushed

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """As Gradio's. What a client asked for ends if it reads no answers, which would fill the memory.

        It also ends if Gradio has put other sessions in the place of its own: Gradio's would raise `KeyError`, in the
        loop that starts all requests.
        """
        messages = self.pending_messages_per_session.get(event.session_hash)
        if messages is None:
            event.alive = False
            return
        is_part = isinstance(event_message, ProcessGeneratingMessage)
        if is_part and messages.qsize() >= MOST_UNREAD:
            super().send_message(event, ProcessCompletedMessage(output={"error": UNREAD}, title="Error", success=False))
            event.alive = False  # Gradio then closes the generator
        super().send_message(event, event_message)

    def compute_analytics_summary(self, records: Any) -> Any:
        """Nothing new: after every request, Gradio makes a table of the last 10,000 for a page that is off."""
        return self.cached_event_analytics_summary

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The next request to start, whose turn it is; None if none can start."""
        if self._clock() < self._next_look:
            return None
        self._drop_unheard()
        running = (event for job in self.active_jobs for event in job or ())
        busy = Counter((event.session_hash, event.concurrency_id) for event in running)
        for part in sorted(self.event_queue_per_concurrency_id.values(), key=self._turn_of_part):
            if part.concurrency_limit is not None and part.current_concurrency >= part.concurrency_limit:
                continue
            ready = [event for event in part.queue if self._may_start(event, part, busy)]
            if ready:
                event = min(ready, key=self._turns_of)
                part.queue.remove(event)
                self._note_turn(event)
                return [event], event.fn.batch, part.concurrency_id
        self._next_look = self._clock() + LOOK_EVERY
        return None

    @property
    def wait(self) -> float:
        """Seconds until the requests that wait now are answered, by Gradio's own times; 30 where it has none."""
        waits = [
            sum(self.process_time_per_fn[event.fn].avg_time for event in part.queue) / (part.concurrency_limit or 1)
            for part in self.event_queue_per_concurrency_id.values()
        ]
        return max([*waits, 0.0]) or UNKNOWN_WAIT

    def listening(self, session: str) -> Listening:
        """While this context is open, somebody listens for the answers of a session."""
        return Listening(self, session)

    def session_of(self, event_id: str) -> str:
        """The session that a request belongs to; empty for one that is not here."""
        event = self.event_ids_to_events.get(event_id)
        return str(event.session_hash) if event else ""

    # ------------------------------------------------------------------------------------------------ turns and limits

    def _waiting(self) -> Iterator[Event]:
        for part in self.event_queue_per_concurrency_id.values():
            yield from part.queue

    def _refusal(self, session: str, request: Any) -> str:
        """A sentence, or nothing."""
        address = address_of(request)
        own = sum(event.session_hash == session for event in self._waiting()) if session else 0
        if own >= LIMITS.queue_of_visitor:
            return YOURS.format(count=own)
        there = sum(self._is_heard(event) and address_of(event.request) == address for event in self._waiting())
        if there >= LIMITS.queue_of_address:
            return FULL.format(wait=wait_words(self.wait))
        return ""

    def _may_start(self, event: Event, part: EventQueue, busy: Counter[tuple[str, str]]) -> bool:
        if not self._is_heard(event):
            return False
        places = part.concurrency_limit
        if places is None or not self._is_shared:
            return True
        return busy[event.session_hash, event.concurrency_id] < max(1, places // 2)

    def _turns_of(self, event: Event) -> tuple[int, int]:
        """Of an address and of a visitor: lower goes first; of equal ones the first that came."""
        return (
            self._last_turn.get(("address", address_of(event.request)), 0),
            self._last_turn.get(("session", event.session_hash), 0),
        )

    def _turn_of_part(self, part: EventQueue) -> int:
        return self._last_turn.get(("kind", part.concurrency_id), 0)

    def _note_turn(self, event: Event) -> None:
        turn = next(self._turn)
        keys = ("address", address_of(event.request)), ("session", event.session_hash), ("kind", event.concurrency_id)
        for key in keys:
            self._last_turn.pop(key, None)
            self._last_turn[key] = turn
        while len(self._last_turn) > REMEMBERED:
            self._last_turn.pop(next(iter(self._last_turn)))

    def _is_heard(self, event: Event) -> bool:
        """Whether somebody listens for its answer."""
        return self._listeners[event.session_hash] > 0

    def _drop_unheard(self) -> None:
        """Those that nobody has listened for within a minute."""
        since = self._clock() - LISTENED_WITHIN
        for event in [event for event in self._waiting() if not self._is_heard(event) and event.enqueue_time < since]:
            self._drop(event)

    def _make_room(self, address: str) -> None:
        """Drops the oldest of an address that nobody listens for, if there are many."""
        unheard = [event for event in self._waiting() if not self._is_heard(event)]
        there = sorted((event for event in unheard if address_of(event.request) == address), key=_age)
        for event in there[: max(0, len(there) - UNHEARD + 1)]:
            self._drop(event)

    def _forget_sessions(self) -> None:
        """Gradio keeps what it noted of a session that has gone: its requests, and the answers that it did not read.

        It has room for the answers of some sessions, and drops the oldest beyond that, whether or not it still waits.
        """
        noted, unread = self.pending_event_ids_session, self.pending_messages_per_session
        asking = {event.session_hash for event in self.event_ids_to_events.values()}
        if len(unread) >= unread.max_size:
            for session in unread.keys() - asking - self._listeners.keys():
                del unread[session]
        if len(noted) > SESSIONS:
            for session in noted.keys() - unread.keys() - asking:
                del noted[session]

    def _drop(self, event: Event) -> None:
        self.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
        self.event_ids_to_events.pop(event._id, None)
        if event.session_hash in self.pending_messages_per_session:  # otherwise its stream has ended
            said = ProcessCompletedMessage(output={"error": DROPPED}, title="Error", success=False)
            self.send_message(event, said)


class Listening:
    """A stream of answers that is open."""

    def __init__(self, queue: FairQueue, session: str) -> None:
        self._queue, self._session = queue, session

    def __enter__(self) -> None:
        self._queue._listeners[self._session] += 1
        self._queue._next_look = 0.0

    def __exit__(self, *_: object) -> None:
        self._queue._listeners[self._session] -= 1
        if self._queue._listeners[self._session] <= 0:
            del self._queue._listeners[self._session]


class Listeners:
    """ASGI middleware: tells the queue who listens, `queue/data` by session and `call/NAME/ID` by request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue = getattr(getattr(scope.get("app"), "blocks", None), "_queue", None)
        session = _session_of(scope, queue) if isinstance(queue, FairQueue) else ""
        with queue.listening(session) if isinstance(queue, FairQueue) and session else nullcontext():
            await self.app(scope, receive, send)


def _session_of(scope: Scope, queue: FairQueue) -> str:
    """The session for whose answers a request listens; empty if for none."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return ""
    parts = scope["path"].rstrip("/").split("/")
    if parts[-2:] == ["queue", "data"]:
        asked: dict[str, list[str]] = parse_qs(scope["query_string"].decode("latin-1"))
        return asked.get("session_hash", [""])[0]
    return queue.session_of(parts[-1]) if "call" in parts[-4:-2] else ""


def _age(event: Event) -> float:
    """When it came."""
    return event.enqueue_time


def make_fair(page: gr.Blocks, *, is_shared: bool) -> None:
    """Puts a fair line in the place of a page's queue, with its settings. Call it after `page.queue`."""
    usual = page._queue
    page._queue = FairQueue(
        is_shared=is_shared,
        live_updates=usual.live_updates,
        concurrency_count=usual.max_thread_count,
        update_intervals=usual.update_intervals,
        max_size=usual.max_size,
        blocks=page,
        default_concurrency_limit=usual.default_concurrency_limit,
    )


def wait_words(seconds: float) -> str:
    """Seconds as people say them, rounded up."""
    if seconds > 90:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{math.ceil(max(seconds, LEAST_WAIT) / 5) * 5} seconds"
