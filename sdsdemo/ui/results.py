"""The Results tab: three claims with their figures, then one result at a time, in full; published results apart."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import ref

import gradio as gr

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.sharing import GONE, is_shared
from sdsdemo.errors import UserError
from sdsdemo.evaluation.report import read_result, results_of
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.evaluation.store import StoredRun
from sdsdemo.settings import ASSETS
from sdsdemo.ui import address, results_html, results_story
from sdsdemo.ui.address import Query
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.late_dropdown import LateDropdown
from sdsdemo.ui.request_order import LastSent, has_come
from sdsdemo.ui.result_files import File, addresses, result_file
from sdsdemo.ui.templates import render

log = logging.getLogger(__name__)

SUMMARIES = "mini/results"
LEFT_OUT = ("mini", "sample", "experiment")
"""Summaries that a shipped run repeats, that only a test needs, or that the tab shows elsewhere."""
TUNED_RUN = "tuned run"
"""The name shown for a visitor's own model and its run."""
OUR_FAULT = "Something went wrong on our side; the server's log has the details. Choose another result."

READING = "Reading the stored answers …"
"""Shown until the tab is first filled."""


class ResultsTab:
    """The components that events need."""

    def __init__(self, registry: RunRegistry, assets: Path = ASSETS) -> None:
        self.registry, self.assets = registry, assets
        self._summed: dict[str, tuple[ref[StoredRun], Result]] = {}
        """By run, for as long as the registry keeps it."""
        self.sent_parts = LastSent(), LastSent()
        """Of the overview and of the result shown."""
        names = self.names()
        with gr.Column(elem_id="results"):
            gr.HTML(results_story.gap_part(assets), elem_id="claim-gap")
            self.overview = gr.HTML(render("results.overview_to_come", sentence=READING), elem_id="result-overview")
            gr.HTML(results_story.effects_part(assets), elem_id="claim-effects")
            gr.HTML(results_story.cost_part(assets), elem_id="claim-cost")
            gr.HTML(render("parts.heading", words="One benchmark in full"))
            self.chosen = LateDropdown(names, value=names[0] if names else None, label="Result", elem_id="result-name")
            self.shown = gr.HTML(render("parts.busy", sentence=READING), elem_id="result-shown")
            with gr.Accordion("Published by others", open=False):
                gr.HTML(render("results.published_part", content=results_html.published_html()))

    def wire(self, opened: Any) -> None:
        """opened: the tab's `select` event."""
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        opened(self._reopen, self.chosen, [self.chosen, self.overview, self.shown], **quick)
        self.chosen.input(self.show_chosen, self.chosen, self.shown, trigger_mode="always_last", **quick)

    @property
    def opened(self) -> list[Any]:
        """The components that a URL fills."""
        return [self.chosen, self.overview, self.shown]

    def open_address(self, query: Query, request: gr.Request | None) -> list[Any]:
        """Values for `opened` from the page's URL."""
        names = self.names()
        wanted = query.text("result")
        if wanted and wanted not in names and not self.registry.has(wanted):
            query.leave_out("result", address.NO_SUCH)
            wanted = ""
        return self._open(wanted or None, request)

    def names(self) -> list[str]:
        """Every run, then every stored summary."""
        stored = sorted(path.stem for path in (self.assets / SUMMARIES).glob("*.json") if path.stem not in LEFT_OUT)
        return [*self.registry.names(), *stored]

    def show_chosen(self, name: str | None, request: gr.Request | None) -> str:
        """As `show`, and notes what is sent."""
        shown = self.show(name)
        self.sent_parts[1].is_same(request, hash(shown))
        return shown

    def show(self, name: str | None) -> str:
        """One result as HTML. Failures become messages."""
        try:
            result = self._result(name or "")
            query = address.write("results", {"result": name}, {"result": next(iter(self.names()), None)})
            return render("parts.address", query=query) + self._shown(name or "", result)
        except UserError as error:
            return message_html(str(error))
        except Exception:
            log.exception("a result could not be shown")
            return message_html(OUR_FAULT)

    def _shown(self, name: str, result: Result) -> str:
        """One result, with links to its files and, for a run that is listed, to its examples."""
        run = name if name in self.registry.names() else ""
        is_above = results_story.shows(self.assets, result)
        return results_html.result_html(result, addresses(name), run, is_above)

    def file(self, name: str, ending: str) -> File:
        """A result as a file to download. Raises `UserError` if there is none of this name."""
        return result_file(self._result(name), ending)

    def _reopen(self, name: str | None, request: gr.Request | None) -> list[Any]:
        """Refreshes the tab when it is selected again."""
        return [gr.skip()] * 3 if has_come(request, "results") else self._open(name, request)

    def _open(self, name: str | None, request: gr.Request | None = None) -> list[Any]:
        names = self.names()
        if name and name not in names and self.registry.has(name):
            names.append(name)
        chosen = name if name in names else names[0] if names else None
        labelled = [(TUNED_RUN if is_shared(name) else name, name) for name in names]
        parts = self.overview_html(names), self.show(chosen)
        unsent = [
            gr.skip() if sent.is_same(request, hash(part)) else part
            for sent, part in zip(self.sent_parts, parts, strict=True)
        ]
        return [gr.update(choices=labelled, value=chosen), *unsent]

    def overview_html(self, names: Sequence[str]) -> str:
        """All readable results in one table."""
        results = {}
        for name in names:
            try:
                results[TUNED_RUN if is_shared(name) else name] = self._result(name)
            except UserError as error:
                log.warning("%s is left out of the overview: %s", name, error)
        return results_html.overview_html(results) if results else ""

    def _result(self, name: str) -> Result:
        if is_shared(name):
            if not self.registry.has(name):
                raise UserError(GONE)
            named: Result = json.loads(json.dumps(self._of_run(name)).replace(name, TUNED_RUN))
            return named
        if self.registry.has(name):
            return self._of_run(name)
        if name not in self.names():
            raise UserError("No result is stored yet: `python -m sdsdemo evaluate mini --out runs/mini` makes one.")
        return read_result(self.assets / SUMMARIES / f"{name}.json")

    def _of_run(self, name: str) -> Result:
        """The result of a run, recomputed only when the run changes."""
        run = self.registry.run(name)
        summed = self._summed.get(name)
        if summed is None or summed[0]() is not run:
            summed = self._summed[name] = ref(run, partial(self._forget, name)), results_of([run])[0]
        return summed[1]

    def _forget(self, name: str, of: ref[StoredRun]) -> None:
        """Called when a run that was summed is no longer kept."""
        if name in self._summed and self._summed[name][0] is of:
            self._summed.pop(name, None)
