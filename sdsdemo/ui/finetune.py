"""The Fine-tune tab: layout and wiring. Runs are in `sdsdemo.app.jobs`, their HTML in `ui/finetune_html.py`.

The browser stores the id of the visitor's run: closing or reloading the page stops nothing, and the view resumes. The
state of the run on the server decides which buttons are active, never what was clicked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import gradio as gr

from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import OFF, Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.shared_runs import SharedRuns
from sdsdemo.app.sharing import WHY_GONE
from sdsdemo.app.visitors import Visitor
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.number_format import duration
from sdsdemo.errors import UserError
from sdsdemo.settings import FINETUNING
from sdsdemo.ui import finetune_html, training_curves
from sdsdemo.ui.address import Query
from sdsdemo.ui.client_address import address_of
from sdsdemo.ui.compare_html import message_html
from sdsdemo.ui.finished_run import FinishedRun
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.race import RaceView, race_view, spoken
from sdsdemo.ui.recipe_form import OUR_FAULT, RecipeForm, in_page_words
from sdsdemo.ui.request_order import InOrder
from sdsdemo.ui.run_estimate import RunEstimates
from sdsdemo.ui.run_watchers import Watchers, at_most_watching
from sdsdemo.ui.templates import render, script

log = logging.getLogger(__name__)

STORAGE_KEY, SECRET = "sdsdemo-run", "sdsdemo"
"""For the browser's storage, where the only confidential value is the id of the visitor's own run."""
SCORING = "Scoring the Mini benchmark with your model; this takes a few seconds …"
NOT_SCORED = (
    "The Mini benchmark was not scored with your model: press the button again, or start a new run if this one is gone."
)
NO_LONGER = "This page no longer follows the run, because too many newer pages do: reload it to follow the run again."


class FinetuneTab:
    """The components that events and other tabs need."""

    def __init__(
        self,
        workbench: Workbench,
        jobs: Jobs,
        registry: RunRegistry,
        run_id: gr.BrowserState,
        watch: gr.Button,
        run_pictures: RunPictures,
    ) -> None:
        """run_id, watch: made outside the tabs, since nothing inside one is there until the tab is first shown."""
        self.workbench, self.jobs, self.run_id, self.watch = workbench, jobs, run_id, watch
        self.finished, self.shared = FinishedRun(workbench, jobs, registry, run_pictures), SharedRuns(jobs, registry)
        self.watched, self.watchers = InOrder(), Watchers()
        with gr.Column(elem_id="finetune"):
            gr.HTML(render("finetune.introduction"))
            if not jobs.is_on:
                gr.HTML(message_html(OFF))
                if workbench.settings.in_space:
                    gr.DuplicateButton("Duplicate this Space", size="sm")
            with gr.Row(elem_id="finetune-main"):
                with gr.Column(scale=5, min_width=300, elem_id="finetune-form"):
                    self._build_form()
                with gr.Column(scale=7, min_width=300, elem_id="finetune-run"):
                    self._build_run()

    @staticmethod
    def new_run_id() -> gr.BrowserState:
        """The browser's store for the id of its run."""
        return gr.BrowserState("", storage_key=STORAGE_KEY, secret=SECRET)

    @staticmethod
    def build_watch() -> gr.Button:
        """What the page's script presses when it opens on a run, so that no other visit waits in the line for one."""
        return gr.Button("Show the run", visible="hidden", elem_id="watch-run")

    def _build_form(self) -> None:
        gr.HTML(render("parts.heading", words="Your recipe"))
        self.form = RecipeForm(self.workbench)
        self.estimates = RunEstimates(self.workbench, self.jobs, self.form)
        self.address = gr.HTML(elem_id="ft-address")
        self.estimate = gr.HTML(elem_id="ft-estimate")
        self.message = gr.HTML(elem_id="ft-message")
        with gr.Row(elem_id="ft-actions"):
            self.start = gr.Button(
                "Start", variant="primary", elem_id="ft-start", min_width=120, interactive=self.jobs.is_on
            )
            self.stop = gr.Button("Stop and save", variant="stop", elem_id="ft-stop", min_width=120, interactive=False)
        limits = {"steps": f"{FINETUNING.page_steps:,}", "images": FINETUNING.page_batch}
        limits |= {"time": duration(FINETUNING.page_seconds), "waiting": FINETUNING.page_waiting}
        gr.HTML(render("finetune.limits", **limits))
        self.elsewhere = gr.HTML(elem_id="ft-elsewhere", js_on_load=script("copy_command"))

    def _build_run(self) -> None:
        self.status = gr.HTML(finetune_html.status_html(None), elem_id="ft-status")
        with gr.Row(visible=False, elem_id="ft-use") as self.use:
            self.to_compare = gr.Button("Use in Compare", min_width=130)
            self.to_browse = gr.Button("Use in Browse", min_width=130)
            self.to_results = gr.Button("Use in Results", min_width=130)
        self.files = gr.HTML(elem_id="ft-files")
        with gr.Row(visible=False, elem_id="ft-go-on") as self.go_on:
            self.steps_in_all = gr.Number(
                label="Total steps", precision=0, elem_id="ft-steps-in-all", min_width=130,
                info="More than before: the learning rate follows the longer schedule.",
            )  # fmt: skip
            self.resume = gr.Button("Resume", elem_id="ft-resume", min_width=130)
        view = race_view(None, self.finished.thumbs)
        self.said = gr.HTML(elem_id="ft-said", js_on_load=script("live_region"))
        self.evaluations = gr.HTML(view.chart, elem_id="ft-looks")
        self.pictures = gr.HTML(view.pictures, elem_id="ft-pictures")
        if self.workbench.settings.sign_in:
            self._build_push()
        self.result = gr.HTML(elem_id="ft-result", js_on_load=script("copy_command"))
        self.flips = gr.HTML(elem_id="ft-flips")
        self.losses = gr.HTML(elem_id="ft-losses")

    def _build_push(self) -> None:
        """Only in a Space: on any other machine, the sign-in would be the machine owner's."""
        with gr.Accordion("Push it to the Hub, under your own account", open=False):
            gr.LoginButton(size="sm")
            self.push_name = gr.Textbox("my-sds-clip", label="Model name", max_length=96)
            self.push = gr.Button("Push", size="sm")
            self.pushed = gr.HTML()

    def wire(self, opened: Any, page: gr.Blocks, tabs: gr.Tabs, compare: Any, browse: Any, results: Any) -> None:
        """opened: the tab's `select` event. compare, browse, results: the tabs that can use a finished run."""
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        in_line: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        watching = in_line | {"concurrency_limit": at_most_watching(), "concurrency_id": "watch"}
        evaluating = in_line | {"concurrency_limit": 1, "concurrency_id": "evaluate"}
        form = self.form.components
        self.form.wire(page.load, opened)
        self.estimates.wire(opened, self.estimate, self.elsewhere)
        started = self.start.click(self._begin, form, [self.message, self.run_id, self.start, self.stop], **quick)
        started.then(self._watch, self.run_id, self.outputs, **watching)
        resumed = self.resume.click(
            self._resume, [self.run_id, self.steps_in_all],
            [self.message, self.start, self.stop, self.go_on], **quick,
        )  # fmt: skip
        resumed.then(self._watch, self.run_id, self.outputs, **watching)
        self.stop.click(self._stop, self.run_id, self.message, **quick)
        page.load(None, self.run_id, js=script("watch_run"), api_visibility="private")
        self.watch.click(self._watch_at_address, self.run_id, self.outputs, **watching)
        self.to_compare.click(
            partial(self.finished.in_compare, rows=len(compare.models)), self.run_id,
            [self.message, tabs, compare.picture, *compare.captions, *compare.models], **quick,
        ).then(None, js=script("score_tuned"), api_visibility="private")  # fmt: skip
        if self.workbench.settings.sign_in:
            self.push.click(self.finished.on_hub, [self.run_id, self.push_name], self.pushed, api_visibility="private")
        scored = self.to_browse.click(_scoring, None, self.message, **quick).then(
            self.finished.in_browse, self.run_id, [self.message, browse.run, browse.model, browse.against], **evaluating
        )
        scored.success(
            browse.open_with,
            [*browse.filters, browse.page, browse.selected],
            [*browse.choices, *browse.outputs],
            **quick,
        ).then(lambda: gr.update(selected="browse"), None, tabs, **quick)
        summed = self.to_results.click(_scoring, None, self.message, **quick).then(
            self.finished.in_results, self.run_id, [self.message, results.chosen], **evaluating
        )
        summed.success(results.show_chosen, results.chosen, results.shown, **quick).then(
            lambda: gr.update(selected="results"), None, tabs, **quick
        )
        for asked in (scored, summed):
            asked.failure(lambda: message_html(NOT_SCORED), None, self.message, **quick)

    @property
    def opened(self) -> list[Any]:
        """The components that a URL fills."""
        return [self.form.preset, *self.form.components, self.address]

    def wire_address(self) -> None:
        """The URL follows the form."""
        fields = [self.form.preset, *self.form.components]
        gr.on(
            [field.change for field in fields], self.form.address_html, fields, self.address,
            trigger_mode="always_last", queue=False, show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def open_address(self, query: Query) -> list[Any]:
        """Values for `opened` from the page's URL. A shared run is shown by `_watch_at_address`."""
        if "run" in query:
            try:
                self.shared.job(query.text("run"))
            except UserError:
                query.leave_out("run", WHY_GONE)
        preset, values = self.form.open_address(query)
        return [preset, *values, self.form.address_html(preset, *values)]

    @property
    def outputs(self) -> list[Any]:
        """The components that show a run's state."""
        return [
            self.status, self.losses, self.evaluations, self.result, self.flips, self.start, self.stop, self.use,
            self.files, self.go_on, self.steps_in_all, self.resume, self.pictures, self.said,
        ]  # fmt: skip

    # --------------------------------------------------------------------------------------------------- handlers

    def _begin(self, request: gr.Request, *values: Any) -> list[Any]:
        """Queue the run. Failures become messages, and the form keeps its values."""
        try:
            id_ = self.jobs.start(self.form.recipe(values), self._visitor(request))
        except UserError as error:
            return [message_html(in_page_words(str(error))), gr.skip(), gr.skip(), gr.skip()]
        except Exception:
            log.exception("a run could not be started")
            return [message_html(OUR_FAULT), gr.skip(), gr.skip(), gr.skip()]
        return [
            "",
            id_,
            gr.update(value="Start", interactive=False),
            gr.update(value="Stop and save", interactive=True),
        ]

    def _visitor(self, request: gr.Request) -> Visitor | None:
        """Who asks; nobody in particular on a page of one's own."""
        if self.workbench.settings.allow_specs:
            return None
        return Visitor(session=request.session_hash or "", address=address_of(request))

    def _resume(self, request: gr.Request, id_: str, steps: Any) -> list[Any]:
        """Queue the run again, for a new total of steps."""
        try:
            if not isinstance(steps, int | float) or not float(steps).is_integer():
                raise UserError("“Total steps” must be a whole number.")
            self.jobs.resume(id_, int(steps), self._visitor(request))
        except UserError as error:
            return [message_html(in_page_words(str(error))), gr.skip(), gr.skip(), gr.skip()]
        except Exception:
            log.exception("a run could not be resumed")
            return [message_html(OUR_FAULT), gr.skip(), gr.skip(), gr.skip()]
        return [
            "",
            gr.update(value="Start", interactive=False),
            gr.update(value="Stop and save", interactive=True),
            gr.update(visible=False),
        ]

    def _stop(self, id_: str) -> str:
        """Ask the run to stop. Only `_watch` updates the button: this answer may arrive after the run has ended."""
        try:
            self.jobs.stop(id_)
        except UserError as error:
            return message_html(str(error))
        return ""

    async def _watch_at_address(self, id_: str, request: gr.Request) -> AsyncIterator[list[Any]]:
        """As `_watch`; but where the page's URL names a run of another visitor, that one, to look at."""
        query = Query("finetune", dict(request.query_params))
        name = query.text("run") if request.query_params.get("tab") == "finetune" else ""
        try:
            shown = (await asyncio.to_thread(self.shared.job, name)).id if name else id_
        except UserError:  # `open_address` says it
            shown = id_
        is_own = shown == id_
        async with aclosing(self._watch(shown, request, is_own=is_own)) as watch:
            async for updates in watch:
                yield updates if is_own else self._only_to_look_at(updates)

    def _only_to_look_at(self, updates: list[Any]) -> list[Any]:
        """The updates of another visitor's run, without its buttons and files."""
        found = dict(zip(self.outputs, updates, strict=True))
        hidden, own = dict.fromkeys((self.use, self.go_on), gr.update(visible=False)), self.jobs.is_on
        buttons = {self.start: gr.update(interactive=own), self.stop: gr.update(interactive=False)}
        return list((found | hidden | buttons | {self.files: ""}).values())

    async def _watch(
        self, id_: str, request: gr.Request | None = None, *, is_own: bool = True
    ) -> AsyncGenerator[list[Any], None]:
        """The run's progress, until it is over, the visitor watches another one, or too many watch.

        Files are read, and pictures encoded, in threads: the event loop answers everybody else.
        """
        if not id_:
            yield [gr.skip()] * len(self.outputs)
            return
        drawn: Job | None = None
        with self.watchers.watching(owner=id_ if is_own else "", address=address_of(request)) as watcher:
            while not self.watched.is_late(request):
                try:
                    run = await asyncio.to_thread(self.jobs.get, id_)
                except UserError as error:
                    yield [render("parts.hint", sentence=str(error)), *self._updates(None)[1:]]
                    return
                is_news = run != drawn  # versions would not do: another server that trains it counts its own
                if watcher.is_due(is_news):
                    nothing = [gr.skip()] * len(self.outputs)
                    yield await asyncio.to_thread(self._updates, run, drawn) if is_news else nothing
                    drawn = run
                if run.is_over:
                    return
                if watcher.has_ended:
                    status, *rest = await asyncio.to_thread(self._updates, run, drawn)
                    yield [status + render("parts.hint", sentence=NO_LONGER), *rest]
                    return
                await watcher.rest()

    def _updates(self, run: Job | None, drawn: Job | None = None) -> list[Any]:
        """drawn: the state that the page shows already; the race is sent again only if there is a new evaluation."""
        going = run is not None and not run.is_over
        is_stopping = run is not None and run.state == "stopping"
        usable = run is not None and run.is_over and run.written
        steps = run.recipe.steps if run else 1
        is_drawn = drawn is not None and run is not None and drawn.evaluations == run.evaluations
        race = RaceView(chart=gr.skip(), pictures=gr.skip()) if is_drawn else race_view(run, self.finished.thumbs)
        return [
            finetune_html.status_html(run),
            training_curves.losses_svg(run.points, steps) if run and (run.points or going) else "",
            race.chart,
            finetune_html.result_html(run),
            finetune_html.flipped_html(run, self.finished.pictures(run)) if usable else "",
            gr.update(value="Start", interactive=not going and self.jobs.is_on),
            gr.update(value="Stopping" if is_stopping else "Stop and save", interactive=going and not is_stopping),
            gr.update(visible=usable),
            self.finished.files_html(run.id) if run and usable else "",
            *self._resume_row(run),
            race.pictures,
            spoken(run),
        ]

    def _resume_row(self, run: Job | None) -> list[Any]:
        """The row that resumes a run: shown if it is over and has steps left, or may be given more."""
        if run is None or not run.can_resume or not self.jobs.is_on:
            return [gr.update(visible=False), gr.skip(), gr.skip()]
        steps, most = run.recipe.steps, FINETUNING.page_steps
        is_done = run.state == "finished"
        return [
            gr.update(visible=not is_done or steps < most),
            gr.update(value=min(most, 2 * steps) if is_done else steps),
            gr.update(value="Train further" if is_done else "Resume"),
        ]


def _scoring() -> str:
    return render("parts.busy", sentence=SCORING)
