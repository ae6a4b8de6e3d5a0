"""The page's URL as the visitor moves: it follows the view, a link opens a view, and Back returns to the one before.

What shows a part of the view carries that part of the URL in `data-address`; `scripts/navigation.js` joins the parts of
the open tab. Each tab reads its own fields (`ui/address.py`). The form is also kept in the browser, for what a URL
never holds: an uploaded picture, and text in the middle of being typed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import gradio as gr

from sdsdemo.ui import address
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse import BrowseTab
from sdsdemo.ui.compare import CompareTab
from sdsdemo.ui.finetune import FinetuneTab
from sdsdemo.ui.request_order import number_of
from sdsdemo.ui.results import ResultsTab
from sdsdemo.ui.templates import render, script, script_element, script_with

log = logging.getLogger(__name__)

GONE = "The server no longer has your picture: upload it again. Your captions and settings are still here."
OUR_FAULT = "Something went wrong on our side, and this link cannot be followed; the server's log has the details."
USED = "This link uses a model that its owner tuned here: “{}”. It is deleted a day after its run ended."
WATCHED = "This link shows a run that its owner started here. Its files are deleted a day after it ended."
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

        view: a JSON object from the page's script, as `View` has it.
        """
        wanted = View.read(view)
        said = [] if wanted.tab in address.TABS else [NO_TAB.format(address.short(wanted.tab), ", ".join(address.TABS))]
        filled, asks = [], False
        for tab, components in self.opened.items():
            opened = self._opened(tab, wanted, request)
            filled += [gr.skip()] * len(components) if opened.values is None else opened.values
            said += opened.said
            asks |= opened.asks
        if "browse" not in wanted.queries:
            self.browse.warm()
        number = number_of(request)
        return [render("parts.link_message", sentences=said, asks=asks, number=number), *filled]

    def _opened(self, tab: str, wanted: View, request: gr.Request) -> Opened:
        """What a view opens in one tab. Failures become messages."""
        if tab not in wanted.queries:
            return Opened()
        query = Query(tab, wanted.queries[tab])
        try:
            opened = self._open(tab, query, request)
        except Exception:
            log.exception("a link could not be followed")
            return Opened(said=[OUR_FAULT])
        if tab == "compare" and wanted.held:  # its form is restored afterwards
            return Opened(opened.values)
        return opened if wanted.again else opened._replace(said=[*opened.said, *self._uses(tab, query)])

    def _open(self, tab: str, query: Query, request: gr.Request) -> Opened:
        if tab == "compare":
            found = self.compare.open_address(query)
            return Opened(found[0], found[1].remarks, found[1].asks) if found else Opened(said=query.left_out)
        if tab == "browse":
            return Opened(self.browse.open_address(query, request), query.left_out)
        if tab == "results":
            return Opened(self.results.open_address(query, request), query.left_out)
        return Opened(self.finetune.open_address(query), query.left_out)

    def _uses(self, tab: str, query: Query) -> list[str]:
        """A sentence for each shared model that a link uses."""
        if tab == "finetune":
            return [WATCHED] if "run" in query else []
        workbench = self.compare.workbench
        lent = filter(workbench.is_lent, query.shared)
        return list(dict.fromkeys(USED.format(workbench.card(name).title) for name in lent))


class Opened(NamedTuple):
    """What a link opens in a tab."""

    values: list[Any] | None = None
    """Of the tab's components; None leaves them as they are."""
    said: Sequence[str] = ()
    asks: bool = False
    """Whether there is a question to score."""


class View(NamedTuple):
    """A view that the page's script asks for."""

    tab: str
    queries: Mapping[str, str]
    """By tab."""
    held: bool
    """Whether Compare's form is restored by the browser afterwards."""
    again: bool
    """Whether the visitor has been there before: after a reload, or by Back."""

    @classmethod
    def read(cls, text: str) -> View:
        """A view from JSON; the first tab and no queries for anything else."""
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
        is_held, is_again = view.get("held") is True, view.get("again") is True
        return cls(tab if isinstance(tab, str) else address.FIRST, queries, is_held, is_again)
