"""Keeps the form across reloads, and makes the browser's Back work between tabs. See `scripts/navigation.js`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from sdsdemo.ui.templates import render, script, script_element, script_with

GONE = "The server no longer has your picture: upload it again. Your captions and settings are still here."


def head() -> str:
    """The script for the page's head."""
    return str(script_element("navigation"))


def wire(page: gr.Blocks, fields: Sequence[Any], message: gr.HTML) -> None:
    """Saves the fields at every change, and restores them when the page is reloaded.

    fields: components, each with an `elem_id`. message: the component that reports a lost picture.
    """
    ids = [field.elem_id for field in fields]
    restore = script_with("restore_form", ids, render("parts.message", sentence=GONE))
    private: dict[str, Any] = {"api_visibility": "private"}
    restored = page.load(None, None, [*fields, message], js=restore, **private)
    restored.then(None, js=script("score_again"), **private)
    gr.on([field.change for field in fields], None, list(fields), js=script_with("keep_form", ids), **private)
