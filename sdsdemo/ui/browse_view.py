"""What the Browse tab shows and what a click in it does, of plain values.

The filters are `Asked`, what is seen is `Shown`. The components are in `ui/browse.py`, the HTML in `ui/browse_html.py`.
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
from sdsdemo.ui.open_in_compare import Handed
from sdsdemo.ui.thumbnails import Thumbnails

log = logging.getLogger(__name__)

OUR_FAULT = "Something went wrong on our side; the server's log has the details. Choose another filter or example."
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


class BrowseView:
    """What is seen of the stored runs with some filters."""

    def __init__(self, workbench: Workbench, registry: RunRegistry, space: str, handed: Handed) -> None:
        self.workbench, self.registry, self.space, self.handed = workbench, registry, space, handed
        self.thumbs = Thumbnails()

    def show(self, asked: Asked, page: int, selected: str, opened_by: int = 0) -> Shown:
        """Everything that the tab shows. Every failure becomes a sentence.

        opened_by: the number of the request that opened the example (`request_order.js` reads it); 0: this one.
        """
        try:
            return self._shown(asked, page, selected, opened_by)
        except UserError as error:
            return Shown(message_html(str(error)), "", "", "", "", "", 0, "")
        except Exception:
            log.exception("browsing failed")
            return Shown(message_html(OUR_FAULT), "", "", "", "", "", 0, "")

    def _shown(self, asked: Asked, page: int, selected: str, opened_by: int) -> Shown:
        catalogue = self.registry.catalogue(asked.run)
        wanted = filter_of(asked, catalogue)
        places, titles = select(catalogue, wanted), {name: self.title(name) for name in catalogue.models}
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

    def pick(self, asked: Asked, page: int, selected: str, kind: str, pick: str, opened_by: int = 0) -> list[Any]:
        """What a click does: the values of the components that Clear empties, of `Shown`, and of Compare."""
        fields: list[Any] = [gr.skip()] * len(CLEARED)
        elsewhere: list[Any] = [gr.skip()] * TO_COMPARE
        if kind == "clear":
            return [*cleared_values(), *[gr.skip()] * len(Shown._fields), *elsewhere]
        if kind in CHARTS:
            name = CHARTS[kind]
            now = _toggled(getattr(asked, name), pick)
            fields[CLEARED.index(name)] = now
            return [*fields, *self.show(asked._replace(**{name: now}), 0, selected, opened_by), *elsewhere]
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
        shown = self.show(asked, to_page, selected, opened_by)
        if kind in SELECTING and to_page == page and shown.gallery:
            return [*fields, *shown._replace(**dict.fromkeys(BESIDE_EXAMPLE, gr.skip())), *elsewhere]
        return [*fields, *shown, *elsewhere]

    def _moved(self, asked: Asked, page: int, selected: str, step: int) -> tuple[int, str]:
        """The neighbour in the filtered order, and the page that it is on."""
        catalogue = self.registry.catalogue(asked.run)
        ids = [catalogue.examples[place].id for place in select(catalogue, filter_of(asked, catalogue))]
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

    def title(self, model: str) -> str:
        """The title on a model's card; its name where there is no card."""
        try:
            return self.workbench.card(model).title
        except UserError:
            return model

    def _address(self, asked: Asked, example: str) -> str:
        """The address that opens this example for someone else, as a query; with the Space's own in a Space."""
        fields = {"tab": "browse", "run": asked.run, "example": example, "model": asked.model, "against": asked.against}
        return (f"https://huggingface.co/spaces/{self.space}" if self.space else "") + "?" + urlencode(fields)


def first_asked(run: str, model: str, against: str) -> Asked:
    """The filters before anything is chosen."""
    return Asked(run, model, against, "text", [], [], [], [], ANY, ANY, "", "benchmark")


def two_models(catalogue: Catalogue, asked: Asked, shown_first: Sequence[str]) -> tuple[str, str]:
    """The two models asked for, as far as the run has them; else those that the page shows first; else the run's."""
    known = catalogue.models
    first = next(m for m in (asked.model, *shown_first, *known) if m in known)
    others = [m for m in (asked.against, *shown_first, *known) if m in known]
    return first, next((m for m in others if m != first), first)


def filter_of(asked: Asked, catalogue: Catalogue) -> Filter:
    """A checked filter. Raises `UserError` for a model that the run does not have, or a value that means nothing."""
    for model in (asked.model, asked.against):
        if model not in catalogue.models:
            raise UserError(f"This run has no scores of '{model}': choose another model.")
    metric = metric_of(asked, catalogue)
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


def metric_of(asked: Asked, catalogue: Catalogue) -> str:
    """What "right" is to mean; a metric of the other kind of run, as one just left, gives way to the first here."""
    gives_way = asked.metric in (*METRICS, ACCURACY) and asked.metric not in catalogue.metrics
    return catalogue.metrics[0] if gives_way else asked.metric


def _toggled(now: Any, pick: str) -> Any:
    """A list with the value added or taken out; a single value set or set back."""
    if isinstance(now, str):
        return ANY if now == pick else pick
    return [value for value in now if value != pick] if pick in now else [*now, pick]


def cleared_values() -> list[Any]:
    """What Clear puts into the components of `CLEARED`."""
    return [[], [], [], [], ANY, ANY, "", ANY]
