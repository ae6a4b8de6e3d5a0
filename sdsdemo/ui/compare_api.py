"""The page's only public endpoint, `/score`: one picture, two or more captions, every model named.

Its fields are hidden components, not the type hints of `gr.api`. Those only describe an endpoint: values pass as they
were sent, and Gradio checks a path among them only where its `meta` says that it is a file
(`processing_utils.async_move_files_to_cache` goes by `is_file_obj_with_meta`). `{"path": "/etc/passwd"}` alone would
reach `score`. An image field has a data model, which insists on `meta`; the fields of `gr.api` have none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from html import escape

import gradio as gr

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.answers import AnswersRecord
from sdsdemo.settings import REGIONS, SEED, TIMESTEPS, usual_noises
from sdsdemo.ui import compare_logic
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.picture_field import safe_image

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Requests scored at the same time; the rest wait in the queue."""


class ScoreApi:
    """Hidden fields for programs: `/score` takes lists, and only the server checks its limits."""

    def __init__(self, workbench: Workbench, examples: Sequence[ShownExample]) -> None:
        self.workbench, self.examples = workbench, examples
        image = safe_image(label="Image", visible=False)
        captions = gr.JSON(label="Captions: a list of two or more texts", visible=False)
        models = gr.JSON(list(self.workbench.settings.models), label="Models: a list of names", visible=False)
        timesteps = gr.Number(TIMESTEPS.default, label="Timesteps", visible=False)
        usual = f"{usual_noises(False)}, or {usual_noises(True)} if scoring is adaptive"
        noises = gr.Number(label=f"Noise draws; by default {usual}", visible=False)
        seed = gr.Number(SEED.default, label="Seed", visible=False)
        region = gr.Textbox("crop", label=f"Region: {', '.join(REGIONS)}", visible=False)
        span = gr.JSON(label="Timestep range: a list of two numbers, or nothing", visible=False)
        adaptive = gr.Checkbox(
            False,
            label="Adaptive: stop as soon as the captions are told apart; noise draws are the maximum",
            visible=False,
        )
        result = gr.JSON(label="The same answer as score --json", visible=False)
        gr.Button(visible=False).click(
            self.score,
            [image, captions, models, timesteps, noises, seed, region, span, adaptive],
            result,
            api_name="score",
            api_description="Scores one picture against two or more captions with every model named.",
            concurrency_limit=AT_ONCE,
            concurrency_id="score",
        )

    def score(
        self,
        image: str,
        captions: list[str],
        models: list[str],
        timesteps: float,
        noises: float | None = None,
        seed: float = SEED.default,
        region: str = "crop",
        timestep_range: list[float] | None = None,
        adaptive: bool = False,
    ) -> AnswersRecord:
        """Scores one picture against two or more captions with every model named, as `score --json` does."""
        form = Form(
            image=image,
            captions=captions,
            models=models,
            timesteps=timesteps,
            noises=usual_noises(bool(adaptive)) if noises is None else noises,
            adaptive=adaptive,
            seed=seed,
            region=region,
            timestep_range=timestep_range,
        )
        try:
            return compare_logic.score_dict(self.workbench, self.examples, form)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error
        except Exception as error:
            log.exception("scoring over the API failed")
            raise gr.Error(compare_logic.OUR_FAULT, print_exception=False) from error
