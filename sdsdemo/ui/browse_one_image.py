"""One image and its captions in the Browse tab, as HTML: the true ones, and the rivals that come closest.

Pure strings; everything foreign is escaped here. Captions are numbered as in the set, from 1; the first ones are true.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from sdsdemo.core.outcomes import best_first, contest
from sdsdemo.evaluation.catalogue import Catalogue
from sdsdemo.types import Scores
from sdsdemo.ui.loss_lines import loss_lines_html
from sdsdemo.ui.thumbnails import LARGE, Thumbnails, picture_html

SHOWN = 8
"""Captions of a set up to which all are shown; of a larger one, the true ones and this many rivals."""

Titles = Mapping[str, str]


def shown_captions(score_C: np.ndarray, true: int) -> list[int]:
    """Places of the captions to show: the true ones, then the rivals, the best first."""
    rivals = [c for c in best_first(score_C) if c >= true]
    return [*range(true), *(rivals if len(score_C) <= SHOWN else rivals[:SHOWN])]


def words_html(catalogue: Catalogue, place: int, model: str) -> str:
    """The true captions, the strongest rival, and how many more there are; for a card."""
    captions, true = catalogue.examples[place].captions, catalogue.true[place]
    lines = [f'<span class="c0"><b>true</b>{escape(caption)}</span>' for caption in captions[:true]]
    met = contest(catalogue.scores[model][place].score_IC[0], true)
    if met is not None:
        lines.append(f'<span class="c1"><b>rival</b>{escape(captions[met[1]])}</span>')
    more = len(captions) - true - 1
    if more > 0:
        lines.append(f"<small>and {more} more {'rival' if more == 1 else 'rivals'}</small>")
    return "".join(lines)


def heading(catalogue: Catalogue, place: int, model: str) -> str:
    """The true captions and the strongest rival, in plain text."""
    captions, true = catalogue.examples[place].captions, catalogue.true[place]
    met = contest(catalogue.scores[model][place].score_IC[0], true)
    return " / ".join([*captions[:true], *([captions[met[1]]] if met else [])])


def figure_html(catalogue: Catalogue, place: int, model: str, titles: Titles, thumbs: Thumbnails) -> str:
    """The picture; beside it the true captions, each to be opened in Compare against the model's strongest rival."""
    example, true = catalogue.examples[place], catalogue.true[place]
    met = contest(catalogue.scores[model][place].score_IC[0], true)
    truths = "".join(_true(c, example.captions[c], met) for c in range(true))
    rival = "" if met is None else f"Compare takes the strongest rival of {titles[model]}: “{example.captions[met[1]]}”"
    return (
        f"<figure>{picture_html(example.images[0], LARGE, example.captions[0], thumbs)}</figure>"
        f'<div class="truths"><p class="hint">{_how_many(len(example.captions), true)}</p>{truths}'
        f'<p class="hint">{escape(rival)}</p></div>'
    )


def _true(caption: int, text: str, met: tuple[int, int] | None) -> str:
    button = (
        ""
        if met is None
        else f'<button type="button" data-kind="compare" data-pick="0-{caption}-{met[1]}">Open in Compare</button>'
    )
    return (
        f'<figure><figcaption><span class="chip c0">{caption + 1}</span><span>{escape(text)} '
        f'<small class="right">true</small></span></figcaption>{button}</figure>'
    )


def _how_many(captions: int, true: int) -> str:
    if captions == true:
        return f"{captions} {'caption' if captions == 1 else 'captions'}, all true"
    return f"{captions} captions: {true} true, {captions - true} {'rival' if captions - true == 1 else 'rivals'}"


