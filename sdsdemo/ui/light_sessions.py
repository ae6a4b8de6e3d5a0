"""Gradio's memory of a visitor's session, without a description of the whole page.

For every new session, and for every request without one, Gradio describes each component of the page, and again with
every answer, for links to a copy of the page, which this page does not offer. All requests wait meanwhile, since it is
done in the server's event loop. What a session needs, its components and their states, is kept as before.
"""

from __future__ import annotations

from typing import Any, cast

import gradio as gr
from gradio.blocks import BlocksConfig


class LightConfig(BlocksConfig):
    """A page's components and events. The copy that each session gets describes no component."""

    def __copy__(self) -> BlocksConfig:
        copied: BlocksConfig = super().__copy__()  # type: ignore[no-untyped-call]
        cast(Any, copied).config_for_block = _no_description
        return copied


def make_light(page: gr.Blocks) -> None:
    """Makes the sessions of a page light. Call it once the page is built."""
    light = LightConfig(page)
    vars(light).update(vars(page.default_config))
    page.default_config = light


def _no_description(*_: object) -> dict[str, Any]:
    return {}
