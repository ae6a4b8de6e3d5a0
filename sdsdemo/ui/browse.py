"""The Browse tab: layout and wiring. What is seen is made in `ui/browsed.py`, from a `browsing.Catalogue`.

Filters above; the count, one example if one is open, and the gallery to the left; what can be clicked to filter to the
right. Everything that is clicked in HTML comes as `data-kind` and `data-pick`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.metrics import ACCURACY, METRICS, MODES
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
    Filter,
    by_mode,
    by_tag,
    by_transition,
    select,
    tally,
)
from sdsdemo.ui import browse_html
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.open_in_compare import Handed
from sdsdemo.ui.request_order import InOrder, LastSent, number_of
from sdsdemo.ui.templates import render, script
from sdsdemo.ui.thumbnails import Thumbnails

log = logging.getLogger(__name__)

READING = "Reading the stored answers …"
"""Until the tab is filled for the first time."""
OUR_FAULT = "Something went wrong on our side; the server's log has the details. Choose another filter or example."
MADE_AHEAD = 400
"""Examples whose thumbnails are made while nobody waits for them."""
CLEARED = ("tags", "secondary", "categories", "modes", "who", "decided", "words", "of_several")
SELECTING = ("example", "close", "move")
"""Clicks that open an example or close it."""
BESIDE_EXAMPLE = ("tally", "gallery", "charts", "scatter")
"""What opening an example leaves as it is: nine tenths of an answer's bytes."""
CHARTS = {"tag": "tags", "mode": "modes", "who": "who"}
"""What is clicked in a chart, and the filter that it sets."""
TO_COMPARE = 6
"""Components that an example is handed to: the tabs, the picture, two captions, the region, the timestep range."""


class Asked(NamedTuple):
    """The values of the filters, in the order of their components."""

    run: str
    model: str
    against: str
    metric: str
    tags: Sequence[str]
    secondary: Sequence[str]
    categories: Sequence[str]
    modes: Sequence[str]
    who: str
    decided: str
    words: str
    order: str
    of_several: str = ANY


class Shown(NamedTuple):
    """What the tab shows, in the order of its components."""

    message: str
    tally: str
    example: str
    gallery: str
    charts: str
    scatter: str
    page: int
    selected: str


@dataclass
class Selection:
    """The example that a session has open, and the number of the request that opened it.

    Changed in place, so that a request that is answered meanwhile sees what was clicked last.
    """

    now: tuple[str, int] = ("", 0)

    def __deepcopy__(self, memo: object) -> Selection:
        """Each session begins with its own."""
        return Selection(self.now)

    def opens(self, example: str, request: int) -> None:
        """Takes what a request opened, or closed, unless a later one has done so."""
        if request >= self.now[1]:
            self.now = (example, request)


