"""The gallery of the Browse tab as HTML, and the caveat beside its figures. The layout is in `templates/browse.html`.

Clickable elements carry `data-kind` and `data-pick`, which the page's script passes to Python. Pictures are embedded as
thumbnails. `ui/browse_one_image.py` has what differs for one image with many captions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from sdsdemo.evaluation.catalogue import Catalogue, Filter
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.ui import browse_one_image
from sdsdemo.ui.browse_parts import NamedModel, Titles, pair, percent_words, usual_share
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import THUMB, Thumbnails, picture_html

PER_PAGE = 24
OUTCOMES = {
    "right": ("✓", "right"),
    "wrong": ("✗", "wrong"),
    "tie": ("=", "wrong"),
    "no finite score": ("?", "unknown"),
}
"""By outcome, its sign and its CSS class. A tie counts as wrong."""


def lesson_html(models: Collection[str]) -> str:
    """The caveat that goes with these models' figures."""
    return render("parts.hint", sentence=lesson_words(models))


def gallery_html(
    catalogue: Catalogue, places: np.ndarray, page: int, wanted: Filter, titles: Titles, thumbs: Thumbnails
) -> str:
    """One page of examples, each with both pictures, both captions, and whether each of the two models is right."""
    first, models = page * PER_PAGE, pair(wanted, titles)
    cards = [_card(catalogue, int(place), wanted, models, thumbs) for place in places[first : first + PER_PAGE]]
    return render("browse.gallery", cards=cards, page=page, pages=-(-len(places) // PER_PAGE))


def _card(
    catalogue: Catalogue, place: int, wanted: Filter, models: tuple[NamedModel, NamedModel], thumbs: Thumbnails
) -> dict[str, Any]:
    example = catalogue.examples[place]
    if catalogue.one_image:
        words = browse_one_image.card_words(catalogue, place, wanted.model)
    else:
        lines = [{"letter": LETTERS[c], "index": c, "text": example.captions[c]} for c in range(2)]
        words = {"captions": lines, "more": ""}
    compared = dict(zip((wanted.model, wanted.against), models, strict=True))
    return {
        "id": example.id,
        "is_one": catalogue.one_image,
        "pictures": [picture_html(picture, THUMB, "", thumbs) for picture in example.images],
        "marks": [_mark(outcome(catalogue, m, wanted.metric, place), named) for m, named in compared.items()],
        "margin": _closeness(catalogue, place, wanted, models[0]),
        **words,
    }


def _closeness(catalogue: Catalogue, place: int, wanted: Filter, model: NamedModel) -> str:
    """In the order of closest calls, how close this one is."""
    share = usual_share(catalogue, wanted.model, place) if wanted.order == "closest" else None
    return "" if share is None else f"{model.glyph} {percent_words(share)} of its usual margin"


def outcome(catalogue: Catalogue, model: str, metric: str, place: int) -> str:
    """right, wrong, tie or no finite score."""
    if not catalogue.finite[model][place]:
        return "no finite score"
    if catalogue.tied[model][metric][place]:
        return "tie"
    return "right" if catalogue.right[model][metric][place] else "wrong"


def _mark(how: str, model: NamedModel) -> dict[str, Any]:
    sign, state = OUTCOMES[how]
    return {"how": how, "sign": sign, "state": state, "model": model}
