"""The top of the Browse tab as HTML: saved views with their counts, the filters that are set, and how many pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

from sdsdemo.evaluation.catalogue import ANY, DECIDED, Catalogue, Filter, by_transition
from sdsdemo.evaluation.margin_box import MarginBox
from sdsdemo.ui.browse_filters import CLEARED, FilterValues, default_filters
from sdsdemo.ui.browse_parts import METRICS, NamedModel, Titles, pair, way_words
from sdsdemo.ui.templates import render

VIEWS = {
    "all": {},
    "fixed": {"who": "fixed"},
    "broken": {"who": "broken"},
    "still wrong": {"who": "still wrong"},
    "always right": {"who": "always right"},
    "closest": {"order": "closest"},
}
"""By saved view, the filters that differ from the usual ones."""
PICKED = (*CLEARED, "metric", "order")
"""Filters that a click may set."""
SAME = "Both models are {}: choose another one in either field to compare two."


class Chip(NamedTuple):
    """A filter that is set. pick: `name=value`, which a click on it removes."""

    pick: str
    words: str


def view_filters(filters: FilterValues, view: str) -> FilterValues:
    """The filters of a saved view; run, models and metric stay."""
    usual = default_filters("", "", "")
    plain = filters._replace(**{name: getattr(usual, name) for name in (*CLEARED, "order")})
    return plain._replace(**VIEWS[view])


def without(filters: FilterValues, pick: str, first_metric: str) -> FilterValues:
    """The filters without one that is set. pick: as in `Chip`."""
    name, _, value = pick.partition("=")
    if name not in PICKED:
        return filters
    now = getattr(filters, name)
    usual = getattr(default_filters("", "", "")._replace(metric=first_metric), name)
    rest: Any = [one for one in now if one != value] if isinstance(usual, list) else usual
    changed: FilterValues = filters._replace(**{name: rest})
    return changed


def bar_html(catalogue: Catalogue, filters: FilterValues, wanted: Filter, titles: Titles, shown: int) -> str:
    """Views, chips and count. shown: how many examples pass the filters."""
    first, second = pair(wanted, titles)
    return render(
        "browse_bar.bar",
        views=_views(catalogue, filters, wanted, first, second),
        chips=list(chips(catalogue, filters, wanted, first.title, second.title)),
        shown=shown,
        total=len(catalogue.examples),
        same=SAME.format(first.title) if wanted.model == wanted.against else "",
    )


def _views(
    catalogue: Catalogue, filters: FilterValues, wanted: Filter, first: NamedModel, second: NamedModel
) -> list[dict[str, Any]]:
    """The saved views. `parts` alternates models with the words after them."""
    counts = by_transition(catalogue, Filter(model=wanted.model, against=wanted.against, metric=wanted.metric))
    words: dict[str, Sequence[tuple[NamedModel | None, str]]] = {
        "all": [(None, "All examples")],
        "fixed": [(first, "wrong, "), (second, "right")],
        "broken": [(first, "right, "), (second, "wrong")],
        "still wrong": [(None, "Both wrong")],
        "always right": [(None, "Both right")],
        "closest": [(None, "Closest calls of "), (first, "")],
    }
    return [
        {
            "pick": view,
            "parts": words[view],
            "count": counts.get(view, len(catalogue.examples) if view == "all" else None),
            "pressed": str(filters == view_filters(filters, view)).lower(),
        }
        for view in VIEWS
        if wanted.model != wanted.against or view not in ("fixed", "broken")
    ]


def chips(catalogue: Catalogue, filters: FilterValues, wanted: Filter, first: str, second: str) -> Iterator[Chip]:
    """The filters that are set, in words. first, second: the models' titles."""
    if wanted.metric != catalogue.metrics[0]:
        yield Chip("metric=", f"right by {METRICS[wanted.metric]}")
    if wanted.who != ANY:
        yield Chip("who=", way_words(wanted.who, first, second))
    for name in ("tags", "secondary"):
        yield from (Chip(f"{name}={one}", one.partition("=")[2]) for one in getattr(filters, name) or ())
    yield from (Chip(f"categories={one}", one) for one in wanted.categories)
    if wanted.of_several != ANY and len((*wanted.secondary, *wanted.categories)) > 1:
        yield Chip("of_several=", "all of these tags")
    yield from (Chip(f"modes={one}", f"{first}: {one}") for one in wanted.modes)
    if wanted.decided != ANY:
        yield Chip("decided=", f"{first}: {DECIDED[wanted.decided]}")
    if wanted.words:
        yield Chip("words=", f"captions with “{wanted.words}”")
    if wanted.box is not None:
        yield Chip("box=", box_words(wanted.box, first, second))


def box_words(box: MarginBox, first: str, second: str) -> str:
    """A rectangle of margins in words."""
    sides = ((first, box.x_low, box.x_high), (second, box.y_low, box.y_high))
    return "margins: " + ", ".join(
        f"{title} {range_words(low, high)}" for title, low, high in sides if (low, high) != (-inf, inf)
    )


def range_words(low: float, high: float) -> str:
    """A range in words."""
    if high == inf:
        return f"from {low:.4g}"
    return f"up to {high:.4g}" if low == -inf else f"{low:.4g} to {high:.4g}"
