"""A visitor's fine-tuned model outside the Fine-tune tab: in Compare, Browse and Results, and on the Hub."""

from __future__ import annotations

import logging
from html import escape
from typing import Any

import gradio as gr

from sdsdemo.app.hub_upload import push
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.recipe_form import OUR_FAULT
from sdsdemo.ui.templates import render

log = logging.getLogger(__name__)


class FinishedRun:
    """Handlers of a finished run's buttons. `id_` is the id of the run."""

    def __init__(self, workbench: Workbench, jobs: Jobs, registry: RunRegistry) -> None:
        self.workbench, self.jobs, self.registry = workbench, jobs, registry

    def in_compare(self, id_: str) -> list[Any]:
        """Put the visitor's model into the last row of Compare; nobody else sees it."""
        try:
            name = self.jobs.model(id_)
        except UserError as error:
            return [message_html(str(error)), gr.skip(), gr.skip()]
        choices = [(self.workbench.card(name).title, name)]
        choices += [(card.title, card.name) for card in self.workbench.cards()]
        return ["", gr.update(selected="compare"), gr.update(choices=choices, value=name)]

    def in_browse(self, id_: str) -> list[Any]:
        """Score the Mini benchmark with the visitor's model, and open Browse at a private run that has it."""
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
            gr.update(choices=[*self.registry.names(), ("your run", name)], value=name),
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
