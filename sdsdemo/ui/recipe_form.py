"""The form of the Fine-tune tab: a preset, a recipe's settings as components, and the recipe made from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gradio as gr

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.number_format import duration, points_words
from sdsdemo.errors import UserError, quoted
from sdsdemo.finetuning.objective_race import read_race
from sdsdemo.finetuning.objective_words import OBJECTIVE_MEANINGS, OBJECTIVE_NAMES
from sdsdemo.finetuning.recipe import (
    CHOICES,
    NAMES,
    PRESET_WORDS,
    PRESETS,
    WITH_TEACHER_IN_LOOP,
    Recipe,
    cli_flag,
    meaning,
)
from sdsdemo.types import Card
from sdsdemo.ui import recipe_address
from sdsdemo.ui.address import Query
from sdsdemo.ui.templates import render, script

ENDS: tuple[Literal["value", "low", "high"], ...] = ("value", "low", "high")
FIRST = "minute"
"""The preset selected when the page opens."""
FAMILY_OF = {"base": "clip", "teacher": "diffusion"}
"""By setting, the family of the cards to choose from."""
PLAIN = ("objective", "base", "teacher", "data")
ADVANCED = (
    (
        "Schedule", "ft-course",
        ("steps", "batch", "lam", "learning_rate", "warm_up", "weight_decay", "ema", "wise_ft", "micro_batch", "seed"),
    ),
    (
        "Weights and data", "ft-trained-on",
        ("trained", "towers", "pool", "withheld_kind", "withheld_words", "mislabelled", "replacements",
         "measure_every"),
    ),
    (
        "The teacher in every step", "ft-in-loop",
        ("reduction", "timestep_low", "timestep_high", "h_w", "h_w_scale", "fitted_on", "jacobian", "h_w_unit",
         "shuffled"),
    ),
    (
        "The teacher's preference", "ft-asked",
        ("teacher_timesteps", "teacher_noises", "sharpness", "permuted", "unordered"),
    ),
)  # fmt: skip
NEEDED_BY: dict[str, tuple[str, ...]] = {
    "lam": tuple(name for name in NAMES if name not in ("clip", "negatives")),
    **{name: WITH_TEACHER_IN_LOOP for _, group, names in ADVANCED if group == "ft-in-loop" for name in names},
    **{name: ("preference",) for _, group, names in ADVANCED if group == "ft-asked" for name in names},
}
"""Settings that not every objective uses, with those that do. A hidden setting is ignored."""
LABELS = {
    "base": "Base CLIP", "teacher": "Teacher", "objective": "Objective", "data": "Data",
    "steps": "Steps", "batch": "Batch size", "learning_rate": "Learning rate", "warm_up": "Warm-up steps",
    "weight_decay": "Weight decay", "ema": "EMA decay", "wise_ft": "WiSE-FT weight", "micro_batch": "Micro-batch",
    "seed": "Seed",
    "trained": "Trained weights", "towers": "Towers", "pool": "Training images", "withheld_kind": "Withheld swap",
    "withheld_words": "Withheld template", "mislabelled": "Mislabelled share",
    "replacements": "Allow replacements",
    "measure_every": "Steps between evaluations", "lam": "Lambda",
    "reduction": "L_SDS reduction", "timestep_low": "Timesteps from", "timestep_high": "Timesteps to",
    "h_w": "h_w starts", "h_w_scale": "h_w scale", "fitted_on": "h_w fitted on",
    "jacobian": "Backprop through denoiser", "h_w_unit": "h_w unit variance", "shuffled": "Control: shuffled captions",
    "teacher_timesteps": "Timesteps", "teacher_noises": "Noise draws", "sharpness": "Sharpness",
    "permuted": "Control: shuffled preferences", "unordered": "Control: shuffled, random sign",
}  # fmt: skip
OUR_FAULT = "Something went wrong on our side; the server's log has the details. Your settings are safe."


def in_page_words(sentence: str) -> str:
    """A sentence about a recipe, with command-line flags replaced by the names of the page's fields."""
    flags = {cli_flag(name): f"“{label}”" for name, label in LABELS.items()}
    flags |= {flag.replace("--", "--no-"): label for flag, label in flags.items()}
    return re.sub(r"--[a-z][a-z-]*", lambda found: flags.get(found[0], found[0]), sentence)


