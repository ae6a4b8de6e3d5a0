"""A session of the page costs little, and remembers what it did with Gradio's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState, StateHolder

from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings
from sdsdemo.ui.light_sessions import LightConfig, make_light
from sdsdemo.ui.page import build_page
from tests.conftest import free_port


@pytest.fixture
def page() -> Any:
    with gr.Blocks() as page:
        page.count = gr.State(0)
        page.box = gr.Textbox("", elem_id="box")
        page.choice = gr.Dropdown(["a"], value="a")
        page.box.submit(lambda text: text, page.box, page.box, api_name="say", queue=False)
        gr.Button().click(lambda: gr.update(choices=["a", "own"]), None, page.choice, api_name="add", queue=False)
        gr.Button().click(lambda one: f"chose {one}", page.choice, page.box, api_name="choose", queue=False)
    page.queue()
    make_light(page)
    yield page
    page.close()


@pytest.fixture
def sessions(page: gr.Blocks) -> StateHolder:
    found = StateHolder()
    found.set_blocks(page)
    return found


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Components that were described, each time."""
    found: list[int] = []

    def count(identity: int, *_: Any) -> dict[str, Any]:
        found.append(identity)
        return {}

    monkeypatch.setattr(BlocksConfig, "config_for_block", staticmethod(count))
    return found


def test_a_new_session_describes_no_component(page: Any, sessions: StateHolder, described: list[int]) -> None:
    session = sessions["a"]
    session._update_value_in_config(page.box._id, "typed")
    session._update_config(page.box._id)
    session[page.box._id] = gr.Textbox(visible=False, render=False)
    assert described == []
    assert list(session.components) == []


def test_a_request_without_a_session_describes_no_component(page: gr.Blocks, described: list[int]) -> None:
    SessionState(page)
    assert described == []


def test_the_page_s_own_sessions_are_light(tmp_path: Path) -> None:
    page = build_page(Workbench(Settings.from_environment({})))
    assert isinstance(page.default_config, LightConfig)
    assert list(SessionState(page).components) == []
    assert len(page.get_config_file()["components"]) > 100


def test_a_session_keeps_its_own_components_and_states(page: Any, sessions: StateHolder) -> None:
    one, other = sessions["one"], sessions["other"]
    one[page.count._id] = 7
    one[page.box._id] = gr.Textbox(visible=False, render=False)
    assert sessions["one"] is one
    assert (one[page.count._id], other[page.count._id]) == (7, 0)
    assert (one[page.box._id].visible, other[page.box._id].visible) == (False, True)
    assert one.blocks_config.fns == other.blocks_config.fns == page.fns


def test_choices_that_one_session_got_are_taken_from_it_alone(page: Any, described: list[int]) -> None:
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, server_port=free_port())
    described.clear()

    def ask(name: str, session: str | None, *data: str) -> Any:
        body = {"data": data, "session_hash": session}
        return httpx.post(f"{address}gradio_api/run/{name}", json=body, timeout=30).json().get("data")

    assert ask("add", "one")
    assert [ask("choose", session, "own") for session in ("one", "other", None)] == [["chose own"], None, None]
    assert ask("choose", None, "a") == ["chose a"]
    assert described == []
