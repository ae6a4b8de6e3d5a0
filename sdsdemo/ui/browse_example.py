"""One example of the Browse tab as HTML: pictures, captions, and each model's four scores as a small heat map.

`ui/browse_one_image.py` has what differs for one image with many captions.

Shape suffixes: I image, C caption.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sdsdemo.core.metrics import METRICS, MODES, verdict
from sdsdemo.evaluation.catalogue import CATEGORY, TAG_KINDS, Catalogue, Filter, facts
from sdsdemo.evaluation.summary import NO_TAG
from sdsdemo.types import Example, Scores
from sdsdemo.ui import address, browse_one_image
from sdsdemo.ui.browse_loss_lines import loss_lines_html
from sdsdemo.ui.browse_parts import NamedModel, Titles, may_turn, named, percent_words, usual_share
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import LARGE, Thumbnails, picture_html
from sdsdemo.ui.units import UNIT

PALEST, DARKEST = 6, 44
"""Percent of the model's colour behind the worst and the best of four scores."""
TIE = "tie"


class Position(NamedTuple):
    """Where an example stands among those that pass the filters: from 1; 0 if it is not among them."""

    place: int
    of: int


def example_html(
    catalogue: Catalogue,
    place: int,
    position: Position,
    wanted: Filter,
    titles: Titles,
    link: str,
    thumbs: Thumbnails,
    opened_by: int = 0,
) -> str:
    """One example: the two compared models first, the others behind a fold.

    opened_by: the number of the request that opened it, if that may not be the current one.
    """
    example = catalogue.examples[place]
    chosen = list(dict.fromkeys((wanted.model, wanted.against)))
    models = [*chosen, *(model for model in catalogue.models if model not in chosen)]
    marks = dict(zip(models, named(models, titles), strict=True))
    shown = [_result(catalogue, model, place, marks[model]) for model in models]
    if catalogue.one_image:
        figures = [browse_one_image.figure_html(catalogue, place, wanted.model, titles, thumbs)]
    else:
        figures = [_figure(example, i, thumbs, catalogue.numbers_alone) for i in range(2)]
    tags = facts(catalogue, place, (*TAG_KINDS, "secondary_tag", CATEGORY))
    return render(
        "browse_example.example",
        id=example.id,
        address=address.write("browse", {"example": example.id}),
        opened_by=opened_by,
        position=position,
        tags=[tag for tag in tags if tag != NO_TAG],
        link=link,
        figures=figures,
        models=shown[: len(chosen)],
        others=shown[len(chosen) :],
        is_pair=not catalogue.one_image,
    )


def _figure(example: Example, index: int, thumbs: Thumbnails, numbers_alone: bool) -> str:
    caption = example.captions[index]
    picture = picture_html(example.images[index], LARGE, caption, thumbs)
    words: dict[str, Any] = {"letter": LETTERS[index], "caption": caption, "opens": not numbers_alone}
    return render("browse_example.figure", picture=picture, index=index, **words)


def _result(catalogue: Catalogue, model: str, place: int, mark: NamedModel) -> str:
    """One model's result."""
    if catalogue.one_image:
        return browse_one_image.model_html(catalogue, model, place, mark)
    scores: Scores = catalogue.scores[model][place]
    found = verdict(scores.score_IC, scores.resolution)
    curves = loss_lines_html(scores.evidence, {0: "c0", 1: "c1"}, "captions A and B") if scores.evidence else ""
    return render(
        "browse_example.matrix",
        model=mark,
        unit=UNIT[scores.kind],
        rows=[_caption_row(scores, c) for c in range(2)],
        chosen=[_choice(scores.score_IC[i], i, LETTERS, scores.resolution) for i in range(2)],
        marks=[(name.replace("_", "-"), getattr(found, name)) for name in METRICS],
        may_turn=may_turn(catalogue, model, place),
        mode=found.mode.capitalize(),
        meaning=MODES[found.mode],
        margin=margin_words(catalogue, model, place),
        curves=curves,
    )


def margin_words(catalogue: Catalogue, model: str, place: int) -> str:
    """How clear an outcome is, against what is usual for the model; empty if it has no margin."""
    share = usual_share(catalogue, model, place)
    if share is None:
        return ""
    side = "Right" if catalogue.right[model][catalogue.metrics[0]][place] else "Wrong"
    size = abs(float(catalogue.margin[model][place]))
    return f"{side} by a margin of {size:.3g}: {percent_words(share)} of this model's usual margin."


def _caption_row(scores: Scores, c: int) -> dict[str, Any]:
    """The scores of a caption with both pictures, and which picture it chooses."""
    sign, digits = (-1, 4) if scores.kind == "denoising" else (1, 2)
    score_I, shades = scores.score_IC[:, c], _shades(scores.score_IC)
    cells = [
        {
            "score": f"{sign * score_I[i]:.{digits}f}",
            "shade": shades[i, c],
            "by_text": bool(scores.score_IC[i, c] - scores.score_IC[i, 1 - c] > scores.resolution),
            "by_image": bool(score_I[i] - score_I[1 - i] > scores.resolution),
        }
        for i in range(2)
    ]
    chosen = _choice(score_I, c, ("1", "2"), scores.resolution)
    return {"letter": LETTERS[c], "cells": cells, "chosen": chosen}


def _choice(score_2: np.ndarray, own: int, names: tuple[str, ...] | str, resolution: float) -> tuple[str, bool]:
    """The name of the better of two, or a tie, and whether it is its own."""
    if not abs(score_2[0] - score_2[1]) > resolution:
        return TIE, False
    best = int(score_2[1] > score_2[0])
    return names[best], best == own


def _shades(score_IC: np.ndarray) -> np.ndarray:
    """Percent of colour for each score; the palest for all if they are equal or one is not finite."""
    low, high = score_IC.min(), score_IC.max()
    if not (np.isfinite(score_IC).all() and high > low):
        return np.full(score_IC.shape, PALEST)
    shade_IC: np.ndarray = (PALEST + (DARKEST - PALEST) * (score_IC - low) / (high - low)).round().astype(int)
    return shade_IC
