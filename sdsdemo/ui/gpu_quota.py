"""What the next click costs of a visitor's GPU quota, on a page whose GPU is lent for a call (ZeroGPU).

Elsewhere there is nothing to say, and nothing on the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from sdsdemo.app.asking import Question
from sdsdemo.app.gpu_time import reserved
from sdsdemo.app.shared_gpu import SharedGpu
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.types import Budget, Card
from sdsdemo.ui.compare_form import KNOBS, Form
from sdsdemo.ui.compare_logic import SHOW_AT_MOST
from sdsdemo.ui.draw import SEEDS, STEPS
from sdsdemo.ui.templates import render
from sdsdemo.ui.word_changes import changes_of, for_each_change, groups_of

DEFAULTS: dict[str, Any] = {name: knob.default for name, knob in KNOBS.items()}
NONE = "The chosen models run on the CPU: a click uses none of your GPU quota."
SCORE = "Score uses {about} {seconds} s of your GPU quota, and reserves {reserved} s."
DRAW = "Drawing both captions: about {seconds} s."
CHANGES = "Every small change of caption A: about {seconds} s."


class GpuQuota:
    """The note beside Score; to be built inside the page."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        shown_first = Form(image=None, captions=["", ""], models=workbench.settings.models, **DEFAULTS)
        first = self._html(shown_first) if workbench.gpu is not None else ""
        self._note = gr.HTML(first, elem_id="gpu-quota") if workbench.gpu is not None else None

    def wire(self, inputs: Sequence[Any], form: Callable[[dict[Component, Any]], Form]) -> None:
        """The note follows the form. form: reads it from the components' values."""
        if self._note is None:
            return

        def say(filled: dict[Component, Any]) -> str:
            return self._html(form(filled))

        gr.on(
            [field.change for field in inputs], say, set(inputs), self._note,
            trigger_mode="always_last", queue=False, show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def _html(self, form: Form) -> str:
        return render("parts.hint", sentence=quota_words(self._workbench, form))


def quota_words(workbench: Workbench, form: Form) -> str:
    """What Score, the drawing and every change would use; empty for a form that cannot be scored."""
    captions = tuple(str(text or "") for text in form.captions)
    try:
        spend = form.budget()
        chosen = [workbench.card(str(name).strip()) for name in dict.fromkeys(form.models) if name]
    except UserError:
        return ""
    away = [card for card in chosen if workbench.gpu is not None and workbench.gpu.takes(card)]
    runnable = [card for card in away if workbench.availability(card).can_run]
    if workbench.gpu is None or not chosen:
        return ""
    return " ".join(_sentences(workbench.gpu, runnable, chosen, captions, spend)) if runnable else NONE


def _sentences(
    gpu: SharedGpu, away: Sequence[Card], chosen: Sequence[Card], captions: tuple[str, ...], spend: Budget
) -> list[str]:
    """away: the chosen cards that are asked on the GPU."""
    questions = [Question(card=card, captions=captions) for card in away]
    score = gpu.times.of_answers(questions, spend, SHOW_AT_MOST)
    about = "up to" if spend.adaptive else "about"
    said = [SCORE.format(about=about, seconds=math.ceil(score), reserved=reserved(score))]
    denoiser = next((card for card in chosen if card.denoises), None)
    if denoiser in away and denoiser is not None:
        seconds = gpu.times.of_drawing(denoiser, len(captions), len(SEEDS), STEPS)
        said.append(DRAW.format(seconds=math.ceil(seconds)))
    if groups := groups_of(captions[0], changes_of(captions[0])):
        asked = ([Question(card=card, captions=tuple(group)) for group in groups] for card in away)
        seconds = sum(gpu.times.of_answers(questions, for_each_change(spend)) for questions in asked)
        said.append(CHANGES.format(seconds=math.ceil(seconds)))
    return said