class RecipeForm:
    """The components of a recipe, by setting."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench, first = workbench, PRESETS[FIRST]
        self.presets = [name for name in PRESET_WORDS if not name.startswith("paper")]
        self.preset = gr.Dropdown(
            [(f"{name}: {PRESET_WORDS[name]}", name) for name in self.presets],
            value=FIRST, label="Preset", elem_id="ft-preset",
        )  # fmt: skip
        gr.HTML(why_html(), elem_id="ft-why")
        self.fields: dict[str, Any] = {}
        for name in PLAIN:
            self.fields[name] = self._field(name, first)
        with gr.Accordion("Advanced", open=False, elem_id="ft-advanced"):
            for title, group, names in ADVANCED:
                with gr.Column(elem_id=group, elem_classes=["ft-group"]):
                    gr.HTML(render("parts.subheading", words=title))
                    with gr.Row(elem_classes=["ft-fields"]):
                        for name in names:
                            self.fields[name] = self._field(name, first)

    @property
    def components(self) -> list[Any]:
        """The components, in the order of the values that `recipe` takes."""
        return list(self.fields.values())

    @property
    def bases(self) -> dict[str, list[str]]:
        """The cards that may be the base and the teacher."""
        return {name: [card.name for card in self._cards(name)] for name in FAMILY_OF}

    def _cards(self, name: str) -> list[Card]:
        """Those that may be the base, or the teacher."""
        return [card for card in self._workbench.cards() if card.family == FAMILY_OF[name]]

    def wire(self, loaded: Any, opened: Any) -> None:
        """loaded, opened: the events of the page and of the tab."""
        objective = self.fields["objective"]
        for event in (loaded, opened, objective.change):
            event(None, objective, None, js=script("mark_objective"), api_visibility="private")
        self.preset.input(
            self._take_preset, self.preset, self.components,
            queue=False, show_progress="hidden", api_visibility="private", trigger_mode="always_last",
        )  # fmt: skip

    def recipe(self, values: Sequence[Any]) -> Recipe:
        """The recipe in the form; settings that its objective does not use get their defaults.

        Raises `UserError` for a field that is empty or of the wrong kind.
        """
        form = dict(zip(self.fields, values, strict=True))
        default = Recipe()
        unused = [name for name, objectives in NEEDED_BY.items() if form["objective"] not in objectives]
        return recipe_of(form | {name: getattr(default, name) for name in unused})

    def open_address(self, query: Query) -> tuple[str, list[Any]]:
        """The preset that a URL names, and the values of `components`."""
        preset, values = recipe_address.read(query, self.presets, self.bases, self.fields)
        return preset, [values[name] for name in self.fields]

    def address_html(self, preset: str, *values: Any) -> str:
        """The form's part of the page's URL."""
        query = recipe_address.write(preset, dict(zip(self.fields, values, strict=True)), FIRST)
        return render("parts.address", query=query)

    def _take_preset(self, name: str) -> list[Any]:
        recipe = PRESETS.get(name, PRESETS[FIRST])
        return [getattr(recipe, field) for field in self.fields]

    def _field(self, name: str, first: Recipe) -> Any:
        """The component of a setting; its choices come from the recipe."""
        value = getattr(first, name)
        common: dict[str, Any] = {"label": LABELS[name], "info": meaning(name), "elem_id": f"ft-{name}"}
        wide: dict[str, Any] = {**common, "min_width": 150}
        if name == "objective":
            choices = [(f"{words}. {OBJECTIVE_MEANINGS[key]}", key) for key, words in OBJECTIVE_NAMES.items()]
            return gr.Radio(choices, value=value, label=LABELS[name], elem_id="ft-objective")
        if name in FAMILY_OF:
            cards = [(card.title, card.name) for card in self._cards(name)]
            own = self._workbench.settings.allow_specs
            return gr.Dropdown(cards, value=value, label=LABELS[name], allow_custom_value=own, elem_id=f"ft-{name}")
        if name == "data":
            return gr.Textbox(value, **common, max_length=300, visible=self._workbench.settings.allow_specs)
        if isinstance(value, bool):
            own = name != "replacements" or self._workbench.settings.allow_specs  # only for the user's own data
            return gr.Checkbox(value, **wide, visible=own)
        if name in CHOICES:
            return gr.Dropdown([(choice or "none", choice) for choice in CHOICES[name]], value=value, **wide)
        if isinstance(value, str):
            return gr.Textbox(value, **wide, max_length=100)
        return gr.Number(value, **wide, precision=0 if isinstance(value, int) else None)


def why_html() -> str:
    """Why the page opens with this recipe: what it changed on the validation set, in the runs that are stored."""
    try:
        starts = read_race().starts
    except UserError:
        return ""
    changes = [points_words({end: start[end] for end in ENDS}) for start in starts]
    seconds = max((start["core_seconds"] for start in starts), default=0.0)
    return (
        render("finetune.why", changes=changes, n=starts[0]["n"], time=duration(seconds), preset=FIRST)
        if starts
        else ""
    )


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """A recipe from a form's values. Raises `UserError` for a field that is empty or of the wrong kind."""
    found: dict[str, Any] = {}
    first = Recipe()
    for name, value in values.items():
        default = getattr(first, name)
        if value is None:
            raise UserError(f"{LABELS[name]} is empty: give it a value, or choose a preset again.")
        if isinstance(default, int) and not isinstance(default, bool):
            if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
                raise UserError(f"{LABELS[name]} must be a whole number; it was {quoted(value)}.")
            value = int(value)
        found[name] = value.strip() if isinstance(value, str) else value
    return Recipe(**found).check()
