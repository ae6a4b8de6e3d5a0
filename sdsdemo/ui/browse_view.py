"""The content of the Browse tab and the effect of a click in it, as functions of plain values.

`FilterValues` go in, `BrowseContent` comes out. The components are in `ui/browse.py`, the HTML in `ui/browse_html.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.metrics import ACCURACY, METRICS
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import (
    ANY,
    DECIDED,
    OF_SEVERAL,
    ORDER,
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
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.thumbnails import Thumbnails

log = logging.getLogger(__name__)

OUR_FAULT = "Something went wrong on our side; the server's log has the details. Choose another filter or example."
CLEARED = ("tags", "secondary", "categories", "modes", "who", "decided", "words", "of_several")
SELECTING = ("example", "close", "move")
"""Clicks that open an example or close it."""
BESIDE_EXAMPLE = ("tally", "gallery", "charts", "scatter")
"""Parts that opening an example leaves unchanged: nine tenths of an answer's bytes."""
CHARTS = {"tag": "tags", "mode": "modes", "who": "who"}
"""By the kind of a click in a chart, the filter that it sets."""
TO_COMPARE = 6
"""Number of components that take an example: the tabs, the picture, two captions, the region, the timestep range."""


class FilterValues(NamedTuple):
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


class BrowseContent(NamedTuple):
    """The content of the tab, in the order of its components."""

    message: str
    tally: str
    example: str
    gallery: str
    charts: str
    scatter: str
    page: int
    selected: str


