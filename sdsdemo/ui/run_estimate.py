"""How long a run would take here, and the commands that make it elsewhere: both follow the form. Starts no run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import ceil
from typing import Any

import gradio as gr

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning import elsewhere
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.ui.recipe_form import RecipeForm, in_page_words
from sdsdemo.ui.request_order import InOrder
from sdsdemo.ui.templates import render

log = logging.getLogger(__name__)

MEASURING = "Measuring how long a step takes here …"
QUOTA = (
    "Uses about {seconds} s of your GPU quota, and reserves {reserved} s. The run stops before they end, and keeps "
    "what it has."
)
BUSY = "The time is estimated once the current run has ended."


class RunEstimates:
    """Estimates by kind of step, each measured once. Safe to share between visitors."""

    def __init__(self, workbench: Workbench, jobs: Jobs, form: RecipeForm) -> None:
        self.workbench, self.jobs, self.form = workbench, jobs, form
        self._known: dict[tuple[object, ...], Any] = {}
        self._asked = InOrder()

    def wire(self, opened: Any, estimate: gr.HTML, elsewhere: gr.HTML) -> None:
        """opened: the tab's `select` event. Both texts follow every change of the form."""
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        measuring: dict[str, Any] = {**hidden, "concurrency_limit": 1, "concurrency_id": "estimate"}
        form = self.form.components
        changes = [component.change for component in form]
        for handler, output, options in (
            (self.say_in_order, estimate, measuring),
            (self.elsewhere, elsewhere, {**hidden, "queue": False}),
        ):
            opened(handler, form, output, **options)
            gr.on(changes, handler, form, output, trigger_mode="always_last", **options)

    def say(self, *values: Any) -> Iterator[str]:
        """An estimate of the run's time, in a sentence; each kind of step is measured only once."""
        yield render("parts.busy", sentence=MEASURING)
        try:
            recipe = self.form.recipe(values)
            self.jobs.check(recipe)
            yield render("parts.hint", sentence=self._estimated(recipe))
        except UserError as error:
            yield render("parts.hint", sentence=in_page_words(str(error)))
        except Exception:
            log.exception("an estimate failed")
            yield ""

    def say_in_order(self, request: gr.Request, *values: Any) -> Iterator[Any]:
        """As `say`, until the same visitor requests a later one."""
        for words in self.say(*values):
            yield gr.skip() if self._asked.is_late(request) else words

    def _estimated(self, recipe: Recipe) -> str:
        if not self.jobs.is_on:
            return "Fine-tuning is off on this page."
        if self.jobs.gpu is not None and self.jobs.gpu.takes(self.workbench.card(recipe.base)):
            expected, seconds = self.jobs.gpu.run_seconds(recipe)
            return QUOTA.format(seconds=ceil(expected), reserved=seconds)
        from sdsdemo.finetuning.estimate import estimate, key

        known = self._known.get(key(recipe))
        if known is None:
            if self.jobs.is_busy:
                return BUSY
            known = self._known[key(recipe)] = estimate(recipe, self.workbench)
        words: str = known.words(recipe)
        return words

    def elsewhere(self, *values: Any) -> str:
        """The commands that run the form's recipe on another machine; nothing for a recipe that cannot run."""
        try:
            recipe = self.form.recipe(values)
            is_mini = self.workbench.card(recipe.base).mini
        except UserError:
            return ""
        return render(
            "finetune.elsewhere",
            jobs=elsewhere.on_jobs(recipe, mini=is_mini),
            gpus=elsewhere.on_gpus(recipe),
            slurm=elsewhere.on_slurm(recipe),
            is_mini=is_mini,
        )
