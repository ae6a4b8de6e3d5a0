"""Those who watch a run keep nobody waiting: not by places, not by drawing, and not once their tab is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gradio as gr
import httpx
import pytest

from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import FINETUNING, Settings
from sdsdemo.ui import run_watchers
from sdsdemo.ui.fair_queue import Listeners, make_fair
from sdsdemo.ui.finetune import NO_LONGER, FinetuneTab
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.page import build_page
from sdsdemo.ui.run_watchers import LEAST_PAUSE, OF_OWNER, SILENCE, TOLD_IN_ALL, Watcher, Watchers, at_most_watching
from tests.app.trainer import QUICK, Trainer
from tests.conftest import free_port
from tests.fakes import fake_scorer
from tests.ui.asgi import finished

MANY = 45
"""More than Gradio's 40 places."""


class Staged(NamedTuple):
    page: gr.Blocks
    tab: FinetuneTab
    run: str


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Staged]:
    """A page with the tab, and a run that waits in line for as long as the test takes: nothing about it changes."""
    monkeypatch.setattr(run_watchers, "LEAST_PAUSE", 0.02)
    trainer = Trainer()
    trainer.go.clear()
    workbench = Workbench(Settings.from_environment({}), opener=fake_scorer)
    jobs, registry = Jobs(workbench, root=tmp_path, runner=trainer), RunRegistry(workbench.settings)
    jobs.start(QUICK)
    with gr.Blocks() as page:
        run_id: Any = gr.State("")
        button = FinetuneTab.build_watch()
        tab = FinetuneTab(workbench, jobs, registry, run_id, button, RunPictures(registry))
    yield Staged(page, tab, jobs.start(QUICK))
    trainer.go.set()


def request(session: str = "a", address: str = "1.1.1.1") -> gr.Request:
    asked: Any = SimpleNamespace(client=SimpleNamespace(host=address), headers={})
    return gr.Request(request=asked, session_hash=session)


async def told(watch: AsyncGenerator[Any, None], seconds: float = 5.0) -> Any:
    """What a watcher is told next."""
    return await asyncio.wait_for(anext(watch), seconds)


def watched(watchers: Watchers, stack: ExitStack, **holder: str) -> Watcher:
    """One more, until the stack closes."""
    return stack.enter_context(watchers.watching(**holder))


def test_a_watcher_of_a_quiet_run_gives_a_sign_of_life() -> None:
    now = 0.0
    with Watchers(clock=lambda: now).watching(owner="run") as watcher:
        assert watcher.is_due(is_news=True)
        assert not watcher.is_due(is_news=False)
        now = SILENCE
        assert watcher.is_due(is_news=False)
        assert not watcher.is_due(is_news=False)


def test_the_more_watch_the_more_rarely_each_is_told() -> None:
    watchers, stack = Watchers(), ExitStack()
    with stack:
        for k in range(FINETUNING.page_watchers):
            assert watchers.pause == max(LEAST_PAUSE, k / TOLD_IN_ALL)
            watched(watchers, stack, address=str(k))
    assert watchers.pause == LEAST_PAUSE


