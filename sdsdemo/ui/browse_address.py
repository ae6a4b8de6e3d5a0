"""The Browse tab in the page's URL: its filters, the page of the gallery and the open example. Knows no Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sdsdemo.core.metrics import MODES
from sdsdemo.evaluation.catalogue import (
    CATEGORY,
    DECIDED,
    OF_SEVERAL,
    ORDER,
    SECONDARY_KINDS,
    TAG_KINDS,
    WHO,
    Catalogue,
    select,
)
from sdsdemo.evaluation.margin_box import MarginBox
from sdsdemo.ui import address
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse_filters import FilterValues, default_filters, filter_of, two_models
from sdsdemo.ui.browse_html import PER_PAGE

NAMES = {
    "run": "run", "model": "model", "against": "against", "metric": "metric", "tags": "tag", "secondary": "secondary",
    "categories": "category", "modes": "mode", "who": "outcome", "decided": "decided", "words": "words",
    "order": "sort", "of_several": "match", "box": "margins",
}  # fmt: skip
"""By filter, the field of the URL."""
NOT_IN_RUN = "this run has no such {}"
NO_BOX = "it must be two ranges such as -1:2,0:"


class Opened(NamedTuple):
    """What a URL opens."""

    filters: FilterValues
    page: int
    example: str


def write(filters: FilterValues, usual: FilterValues, example: str = "") -> str:
    """The filters as a query, without those that have their usual value."""
    return address.write("browse", {**_named(filters), "example": example}, _named(usual))


def usual_filters(run: str, catalogue: Catalogue, shown_first: Sequence[str]) -> FilterValues:
    """The filters with which a run opens."""
    model, against = two_models(catalogue, default_filters(run, "", ""), shown_first)
    return default_filters(run, model, against)._replace(metric=catalogue.metrics[0])


def read(query: Query, run: str, catalogue: Catalogue, shown_first: Sequence[str]) -> Opened:
    """The view that a query asks for, of a run that is already known."""
    usual = usual_filters(run, catalogue, shown_first)
    categories = [text.partition("=")[2] for text in catalogue.tag_choices((CATEGORY,))]
    in_run: dict[str, Any] = {
        "model": query.choice("model", catalogue.models, usual.model, NOT_IN_RUN.format("model")),
        "against": query.choice("against", catalogue.models, usual.against, NOT_IN_RUN.format("model")),
        "metric": query.choice("metric", catalogue.metrics, usual.metric, NOT_IN_RUN.format("metric")),
        "tags": query.choices("tag", catalogue.tag_choices(TAG_KINDS), NOT_IN_RUN.format("tag")),
        "secondary": query.choices("secondary", catalogue.tag_choices(SECONDARY_KINDS), NOT_IN_RUN.format("tag")),
        "categories": query.choices("category", categories, NOT_IN_RUN.format("category")),
        "modes": query.choices("mode", list(MODES) if catalogue.modes else [], NOT_IN_RUN.format("failure mode")),
    }
    model, against = two_models(catalogue, usual._replace(**in_run), shown_first)
    filters = usual._replace(
        **in_run | {"model": model, "against": against},
        who=query.choice("outcome", WHO, usual.who),
        decided=query.choice("decided", DECIDED, usual.decided),
        words=query.text("words", 200),
        order=query.choice("sort", ORDER, usual.order),
        of_several=query.choice("match", OF_SEVERAL, usual.of_several),
        box=_box(query),
    )
    pages = max(1, -(-len(select(catalogue, filter_of(filters, catalogue))) // PER_PAGE))
    example = query.text("example")
    if example and catalogue.place(example) is None:
        query.leave_out("example", NOT_IN_RUN.format("example"))
        example = ""
    return Opened(filters, query.whole("gallery", 1, pages, 1) - 1, example)


def _box(query: Query) -> str:
    """The rectangle of margins in a canonical form; empty if there is none, or it is something else."""
    try:
        found = MarginBox.read(query.text("margins", 100))
    except ValueError:
        query.leave_out("margins", NO_BOX)
        return ""
    return "" if found is None else str(found)


def _named(filters: FilterValues) -> dict[str, Any]:
    """The filters by their names in a URL."""
    return {NAMES[name]: value for name, value in filters._asdict().items()}
