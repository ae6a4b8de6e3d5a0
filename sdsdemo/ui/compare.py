"""The Compare tab: layout and wiring. The logic is in `ui/compare_logic.py`.

Left: the picture, captions A and B, settings, Score. Right: one row per model. Below: charts of the denoising loss.
The only public endpoint is in `ui/compare_api.py`; the server checks every limit, whatever the fields allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL.Image import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.adaptive import ERROR
from sdsdemo.settings import LIMITS, NOISES, REGIONS, SEED, TIMESTEP_RANGE, TIMESTEPS, Knob, usual_noises
from sdsdemo.types import Answer
from sdsdemo.ui import compare_html, compare_logic, compare_models
from sdsdemo.ui.address import Query
from sdsdemo.ui.compare_address import CompareAddress
from sdsdemo.ui.compare_api import AT_ONCE, ScoreApi
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.compare_logic import Context, View
from sdsdemo.ui.evidence import EvidencePanel
from sdsdemo.ui.example_strip import strip_html
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.gpu_quota import GpuQuota
from sdsdemo.ui.late_dropdown import LateDropdown
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.picture_field import safe_image
from sdsdemo.ui.request_order import InOrder, number_of
from sdsdemo.ui.scene_editor import SceneEditor
from sdsdemo.ui.scene_pictures import ScenePictures
from sdsdemo.ui.templates import render, script, script_with
from sdsdemo.ui.typical import Find, no_typical
from sdsdemo.ui.word_changes import ChangesPanel

LEAST_ROWS = 3
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
PROGRESS = gr.Progress(track_tqdm=True)
"""Shows downloads: the libraries report them through tqdm."""

SPEC_HINT = "Choose a model, or enter a spec such as open_clip:ViT-B-32-quickgelu/openai"
LONGEST_PASTE = 20 * LIMITS.caption_characters
"""Most characters of a caption field: above the limit, so that a long text is refused rather than silently cut."""
LIMITS_OF_PICTURES = (
    f"PNG, JPEG or WebP, up to {LIMITS.image_bytes // 1_000_000} MB and {LIMITS.image_pixels // 1_000_000} megapixels "
    f"({LIMITS.webp_pixels // 1_000_000} as WebP). "
    "Your picture stays in a temporary folder on the server for at most a day."
)
LIMITS_OF_CAPTIONS = (
    f"A caption may have up to {LIMITS.caption_characters} characters. A model that truncates a long one says so in "
    "its row."
)
STOP_EARLY = (
    "Noise is drawn in rounds until the difference is decided; the number of noise draws above is then a maximum. At "
    f"most {100 * ERROR:.0f} % of decisions would be reversed by more noise."
)


class CompareTab:
    """The components that events and other tabs need."""

    def __init__(
        self,
        workbench: Workbench,
        examples: Sequence[ShownExample],
        opening: tuple[ShownExample, list[Answer]] | None,
        space: str,
        run_pictures: RunPictures | None = None,
        typical: Find = no_typical,
    ) -> None:
        """run_pictures: recognises pictures from stored runs. typical: the scale of a model's differences."""
        self.run_pictures = run_pictures
        self.context = Context(space=space, find=self._find, typical=typical)
        self.submitted, self.scored = InOrder(), InOrder()
        scenes = ScenePictures()
        self.address_of = CompareAddress(workbench, examples, run_pictures, scenes)
        self.scene = SceneEditor(scenes)
        self.workbench, self.examples = workbench, examples
        view = (
            compare_logic.stored_view(*opening, self.context)
            if opening
            else View(answer=compare_html.empty_html(), has_charts=False)
        )
        first = opening[0] if opening else examples[0] if examples else None
        with gr.Row(elem_id="compare"):
            with gr.Column(scale=5, min_width=300, elem_id="question"):
                self._build_question(first)
            with gr.Column(scale=7, min_width=300, elem_id="result"):
                self.progress = gr.HTML(elem_id="progress")
                if self.examples:
                    opens_with = "\n".join(sorted(self.examples[0].captions))
                    round_html = render("guess.round", count=len(self.examples), first=opens_with)
                    gr.HTML(round_html, elem_id="guess", js_on_load=script("guess"))
                self.answer = gr.HTML(view.answer, elem_id="answer", js_on_load=script("copy_link"))
                self.suggestion_text = gr.HTML(visible=False, elem_id="way-on")
                self.suggestion = gr.Button(visible=False, elem_id="way-on-button")
                self.suggested_model = gr.State("")
        self.evidence = EvidencePanel(workbench, view)
        self.changes = ChangesPanel(workbench)
        ScoreApi(workbench, examples)
        self._wire()

    def _build_question(self, first: ShownExample | None) -> None:
        self.picture = safe_image(
            str(first.path) if first else None,
            label="Picture",
            alt_text="The picture that the captions are about",
            height=240,
            buttons=["fullscreen"],
            elem_id="picture",
        )
        self.strip = gr.HTML(
            strip_html(self.examples),
            visible=bool(self.examples),
            elem_id="examples",
            js_on_load=script("example_strip"),
        )
        gr.HTML(render("parts.hint", sentence=LIMITS_OF_PICTURES), elem_id="picture-limits")
        self.scene.build()
        self.captions = [self._caption(c, first.captions[c] if first else "") for c in (0, 1)]
        self.scene.build_below_captions(first.captions if first else ("", ""))
        self.message = gr.HTML(elem_id="message")
        self.address = gr.HTML(elem_id="question-address")
        with gr.Row(elem_id="actions"):
            self.swap = gr.Button("Swap A and B", size="md", elem_id="swap", min_width=120)
            self.score = gr.Button("Score", variant="primary", size="md", elem_id="score", min_width=120)
        self.quota = GpuQuota(self.workbench)
        with gr.Accordion("Settings", open=False, elem_id="settings") as self.settings:
            self._build_settings()

    def _caption(self, index: int, value: str) -> gr.Textbox:
        letter = compare_html.LETTERS[index]
        return gr.Textbox(
            value,
            label=f"Caption {letter}",
            lines=1,
            max_lines=4,
            max_length=LONGEST_PASTE,
            placeholder="One sentence about the picture" if index == 0 else "The same words in another order",
            elem_id=f"caption-{letter.lower()}",
            elem_classes=["caption", f"c{index}"],
        )

    def _build_settings(self) -> None:
        names = self.workbench.settings.models
        count = min(max(LEAST_ROWS, len(names)), LIMITS.models)
        choices, specs = compare_models.model_choices(self.workbench), self.workbench.settings.allow_specs
        self.models = [
            LateDropdown(
                choices,
                value=names[i] if i < len(names) else None,
                label=f"Model {i + 1}",
                info=SPEC_HINT if i == 0 and specs else None,
                allow_custom_value=specs,
                elem_id=f"model-{i + 1}",
            )
            for i in range(count)
        ]
        self.model_states = gr.HTML(compare_models.models_html(self.workbench, names), elem_id="model-states")
        self.timesteps = _slider(TIMESTEPS, "Timesteps", "timesteps")
        self.noises = _slider(NOISES, "Noise draws", "noises")
        self.adaptive = gr.Checkbox(
            False, label="Stop as soon as the captions are told apart", info=STOP_EARLY, elem_id="adaptive"
        )
        self.seed = gr.Number(SEED.default, label="Seed", info=SEED.meaning, precision=0, elem_id="seed")
        self.region = gr.Dropdown(
            [(f"{name}: {words}", name) for name, words in REGIONS.items()],
            value="crop",
            label="Region of the picture",
            info="Which part of a picture the models see, if it is not square. A model that sees less than 90 % of it "
            "says so.",
            elem_id="region",
        )
        self.timestep_range = gr.Textbox(
            label="Timestep range",
            info=f"{TIMESTEP_RANGE} Two numbers, such as 0.2 0.8.",
            placeholder="each model's default",
            max_lines=1,
            elem_id="timestep-range",
        )
        gr.HTML(render("parts.hint", sentence=LIMITS_OF_CAPTIONS))

    @property
    def as_scored(self) -> list[Component]:
        """The settings that an example of a stored run brings along: region and timestep range."""
        return [self.region, self.timestep_range]

    @property
    def opened(self) -> list[Any]:
        """The components that a URL fills."""
        return [*self.inputs, self.address]

    def _wire(self) -> None:
        spend = [self.timesteps, self.noises, self.adaptive, self.seed, *self.as_scored]
        self.inputs: list[Any] = [self.picture, *self.captions, *spend, *self.models]
        self.outputs = [
            self.message, self.answer, *self.evidence.outputs,
            self.suggestion_text, self.suggestion, self.suggested_model,
        ]  # fmt: skip
        run: dict[str, Any] = {
            "fn": self._score,
            "inputs": set(self.inputs),
            "outputs": self.outputs,
            "concurrency_limit": AT_ONCE,
            "concurrency_id": "score",
            "show_progress": "minimal",
            "show_progress_on": self.progress,
            "trigger_mode": "multiple",  # by default, a click is lost while an answer is pending
            **PRIVATE,
        }
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}
        describe: dict[str, Any] = {
            "fn": self._describe_models, "inputs": self.models, "outputs": self.model_states, **quick
        }  # fmt: skip
        chosen = self.strip.select(self._choose, None, [self.picture, *self.captions], trigger_mode="multiple", **quick)
        taken = self.suggestion.click(self._take_suggestion, [self.suggested_model, *self.models], self.models, **quick)
        pressed = gr.on([self.score.click, *(field.submit for field in (*self.captions, self.timestep_range))], **run)
        for scored in (chosen.then(**run), taken.then(**run), pressed):
            scored.then(None, js=script("show_answer"), **PRIVATE)
            scored.then(**describe)
        self.answer.change(None, js=script("mark_fresh"), **PRIVATE)
        spent, usual = [self.adaptive, self.noises], [usual_noises(False), usual_noises(True)]
        self.adaptive.input(None, spent, self.noises, js=script_with("noises_at_most", *usual), **PRIVATE)
        self.swap.click(None, self.captions, self.captions, js=script("swap"), **PRIVATE)
        gr.on([field.change for field in self.inputs], None, js=script("mark_stale"), **PRIVATE)
        edits = [self.swap.click, self.picture.clear, *(field.input for field in (*self.models, self.region))]
        gr.on(edits, None, js=script("note_edit"), **PRIVATE)
        self.picture.input(self._check_picture, self.picture, self.message, trigger_mode="always_last", **quick)
        self.evidence.drawing.wire(self.captions, self.models)
        self.changes.wire(self.inputs, lambda filled: self._ask(self._form(filled)))
        self.quota.wire(self.inputs, self._form)
        self.scene.wire(self.picture, self.captions, self.address_of.example_at)
        gr.on([self.settings.expand, *(model.change for model in self.models)], **describe)

    def wire_address(self) -> None:
        """The URL and what is true of a scene follow the form. Wired after what saves the form in the browser, which
        must not wait for it. One event for both: two that take the picture make Gradio report its changes for ever.
        """
        gr.on(
            [field.change for field in self.inputs], self._follow, set(self.inputs), [self.address, *self.scene.said],
            trigger_mode="always_last", queue=False, show_progress="hidden", **PRIVATE,
        ).then(None, js=script("score_live"), **PRIVATE)  # fmt: skip

    def open_address(self, query: Query) -> tuple[list[Any], Form] | None:
        """Values for `opened` from the page's URL, and the form; None if there is no question to open."""
        return self.address_of.open(query, len(self.models))

    def _follow(self, filled: dict[Component, Any]) -> list[str]:
        """The form's part of the page's URL, what is true of its scene, and other captions to try.

        A question of the visitor's own is about to be asked, so its models begin to load.
        """
        form = self._form(filled)
        example = self.address_of.example_at(form.image)
        models = [str(name) for name in form.models if name]
        is_quick = compare_models.are_mini(self.workbench, models)
        if not form.asks_about(example):
            self.workbench.load_ahead(models)
        return [self.address_of.html(form), *self.scene.say(example, form.texts, is_quick)]

    def _score(
        self, filled: dict[Component, Any], request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> Iterator[list[Any]]:
        yield from self._in_order(self._form(filled), request)

    def _form(self, filled: dict[Component, Any]) -> Form:
        return Form(
            image=filled[self.picture],
            captions=[filled[caption] for caption in self.captions],
            models=[filled[model] for model in self.models],
            timesteps=filled[self.timesteps],
            noises=filled[self.noises],
            adaptive=filled[self.adaptive],
            seed=filled[self.seed],
            region=filled[self.region],
            timestep_range=filled[self.timestep_range],
        )

    def _in_order(self, form: Form, request: gr.Request) -> Iterator[list[Any]]:
        """The views of an answer, with the request's number, until a later form of the same visitor is scored.

        If a later form was refused, this answer continues and the refusal stays on the page.
        """
        for view in compare_logic.score(self.workbench, self.examples, form, self.context):
            is_refused, is_last = not view.answer, not self.submitted.is_late(request)
            if not (is_last if is_refused else not self.scored.is_late(request)):
                yield [gr.skip()] * len(self.outputs)
                return
            named = f"{view.answer}{compare_html.asked_html(number_of(request))}" if view.answer else ""
            message, *rest = self._updates(replace(view, answer=named, remarks=(*form.remarks, *view.remarks)))
            yield [message if is_last else gr.skip(), *rest]

    def _find(self, image: Image) -> ShownExample | None:
        return self.address_of.recognise(image)

    def _ask(self, form: Form) -> compare_logic.Question:
        return compare_logic.ask(self.workbench, self.examples, form, self._find)

    def _updates(self, view: View) -> list[Any]:
        loss, difference = view.charts or (gr.skip(), gr.skip())
        suggestion = view.suggestion
        return [
            compare_html.message_html(view.message) + compare_html.remarks_html(view.remarks),
            view.answer or gr.skip(),
            gr.skip() if view.has_charts is None else gr.update(visible=view.has_charts),
            view.denoising or gr.skip(),
            loss,
            difference,
            gr.update(
                value=render("compare.suggestion", sentence=suggestion.sentence if suggestion else ""),
                visible=bool(suggestion and not suggestion.can_run),
            ),
            gr.update(value=suggestion.sentence if suggestion else "", visible=bool(suggestion and suggestion.can_run)),
            suggestion.card.name if suggestion else "",
        ]

    def _choose(self, event: gr.SelectData) -> tuple[str, str, str]:
        example = self.examples[event.index]
        return str(example.path), *example.captions

    def _take_suggestion(self, name: str, *models: str | None) -> list[str | None]:
        return compare_models.take_suggestion(self.workbench, models, name)

    def _check_picture(self, path: str | None) -> str:
        return compare_html.message_html(compare_logic.check_picture(path))

    def _describe_models(self, *models: str) -> str:
        return compare_models.models_html(self.workbench, models)


def _slider(knob: Knob, label: str, elem_id: str) -> gr.Slider:
    return gr.Slider(
        knob.low, knob.high, knob.default, step=1, label=label, info=knob.meaning, elem_id=elem_id, precision=0
    )
