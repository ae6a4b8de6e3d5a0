"""Everything that a fine-tuning run is asked for: each setting with its default and meaning, presets, the checks.

A recipe and the weights that it names give the same model again. Knows no tensor and no file.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from sdsdemo.captions.swap_rules import KINDS, MINI_SWAPS
from sdsdemo.errors import UserError, quoted
from sdsdemo.settings import FINETUNING

Name = Literal["clip", "sds", "negatives", "preference", "labels", "features"]
Towers = Literal["both", "image", "text"]
Trained = Literal["norms", "all"]
Reduction = Literal["mean", "sum"]
NAMES: tuple[Name, ...] = get_args(Name)
TOWERS: tuple[Towers, ...] = get_args(Towers)
WITH_TEACHER_IN_LOOP = ("sds", "features")
WITH_TWINS = ("negatives", "preference", "labels")
CONTROLS: dict[str, tuple[Name, ...]] = {
    "shuffled": ("sds",),
    "permuted": ("preference",),
    "unordered": ("preference",),
}
"""Settings that make a control of a run, with the objectives that they are a control of."""
MINI = "mini"
SOURCES = ("folder", "coco", "hub")
"""What stands before the colon of other data."""
CHOICES: dict[str, tuple[str, ...]] = {
    "objective": tuple(NAMES),
    "reduction": ("mean", "sum"),
    "h_w": ("fit", "default"),
    "trained": ("norms", "all"),
    "towers": tuple(TOWERS),
    "withheld_kind": ("", *KINDS),
}
OBJECTIVES = {
    "clip": "L_CLIP alone: the control at lambda = 0",
    "sds": "the paper's: L_CLIP + lambda L_SDS",
    "negatives": "swapped captions as hard negatives in L_CLIP",
    "preference": "the teacher's preference between a caption and its swap, scored once beforehand",
    "labels": "told which caption is true: a bound to compare with",
    "features": "L_CLIP + lambda x regression onto the denoiser's inner features",
}
"""Every objective in a few words."""


def _is(default: Any, meaning: str, heading: str = "") -> Any:
    """heading: of the settings from this one on."""
    return field(default=default, metadata={"meaning": meaning, "heading": heading})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run. `check` says whether it makes sense. Settings stand under headings, those most used first."""

    objective: Name = _is("sds", "What is minimised: " + ", ".join(NAMES) + ".", heading="the objective")
    lam: float = _is(1.0, "Lambda, the weight of the second term.")
    shuffled: bool = _is(False, "Control of sds: the teacher reads the captions of other images.")
    permuted: bool = _is(False, "Control of preference: the teacher's preferences are dealt to other images.")
    unordered: bool = _is(False, "Control of preference: as permuted, and which caption is preferred is drawn by lot.")
    base: str = _is("mini-clip", "CLIP to start from: a card or a spec.", heading="what is trained")
    trained: Trained = _is("norms", "norms: LayerNorms, as the paper; all: every parameter but the logit scale.")
    towers: Towers = _is("both", "Which towers are trained: both, image or text.")
    data: str = _is(MINI, "mini, folder:PATH, coco:PATH, or hub:ORG/NAME.", heading="the data")
    pool: int = _is(4_000, "Images to train on, again and again; of Mini they are drawn.")
    held_out: int = _is(500, "Images of your own data kept for before and after.")
    withheld_kind: str = _is("", "A kind of swap that is never trained: " + ", ".join(KINDS) + ".")
    replacements: bool = _is(
        True, "Of your own data: a caption without a swap of the same words may get one with another word in it."
    )
    withheld_words: str = _is("", "Captions with these words get no swap: a template that is never trained.")
    mislabelled: float = _is(0.0, "Share of swaps that change places with their caption: the false one is the label.")
    image_column: str = _is("image", "Column of the images, of a Hub data set.")
    caption_column: str = _is("", "Column of the captions, where it is not found by itself.")
    steps: int = _is(400, "Optimiser steps.", heading="the steps")
    batch: int = _is(32, "Images and captions a step.")
    learning_rate: float = _is(3e-3, "Highest learning rate; it rises over the warm-up and falls as a cosine.")
    warm_up: int = _is(40, "Steps over which the learning rate rises.")
    seed: int = _is(0, "Of the data's order, the noise and the maps.")
    micro_batch: int = _is(0, "Rows at once, where memory asks for fewer than the batch; 0: all. The step is the same.")
    weight_decay: float = _is(0.0, "Of AdamW.")
    clip_norm: float = _is(1.0, "The gradient's norm is cut to this.")
    ema: float = _is(0.0, "Decay of a moving average of the weights; 0: off.")
    wise_ft: float = _is(1.0, "Share of the way from the base's weights to the trained ones that is kept; 1: all.")
    teacher: str = _is(
        "mini-diffusion",
        "Diffusion model to learn from: a card or a spec.",
        heading="the teacher",
    )
    sharpness: float = _is(2.0, "How sure a teacher's usual preference is: p = sigmoid(sharpness x gap / median gap).")
    teacher_timesteps: int = _is(4, "Noise levels at which the teacher compares a caption with its swap.")
    teacher_noises: int = _is(1, "Noise draws a level for that.")
    reduction: Reduction = _is(
        "mean",
        "Of L_SDS over a latent's elements: mean, or sum, which is mean times their number.",
        heading="the teacher in every step",
    )
    jacobian: bool = _is(True, "Whether the gradient of L_SDS goes back through the whole denoiser.")
    timestep_low: float = _is(0.0, "Where in the schedule timesteps begin, from 0 to 1.")
    timestep_high: float = _is(1.0, "Where in the schedule timesteps end.")
    h_w: str = _is("fit", "How h_w starts: fit, by least squares to true latents, or default, at random.")
    h_w_unit: bool = _is(False, "Whether h_w's output is brought to unit variance a latent.")
    h_w_scale: float = _is(1.0, "What h_w's output is multiplied with.")
    fitted_on: int = _is(2_000, "Images that h_w is fitted on.")
    measure: str = _is(
        "",
        "Benchmark for before and after; empty: mini-validation for Mini, else held-out data.",
        heading="what is measured and kept",
    )
    measure_every: int = _is(0, "Steps between two looks at held-out accuracy; 0: five looks a run.")
    keep_every: int = _is(100, "Steps between two checkpoints; one is written every 10 s too, where that is quick.")

    def check(self) -> Recipe:
        """The recipe itself. Raises `UserError` naming the first setting that makes no sense, and its range."""
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                said = ", ".join(word or "nothing" for word in allowed)
                raise UserError(f"{called(name)} must be one of {said}; it was {quoted(getattr(self, name))}.")
        if self.is_mini and self.withheld_kind not in ("", *MINI_SWAPS):
            raise UserError(
                f"Mini has no swaps of the kind {self.withheld_kind}: --withheld-kind is one of "
                f"{', '.join(MINI_SWAPS)}."
            )
        for name, (low, high) in FINETUNING.ranges.items():
            _check_number(name, getattr(self, name), low, high)
        if not self.is_mini and self.data.partition(":")[0] not in SOURCES:
            raise UserError(f"--data must be mini, folder:PATH, coco:PATH or hub:ORG/NAME; it was {quoted(self.data)}.")
        if self.timestep_low >= self.timestep_high:
            raise UserError("--timestep-low must be below --timestep-high.")
        for name, objectives in CONTROLS.items():
            if getattr(self, name) and self.objective not in objectives:
                raise UserError(
                    f"{called(name)} is a control of {' and '.join(objectives)}, and does nothing to the objective "
                    f"{self.objective}: leave it out."
                )
        if self.micro_batch > self.batch:
            raise UserError(f"--micro-batch must be at most the batch, {self.batch}; it was {self.micro_batch}.")
        if self.objective in WITH_TWINS and self.batch < 2:
            raise UserError("--batch must be at least 2.")
        if self.uses_teacher and not self.teacher:
            raise UserError(f"The objective {self.objective} needs a teacher: name one with --teacher.")
        return self

    @property
    def teacher_in_loop(self) -> bool:
        """Whether the denoiser runs in every step."""
        return self.objective in WITH_TEACHER_IN_LOOP

    @property
    def uses_teacher(self) -> bool:
        """Whether a diffusion model is needed at all."""
        return self.teacher_in_loop or self.objective == "preference"

    @property
    def is_mini(self) -> bool:
        """Whether it trains on the Mini world."""
        return self.data == MINI

    def as_dict(self) -> dict[str, Any]:
        """Every setting by name."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}

    def command(self, out: str) -> str:
        """The equivalent command line."""
        words = ["python", "-m", "sdsdemo", "finetune"]
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value != setting.default:
                flag = called(setting.name)
                words += ([flag] if value else ["--no-" + flag[2:]]) if isinstance(value, bool) else [flag, str(value)]
        return shlex.join([*words, "--out", out])


PRESETS: dict[str, Recipe] = {
    "quick": Recipe(steps=40, batch=32, warm_up=10, pool=800, fitted_on=256, measure_every=10),
    "mini": Recipe(lam=10.0),
    "paper-vit-b-16": Recipe(
        base="clip-vit-b-16",
        teacher="sd-v1-4",
        data="coco:PATH",
        steps=3_700,
        batch=32,
        learning_rate=5e-5,
        warm_up=100,
        lam=0.001,
        reduction="sum",
        pool=0,
        keep_every=500,
    ),
}
PRESET_WORDS = {
    "quick": "a look, about a minute",
    "mini": "as Mini SDS-CLIP was made, minutes",
    "paper-vit-b-16": "the paper's settings as far as they are known; about 6 h on a GPU of 48 GB (recalled)",
}


def meaning(name: str) -> str:
    """What a setting means, in a sentence."""
    return next(setting.metadata["meaning"] for setting in fields(Recipe) if setting.name == name)


def headings() -> dict[str, list[Field[Any]]]:
    """The settings under each heading."""
    found: dict[str, list[Field[Any]]] = {}
    heading = ""
    for setting in fields(Recipe):
        heading = setting.metadata["heading"] or heading
        found.setdefault(heading, []).append(setting)
    return found


def made(preset: str, changes: Mapping[str, Any]) -> Recipe:
    """A preset with some settings changed, checked. Raises `UserError` for an unknown preset or a bad value."""
    if preset not in PRESETS:
        raise UserError(f"There is no preset called '{preset}'. There is: {', '.join(PRESETS)}.")
    return replace(PRESETS[preset], **changes).check()


def filled(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe from a record, with what was added since then as it is by default."""
    return Recipe().as_dict() | dict(stored)


def from_stored(stored: Mapping[str, Any]) -> Recipe:
    """The recipe of a record, checked. Raises `UserError` for an unknown setting, another type, or a bad value."""
    first = Recipe().as_dict()
    for name, value in filled(stored).items():
        wanted = (int, float) if isinstance(first.get(name), float) else type(first.get(name))
        if name not in first or not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
            raise UserError(f"The stored recipe has no setting {called(name)} with the value {str(value)[:40]!r}.")
    return Recipe(**filled(stored)).check()


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise UserError(f"{called(name)} must be a number from {low:g} to {high:g}; it was {quoted(value)}.")
    if not low <= value <= high:
        raise UserError(f"{called(name)} must be from {low:g} to {high:g}; it was {quoted(value)}.")


def called(name: str) -> str:
    """A setting as the command line calls it."""
    return "--" + ("lambda" if name == "lam" else name.replace("_", "-"))
