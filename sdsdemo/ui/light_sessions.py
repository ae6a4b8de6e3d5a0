"""Gradio's memory of a visitor's session, without a description of the whole page.

For every new session Gradio describes each component of the page, and again with every answer, for links to a copy of
the page, which this page does not offer. All requests wait meanwhile, since it is done in the server's event loop. What
a session needs, its components and their states, is kept as before.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gradio.blocks import Blocks
from gradio.state_holder import SessionState, StateHolder


class LightSession(SessionState):
    """A session in which no component is described."""

    def __init__(self, blocks: Blocks) -> None:
        undescribed = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(cast(Blocks, undescribed))
        cast(Any, self.blocks_config).config_for_block = _no_description


class LightSessions(StateHolder):
    """The sessions of a page."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LightSession(self.blocks)
        return super().__getitem__(session_id)


def _no_description(*_: object) -> dict[str, Any]:
    return {}
