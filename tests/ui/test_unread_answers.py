"""Answers that nobody reads, and sessions that have gone, fill no memory and keep no place from those who wait."""

from __future__ import annotations

from asyncio import Queue as AsyncQueue

import pytest
from gradio.server_messages import ProcessGeneratingMessage

from sdsdemo.ui import fair_queue
from sdsdemo.ui.fair_queue import MOST_UNREAD, UNREAD
from tests.ui.line import Line


def part() -> ProcessGeneratingMessage:
    return ProcessGeneratingMessage(output={"data": ["some"]}, success=True)


def test_what_a_client_does_not_read_is_not_kept_for_ever() -> None:
    line = Line()
    slow, other = line.ask("slow"), line.ask("other")
    for _ in range(3 * MOST_UNREAD):
        line.queue.send_message(slow, part())
    assert not slow.alive
    messages = line.queue.pending_messages_per_session["slow"]
    assert messages.qsize() == MOST_UNREAD + 1
    last = [messages.get_nowait() for _ in range(messages.qsize())][-1]
    assert (last.output, last.event_id) == ({"error": UNREAD}, slow._id)
    line.queue.send_message(other, part())
    assert other.alive


def test_a_client_that_reads_gets_as_many_parts_as_there_are() -> None:
    line = Line()
    event = line.ask("reads")
    for _ in range(3 * MOST_UNREAD):
        line.queue.send_message(event, part())
        line.queue.pending_messages_per_session["reads"].get_nowait()
    assert event.alive


def test_sessions_that_have_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "SESSIONS", 10)
    line = Line()
    asked = line.ask("waits")
    line.queue.pending_messages_per_session["listens"] = AsyncQueue()
    noted = line.queue.pending_event_ids_session
    noted |= {"waits": {asked._id}, "listens": set()} | {f"gone-{k}": set() for k in range(8)}
    line.queue.pending_messages_per_session.pop("waits")
    line.queue._forget_sessions()
    assert len(noted) == 10
    noted["one more"] = set()
    line.queue._forget_sessions()
    assert set(noted) == {"waits", "listens"}


def test_many_new_sessions_do_not_put_out_one_that_waits() -> None:
    """Gradio has room for the answers of some sessions, and drops the oldest."""
    line = Line()
    waits, unread = line.ask("waits"), line.queue.pending_messages_per_session
    line.queue.listening("opens").__enter__()
    for name in ("opens", *(f"new-{k}" for k in range(2 * unread.max_size))):
        line.queue._forget_sessions()
        unread[name] = AsyncQueue()
    assert {"waits", "opens"} < unread.keys()
    line.queue.send_message(waits, part())
    assert waits.alive


def test_a_session_without_room_for_answers_does_not_stop_the_line() -> None:
    line = Line()
    event = line.ask("waits")
    del line.queue.pending_messages_per_session["waits"]
    line.queue.send_message(event, part())
    assert not event.alive