def model_html(catalogue: Catalogue, model: str, place: int, titles: Titles) -> str:
    """What one model says of the captions: a row each with its score, the outcome in words, and curves of losses."""
    scores, true = catalogue.scores[model][place], catalogue.true[place]
    score_C, captions = scores.score_IC[0], catalogue.examples[place].captions
    shown = shown_captions(score_C, true)
    unit = "loss, lower is better" if scores.kind == "denoising" else "100 × cosine"
    rows = "".join(_row(c, captions[c], scores, true) for c in shown)
    left_out = len(score_C) - len(shown)
    more = f'<p class="hint">The best {len(shown) - true} of {len(score_C) - true} rivals.</p>' if left_out else ""
    undecided = (
        "" if catalogue.decided[model][place] else '<span class="undecided">not decided by its noise draws</span>'
    )
    word, sentence = _outcome(catalogue, model, place)
    return (
        f'<article class="matrix one"><h3>{escape(titles[model])} <small>{unit}</small></h3>'
        f"<table><tbody>{rows}</tbody></table>{more}"
        f'<p class="mode"><b>{word}.</b> {sentence} {undecided}</p>{_lines(scores, shown, true)}</article>'
    )


def _row(caption: int, text: str, scores: Scores, true: int) -> str:
    """A caption with its score; a rival that is not beaten by every true caption is marked."""
    score_C = scores.score_IC[0]
    sign, digits = (-1, 4) if scores.kind == "denoising" else (1, 2)
    beats = caption >= true and not score_C[:true].min() - score_C[caption] > scores.resolution
    says = bool(np.isfinite(score_C).all())
    mark = '<span class="wrong" title="not beaten by every true caption">✗</span>' if beats and says else ""
    kind, name = ("c0", ' <small class="right">true</small>') if caption < true else ("rival", "")
    return (
        f'<tr><th scope="row"><span class="chip {kind}">{caption + 1}</span></th>'
        f'<td class="text{" own" if caption < true else ""}">{escape(text)}{name}</td>'
        f'<td class="number">{sign * score_C[caption]:.{digits}f}</td><td>{mark}</td></tr>'
    )


def _outcome(catalogue: Catalogue, model: str, place: int) -> tuple[str, str]:
    """How the model did on an example, in a word and a sentence."""
    scores, true = catalogue.scores[model][place], catalogue.true[place]
    score_C, margin = scores.score_IC[0], float(catalogue.margin[model][place])
    if math.isnan(margin):
        return "No evidence", "A score is not a finite number, so nothing can be said."
    truth = "The true caption" if true == 1 else f"Each of the {true} true captions"
    if math.isinf(margin):
        return "Right", "There is no rival."
    if abs(margin) <= scores.resolution:
        return "Tie", f"{'The true caption' if true == 1 else 'A true caption'} and a rival differ by rounding alone."
    by = f"{abs(margin):.{4 if scores.kind == 'denoising' else 2}f}"
    if margin > 0:
        return "Right", f"{truth} beats every rival, by {by} or more."
    ahead = int((score_C[:true].min() - score_C[true:] <= scores.resolution).sum())
    return "Wrong", _beaten_words(ahead, len(score_C) - true, by, "the true caption" if true == 1 else "a true caption")


def _beaten_words(ahead: int, rivals: int, by: str, whom: str) -> str:
    if ahead == 1:
        return f"One rival beats {whom}, by {by}."
    return f"{ahead} of {rivals} rivals are not beaten by {whom}; the best beats it by {by}."


def _lines(scores: Scores, shown: Sequence[int], true: int) -> str:
    """Curves of the losses: the true captions and the strongest rival in colour, on top of the other rivals."""
    if scores.evidence is None:
        return ""
    strongest = shown[true : true + 1]
    others = dict.fromkeys(shown[true + 1 :], "other")
    styles = others | dict.fromkeys(strongest, "c1") | dict.fromkeys(range(true), "c0")
    drawn = loss_lines_html(scores.evidence, styles, "the true captions, the strongest rival and the others")
    if not drawn:
        return ""
    legend = [
        '<span class="c0"><i></i>true</span>',
        '<span class="c1"><i></i>strongest rival</span>' if strongest else "",
        '<span class="other"><i></i>other rivals</span>' if len(shown) > true + 1 else "",
    ]
    return f'{drawn}<p class="line-legend">{"".join(legend)}</p>'
