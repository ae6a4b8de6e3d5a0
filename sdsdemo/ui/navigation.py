"""The page's URL as the visitor moves: it follows the view, a link opens a view, and Back returns to the one before.

What shows a part of the view carries that part of the URL in `data-address`; `scripts/navigation.js` joins the parts of
the open tab. Each tab reads its own fields (`ui/address.py`). The form is also kept in the browser, for what a URL
never holds: an uploaded picture, and text in the middle of being typed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import chain
from typing import Any

import gradio as gr

from sdsdemo.ui import address
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse import BrowseTab
from sdsdemo.ui.compare import CompareTab
from sdsdemo.ui.finetune import FinetuneTab
from sdsdemo.ui.results import ResultsTab
from sdsdemo.ui.templates import render, script, script_element, script_with

log = logging.getLogger(__name__)

GONE = "The server no longer has your picture: upload it again. Your captions and settings are still here."
OUR_FAULT = "Something went wrong on our side, and this link cannot be followed; the server's log has the details."
NO_TAB = "“tab={}” is left out: the tabs are {}."
LONGEST_VIEW = 40_000


def head() -> str:
    """The script for the page's head."""
    return str(script_element("navigation"))


class Navigation:
    """Opens the views that URLs ask for."""

    def __init__(self, compare: CompareTab, browse: BrowseTab, finetune: FinetuneTab, results: ResultsTab) -> None:
        self.compare, self.browse, self.finetune, self.results = compare, browse, finetune, results
        self.opened = {
            "compare": compare.opened,
            "browse": browse.opened,
            "finetune": finetune.opened,
            "results": results.opened,
        }

        self.wanted = gr.Textbox(visible=False)
        """What the page's script asks for; see `open_view`."""

    def wire(self, page: gr.Blocks, message: gr.HTML) -> None:
        """message: the component that says what of a link was left out."""
        form = [*self.compare.inputs, self.finetune.form.preset, *self.finetune.form.components]
        ids = [field.elem_id for field in form]
        private: dict[str, Any] = {"api_visibility": "private"}
        opening: dict[str, Any] = {
            "fn": self.open_view, "inputs": self.wanted, "outputs": [message, *chain(*self.opened.values())],
            "js": script("wanted_view"), "queue": False, "show_progress": "hidden", **private,
        }  # fmt: skip
        restore = script_with("restore_form", ids, render("parts.message", sentence=GONE))
        opened = page.load(**opening)
        restored = opened.then(None, None, [*form, self.compare.message], js=restore, **private)
        restored.then(None, js=script("score_again"), **private)
        message.select(**opening, trigger_mode="multiple").then(None, js=script("score_again"), **private)
        gr.on([field.change for field in form], None, form, js=script_with("keep_form", ids), **private)
        self.compare.wire_address()
        self.finetune.wire_address()

    def open_view(self, view: str, request: gr.Request) -> list[Any]:
        """Values for the message and for every tab that a view names; nothing changes in the others.

        view: a JSON object from the page's script, with the open `tab`, the query of each tab in `queries`, and
        whether Compare's form is `held`: restored by the browser after this.
        """
        tab, queries, is_held = _read_view(view)
        sentences = [] if tab in address.TABS else [NO_TAB.format(address.short(tab), ", ".join(address.TABS))]
        filled, asks = [], False
        for name, components in self.opened.items():
            try:
                values, said, ask = self._open(name, queries, request)
            except Exception:
                log.exception("a link could not be followed")
                values, said, ask = None, [OUR_FAULT], False
            filled += [gr.skip()] * len(components) if values is None else values
            if not (is_held and name == "compare"):  # its form is restored afterwards
                sentences += said
                asks |= ask
        if "browse" not in queries:
            self.browse.warm()
        return [render("parts.link_message", sentences=sentences, asks=asks), *filled]

    def _open(
        self, tab: str, queries: dict[str, str], request: gr.Request
    ) -> tuple[list[Any] | None, Sequence[str], bool]:
        """The values of a tab's components, what is to be said, and whether there is a question to score."""
        if tab not in queries:
            return None, [], False
        query = Query(tab, queries[tab])
        if tab == "compare":
            found = self.compare.open_address(query)
            return (found[0], found[1].remarks, found[1].asks) if found else (None, query.left_out, False)
        if tab == "browse":
            return self.browse.open_address(query, request), query.left_out, False
        if tab == "results":
            return self.results.open_address(query, request), query.left_out, False
        return self.finetune.open_address(query), query.left_out, False


def _read_view(text: str) -> tuple[str, dict[str, str], bool]:
    """The open tab and the queries of a view, and whether the form is kept; the usual for anything else."""
    try:
        view = json.loads(text) if isinstance(text, str) and len(text) <= LONGEST_VIEW else None
    except (ValueError, RecursionError):
        view = None
    view = view if isinstance(view, dict) else {}
    tab, given = view.get("tab"), view.get("queries")
    queries = {  # what a link says about a tab that is not there goes to the first one
        name if name in address.TABS else address.FIRST: query
        for name, query in (given if isinstance(given, dict) else {}).items()
        if isinstance(query, str)
    }
    return tab if isinstance(tab, str) else address.FIRST, queries, view.get("held") is True