class BrowseView:
    """The stored runs as seen through the filters."""

    def __init__(self, workbench: Workbench, registry: RunRegistry, space: str, run_pictures: RunPictures) -> None:
        self.workbench, self.registry, self.space, self.run_pictures = workbench, registry, space, run_pictures
        self.thumbs = Thumbnails()

    def show(self, filters: FilterValues, page: int, selected: str, opened_by: int = 0) -> BrowseContent:
        """Everything that the tab shows. Failures become messages.

        opened_by: the number of the request that opened the example (`request_order.js` reads it); 0: this one.
        """
        try:
            return self._content(filters, page, selected, opened_by)
        except UserError as error:
            return BrowseContent(message_html(str(error)), "", "", "", "", "", 0, "")
        except Exception:
            log.exception("browsing failed")
            return BrowseContent(message_html(OUR_FAULT), "", "", "", "", "", 0, "")

    def _content(self, filters: FilterValues, page: int, selected: str, opened_by: int) -> BrowseContent:
        catalogue = self.registry.catalogue(filters.run)
        wanted = filter_of(filters, catalogue)
        places, titles = select(catalogue, wanted), {name: self.title(name) for name in catalogue.models}
        last = max(0, (len(places) - 1) // browse_html.PER_PAGE)
        page = min(max(page, 0), last)
        place = catalogue.place(selected)
        example = ""
        if place is not None:
            among = [int(p) for p in places]
            position = f"{among.index(place) + 1} of {len(among)}" if place in among else "not among the filtered"
            link = self._address(filters, selected)
            example = browse_html.example_html(catalogue, place, position, wanted, titles, link, self.thumbs, opened_by)
        models = list(dict.fromkeys((wanted.model, wanted.against)))
        charts = (
            browse_html.tags_html(by_tag(catalogue, wanted), wanted, titles)
            + browse_html.transitions_html(by_transition(catalogue, wanted), wanted, titles)
            + browse_html.modes_html(by_mode(catalogue, wanted), wanted, titles)
        )
        return BrowseContent(
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

    def pick(
        self, filters: FilterValues, page: int, selected: str, kind: str, pick: str, opened_by: int = 0
    ) -> list[Any]:
        """The effect of a click: values for the components that Clear empties, for `BrowseContent`, and for Compare."""
        fields: list[Any] = [gr.skip()] * len(CLEARED)
        compare: list[Any] = [gr.skip()] * TO_COMPARE
        if kind == "clear":
            return [*cleared_values(), *[gr.skip()] * len(BrowseContent._fields), *compare]
        if kind in CHARTS:
            name = CHARTS[kind]
            now = _toggled(getattr(filters, name), pick)
            fields[CLEARED.index(name)] = now
            return [*fields, *self.show(filters._replace(**{name: now}), 0, selected, opened_by), *compare]
        if kind == "compare":
            return [*fields, *[gr.skip()] * len(BrowseContent._fields), *self._to_compare(filters, selected, pick)]
        to_page = page
        if kind == "example":
            selected = pick
        elif kind == "close":
            selected = ""
        elif kind == "page":
            to_page = int(pick)
        elif kind == "move":
            to_page, selected = self._moved(filters, page, selected, int(pick))
        shown = self.show(filters, to_page, selected, opened_by)
        if kind in SELECTING and to_page == page and shown.gallery:
            return [*fields, *shown._replace(**dict.fromkeys(BESIDE_EXAMPLE, gr.skip())), *compare]
        return [*fields, *shown, *compare]

    def _moved(self, filters: FilterValues, page: int, selected: str, step: int) -> tuple[int, str]:
        """The page and the id of the neighbour in the filtered order."""
        catalogue = self.registry.catalogue(filters.run)
        ids = [catalogue.examples[place].id for place in select(catalogue, filter_of(filters, catalogue))]
        if not ids:
            return page, selected
        at = min(max(ids.index(selected) + step, 0), len(ids) - 1) if selected in ids else 0
        return at // browse_html.PER_PAGE, ids[at]

    def _to_compare(self, filters: FilterValues, selected: str, pick: str) -> list[Any]:
        """The Compare tab with one picture of the open example, and two captions.

        pick: the picture's index; for one image with many captions, also those of a true caption and a rival, as 0-1-4.
        """
        try:
            shown = self.run_pictures.pair(filters.run, selected, *[int(place) for place in pick.split("-")[:3]])
        except UserError:
            return [gr.skip()] * TO_COMPARE
        return [
            gr.update(selected="compare"),
            str(shown.path),
            *shown.captions,
            *self.run_pictures.settings(filters.run),
        ]

    def title(self, model: str) -> str:
        """The title on a model's card; its name if there is no card."""
        try:
            return self.workbench.card(model).title
        except UserError:
            return model

    def _address(self, filters: FilterValues, example: str) -> str:
        """The URL that opens this example for someone else: a query, preceded by the Space's URL in a Space."""
        fields = {
            "tab": "browse",
            "run": filters.run,
            "example": example,
            "model": filters.model,
            "against": filters.against,
        }
        return (f"https://huggingface.co/spaces/{self.space}" if self.space else "") + "?" + urlencode(fields)


def default_filters(run: str, model: str, against: str) -> FilterValues:
    """The default filters."""
    return FilterValues(run, model, against, "text", [], [], [], [], ANY, ANY, "", "benchmark")


def two_models(catalogue: Catalogue, filters: FilterValues, shown_first: Sequence[str]) -> tuple[str, str]:
    """The two requested models if the run has them; else those that the page shows first; else the run's."""
    known = catalogue.models
    first = next(m for m in (filters.model, *shown_first, *known) if m in known)
    others = [m for m in (filters.against, *shown_first, *known) if m in known]
    return first, next((m for m in others if m != first), first)


def filter_of(filters: FilterValues, catalogue: Catalogue) -> Filter:
    """A checked filter. Raises `UserError` for a model that the run does not have, or an invalid value."""
    for model in (filters.model, filters.against):
        if model not in catalogue.models:
            raise UserError(f"This run has no scores for '{model}': choose another model.")
    metric = metric_of(filters, catalogue)
    choices: Mapping[str, tuple[object, Sequence[str]]] = {
        "Metric": (metric, catalogue.metrics),
        "Outcome": (filters.who, list(WHO)),
        "Decided": (filters.decided, list(DECIDED)),
        "Sort": (filters.order, list(ORDER)),
        "Match tags": (filters.of_several, list(OF_SEVERAL)),
    }
    for label, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{label} must be one of {', '.join(known)}.")
    return Filter(
        model=filters.model,
        against=filters.against,
        metric=metric,
        tags=tuple(filters.tags or ()),
        secondary=tuple(filters.secondary or ()),
        categories=tuple(filters.categories or ()),
        modes=tuple(filters.modes or ()),
        who=filters.who,
        decided=filters.decided,
        words=(filters.words or "")[:200],
        order=filters.order,
        of_several=filters.of_several,
    )


def metric_of(filters: FilterValues, catalogue: Catalogue) -> str:
    """The metric for "right"; the run's first if the one chosen belongs to the other kind of run."""
    gives_way = filters.metric in (*METRICS, ACCURACY) and filters.metric not in catalogue.metrics
    return catalogue.metrics[0] if gives_way else filters.metric


def _toggled(now: Any, pick: str) -> Any:
    """A list with the value added or removed; a single value set or reset."""
    if isinstance(now, str):
        return ANY if now == pick else pick
    return [value for value in now if value != pick] if pick in now else [*now, pick]


def cleared_values() -> list[Any]:
    """The values to which Clear resets the components of `CLEARED`."""
    return [[], [], [], [], ANY, ANY, "", ANY]
