"""A visitor's fine-tuned model outside the Fine-tune tab: in Compare, Browse and Results, and on the Hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sdsdemo.app.hub_upload import push
from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.sharing import download_name
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning.objective_race import read_race
from sdsdemo.finetuning.recipe import MINI
from sdsdemo.ui import finetune_html
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.race import own_laps
from sdsdemo.ui.recipe_form import OUR_FAULT
from sdsdemo.ui.results import TUNED_RUN
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import Thumbnails
from sdsdemo.ui.watched_pictures import changed_picture, examples_of

OF_A_QUESTION = 4
"""The tab, the picture and two captions."""
RUN_FILES = {"model.safetensors": "Weights (.safetensors)", "run.json": "Record (run.json)"}
"""Files of a run that its owner may download, with the words of their links."""

log = logging.getLogger(__name__)


class FinishedRun:
    """Handlers of a finished run's buttons. `id_` is the id of the run."""

    def __init__(self, workbench: Workbench, jobs: Jobs, registry: RunRegistry, run_pictures: RunPictures) -> None:
        self.workbench, self.jobs, self.registry, self.run_pictures = workbench, jobs, registry, run_pictures
        self.thumbs = Thumbnails()

    def files_html(self, id_: str) -> str:
        """Links to the run's files that are there."""
        folder, name = self.jobs.root / id_, download_name(id_)
        found = [(file, words) for file, words in RUN_FILES.items() if (folder / file).is_file()]
        return render("finetune.files", name=name, files=found)

    def file(self, name: str, file: str) -> Path | None:
        """The path of one of `RUN_FILES`, by the run's download name; None if it is not there."""
        id_ = next((id_ for id_ in self.jobs.ids if download_name(id_) == name), "")
        path = self.jobs.root / id_ / file
        return path if id_ and file in RUN_FILES and path.is_file() else None

    def pictures(self, run: Job | None) -> Mapping[str, str]:
        """HTML of the examples whose answer changed, by id."""
        if run is None or "measured" not in run.record or run.recipe.data != MINI:
            return {}
        flipped = run.record["measured"]["flipped"]
        wanted = {*flipped["fixed"][:6], *flipped["broken"][:6]}
        try:
            examples = examples_of(run.record["measured"]["benchmark"])
        except UserError:  # of a damaged record
            return {}
        return {
            example.id: finetune_html.pictured_html(example, self.thumbs)
            for example in examples
            if example.id in wanted
        }

    def in_compare(self, id_: str, rows: int) -> list[Any]:
        """Compare with the visitor's model beside its base, at a picture whose answer the run changed, if there is one.

        rows: how many models Compare has. Only whoever gets the link sees the model too.
        """
        try:
            name = self.jobs.model(id_)
            run = self.jobs.get(id_)
        except UserError as error:
            return [message_html(str(error)), *[gr.skip()] * (OF_A_QUESTION + rows)]
        picture = self._changed(run)
        titles = [(self.workbench.card(name).title, name)]
        titles += [(card.title, card.name) for card in self.workbench.cards()]
        models: list[str | None] = [run.recipe.base, name]
        models += [None] * (rows - len(models))
        question = [str(picture.path), *picture.captions] if picture else [gr.skip()] * 3
        return [
            "", gr.update(selected="compare"), *question, *(gr.update(choices=titles, value=one) for one in models)
        ]  # fmt: skip

    def _changed(self, run: Job) -> ShownExample | None:
        """The picture that shows best what a run changed; None for a run on other data, or if a file is missing."""
        try:
            race = read_race()
            found = changed_picture(own_laps(run, race), race)
            return self.run_pictures.of_validation(found[0].example.id, found[0].picture) if found else None
        except UserError:  # of the race or the validation set: the model opens without a picture
            log.warning("no picture for Compare", exc_info=True)
            return None

    def in_browse(self, id_: str) -> list[Any]:
        """Score the Mini benchmark with the visitor's model, and open Browse at an unlisted run that has it."""
        try:
            name, folder = self.jobs.evaluated(id_)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error
        except Exception as error:
            log.exception("a visitor's model could not be evaluated")
            raise gr.Error(OUR_FAULT, print_exception=False) from error
        self.registry.lend(name, folder)
        titles = [(card.title, card.name) for card in self.workbench.cards()]
        own = (self.workbench.card(name).title, name)
        return [
            "",
            gr.update(choices=[*self.registry.names(), (TUNED_RUN, name)], value=name),
            gr.update(choices=[own, *titles], value=self.jobs.get(id_).recipe.base),
            gr.update(choices=[own, *titles], value=name),
        ]

    def in_results(self, id_: str) -> list[Any]:
        """As `in_browse`, for Results."""
        message, run, *_ = self.in_browse(id_)
        return [message, run]

    def on_hub(self, id_: str, name: str, token: gr.OAuthToken | None) -> str:
        """Upload the run's files to the Hub under the visitor's own account."""
        if token is None:
            return message_html("Sign in first, with the button above.")
        try:
            address = push(self.jobs.folder(id_), name, token.token)
        except UserError as error:
            return message_html(str(error))
        return render("finetune.pushed", address=address)
