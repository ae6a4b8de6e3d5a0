"""The Compare tab in the page's URL: the form that a URL fills in, and the URL's part of the form on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.ui.address import Query
from sdsdemo.ui.compare_form import Form, form_of_address, query_of
from sdsdemo.ui.compare_models import model_choices
from sdsdemo.ui.examples import ShownExample, find_example
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.scene_pictures import ScenePictures
from sdsdemo.ui.templates import render
from sdsdemo.ui.uploads import looking, open_upload

REMEMBERED = 2_000
"""Pictures whose example is remembered."""
ROWS = "“models={}” is left out: this page has room for {} models."


class CompareAddress:
    """Reads and writes the form's part of the URL. Safe to share between visitors."""

    def __init__(
        self,
        workbench: Workbench,
        examples: Sequence[ShownExample],
        run_pictures: RunPictures | None,
        scenes: ScenePictures,
    ) -> None:
        self.workbench, self.examples, self.run_pictures = workbench, examples, run_pictures
        self.scenes = scenes
        self._named: ComputedOnce[ShownExample | None] = ComputedOnce(REMEMBERED)

    def open(self, query: Query, rows: int) -> tuple[list[Any], Form] | None:
        """The values of the form's fields, and the form itself; None if there is no question to open.

        rows: how many models the form has.
        """
        of_run = self.run_pictures.pair if self.run_pictures else None
        found = form_of_address(self.workbench, self.examples, query, of_run, self.scenes.of_text)
        if found is None:
            return None
        form, example = found
        beyond = [ROWS.format(name, rows) for name in form.models[rows:]]
        form = replace(form, models=form.models[:rows], remarks=(*form.remarks, *beyond))
        models = [*form.models, *[None] * (rows - len(form.models))]
        settings = [form.timesteps, form.noises, form.adaptive, form.seed, form.region, form.timestep_range]
        return [form.image, *form.captions, *settings, *self._rows(models), self._html(form, example)], form

    def html(self, form: Form) -> str:
        """The part of the page's URL that belongs to the form, where the page's script finds it."""
        return self._html(form, self.example_at(form.image))

    def recognise(self, image: Image) -> ShownExample | None:
        """The picture of a stored run, or of a scene drawn here; None if unknown."""
        of_run = self.run_pictures.find(image) if self.run_pictures else None
        return of_run or self.scenes.find(image)

    def _html(self, form: Form, example: ShownExample | None) -> str:
        return render("parts.address", query=query_of(form, example, self.workbench.settings.models))

    def _rows(self, models: Sequence[Any]) -> list[Any]:
        """The rows' values; a visitor's own model is added to the choices, which do not list it."""
        listed = model_choices(self.workbench)
        own = [(self.workbench.card(name).title, name) for name in models if name and self.workbench.is_lent(name)]
        return [gr.update(choices=[*own, *listed], value=name) for name in models] if own else list(models)

    def example_at(self, path: str | None) -> ShownExample | None:
        """The example that a picture of the form is; None for a visitor's own, and for no picture."""
        if not path:
            return None
        try:
            return self._named.get(path, lambda: self._find(path))
        except (UserError, OSError):  # not remembered: it may be readable next time
            return None

    def _find(self, path: str) -> ShownExample | None:
        with looking():
            return find_example(self.examples, Path(path)) or self.recognise(open_upload(path).image)
