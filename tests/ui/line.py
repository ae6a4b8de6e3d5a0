"""A fair queue without a server."""

from __future__ import annotations

from asyncio import Queue as AsyncQueue
from types import SimpleNamespace
from typing import Any

from gradio.queueing import Event, EventQueue

from sdsdemo.ui.fair_queue import FairQueue


class Work:
    """What a request asks for, as far as the queue knows it."""

    connection, batch = "sse", False

    def __init__(self, kind: str) -> None:
        self.concurrency_id = kind


class Line:
    """A fair queue without a server, and its clock."""

    def __init__(self, places: int | None = 2, *, is_shared: bool = True, kinds: tuple[str, ...] = ("score",)) -> None:
        self.now = 0.0
        self.works: dict[str, Work] = {}
        self.queue = FairQueue(
            live_updates=False, concurrency_count=40, update_intervals=1, max_size=None, blocks=None,
            default_concurrency_limit=places, is_shared=is_shared, clock=lambda: self.now,
        )  # fmt: skip
        self.queue.active_jobs = [None] * 40
        for kind in kinds:
            self.queue.event_queue_per_concurrency_id[kind] = EventQueue(kind, places)

    def ask(self, session: str, address: str = "1.1.1.1", *, heard: bool = True, kind: str = "score") -> Event:
        fn: Any = self.works.setdefault(kind, Work(kind))
        request: Any = SimpleNamespace(client=SimpleNamespace(host=address))
        event = Event(session, fn, request, None)
        event.enqueue_time = self.now
        self.queue.event_queue_per_concurrency_id[kind].queue.append(event)
        self.queue.event_ids_to_events[event._id] = event
        self.queue.pending_messages_per_session[session] = AsyncQueue()
        if heard and not self.queue._listeners[session]:
            self.queue.listening(session).__enter__()
        return event

    def start(self) -> str:
        """The session whose request starts next; empty if none can. It runs until `end`."""
        self.now += 1.0
        found = self.queue.get_events()
        if found is None:
            return ""
        events, _, kind = found
        self.queue.active_jobs[self.queue.active_jobs.index(None)] = events
        self.queue.event_queue_per_concurrency_id[kind].current_concurrency += 1
        return events[0].session_hash

    def end(self) -> None:
        """All that runs ends."""
        self.queue.active_jobs = [None] * 40
        for part in self.queue.event_queue_per_concurrency_id.values():
            part.current_concurrency = 0

    def served(self, count: int) -> list[str]:
        """The next ones, if each ends before the next starts."""
        order = []
        for _ in range(count):
            order.append(self.start())
            self.end()
        return order
