"""The Browse tab: layout and wiring. Its content comes from `ui/browse_view.py`.

On top the models, saved views, and set filters; then charts that filter, the gallery, and the open example beside it.
Clicks in HTML arrive as `data-kind` and `data-pick`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

import gradio as gr

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.metrics import METRICS, MODES
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import (
    ANY,
    CATEGORY,
    DECIDED,
    OF_SEVERAL,
    ORDER,
    SECONDARY_KINDS,
    TAG_KINDS,
    WHO,
    Catalogue,
)
from sdsdemo.ui import address, browse_address
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse_bar import PICKED
from sdsdemo.ui.browse_filters import (
    CLEARED,
    FilterValues,
    cleared_values,
    default_filters,
    filled_in,
    metric_of,
    two_models,
)
from sdsdemo.ui.browse_view import BESIDE_EXAMPLE, FILTERING, SELECTING, TO_COMPARE, BrowseContent, BrowseView
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.late_dropdown import LateDropdown
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.request_order import InOrder, LastSent, has_come, is_coming, number_of
from sdsdemo.ui.templates import render, script

READING = "Reading the stored answers …"
MADE_AHEAD = 400
"""Examples whose thumbnails are made in the background."""


@dataclass
class Selection:
    """The example that a session has open, and the number of the request that opened it.

    Changed in place, so that a request in progress sees the latest click.
    """

    now: tuple[str, int] = ("", 0)

    def __deepcopy__(self, memo: object) -> Selection:
        """Each session gets its own copy."""
        return Selection(self.now)

    def opens(self, example: str, request: int) -> None:
        """Records what a request opened or closed, unless a later request already has."""
        if request >= self.now[1]:
            self.now = (example, request)


class BrowseTab:
    """The components that events and other tabs need."""

    def __init__(
        self, workbench: Workbench, registry: RunRegistry, space: str, run_pictures: RunPictures | None = None
    ) -> None:
        self.workbench, self.registry = workbench, registry
        self.run_pictures = run_pictures or RunPictures(registry)
        self.view = BrowseView(workbench, registry, space, self.run_pictures)
        self.clicks, self.changes, self.addresses, self.sent = InOrder(), InOrder(), InOrder(), LastSent()
        self.sent_parts = {name: LastSent() for name in BESIDE_EXAMPLE}
        runs = registry.names()
        with gr.Column(elem_id="browse"):
            self._build_compared(runs)
            clicks, busy = script("clicks"), render("parts.busy", sentence=READING)
            self.count = gr.HTML(busy, elem_id="browse-count", js_on_load=clicks + script("more_filters"))
            self._build_filters()
            self.message = gr.HTML(elem_id="browse-message")
            with gr.Row(elem_id="browse-main"):
                with gr.Column(elem_id="browse-facets"):
                    self.scatter = gr.HTML(elem_id="browse-scatter", js_on_load=script("brush") + clicks)
                    self.charts = gr.HTML(elem_id="browse-charts", js_on_load=clicks)
                with gr.Column(elem_id="browse-list"):
                    self.gallery = gr.HTML(elem_id="browse-gallery", js_on_load=clicks)
                with gr.Column(elem_id="browse-panel"):
                    opened = script("copy_link") + clicks + script("browse_keys") + script("browse_panel")
                    self.example = gr.HTML(elem_id="browse-example", js_on_load=opened)
            with gr.Accordion("Winoground and your own sets", open=False):
                gr.HTML(render("browse.gated"))
        self.page, self.selected = gr.State(0), gr.State(Selection())
        self.outputs: list[Any] = [
            self.message, self.count, self.example, self.gallery, self.charts, self.scatter, self.page, self.selected,
        ]  # fmt: skip

    def _build_compared(self, runs: Sequence[str]) -> None:
        models = list(self.workbench.settings.models)
        with gr.Row(elem_id="browse-models"):
            self.run = LateDropdown(list(runs), value=runs[0] if runs else None, label="Run", min_width=140)
            self.model = LateDropdown(models, value=models[0] if models else None, label="First model", min_width=170)
            second = models[1] if len(models) > 1 else models[0] if models else None
            self.against = LateDropdown(models, value=second, label="Second model", min_width=170)
            self.order = LateDropdown([(words, key) for key, words in ORDER.items()], value="varied", label="Sort")

    def _build_filters(self) -> None:
        with gr.Row(elem_id="browse-filters"):
            self.metric = LateDropdown(list(METRICS), value="text", label="Metric", min_width=110)
            self.who = LateDropdown([(words, who) for who, words in WHO.items()], value=ANY, label="Outcome")
            self.tags = LateDropdown([], multiselect=True, label="Tag", min_width=170)
            self.secondary = LateDropdown([], multiselect=True, label="Secondary tag", min_width=150)
            self.categories = LateDropdown([], multiselect=True, label="Failure category", min_width=150, visible=False)
            self.of_several = LateDropdown(
                [(words, key) for key, words in OF_SEVERAL.items()], value=ANY, label="Match tags", min_width=130
            )
            self.modes = LateDropdown(list(MODES), multiselect=True, label="Failure mode, first model", min_width=170)
            self.decided = LateDropdown(
                [(words, key) for key, words in DECIDED.items()], value=ANY, label="Decided, first model", min_width=150
            )
            self.words = gr.Textbox(
                "", label="Words in the captions", placeholder="for example: red left", min_width=150
            )
            self.box = gr.Textbox("", label="Margins", visible="hidden")
            self.clear = gr.Button("Clear", min_width=80, elem_id="browse-clear")
        self.filters: list[Any] = [
            self.run, self.model, self.against, self.metric, self.tags, self.secondary, self.categories, self.modes,
            self.who, self.decided, self.words, self.order, self.of_several, self.box,
        ]  # fmt: skip

    def wire(self, opened: Any, tabs: gr.Tabs, picture: Any, question: Sequence[Any]) -> None:
        """opened: the tab's `select` event. picture and question: the fields of Compare that take an example."""
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        last: dict[str, Any] = {**quick, "trigger_mode": "always_last"}
        state = [self.page, self.selected]
        opened(self._reopen, [*self.filters, *state], [*self.choices, *self.outputs], **quick)
        self.run.input(self.open_with, [*self.filters, *state], [*self.choices, *self.outputs], **last)
        changed = [field.change for field in self.filters if field is not self.run]
        gr.on(changed, self._refresh, [*self.filters, *state], self.outputs, **last)
        compared = [field.input for field in (self.run, self.model, self.against)]
        gr.on(compared, None, None, self.box, js=script("no_margins"), api_visibility="private")
        self.clear.click(cleared_values, None, self.cleared, **quick)
        for part in (self.count, self.gallery, self.charts, self.scatter, self.example):
            part.select(
                self._pick, [*self.filters, *state],
                [*self.picked, *self.outputs, tabs, picture, *question],
                trigger_mode="multiple",  # with "always_last", a second click would be sent with the first one's pick
                **quick,
            ).then(None, js=script("show_example"), api_visibility="private")  # fmt: skip

    choices_of = ("run", "model", "against", "metric", "tags", "secondary", "categories", "modes")
    """Filters whose choices depend on the run."""

    @property
    def choices(self) -> list[Any]:
        """The components of `choices_of`."""
        return [getattr(self, name) for name in self.choices_of]

    @property
    def opened(self) -> list[Any]:
        """The components that a URL fills."""
        more = [self.who, self.decided, self.words, self.order, self.of_several, self.box]
        return [*self.choices, *more, *self.outputs]

    @property
    def cleared(self) -> list[Any]:
        """The components that Clear empties."""
        return [getattr(self, name) for name in CLEARED]

    @property
    def picked(self) -> list[Any]:
        """The components that a click in the tab may fill."""
        return [getattr(self, name) for name in PICKED]

    def open_address(self, query: Query, request: gr.Request | None) -> list[Any]:
        """Values for `opened` from the page's URL; nothing changes if it does not ask for this tab."""
        self.addresses.is_late(request)  # noted, for views that are still being drawn
        names = self.registry.names()
        first = names[0] if names else ""
        run = query.text("run") or first
        if not self.registry.has(run):
            query.leave_out("run", address.NO_SUCH)
            run = first
        try:
            found = browse_address.read(query, run, self.registry.catalogue(run), self.workbench.settings.models)
        except UserError:  # `_open` says it
            found = browse_address.Opened(default_filters(run, "", ""), 0, "")
        choices, shown = self._open(found.filters, found.page, found.example, request=request)
        more = [getattr(found.filters, name) for name in ("who", "decided", "words", "order", "of_several", "box")]
        shown = self._unsent(request, shown)
        return [*choices, *more, *shown[:-1], Selection((shown.selected, number_of(request)))]

    def warm(self) -> None:
        """Reads the first run in the background, for a visitor who is still on another tab."""
        Thread(target=self._warm, daemon=True).start()

    def _warm(self) -> None:
        names = self.registry.names()
        if names and not self.view.thumbs.busy:
            self._open(default_filters(names[0], "", ""), 0, "")
            self.view.thumbs.make(self.registry.catalogue(names[0]).examples[:MADE_AHEAD])

    def _open(
        self,
        filters: FilterValues,
        page: int,
        selected: str,
        opened_by: int = 0,
        request: gr.Request | None = None,
    ) -> tuple[list[Any], BrowseContent]:
        """Choices and content for a run; models and tags that it does not have are replaced or dropped.

        The filters are noted first, since the changes of their fields may overtake the content.
        """
        names = self.registry.names()
        if filters.run not in names and self.registry.has(filters.run):
            names.append(filters.run)
        run = filters.run if filters.run in names else names[0] if names else ""
        try:
            if not run:
                raise UserError("No run is stored yet: `python -m sdsdemo evaluate mini --out runs/mini` makes one.")
            catalogue = self.registry.catalogue(run)
        except UserError as error:
            shown = BrowseContent(message_html(str(error)), "", "", "", "", "", 0, "")
            return [gr.update(choices=names, value=run or None), *[gr.skip()] * (len(self.choices) - 1)], shown
        filters, updates = self._fitted(filters._replace(run=run), catalogue)
        self._note(request, filters)
        choices = [gr.update(choices=[(self.view.title(name), name) for name in names], value=run), *updates]
        return choices, self.view.show(filters, page, selected, opened_by)

    def _fitted(self, filters: FilterValues, catalogue: Catalogue) -> tuple[FilterValues, list[Any]]:
        """The filters without what the run does not have, and updates of the fields whose choices it decides."""
        model, against = two_models(catalogue, filters, self.workbench.settings.models)
        models = [(self.view.title(name), name) for name in catalogue.models]
        tags, secondary = catalogue.tag_choices(TAG_KINDS), catalogue.tag_choices(SECONDARY_KINDS)
        categories = [text.partition("=")[2] for text in catalogue.tag_choices((CATEGORY,))]
        filters = filters._replace(
            model=model,
            against=against,
            metric=metric_of(filters, catalogue),
            tags=[tag for tag in filters.tags if tag in tags],
            secondary=[tag for tag in filters.secondary if tag in secondary],
            categories=[one for one in filters.categories if one in categories],
            modes=filters.modes if catalogue.modes else [],
        )
        return filters, [
            gr.update(choices=models, value=model),
            gr.update(choices=models, value=against),
            gr.update(choices=catalogue.metrics, value=filters.metric),
            gr.update(choices=_labelled(tags), value=filters.tags),
            gr.update(choices=_labelled(secondary), value=filters.secondary),
            gr.update(choices=categories, value=filters.categories, visible=bool(categories)),
            gr.update(value=filters.modes, visible=bool(catalogue.modes)),
        ]

    def _note(self, request: gr.Request | None, filters: FilterValues) -> None:
        """Notes that the content for these filters is sent, so that `_refresh` does not send it again."""
        self.sent.is_same(request, repr(filters))

    def _unsent(self, request: gr.Request | None, shown: BrowseContent) -> BrowseContent:
        """The content without the large parts that the page already shows."""
        parts = {name: getattr(shown, name) for name in BESIDE_EXAMPLE}
        seen = {name: gr.skip() for name, part in parts.items() if self._is_sent(request, name, part)}
        return shown._replace(**seen)

    def _is_sent(self, request: gr.Request | None, name: str, part: Any) -> bool:
        return isinstance(part, str) and self.sent_parts[name].is_same(request, hash(part))

    def _reopen(self, request: gr.Request | None, *values: Any) -> list[Any]:
        """Refreshes the tab when it is selected again. Like `_refresh`, closes no example."""
        if has_come(request, "browse"):
            return [gr.skip()] * (len(self.choices) + len(self.outputs))
        is_open = bool(values[-1].now[0])  # read now: an example may be clicked while this runs
        found = self.open_with(request, *values)
        if not is_open or self.addresses.is_late(request):  # Back may be pressed again, too
            found[len(self.choices) + self.outputs.index(self.example)] = gr.skip()
        return found

    def open_with(self, request: gr.Request | None, *values: Any) -> list[Any]:
        """Opens the tab with these filters; other tabs call it too."""
        filters, page, selection = filled_in(values[:-2]), values[-2], values[-1]
        example, number = selection.now
        choices, shown = self._open(filters, page, example, opened_by=number, request=request)
        selection.opens(shown.selected, number)
        return [*choices, *self._unsent(request, shown)._replace(selected=gr.skip())]

    def _refresh(self, request: gr.Request | None, *values: Any) -> Sequence[Any]:
        """The content for these filters, unless it was sent last: filling the form triggers many changes at once.

        It closes no example: one may have been clicked since the request, even in another run.
        """
        filters, selection = filled_in(values[:-2]), values[-1]
        is_known = self.changes.is_late(request) or is_coming(request, "browse")
        if is_known or self.sent.is_same(request, repr(filters)):
            return [gr.skip()] * len(self.outputs)
        shown = self._unsent(request, self.view.show(filters, 0, *selection.now))
        return shown._replace(selected=gr.skip(), example=shown.example or gr.skip())

    def _pick(self, event: gr.SelectData, request: gr.Request, *values: Any) -> list[Any]:
        """Handles a click in the tab's HTML: open, step, page, filter, clear, or go to Compare.

        Does nothing if a later click overtook it, or arrived while it was being answered.
        """
        late = [gr.skip()] * (len(PICKED) + len(self.outputs) + TO_COMPARE)
        if self.clicks.is_late(request):
            return late
        filters, selection = filled_in(values[:-2]), values[-1]
        selected, opened_by = selection.now
        kind, number = str(event.value), number_of(request) if event.value in SELECTING else opened_by
        found = self.view.pick(filters, int(values[-2]), selected, kind, str(event.index), number)
        if self.clicks.is_late(request):
            return late
        fields, shown = found[: len(PICKED)], self._unsent(request, BrowseContent(*found[len(PICKED) : -TO_COMPARE]))
        if not isinstance(shown.selected, str):  # the content stays as it is
            return found
        if kind in SELECTING:
            selection.opens(shown.selected, number)
        if kind in FILTERING:
            self._note(request, _filled(filters, PICKED, fields))
        return [*fields, *shown._replace(selected=gr.skip()), *found[-TO_COMPARE:]]


def _filled(filters: FilterValues, names: Sequence[str], updates: Sequence[Any]) -> FilterValues:
    """The filters once these updates have arrived in their fields. An update is a value, or what `gr.update` makes."""
    values = {
        name: update["value"] if isinstance(update, dict) else update
        for name, update in zip(names, updates, strict=True)
        if not isinstance(update, dict) or "value" in update
    }
    return filters._replace(**values)


def _labelled(choices: Sequence[str]) -> list[tuple[str, str]]:
    return [(_label(text), text) for text in choices]


def _label(text: str) -> str:
    kind, _, tag = text.partition("=")
    return f"{tag} main predicate{'' if tag == '1' else 's'}" if kind == "num_main_preds" else tag
