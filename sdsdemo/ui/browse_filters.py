"""The filters of the Browse tab as plain values: their usual values, and the checked `Filter` that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sdsdemo.core.metrics import ACCURACY, METRICS
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import ANY, DECIDED, OF_SEVERAL, ORDER, WHO, Catalogue, Filter
from sdsdemo.evaluation.margin_box import MarginBox

CLEARED = ("tags", "secondary", "categories", "modes", "who", "decided", "words", "of_several", "box")
"""Filters that Clear empties."""
LISTS = ("tags", "secondary", "categories", "modes")
"""Filters that hold several values; each other one holds a text."""


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
    box: str = ""
    """A rectangle of the two models' margins, as `MarginBox` writes it."""


def filled_in(values: Sequence[Any]) -> FilterValues:
    """The filters from the values of their components; one that is not drawn yet has none.

    What its component cannot hold counts as none: any request may be sent by hand.
    """
    usual, given = default_filters("", "", ""), FilterValues(*values)._asdict()
    held = {name: value for name, value in given.items() if value is not None and _can_hold(name, value)}
    filled: FilterValues = usual._replace(**held)
    return filled


def _can_hold(name: str, value: object) -> bool:
    """Whether a filter's value has its type; None is no value."""
    if name in LISTS and isinstance(value, list | tuple):
        return all(isinstance(one, str) for one in value)
    return value is None or (name not in LISTS and isinstance(value, str))


def check_types(filters: FilterValues) -> None:
    """Raises `UserError` for a value that is neither a text nor, for a filter of `LISTS`, a list of texts."""
    for name, value in filters._asdict().items():
        if not _can_hold(name, value):
            raise UserError(f"The filter '{name}' must be {'a list of texts' if name in LISTS else 'a text'}.")


def default_filters(run: str, model: str, against: str) -> FilterValues:
    """The default filters."""
    return FilterValues(run, model, against, "text", [], [], [], [], ANY, ANY, "", "varied")


def two_models(catalogue: Catalogue, filters: FilterValues, shown_first: Sequence[str]) -> tuple[str, str]:
    """The two requested models if the run has them; else those that the page shows first; else the run's.

    The same model twice is only what was asked for: a model that is filled in differs from the other one.
    """
    known = catalogue.models
    usual = [m for m in (*shown_first, *known) if m in known]
    second = filters.against if filters.against in known else None
    first = filters.model if filters.model in known else next((m for m in usual if m != second), usual[0])
    return first, second or next((m for m in usual if m != first), first)


def filter_of(filters: FilterValues, catalogue: Catalogue) -> Filter:
    """A checked filter. Raises `UserError` for a model that the run does not have, or an invalid value."""
    check_types(filters)
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
        box=_box(filters.box),
    )


def _box(text: str) -> MarginBox | None:
    """Raises `UserError` for a text that is not a rectangle."""
    try:
        return MarginBox.read(text)
    except ValueError as error:
        raise UserError(f"This range of margins cannot be used: {error}.") from None


def is_whole_plane(box: str) -> bool:
    """Whether a text names a rectangle without an end, which keeps every example: a brush over the whole plot."""
    try:
        return MarginBox.read(box) is None
    except ValueError:
        return False


def metric_of(filters: FilterValues, catalogue: Catalogue) -> str:
    """The metric for "right"; the run's first if the one chosen belongs to the other kind of run."""
    gives_way = filters.metric in (*METRICS, ACCURACY) and filters.metric not in catalogue.metrics
    return catalogue.metrics[0] if gives_way else filters.metric


def cleared_values() -> list[Any]:
    """The values to which Clear resets the components of `CLEARED`."""
    usual = default_filters("", "", "")
    return [getattr(usual, name) for name in CLEARED]
