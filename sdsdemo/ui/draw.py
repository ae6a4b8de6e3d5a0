"""What the model draws for each caption, below the denoising: a button, and a few seeded pictures as they emerge."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from sdsdemo.app.gpu_time import seconds_a_unit
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.types import Card
from sdsdemo.ui.compare_api import AT_ONCE
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.compare_logic import OUR_FAULT
from sdsdemo.ui.denoising_view import strip
from sdsdemo.ui.templates import render

log = logging.getLogger(__name__)

SEEDS = (0, 1, 2, 3)
STEPS, LOOKS = 20, 5
NO_DENOISER = "Choose a diffusion model in the settings: the others compare and do not draw."
HINT = "Both captions start from the same noise. A model that cannot draw the difference is unlikely to see it."
WAIT_WORTH_SAYING = 5.0
"""Seconds."""


class DrawPanel:
    """The button and what it draws; to be built inside the page."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        gr.HTML(render("parts.subheading", words="What the model draws for each caption"))
        with gr.Row(elem_id="draw-row"):
            self.button = gr.Button("Draw both captions", size="md", elem_id="draw", min_width=160, scale=0)
            gr.HTML(render("parts.hint", sentence=HINT))
        self.pictures = gr.HTML(elem_id="drawn")

    def wire(self, captions: Sequence[Component], models: Sequence[Component]) -> None:
        self.button.click(
            self._draw,
            [*captions, *models],
            self.pictures,
            concurrency_limit=AT_ONCE,
            concurrency_id="score",
            show_progress="hidden",
            trigger_mode="once",
            api_visibility="private",
        )

    def _draw(self, *fields: Any) -> Iterator[str]:
        yield from drawn(self._workbench, [text or "" for text in fields[:2]], fields[2:])


def drawn(workbench: Workbench, captions: Sequence[str], models: Sequence[str | None]) -> Iterator[str]:
    """The views from a click to the finished pictures. Failures become sentences."""
    try:
        card = _denoiser(workbench, models)
        yield render("denoising.drawing", sentence=_wait(card))
        for look, picture_CS in enumerate(
            workbench.draw(card.name, captions, SEEDS, steps=STEPS, looks=LOOKS), start=1
        ):
            yield _html(card, captions, picture_CS, is_done=look == LOOKS)
    except UserError as error:
        yield render("parts.message", sentence=str(error))
    except Exception:
        log.exception("drawing failed")
        yield render("parts.message", sentence=OUR_FAULT)


def _denoiser(workbench: Workbench, models: Sequence[str | None]) -> Card:
    """The first chosen model that denoises. Raises `UserError` if there is none."""
    for name in models:
        card = workbench.card(name.strip()) if name else None
        if card and card.denoises:
            return card
    raise UserError(NO_DENOISER)


def _wait(card: Card) -> str:
    """What it takes, by the card's own rough time of a pair with the default budget."""
    evaluations = 2 * 2 * len(SEEDS) * STEPS
    seconds = evaluations * seconds_a_unit(card)
    takes = f", about {seconds:.0f} s on a {card.needs.upper()}" if seconds > WAIT_WORTH_SAYING else ""
    return f"{card.title} is drawing: {evaluations} denoiser calls{takes} …"


def _html(card: Card, captions: Sequence[str], picture_CS: np.ndarray, *, is_done: bool) -> str:
    return render(
        "denoising.drawn",
        title=card.title,
        is_done=is_done,
        rows=[
            {
                "index": c,
                "letter": LETTERS[c],
                "caption": caption,
                "pictures": [strip(picture_CS[c, s][None]) for s in range(picture_CS.shape[1])],
            }
            for c, caption in enumerate(captions)
        ],
    )
