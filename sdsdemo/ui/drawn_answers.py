"""Charts and pictures of answers: drawn for the first who gets the answers, and shown to the others.

Drawing costs more than a Mini model's answer. Answers are told apart by identity: whoever asks the same gets the same
records (`app/kept_answers.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sdsdemo.app.kept_answers import bytes_of
from sdsdemo.core.adaptive import shared_draws
from sdsdemo.evaluation import loss_charts
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.types import Answer, Evidence
from sdsdemo.ui.denoising_view import denoising_html

MOST = 24_000_000
"""Bytes that all drawings may take, with the answers that they show."""
WEIGHT = 200_000
"""Bytes that two charts count for."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn of answers. Shared between threads: change nothing in it."""

    answers: tuple[Answer, ...]
    """While they are here, no other record has their identities."""
    denoising: str
    """What each model that denoises made of the picture, as HTML."""
    charts: tuple[loss_charts.Figure, ...]
    """The loss and the difference; empty where no answer comes from losses."""


def _weight(drawn: Drawn) -> int:
    return WEIGHT + sys.getsizeof(drawn.denoising) + sum(map(bytes_of, drawn.answers))


_drawn: ComputedOnce[Drawn] = ComputedOnce(MOST, _weight)


def drawn_of(captions: Sequence[str], answers: Sequence[Answer]) -> Drawn:
    """The charts and pictures of these answers to a question about these captions."""
    return _drawn.get((tuple(captions), tuple(map(id, answers))), lambda: _draw(captions, answers))


def curves_of(answers: Sequence[Answer]) -> list[loss_charts.Curves]:
    """The data for the charts, from every answer based on denoising losses."""
    found = [(answer.card.title, answer.scores.evidence) for answer in answers if answer.scores]
    return [_curves(title, evidence) for title, evidence in found if evidence]


def _draw(captions: Sequence[str], answers: Sequence[Answer]) -> Drawn:
    curves = curves_of(answers)
    return Drawn(
        answers=tuple(answers),
        denoising=denoising_html(captions, answers),
        charts=(loss_charts.loss_by_timestep(curves, captions), loss_charts.difference_by_timestep(curves))
        if curves
        else (),
    )


def _curves(title: str, evidence: Evidence) -> loss_charts.Curves:
    """Over the draws that all captions got."""
    draws, antithetic = shared_draws(evidence, range(evidence.loss_ICTN.shape[1]))
    return loss_charts.Curves(
        model=title,
        timestep_T=evidence.timestep_T,
        loss_CTN=evidence.loss_ICTN[0, ..., :draws],
        space=evidence.space,
        antithetic=antithetic,
    )
