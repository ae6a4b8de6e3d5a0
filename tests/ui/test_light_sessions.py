"""A session of the page costs little, and remembers what it did with Gradio's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig

from sdsdemo.ui.fair_queue import make_fair
from sdsdemo.ui.light_sessions import LightSessions


@pytest.fixture
def page() -> gr.Blocks:
    with gr.Blocks() as page:
        page.count = gr.State(0)
        page.box = gr.Textbox("", elem_id="box")
        page.box.submit(lambda text: text, page.box, page.box)
    page.queue()
    make_fair(page, is_shared=True)
    return page


@pytest.fixture
def sessions(page: gr.Blocks) -> LightSessions:
    """Those of a page that is about to be served."""
    app: Any = SimpleNamespace(get_blocks=lambda: page, state_holder=None)
    page._queue.set_server_app(app)
    found: LightSessions = app.state_holder
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


def test_a_new_session_describes_no_component(page: gr.Blocks, sessions: LightSessions, described: list[int]) -> None:
    session = sessions["a"]
    session._update_value_in_config(page.box._id, "typed")
    session._update_config(page.box._id)
    session[page.box._id] = gr.Textbox(visible=False, render=False)
    assert described == []
    assert list(session.components) == []


def test_a_session_keeps_its_own_components_and_states(page: gr.Blocks, sessions: LightSessions) -> None:
    one, other = sessions["one"], sessions["other"]
    one[page.count._id] = 7
    one[page.box._id] = gr.Textbox(visible=False, render=False)
    assert sessions["one"] is one
    assert (one[page.count._id], other[page.count._id]) == (7, 0)
    assert (one[page.box._id].visible, other[page.box._id].visible) == (False, True)
    assert one.blocks_config.fns == other.blocks_config.fns == page.fns


def test_sessions_are_as_many_as_the_page_allows(page: gr.Blocks, sessions: LightSessions) -> None:
    page.state_session_capacity = 2
    sessions.set_blocks(page)
    for name in ("a", "b", "c"):
        assert sessions[name]
    assert [name in sessions for name in ("a", "b", "c")] == [False, True, True]