def test_of_an_owner_and_of_an_address_the_newest_watch() -> None:
    limits = {"owner": OF_OWNER, "address": FINETUNING.page_watchers // 2}
    for kind, most in limits.items():
        watchers = Watchers()
        with ExitStack() as stack:
            first, *others = [watched(watchers, stack, **{kind: "same"}) for _ in range(most)]
            assert not first.has_ended
            last = watched(watchers, stack, **{kind: "same"})
            elsewhere = watched(watchers, stack, **{kind: "other"})
            assert first.has_ended
            assert not any(watcher.has_ended for watcher in (*others, last, elsewhere))


def test_of_too_many_in_all_the_address_with_most_gives_way() -> None:
    watchers = Watchers()
    with ExitStack() as stack:
        few = [watched(watchers, stack, address="few") for _ in range(3)]
        many = [watched(watchers, stack, address=f"{k % 2}") for k in range(FINETUNING.page_watchers - 3)]
        assert not any(watcher.has_ended for watcher in (*few, *many))
        few.append(watched(watchers, stack, address="few"))
        assert [watcher.has_ended for watcher in (*few, *many[:2])] == [False] * 4 + [True, False]
        assert len(watchers._here) == FINETUNING.page_watchers


def test_a_watcher_that_gives_way_shows_the_state_and_says_what_to_do(waiting: Staged) -> None:
    _, tab, run = waiting

    async def look() -> None:
        first = tab._watch(run, request())
        assert NO_LONGER not in (await told(first))[0]
        newer = [tab._watch(run, request()) for _ in range(OF_OWNER)]
        for watch in newer:
            assert NO_LONGER not in (await told(watch))[0]
        last = await told(first)
        assert NO_LONGER in last[0]
        assert "Waiting" in last[0]
        assert last[tab.outputs.index(tab.stop)]["interactive"]
        with pytest.raises(StopAsyncIteration):
            await told(first)
        for watch in newer:
            await watch.aclose()
        assert not tab.watchers._here

    finished(look())


def test_a_run_of_another_visitor_is_watched_from_an_address(waiting: Staged) -> None:
    _, tab, run = waiting

    async def look() -> None:
        watches = [tab._watch(run, request(), is_own=False), tab._watch(run, request())]
        for watch in watches:
            await told(watch)
        assert [watcher.holder for watcher in tab.watchers._here] == ["1.1.1.1", run]
        for watch in watches:
            await watch.aclose()

    finished(look())


def test_every_part_of_the_line_has_a_limit_and_scoring_runs_one_place() -> None:
    page = build_page(Workbench(Settings.from_environment({})))
    queued = [fn for fn in page.fns.values() if fn.queue and fn.fn is not None]
    assert not [fn.name for fn in queued if fn.concurrency_limit is None]
    limits = {fn.name: (fn.concurrency_id, fn.concurrency_limit) for fn in queued}
    assert limits["in_browse"] == limits["in_results"] == ("evaluate", 1)
    assert limits["_watch"] == limits["_watch_at_address"] == ("watch", at_most_watching())
    page.close()


@pytest.mark.slow
def test_many_who_watch_keep_nobody_waiting_and_leave_no_trace(
    waiting: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, tab, run = waiting
    monkeypatch.setattr(run_watchers, "OF_OWNER", 2 * MANY)
    monkeypatch.setattr(run_watchers, "SILENCE", 0.2)
    with page:
        line: dict[str, Any] = {"concurrency_limit": at_most_watching(), "concurrency_id": "watch"}
        watch = gr.Button().click(tab._watch, gr.Textbox(), tab.outputs, **line)
        gr.Button().click(lambda: "answered", None, gr.Textbox(), api_name="ask")
    page.queue(api_open=False)
    make_fair(page, is_shared=True)
    _, address, _ = page.launch(
        prevent_thread_lock=True, quiet=True, ssr_mode=False, server_port=free_port(),
        app_kwargs={"middleware": [(Listeners, (), {})]},
    )  # fmt: skip

    async def come() -> None:
        async with httpx.AsyncClient(base_url=f"{address}gradio_api", timeout=10) as client:
            streams: list[AsyncIterator[str]] = []
            async with AsyncExitStack() as watching:
                for k in range(MANY):
                    asked = {"data": [run], "fn_index": watch["id"], "session_hash": f"w{k}"}
                    assert (await client.post("/queue/join", json=asked)).status_code == 200
                    stream = client.stream("GET", "/queue/data", params={"session_hash": f"w{k}"})
                    opened = await watching.enter_async_context(stream)
                    streams.append(opened.aiter_text())
                    while "process_generating" not in await anext(streams[-1]):
                        pass
                assert len(tab.watchers._here) == MANY
                joined = await client.post("/call/ask", json={"data": []})
                async with client.stream("GET", f"/call/ask/{joined.json()['event_id']}") as answer:
                    assert "answered" in "".join([part async for part in answer.aiter_text()])
            for _ in range(1_200):
                if not tab.watchers._here:
                    return
                await asyncio.sleep(0.05)
            raise AssertionError(f"{len(tab.watchers._here)} watch from closed tabs")

    try:
        finished(come())
    finally:
        page.close()


def test_a_run_that_another_server_trains_is_followed_to_its_end(
    waiting: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read from its folder, without a version. All is drawn in threads, since the event loop serves everybody."""
    _, tab, run = waiting
    stages = [Job(id=run, recipe=QUICK, state="running", step=k, seconds=1.0) for k in (1, 1, 2)]
    stages.append(Job(id=run, recipe=QUICK, state="finished", step=3, record={}))
    stage, drawn, threads = iter(stages), tab._updates, set[int]()

    def updates(*arguments: Any) -> list[Any]:
        threads.add(threading.get_ident())
        return drawn(*arguments)

    monkeypatch.setattr(tab.jobs, "get", lambda _: next(stage))
    monkeypatch.setattr(tab, "_updates", updates)

    async def look() -> None:
        assert ["Finished" in parts[0] async for parts in tab._watch(run, request())] == [False, False, True]

    finished(look())
    assert threads
    assert threading.get_ident() not in threads
