"""One image and its captions in the Browse tab, as HTML: the true captions and the strongest rivals.

The layout is in `templates/browse_one_image.html`. Captions are numbered from 1, as in the benchmark, true ones first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdsdemo.core.outcomes import best_first, contest
from sdsdemo.evaluation.catalogue import Catalogue
from sdsdemo.types import Scores
from sdsdemo.ui.browse_loss_lines import loss_lines_html
from sdsdemo.ui.browse_parts import NamedModel, Titles, may_turn
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import LARGE, Thumbnails, picture_html
from sdsdemo.ui.units import UNIT

SHOWN = 8
"""Up to this many captions, all are shown; of more, the true ones and this many rivals."""


def shown_captions(score_C: np.ndarray, true: int) -> list[int]:
    """Indices of the captions to show: the true ones, then the rivals, best first."""
    rivals = [c for c in best_first(score_C) if c >= true]
    return [*range(true), *(rivals if len(score_C) <= SHOWN else rivals[:SHOWN])]


def card_words(catalogue: Catalogue, place: int, model: str) -> dict[str, Any]:
    """A card's text: the true captions, the strongest rival, and how many more there are."""
    captions, true = catalogue.examples[place].captions, catalogue.true[place]
    lines = [{"letter": "true", "index": 0, "text": caption} for caption in captions[:true]]
    met = contest(catalogue.scores[model][place].score_IC[0], true)
    if met is not None:
        lines.append({"letter": "rival", "index": 1, "text": captions[met[1]]})
    more = len(captions) - true - 1
    return {"captions": lines, "more": f"and {more} more {'rival' if more == 1 else 'rivals'}" if more > 0 else ""}


def heading(catalogue: Catalogue, place: int, model: str) -> str:
    """The true captions and the strongest rival, in plain text."""
    captions, true = catalogue.examples[place].captions, catalogue.true[place]
    met = contest(catalogue.scores[model][place].score_IC[0], true)
    return " / ".join([*captions[:true], *([captions[met[1]]] if met else [])])


def figure_html(catalogue: Catalogue, place: int, model: str, titles: Titles, thumbs: Thumbnails) -> str:
    """The picture and its true captions, each of which opens in Compare against the model's strongest rival."""
    example, true = catalogue.examples[place], catalogue.true[place]
    met = None if catalogue.numbers_alone else contest(catalogue.scores[model][place].score_IC[0], true)
    rival = "" if met is None else f"Compare takes the strongest rival of {titles[model]}: “{example.captions[met[1]]}”"
    return render(
        "browse_one_image.figure",
        picture=picture_html(example.images[0], LARGE, example.captions[0], thumbs),
        how_many=_how_many(len(example.captions), true),
        truths=[{"text": example.captions[c], "pick": "" if met is None else f"0-{c}-{met[1]}"} for c in range(true)],
        rival=rival,
    )


def _how_many(captions: int, true: int) -> str:
    if captions == true:
        return f"{captions} {'caption' if captions == 1 else 'captions'}, all true"
    return f"{captions} captions: {true} true, {captions - true} {'rival' if captions - true == 1 else 'rivals'}"


def model_html(catalogue: Catalogue, model: str, place: int, mark: NamedModel) -> str:
    """One model's result: a row per caption with its score, the outcome in words, and loss curves."""
    scores, true = catalogue.scores[model][place], catalogue.true[place]
    score_C, captions = scores.score_IC[0], catalogue.examples[place].captions
    shown = shown_captions(score_C, true)
    unit = UNIT[scores.kind]
    left_out = len(score_C) - len(shown)
    outcome, sentence = _outcome(catalogue, model, place)
    return render(
        "browse_one_image.matrix",
        model=mark,
        unit=unit,
        rows=[_row(c, captions[c], scores, true) for c in shown],
        more=f"The best {len(shown) - true} of {len(score_C) - true} rivals." if left_out else "",
        outcome=outcome,
        sentence=sentence,
        may_turn=may_turn(catalogue, model, place),
        curves=_curves(scores, shown, true),
        legend=_legend(shown, true),
    )


def _row(caption: int, text: str, scores: Scores, true: int) -> dict[str, Any]:
    """A caption with its score; marks a rival that not every true caption beats."""
    score_C = scores.score_IC[0]
    sign, digits = (-1, 4) if scores.kind == "denoising" else (1, 2)
    beats = caption >= true and not score_C[:true].min() - score_C[caption] > scores.resolution
    return {
        "number": caption + 1,
        "text": text,
        "is_true": caption < true,
        "is_unbeaten": beats and bool(np.isfinite(score_C).all()),
        "score": f"{sign * score_C[caption]:.{digits}f}",
    }


def _outcome(catalogue: Catalogue, model: str, place: int) -> tuple[str, str]:
    """How the model did on an example, in a word and a sentence."""
    scores, true = catalogue.scores[model][place], catalogue.true[place]
    score_C, margin = scores.score_IC[0], float(catalogue.margin[model][place])
    if math.isnan(margin):
        return "No evidence", "A score is not a finite number, so there is no outcome."
    truth = "The true caption" if true == 1 else f"Each of the {true} true captions"
    if math.isinf(margin):
        return "Right", "There is no rival."
    if abs(margin) <= scores.resolution:
        return (
            "Tie",
            f"{'The true caption' if true == 1 else 'A true caption'} and a rival differ by no more than rounding.",
        )
    by = f"{abs(margin):.{4 if scores.kind == 'denoising' else 2}f}"
    if margin > 0:
        return "Right", f"{truth} beats every rival, by {by} or more."
    ahead = int((score_C[:true].min() - score_C[true:] <= scores.resolution).sum())
    return "Wrong", _beaten_words(ahead, len(score_C) - true, by, "the true caption" if true == 1 else "a true caption")


def _beaten_words(ahead: int, rivals: int, by: str, whom: str) -> str:
    if ahead == 1:
        return f"One rival beats {whom}, by {by}."
    return f"{ahead} of {rivals} rivals are level with or ahead of {whom}, the best of them by {by}."


def _curves(scores: Scores, shown: Sequence[int], true: int) -> str:
    """Loss curves: the true captions and the strongest rival in colour, on top of the other rivals."""
    if scores.evidence is None:
        return ""
    others = dict.fromkeys(shown[true + 1 :], "other")
    styles = others | dict.fromkeys(shown[true : true + 1], "c1") | dict.fromkeys(range(true), "c0")
    return loss_lines_html(scores.evidence, styles, "the true captions, the strongest rival and the others")


def _legend(shown: Sequence[int], true: int) -> list[tuple[str, str]]:
    """Style and meaning of the lines present."""
    kinds = [("c0", "true"), ("c1", "strongest rival"), ("other", "other rivals")]
    return kinds[: 1 + min(len(shown) - true, 2)]
