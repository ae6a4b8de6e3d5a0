"""Below the answer: what the model sees given each caption, the charts of its losses, and what it draws."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sdsdemo.app.workbench import Workbench
from sdsdemo.ui.compare_logic import View
from sdsdemo.ui.draw import DrawPanel
from sdsdemo.ui.templates import render, script

HOW_IT_DENOISES = (
    "Noise is added to the picture, and the model guesses the clean picture once for each caption. The caption whose "
    "guess comes closer has the lower loss. Move the slider: the more noise, the more the caption decides what appears."
)
HOW_TO_READ_LOSS = (
    "How to read it: the loss says how far the model's guess is from the noise that was really added, and so from the "
    "clean picture. The lower line belongs to the caption that helped more."
)
HOW_TO_READ_DIFFERENCE = (
    "How to read it: above zero, A helped the model more; below zero, B. Both captions got the same noise. Where the "
    "95 % band touches zero, the noise draws do not decide."
)


class EvidencePanel:
    """The components that an answer fills; to be built inside the page."""

    def __init__(self, workbench: Workbench, view: View) -> None:
        """view: the answer that the page opens with."""
        loss, difference = view.charts or (None, None)
        with gr.Column(visible=bool(view.has_charts), elem_id="evidence") as self.column:
            gr.HTML(render("parts.heading", words="What the model sees given each caption"))
            gr.HTML(render("parts.hint", sentence=HOW_IT_DENOISES))
            self.denoising = gr.HTML(view.denoising, elem_id="denoising", js_on_load=script("denoising"))
            with gr.Row():
                self.loss = _build_chart("denoising loss", loss, "loss-chart", HOW_TO_READ_LOSS)
                self.difference = _build_chart(
                    "paired difference", difference, "difference-chart", HOW_TO_READ_DIFFERENCE
                )
            self.drawing = DrawPanel(workbench)

    @property
    def outputs(self) -> list[Any]:
        """What `CompareTab` fills with an answer, in this order."""
        return [self.column, self.denoising, self.loss, self.difference]


def _build_chart(term: str, figure: Any, elem_id: str, how_to_read: str) -> gr.Plot:
    """term: of the glossary; it names the chart."""
    with gr.Column(min_width=300):
        gr.HTML(render("parts.subheading", words="by timestep", term=term))
        chart = gr.Plot(figure, show_label=False, container=False, elem_id=elem_id)
        gr.HTML(render("parts.hint", sentence=how_to_read))
    return chart