class BrowseTab:
    """The components that events and other tabs need."""

    def __init__(self, workbench: Workbench, registry: RunRegistry, space: str, handed: Handed | None = None) -> None:
        self.workbench, self.registry, self.space = workbench, registry, space
        self.handed = handed or Handed(registry)
        self.thumbs, self.clicks, self.changes, self.sent = Thumbnails(), InOrder(), InOrder(), LastSent()
        runs = registry.names()
        with gr.Column(elem_id="browse"):
            self._build_filters(runs)
            self.message = gr.HTML(elem_id="browse-message")
            with gr.Row(elem_id="browse-main"):
                with gr.Column(scale=7, min_width=300):
                    self.count = gr.HTML(render("parts.busy", sentence=READING), elem_id="browse-count")
                    opened = script("copy_link") + script("clicks") + script("browse_keys")
                    self.example = gr.HTML(
                        elem_id="browse-example",
                        js_on_load=opened,
                    )
                    self.gallery = gr.HTML(elem_id="browse-gallery", js_on_load=script("clicks"))
                with gr.Column(scale=5, min_width=300):
                    self.charts = gr.HTML(elem_id="browse-charts", js_on_load=script("clicks"))
                    self.scatter = gr.HTML(elem_id="browse-scatter", js_on_load=script("clicks"))
            with gr.Accordion("Winoground and your own sets", open=False):
                gr.HTML(render("browse.gated"))
        self.page, self.selected = gr.State(0), gr.State(Selection())
        self.outputs: list[Any] = [
            self.message, self.count, self.example, self.gallery, self.charts, self.scatter, self.page, self.selected,
        ]  # fmt: skip

    def _build_filters(self, runs: Sequence[str]) -> None:
        models = list(self.workbench.settings.models)
        with gr.Row(elem_id="browse-models"):
            self.run = gr.Dropdown(list(runs), value=runs[0] if runs else None, label="Run", min_width=140)
            self.model = gr.Dropdown(models, value=models[0] if models else None, label="First model ●", min_width=170)
            second = models[1] if len(models) > 1 else models[0] if models else None
            self.against = gr.Dropdown(models, value=second, label="Second model ◆", min_width=170)
            self.metric = gr.Dropdown(list(METRICS), value="text", label="Right means", min_width=110)
            self.who = gr.Dropdown([(words, who) for who, words in WHO.items()], value=ANY, label="Who is right")
            self.order = gr.Dropdown([(words, key) for key, words in ORDER.items()], value="benchmark", label="Sort")
        with gr.Row(elem_id="browse-filters"):
            self.tags = gr.Dropdown([], multiselect=True, label="Tag", min_width=170)
            self.secondary = gr.Dropdown([], multiselect=True, label="Secondary tag", min_width=150)
            self.categories = gr.Dropdown([], multiselect=True, label="Failure category", min_width=150, visible=False)
            self.of_several = gr.Dropdown(
                [(words, key) for key, words in OF_SEVERAL.items()], value=ANY, label="Of several tags", min_width=130
            )
            self.modes = gr.Dropdown(list(MODES), multiselect=True, label="Failure mode, first model", min_width=170)
            self.decided = gr.Dropdown(
                [(words, key) for key, words in DECIDED.items()], value=ANY, label="Decided, first model", min_width=150
            )
            self.words = gr.Textbox(label="Words in the captions", placeholder="for example: red left", min_width=150)
            self.clear = gr.Button("Clear", min_width=80, elem_id="browse-clear")
        self.filters: list[Any] = [
            self.run, self.model, self.against, self.metric, self.tags, self.secondary, self.categories, self.modes,
            self.who, self.decided, self.words, self.order, self.of_several,
        ]  # fmt: skip

    def wire(self, opened: Any, tabs: gr.Tabs, picture: Any, question: Sequence[Any]) -> None:
        """opened: the tab's `select` event. picture and question: the fields of Compare that an example is put in."""
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        last: dict[str, Any] = {**quick, "trigger_mode": "always_last"}
        state = [self.page, self.selected]
        opened(self._reopen, [*self.filters, *state], [*self.choices, *self.outputs], **quick)
        self.run.input(self.open_with, [*self.filters, *state], [*self.choices, *self.outputs], **last)
        changed = [field.change for field in self.filters if field is not self.run]
        gr.on(changed, self._refresh, [*self.filters, *state], self.outputs, **last)
        self.clear.click(self._cleared, None, self.cleared, **quick)
        for part in (self.gallery, self.charts, self.scatter, self.example):
            part.select(
                self._pick, [*self.filters, *state],
                [*self.cleared, *self.outputs, tabs, picture, *question],
                trigger_mode="multiple",  # with "always_last" the later click would be sent with what the first picked
                **quick,
            ).then(None, js=script("show_example"), api_visibility="private")  # fmt: skip

    @property
    def choices(self) -> list[Any]:
        """The components whose choices depend on the run."""
        return [
            self.run, self.model, self.against, self.metric, self.tags, self.secondary, self.categories, self.modes,
        ]  # fmt: skip

    @property
    def cleared(self) -> list[Any]:
        """The components that Clear empties and a click on a chart fills."""
        return [getattr(self, name) for name in CLEARED]

    def open_address(self, request: gr.Request) -> list[Any]:
        """Fills the tab from the page's address; for `page.load`."""
        query = dict(request.query_params)
        if query.get("tab") != "browse":
            Thread(target=self._warm, daemon=True).start()
            return [gr.skip()] * (len(self.choices) + len(self.outputs))
        names = self.registry.names()
        run = query.get("run") or (names[0] if names else "")
        asked = _asked(run, query.get("model", ""), query.get("against", ""))
        found = self._open(*asked, 0, query.get("example", ""))
        return [*found[:-1], Selection((found[-1], 0))]

    def _warm(self) -> None:
        """Reads the first run and makes its first thumbnails while the visitor still looks at another tab."""
        names = self.registry.names()
        if names and not self.thumbs.busy:
            self._open(*_asked(names[0], "", ""), 0, "")
            self.thumbs.make(self.registry.catalogue(names[0]).examples[:MADE_AHEAD])

    def _open(self, *values: Any, opened_by: int = 0) -> list[Any]:
        """Choices and view of a run; models and tags that it does not know give way."""
        asked, page, selected = Asked(*values[:-2]), values[-2], values[-1]
        names = self.registry.names()
        if asked.run not in names and self.registry.has(asked.run):
            names.append(asked.run)
        run = asked.run if asked.run in names else names[0] if names else ""
        try:
            if not run:
                raise UserError("No run is stored yet: `python -m sdsdemo evaluate mini --out runs/mini` makes one.")
            catalogue = self.registry.catalogue(run)
        except UserError as error:
            shown = Shown(message_html(str(error)), "", "", "", "", "", 0, "")
            return [gr.update(choices=names, value=run or None), *[gr.skip()] * (len(self.choices) - 1), *shown]
        model, against = _two_models(catalogue, asked, self.workbench.settings.models)
        choices = [(self._title(name), name) for name in catalogue.models]
        tags, secondary = catalogue.tag_choices(TAG_KINDS), catalogue.tag_choices(SECONDARY_KINDS)
        asked = asked._replace(
            run=run,
            model=model,
            against=against,
            metric=_metric(asked, catalogue),
            tags=[tag for tag in asked.tags if tag in tags],
            secondary=[tag for tag in asked.secondary if tag in secondary],
            categories=[],
            modes=asked.modes if catalogue.modes else [],
        )
        categories = [text.partition("=")[2] for text in catalogue.tag_choices((CATEGORY,))]
        return [
            gr.update(choices=[(self._title(name), name) for name in names], value=run),
            gr.update(choices=choices, value=model),
            gr.update(choices=choices, value=against),
            gr.update(choices=catalogue.metrics, value=asked.metric),
            gr.update(choices=_labelled(tags), value=asked.tags),
            gr.update(choices=_labelled(secondary), value=asked.secondary),
            gr.update(choices=categories, value=[], visible=bool(categories)),
            gr.update(value=asked.modes, visible=bool(catalogue.modes)),
            *self.view(asked, page, selected, opened_by),
        ]

    def _reopen(self, *values: Any) -> list[Any]:
        """The tab is shown again. With no example open it leaves that part alone, as `_refresh` does."""
        is_open = bool(values[-1].now[0])  # before it is answered: one may be clicked meanwhile
        found = self.open_with(*values)
        if not is_open:
            found[len(self.choices) + self.outputs.index(self.example)] = gr.skip()
        return found

    def open_with(self, *values: Any) -> list[Any]:
        """As when the tab is opened, with these filters; for the other tabs too."""
        selection: Selection = values[-1]
        example, request = selection.now
        found = self._open(*values[:-1], example, opened_by=request)
        selection.opens(found[-1], request)
        return [*found[:-1], gr.skip()]

    def _refresh(self, request: gr.Request | None, *values: Any) -> Sequence[Any]:
        """What is seen with these filters, unless that is what was sent for the last change: many come with one answer.

        It closes no example: one may have been clicked since this was asked, in another run too.
        """
        asked, selection = Asked(*values[:-2]), values[-1]
        if self.changes.is_late(request) or self.sent.is_same(request, repr(asked)):
            return [gr.skip()] * len(self.outputs)
        shown = self.view(asked, 0, *selection.now)
        return shown._replace(selected=gr.skip(), example=shown.example or gr.skip())

    def _cleared(self) -> list[Any]:
        return [[], [], [], [], ANY, ANY, "", ANY]

    def _pick(self, event: gr.SelectData, request: gr.Request, *values: Any) -> list[Any]:
        """What a click in the tab's HTML does: open, step, page, filter, clear, or go to Compare.

        Nothing where a later click came before it, or while it was answered.
        """
        late = [gr.skip()] * (len(self.cleared) + len(self.outputs) + TO_COMPARE)
        if self.clicks.is_late(request):
            return late
        selection: Selection = values[-1]
        selected, opened_by = selection.now
        kind, number = str(event.value), number_of(request) if event.value in SELECTING else opened_by
        found = self.pick(Asked(*values[:-2]), int(values[-2]), selected, kind, str(event.index), number)
        if self.clicks.is_late(request):
            return late
        place = len(self.cleared) + self.outputs.index(self.selected)
        if kind in SELECTING:
            selection.opens(found[place], number)
        return [*found[:place], gr.skip(), *found[place + 1 :]]

    def pick(self, asked: Asked, page: int, selected: str, kind: str, pick: str, opened_by: int = 0) -> list[Any]:
        """As `_pick`, of plain values."""
        fields: list[Any] = [gr.skip()] * len(self.cleared)
        elsewhere: list[Any] = [gr.skip()] * TO_COMPARE
        if kind == "clear":
            return [*self._cleared(), *[gr.skip()] * len(Shown._fields), *elsewhere]
        if kind in CHARTS:
            name = CHARTS[kind]
            now = _toggled(getattr(asked, name), pick)
            fields[CLEARED.index(name)] = now
            return [*fields, *self.view(asked._replace(**{name: now}), 0, selected, opened_by), *elsewhere]
        if kind == "compare":
            return [*fields, *[gr.skip()] * len(Shown._fields), *self._to_compare(asked, selected, pick)]
        to_page = page
        if kind == "example":
            selected = pick
        elif kind == "close":
            selected = ""
        elif kind == "page":
            to_page = int(pick)
        elif kind == "move":
            to_page, selected = self._moved(asked, page, selected, int(pick))
        shown = self.view(asked, to_page, selected, opened_by)
        if kind in SELECTING and to_page == page and shown.gallery:
            return [*fields, *shown._replace(**dict.fromkeys(BESIDE_EXAMPLE, gr.skip())), *elsewhere]
        return [*fields, *shown, *elsewhere]

    def view(self, asked: Asked, page: int, selected: str, opened_by: int = 0) -> Shown:
        """Everything that the tab shows. Every failure becomes a sentence.

        opened_by: the number of the request that opened the example (`request_order.js` reads it); 0: this one.
        """
        try:
            return self._view(asked, page, selected, opened_by)
        except UserError as error:
            return Shown(message_html(str(error)), "", "", "", "", "", 0, "")
        except Exception:
            log.exception("browsing failed")
            return Shown(message_html(OUR_FAULT), "", "", "", "", "", 0, "")

    def _view(self, asked: Asked, page: int, selected: str, opened_by: int) -> Shown:
        catalogue = self.registry.catalogue(asked.run)
        wanted = _filter(asked, catalogue)
        places, titles = select(catalogue, wanted), {name: self._title(name) for name in catalogue.models}
        last = max(0, (len(places) - 1) // browse_html.PER_PAGE)
        page = min(max(page, 0), last)
        place = catalogue.place(selected)
        example = ""
        if place is not None:
            among = [int(p) for p in places]
            position = f"{among.index(place) + 1} of {len(among)}" if place in among else "not among the filtered"
            link = self._address(asked, selected)
            example = browse_html.example_html(catalogue, place, position, wanted, titles, link, self.thumbs, opened_by)
        models = list(dict.fromkeys((wanted.model, wanted.against)))
        charts = (
            browse_html.tags_html(by_tag(catalogue, wanted), wanted, titles)
            + browse_html.transitions_html(by_transition(catalogue, wanted), wanted, titles)
            + browse_html.modes_html(by_mode(catalogue, wanted), wanted, titles)
        )
        return Shown(
            message="".join(map(message_html, catalogue.notes)),
            tally=browse_html.count_html(len(places), len(catalogue.examples))
            + browse_html.tallies_html([tally(catalogue, m, wanted.metric, places) for m in models], models, titles)
            + browse_html.lesson_html(models),
            example=example,
            gallery=browse_html.gallery_html(catalogue, places, page, wanted, self.thumbs),
            charts=charts,
            scatter=browse_html.scatter_html(catalogue, places, wanted, titles),
            page=page,
            selected=selected if place is not None else "",
        )

    def _moved(self, asked: Asked, page: int, selected: str, step: int) -> tuple[int, str]:
        """The neighbour in the filtered order, and the page that it is on."""
        catalogue = self.registry.catalogue(asked.run)
        ids = [catalogue.examples[place].id for place in select(catalogue, _filter(asked, catalogue))]
        if not ids:
            return page, selected
        at = min(max(ids.index(selected) + step, 0), len(ids) - 1) if selected in ids else 0
        return at // browse_html.PER_PAGE, ids[at]

    def _to_compare(self, asked: Asked, selected: str, pick: str) -> list[Any]:
        """The Compare tab with one picture of the example that is open, and two captions.

        pick: the place of the picture; of one image, also of a true caption and a rival, with dashes between them.
        """
        try:
            shown = self.handed.pair(asked.run, selected, *[int(place) for place in pick.split("-")[:3]])
        except UserError:
            return [gr.skip()] * TO_COMPARE
        return [gr.update(selected="compare"), str(shown.path), *shown.captions, *self.handed.settings(asked.run)]

    def _title(self, model: str) -> str:
        try:
            return self.workbench.card(model).title
        except UserError:
            return model

    def _address(self, asked: Asked, example: str) -> str:
        """The address that opens this example for someone else, as a query; with the Space's own in a Space."""
        fields = {"tab": "browse", "run": asked.run, "example": example, "model": asked.model, "against": asked.against}
        return (f"https://huggingface.co/spaces/{self.space}" if self.space else "") + "?" + urlencode(fields)


def _asked(run: str, model: str, against: str) -> Asked:
    return Asked(run, model, against, "text", [], [], [], [], ANY, ANY, "", "benchmark")


def _two_models(catalogue: Catalogue, asked: Asked, shown_first: Sequence[str]) -> tuple[str, str]:
    """The two models asked for, as far as the run has them; else those that the page shows first; else the run's."""
    known = catalogue.models
    first = next(m for m in (asked.model, *shown_first, *known) if m in known)
    others = [m for m in (asked.against, *shown_first, *known) if m in known]
    return first, next((m for m in others if m != first), first)


def _filter(asked: Asked, catalogue: Catalogue) -> Filter:
    """A checked filter. Raises `UserError` for a model that the run does not have, or a value that means nothing."""
    for model in (asked.model, asked.against):
        if model not in catalogue.models:
            raise UserError(f"This run has no scores of '{model}': choose another model.")
    metric = _metric(asked, catalogue)
    choices: Mapping[str, tuple[object, Sequence[str]]] = {
        "Right means": (metric, catalogue.metrics),
        "Who is right": (asked.who, list(WHO)),
        "Decided": (asked.decided, list(DECIDED)),
        "Sort": (asked.order, list(ORDER)),
        "Of several tags": (asked.of_several, list(OF_SEVERAL)),
    }
    for label, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{label} must be one of {', '.join(known)}.")
    return Filter(
        model=asked.model,
        against=asked.against,
        metric=metric,
        tags=tuple(asked.tags or ()),
        secondary=tuple(asked.secondary or ()),
        categories=tuple(asked.categories or ()),
        modes=tuple(asked.modes or ()),
        who=asked.who,
        decided=asked.decided,
        words=(asked.words or "")[:200],
        order=asked.order,
        of_several=asked.of_several,
    )


def _metric(asked: Asked, catalogue: Catalogue) -> str:
    """What "right" is to mean; a metric of the other kind of run, as one just left, gives way to the first here."""
    gives_way = asked.metric in (*METRICS, ACCURACY) and asked.metric not in catalogue.metrics
    return catalogue.metrics[0] if gives_way else asked.metric


def _toggled(now: Any, pick: str) -> Any:
    """A list with the value added or taken out; a single value set or set back."""
    if isinstance(now, str):
        return ANY if now == pick else pick
    return [value for value in now if value != pick] if pick in now else [*now, pick]


def _labelled(choices: Sequence[str]) -> list[tuple[str, str]]:
    return [(_label(text), text) for text in choices]


def _label(text: str) -> str:
    kind, _, tag = text.partition("=")
    return f"{tag} main predicate{'' if tag == '1' else 's'}" if kind == "num_main_preds" else tag
