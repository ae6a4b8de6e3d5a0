"""The content of the Browse tab and the effect of a click in it, as functions of plain values.

`FilterValues` go in, `BrowseContent` comes out. The components are in `ui/browse.py`, the HTML in `ui/browse_html.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import (
    ANY,
    Catalogue,
    by_mode,
    by_tag,
    by_transition,
    select,
    tally,
)
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.ui import address, browse_address, browse_bar, browse_charts, browse_html, browse_plot
from sdsdemo.ui.browse_bar import PICKED, VIEWS
from sdsdemo.ui.browse_example import Position, example_html
from sdsdemo.ui.browse_filters import CLEARED, FilterValues, check_types, cleared_values, filter_of, is_whole_plane
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import Thumbnails

log = logging.getLogger(__name__)

OUR_FAULT = "Something went wrong on our side; the server's log has the details. Choose another filter or example."
SELECTING = ("example", "close", "move")
"""Clicks that open an example or close it."""
BESIDE_EXAMPLE = ("tally", "gallery", "charts", "scatter")
"""Parts that opening an example leaves unchanged: nine tenths of an answer's bytes."""
CHARTS = {"tag": "tags", "mode": "modes", "who": "who"}
"""By the kind of a click in a chart, the filter that it sets."""
FILTERING = (*CHARTS, "view", "unset", "box")
"""Clicks that set filters."""
TO_COMPARE = 6
"""Number of components that take an example: the tabs, the picture, two captions, the region, the timestep range."""


