"""What several views of the Browse tab share: models with their marks, and outcomes in words. No HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from sdsdemo.evaluation.catalogue import WHO, Catalogue, Filter
from sdsdemo.evaluation.model_marks import marks_of

Titles = Mapping[str, str]
METRICS = {
    "text": "text score",
    "image": "image score",
    "group": "group score",
    "group_match": "group-match score",
    "accuracy": "accuracy",
}


class NamedModel(NamedTuple):
    """A model as it is written: its title, and the glyph and colour that it has on the whole page."""

    title: str
    glyph: str
    slot: int


def named(models: Iterable[str], titles: Titles) -> list[NamedModel]:
    """Models that are shown together."""
    models = list(models)
    marks = marks_of(dict.fromkeys(models))
    return [NamedModel(titles[model], marks[model].glyph, marks[model].slot) for model in models]


def pair(wanted: Filter, titles: Titles) -> tuple[NamedModel, NamedModel]:
    """The two models that are compared."""
    first, second = named((wanted.model, wanted.against), titles)
    return first, second


def way_words(way: str, first: str, second: str) -> str:
    """An outcome of `WHO` with the models' names."""
    said = {
        "right": f"{first} right",
        "wrong": f"{first} wrong",
        "tied": f"{first} tied",
        "no number": f"{first} without a finite score",
        "fixed": f"only {second} right",
        "broken": f"only {first} right",
        "still wrong": "both wrong",
        "always right": "both right",
    }
    return said.get(way, WHO[way])


def usual_share(catalogue: Catalogue, model: str, place: int) -> float | None:
    """An example's margin as a share of the model's usual one; None without either."""
    usual = catalogue.usual_margin(model)
    share = abs(float(catalogue.margin[model][place])) / usual if usual > 0 else float("nan")
    return share if np.isfinite(share) else None


def may_turn(catalogue: Catalogue, model: str, place: int) -> bool:
    """Whether other noise draws may turn an example's outcome. Only a denoising loss depends on noise."""
    scores = catalogue.scores[model][place]
    is_noisy = scores.kind == "denoising" and bool(np.isfinite(scores.score_IC).all())
    return is_noisy and not catalogue.decided[model][place]


def percent_words(share: float) -> str:
    """A share in percent, as read: whole numbers, and how little below one."""
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
