"""Visitors take turns: a flood from one client is one visitor among others, and what nobody listens for waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import gradio as gr
import httpx
import pytest
from starlette.exceptions import HTTPException

from sdsdemo.settings import LIMITS
from sdsdemo.ui import fair_queue
from sdsdemo.ui.fair_queue import (
    DROPPED,
    LISTENED_WITHIN,
    UNKNOWN_WAIT,
    FairQueue,
    Listeners,
    make_fair,
    wait_words,
)
from sdsdemo.ui.page import launch_options
from tests.ui.asgi import finished, nothing, nowhere
from tests.ui.line import Line


def test_a_second_visitor_waits_for_one_turn_of_a_flood_and_not_for_all() -> None:
    line = Line()
    for _ in range(10):
        line.ask("flood", "6.6.6.6")
    line.ask("visitor", "1.1.1.1")
    assert line.served(3).index("visitor") <= 1


def test_visitors_of_one_address_take_turns_and_addresses_do_too() -> None:
    line = Line()
    for _ in range(3):
        line.ask("a", "1.1.1.1")
    for name in ("b", "c"):
        line.ask(name, "1.1.1.1")
    line.ask("elsewhere", "2.2.2.2")
    assert line.served(6) == ["a", "elsewhere", "b", "c", "a", "a"]


def test_new_sessions_from_one_address_do_not_get_in_front_of_another() -> None:
    line = Line()
    for k in range(50):
        line.ask(f"flood-{k}", "6.6.6.6")
    for name in ("x", "y", "z"):
        line.ask(name, name)
    assert set(line.served(6)[1:4]) == {"x", "y", "z"}


def test_on_a_shared_page_nobody_has_all_places() -> None:
    line = Line(places=4)
    for _ in range(6):
        line.ask("many")
    assert [line.start() for _ in range(3)] == ["many", "many", ""]
    line.ask("one")
    assert line.start() == "one"


def test_on_a_page_of_ones_own_all_places_are_used() -> None:
    line = Line(places=2, is_shared=False)
    line.ask("me")
    line.ask("me")
    assert [line.start(), line.start()] == ["me", "me"]


def test_one_place_and_endless_places_are_used_too() -> None:
    for places, count in ((1, 1), (None, 3)):
        line = Line(places=places)
        for _ in range(3):
            line.ask("me")
        assert [line.start() for _ in range(3)].count("me") == count


def test_a_request_starts_once_somebody_listens_for_its_answer() -> None:
    line = Line()
    line.ask("gone", heard=False)
    assert line.start() == ""
    with line.queue.listening("gone"):
        assert line.start() == "gone"
    assert line.queue._listeners["gone"] == 0
    assert "gone" not in line.queue._listeners


def test_what_nobody_listens_for_is_dropped_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    told: list[Any] = []
    monkeypatch.setattr(line.queue, "send_message", lambda event, message: told.append(message.output))
    line.ask("gone", heard=False)
    heard = line.ask("here", kind="score")
    line.now = LISTENED_WITHIN - 2
    line.queue.event_queue_per_concurrency_id["score"].current_concurrency = 2
    assert line.start() == ""
    assert len(line.queue) == 2
    line.now = LISTENED_WITHIN + 1
    assert line.start() == ""
    assert list(line.queue._waiting()) == [heard]
    assert told == [{"error": DROPPED}]


def test_of_many_that_nobody_listens_for_the_oldest_go_first() -> None:
    line = Line()
    heard = line.ask("heard", "6.6.6.6")
    other = line.ask("other", "1.1.1.1", heard=False)
    for k in range(fair_queue.UNHEARD + 3):
        line.now += 1.0
        line.queue.pending_messages_per_session.clear()
        line.queue._make_room("6.6.6.6")
        line.ask(f"f{k}", "6.6.6.6", heard=False)
    waiting = [event.session_hash for event in line.queue._waiting()]
    assert waiting[:3] == [heard.session_hash, other.session_hash, "f3"]
    assert len(waiting) == 2 + fair_queue.UNHEARD


def test_kinds_of_requests_take_turns() -> None:
    line = Line(kinds=("score", "browse"))
    for _ in range(3):
        line.ask("a", kind="score")
        line.ask("a", kind="browse")
    kinds = []
    for _ in range(4):
        line.now += 1.0
        found = line.queue.get_events()
        assert found is not None
        kinds.append(found[2])
    assert sorted(kinds[:2]) == sorted(kinds[2:]) == ["browse", "score"]


def test_a_line_that_cannot_move_is_looked_at_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    line.ask("gone", heard=False)
    looks: list[int] = []
    monkeypatch.setattr(line.queue, "_drop_unheard", lambda: looks.append(1))
    for _ in range(100):
        assert line.queue.get_events() is None
    assert len(looks) == 1


def refused(line: Line, session: str, address: str) -> str:
    body, request = SimpleNamespace(session_hash=session), SimpleNamespace(client=SimpleNamespace(host=address))
    return line.queue._refusal(body.session_hash, request)


def test_a_visitor_and_an_address_have_limits() -> None:
    line = Line()
    for _ in range(LIMITS.queue_of_visitor):
        assert refused(line, "many", "1.1.1.1") == ""
        line.ask("many")
    assert f"You have {LIMITS.queue_of_visitor} requests waiting here already" in refused(line, "many", "1.1.1.1")
    assert refused(line, "other", "1.1.1.1") == ""
    for k in range(LIMITS.queue_of_address - LIMITS.queue_of_visitor):
        line.ask(f"s{k}")
    assert "Many people are asking" in refused(line, "new", "1.1.1.1")
    assert refused(line, "new", "2.2.2.2") == ""


def test_the_wait_is_that_of_gradios_own_times() -> None:
    line = Line()
    assert line.queue.wait == UNKNOWN_WAIT
    for k in range(16):
        event = line.ask(f"s{k}")
        assert event.fn is not None
        line.queue.process_time_per_fn[event.fn].add(3.0)
    assert line.queue.wait == 24.0
    assert [wait_words(s) for s in (0.2, 24, 89, 91)] == ["5 seconds", "25 seconds", "90 seconds", "2 minutes"]


def test_who_listens_is_read_from_what_is_asked_for() -> None:
    line = Line()
    event = line.ask("mine", heard=False)
    seen: list[int] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(line.queue._listeners["mine"])

    app = SimpleNamespace(blocks=SimpleNamespace(_queue=line.queue))
    for path, query, method in (
        ("/gradio_api/queue/data", b"session_hash=mine", "GET"),
        (f"/gradio_api/call/score/{event._id}", b"", "GET"),
        (f"/gradio_api/call/v2/score/{event._id}", b"", "GET"),
        ("/gradio_api/queue/data", b"session_hash=other", "GET"),
        ("/gradio_api/queue/join", b"session_hash=mine", "POST"),
        ("/gradio_api/call/score/unknown", b"", "GET"),
    ):
        scope = {"type": "http", "path": path, "query_string": query, "method": method, "app": app}
        finished(Listeners(inner)(scope, nothing, nowhere))
    assert seen == [1, 1, 1, 0, 0, 0]
    assert not +line.queue._listeners


class Served(NamedTuple):
    """A page with a slow function: its address, who was answered, what lets the function go on, and its line."""

    address: str
    answered: list[str]
    go: threading.Event
    queue: FairQueue


@pytest.fixture
def served() -> Iterator[Served]:
    answered: list[str] = []
    go = threading.Event()

    def slow(name: str) -> str:
        go.wait(20)
        answered.append(name)
        return name

    with gr.Blocks() as page:
        box = gr.Textbox()
        gr.Button().click(slow, box, box, api_name="slow", concurrency_limit=2, concurrency_id="slow")
    page.queue(max_size=LIMITS.queue, api_open=False)
    make_fair(page, is_shared=True)
    middleware = {"middleware": [(Listeners, (), {})]}
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs=middleware)
    assert isinstance(page._queue, FairQueue)
    yield Served(address, answered, go, page._queue)
    go.set()
    page.close()


def test_a_flood_that_nobody_listens_to_holds_nobody_up(served: Served) -> None:
    address, answered, go, _ = served
    with httpx.Client(base_url=f"{address}gradio_api", timeout=20) as client:
        floods = [{"data": ["flood"], "fn_index": 0, "session_hash": f"f{k}"} for k in range(200)]
        assert {client.post("/queue/join", json=flood).status_code for flood in floods} == {200}
        assert client.get("/queue/status").json()["queue_size"] == fair_queue.UNHEARD
        started = client.post("/call/slow", json={"data": ["visitor"]})  # from the flood's own address
        go.set()
        with client.stream("GET", f"/call/slow/{started.json()['event_id']}") as stream:
            assert "visitor" in "".join(stream.iter_text())
        assert answered == ["visitor"]
        with client.stream("GET", "/queue/data", params={"session_hash": "f0"}) as stream:
            assert "Nobody listened" in "".join(stream.iter_text())


def test_a_refusal_arrives_as_a_sentence(served: Served) -> None:
    with httpx.Client(base_url=f"{served.address}gradio_api", timeout=20) as client:
        body = {"data": ["many"], "fn_index": 0, "session_hash": "many"}
        statuses = [client.post("/queue/join", json=body) for _ in range(LIMITS.queue_of_visitor + 1)]
    assert [answer.status_code for answer in statuses] == [200] * LIMITS.queue_of_visitor + [429]
    assert "wait for their answers" in statuses[-1].json()["detail"]


def test_a_request_whose_client_leaves_is_dropped(served: Served) -> None:
    address, answered, go, queue = served
    with httpx.Client(base_url=f"{address}gradio_api", timeout=20) as client:
        for _ in range(3):
            client.post("/queue/join", json={"data": ["leaver"], "fn_index": 0, "session_hash": "leaver"})
        with client.stream("GET", "/queue/data", params={"session_hash": "leaver"}) as stream:
            next(stream.iter_text())
    deadline = time.monotonic() + 60
    while queue._listeners["leaver"]:
        assert time.monotonic() < deadline, "the server has not seen that the client left"
        time.sleep(0.01)
    go.set()
    with httpx.Client(base_url=f"{address}gradio_api", timeout=20) as client:
        started = client.post("/call/slow", json={"data": ["visitor"]})
        with client.stream("GET", f"/call/slow/{started.json()['event_id']}") as stream:
            assert "visitor" in "".join(stream.iter_text())
    assert answered.count("leaver") <= 1, "at most the one that ran already"


def test_no_table_of_all_requests_is_made_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Line().queue
    made: list[Any] = []
    monkeypatch.setattr(fair_queue.Queue, "_get_df", lambda records: made.append(records))
    queue.events_recorded = 3
    queue.compute_analytics_summary([{"function": "score", "status": "success", "process_time": 1.0}] * 3)
    assert made == []


def test_the_page_is_served_with_it() -> None:
    kinds = [kind for kind, *_ in launch_options("127.0.0.1", 7860)["app_kwargs"]["middleware"]]
    assert Listeners in kinds


def test_a_full_line_is_said_without_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()

    async def full(*_: Any) -> Any:
        return False, "Queue is full. Max size is 16 and size is 16.", "queue_full"

    monkeypatch.setattr(fair_queue.Queue, "push", full)
    request = SimpleNamespace(client=SimpleNamespace(host="1.1.1.1"))
    with pytest.raises(HTTPException) as refusal:
        finished(line.queue.push(SimpleNamespace(session_hash="a"), request, None))
    assert refusal.value.status_code == 429
    assert "about 30 seconds" in refusal.value.detail
    assert "size" not in refusal.value.detail
