"""What a reload of the page keeps, and where the browser's Back leads. See `scripts/navigation.js`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from sdsdemo.ui.templates import render, script, script_element, script_with

GONE = "The server no longer has your picture: put it in again. Your captions and settings are kept."


def head() -> str:
    """What the page's head needs."""
    return str(script_element("navigation"))


def wire(page: gr.Blocks, fields: Sequence[Any], message: gr.HTML) -> None:
    """Keeps the fields at every change, and puts them back when the page is loaded again.

    fields: components, each with an `elem_id`. message: where it is said that a picture is gone.
    """
    ids = [field.elem_id for field in fields]
    restore = script_with("restore_form", ids, render("parts.message", sentence=GONE))
    private: dict[str, Any] = {"api_visibility": "private"}
    restored = page.load(None, None, [*fields, message], js=restore, **private)
    restored.then(None, js=script("score_again"), **private)
    gr.on([field.change for field in fields], None, list(fields), js=script_with("keep_form", ids), **private)