KEPT = 64
"""Views that are kept: about 0.1 MB each."""


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
        self._lists: ComputedOnce[tuple[np.ndarray, BrowseContent]] = ComputedOnce(KEPT)

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
        check_types(filters)  # first of all that of the run
        catalogue = self.registry.catalogue(filters.run)
        if filter_of(filters, catalogue).box is None:
            filters = filters._replace(box="")
        titles = {name: self.title(name) for name in catalogue.models}
        key = repr(filters), page, tuple(titles.items())
        places, shown = self._lists.get((catalogue, key), lambda: self._list(catalogue, titles, filters, page))
        place = catalogue.place(selected)
        if place is None:
            return shown
        return shown._replace(example=self._example(catalogue, place, filters, places, opened_by), selected=selected)

    def _list(
        self, catalogue: Catalogue, titles: Mapping[str, str], filters: FilterValues, page: int
    ) -> tuple[np.ndarray, BrowseContent]:
        """The places that pass the filters, and everything that the tab shows of them, with no example open."""
        wanted = filter_of(filters, catalogue)
        places = select(catalogue, wanted)
        page = min(max(page, 0), max(0, (len(places) - 1) // browse_html.PER_PAGE))
        models = list(dict.fromkeys((wanted.model, wanted.against)))
        tallies = [tally(catalogue, model, wanted.metric, places) for model in models]
        return places, BrowseContent(
            message="".join(map(message_html, catalogue.notes)),
            tally=render("parts.address", query=self.address(filters))
            + browse_bar.bar_html(catalogue, filters, wanted, titles, len(places)),
            example="",
            gallery=(render("parts.address", query=address.write("browse", {"gallery": page + 1})) if page else "")
            + browse_html.gallery_html(catalogue, places, page, wanted, titles, self.thumbs),
            charts=browse_charts.tallies_html(tallies, models, titles)
            + browse_html.lesson_html(models)
            + browse_charts.tags_html(by_tag(catalogue, wanted), wanted, titles)
            + browse_charts.modes_html(by_mode(catalogue, wanted), wanted, titles),
            scatter=browse_plot.plot_html(catalogue, places, wanted, titles, by_transition(catalogue, wanted)),
            page=page,
            selected="",
        )

    def _example(
        self, catalogue: Catalogue, place: int, filters: FilterValues, places: np.ndarray, opened_by: int
    ) -> str:
        """The open example. places: those that pass the filters, in order."""
        among, titles = places.tolist(), {name: self.title(name) for name in catalogue.models}
        position = Position(among.index(place) + 1 if place in among else 0, len(among))
        link = address.link("browse", self.address(filters, catalogue.examples[place].id), self.space)
        wanted = filter_of(filters, catalogue)
        return example_html(catalogue, place, position, wanted, titles, link, self.thumbs, opened_by)

    def pick(
        self, filters: FilterValues, page: int, selected: str, kind: str, pick: str, opened_by: int = 0
    ) -> list[Any]:
        """The effect of a click: values for the components of `PICKED`, for `BrowseContent`, and for Compare.

        A click that means nothing, or nothing any more, changes nothing.
        """
        try:
            return self._picked(filters, page, selected, kind, pick, opened_by)
        except (ValueError, UserError):
            return [gr.skip()] * (len(PICKED) + len(BrowseContent._fields) + TO_COMPARE)

    def _picked(
        self, filters: FilterValues, page: int, selected: str, kind: str, pick: str, opened_by: int
    ) -> list[Any]:
        """As `pick`. Raises `UserError`, and ValueError for a click with a text in place of a number."""
        fields: list[Any] = [gr.skip()] * len(PICKED)
        compare: list[Any] = [gr.skip()] * TO_COMPARE
        if kind == "clear":
            fields[: len(CLEARED)] = cleared_values()
            return [*fields, *[gr.skip()] * len(BrowseContent._fields), *compare]
        check_types(filters)
        if kind in FILTERING:
            now = self._filtered(filters, kind, pick)
            fields = [getattr(now, name) for name in PICKED]
            return [*fields, *self.show(now, 0, selected, opened_by), *compare]
        if kind == "compare":
            return [*fields, *self._to_compare(filters, selected, pick)]
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

    def _filtered(self, filters: FilterValues, kind: str, pick: str) -> FilterValues:
        """The filters after a click that sets some."""
        if kind == "view":
            return browse_bar.view_filters(filters, pick) if pick in VIEWS else filters
        if kind == "unset":
            return browse_bar.without(filters, pick, self.registry.catalogue(filters.run).metrics[0])
        if kind == "box":
            return filters._replace(box="" if is_whole_plane(pick) else pick)
        return filters._replace(**{CHARTS[kind]: _toggled(getattr(filters, CHARTS[kind]), pick)})

    def _moved(self, filters: FilterValues, page: int, selected: str, step: int) -> tuple[int, str]:
        """The page and the id of the neighbour in the filtered order."""
        catalogue = self.registry.catalogue(filters.run)
        ids = [catalogue.examples[place].id for place in select(catalogue, filter_of(filters, catalogue))]
        if not ids:
            return page, selected
        at = min(max(ids.index(selected) + step, 0), len(ids) - 1) if selected in ids else 0
        return at // browse_html.PER_PAGE, ids[at]

    def _to_compare(self, filters: FilterValues, selected: str, pick: str) -> list[Any]:
        """This tab as it is, and Compare with one picture of the open example and two captions.

        Where the picture cannot be opened, this tab says why. pick: the picture's index; for one image with many
        captions, also those of a true caption and a rival, as 0-1-4. Raises ValueError if it is anything else.
        """
        places = [int(place) for place in pick.split("-")[:3]]
        same = BrowseContent(*[gr.skip()] * len(BrowseContent._fields))
        try:
            shown = self.run_pictures.pair(filters.run, selected, *places)
            settings = self.run_pictures.settings(filters.run)
        except UserError as error:
            return [*same._replace(message=message_html(str(error))), *[gr.skip()] * TO_COMPARE]
        return [*same, gr.update(selected="compare"), str(shown.path), *shown.captions, *settings]

    def title(self, model: str) -> str:
        """The title on a model's card; its name if there is no card, or if it is a run."""
        try:
            return self.workbench.card(model).title
        except UserError:
            return model

    def address(self, filters: FilterValues, example: str = "") -> str:
        """The filters and the open example as the query of a URL."""
        usual = browse_address.usual_filters(
            filters.run, self.registry.catalogue(filters.run), self.workbench.settings.models
        )
        first = next(iter(self.registry.names()), filters.run)
        return browse_address.write(filters, usual._replace(run=first), example)


def _toggled(now: Any, pick: str) -> Any:
    """A list with the value added or removed; a single value set or reset."""
    if isinstance(now, str):
        return ANY if now == pick else pick
    return [value for value in now if value != pick] if pick in now else [*now, pick]
