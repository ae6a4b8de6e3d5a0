"""A fine-tuning run's settings, each with its default and meaning; presets; the checks.

A recipe and the weights it names reproduce the model. Knows no tensor and no file.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from sdsdemo.captions.swap_rules import KINDS, MINI_SWAPS
from sdsdemo.core.number_format import limit
from sdsdemo.errors import UserError, quoted
from sdsdemo.settings import LEAST_HELD_OUT

Name = Literal["clip", "sds", "negatives", "preference", "labels", "features"]
Towers = Literal["both", "image", "text"]
Trained = Literal["norms", "all"]
Reduction = Literal["mean", "sum"]
Read = Literal["embedding", "patches"]
NAMES: tuple[Name, ...] = get_args(Name)
TOWERS: tuple[Towers, ...] = get_args(Towers)
WITH_TEACHER_IN_LOOP = ("sds", "features")
WITH_TWINS = ("negatives", "preference", "labels")
CONTROLS: dict[str, tuple[Name, ...]] = {
    "shuffled": ("sds",),
    "permuted": ("preference",),
    "unordered": ("preference",),
}
"""Settings that turn a run into a control, with the objectives they apply to."""
STUDIED: dict[str, tuple[Name, ...]] = {
    **dict.fromkeys(("h_w_from", "error_weight", "contrast_weight", "contrast_scale", "latent_weight"), ("sds",)),
    "negative_weight": ("negatives",),
    "teacher_right": ("preference",),
}
"""Settings only for the Mini studies, with the objectives they apply to: the command line takes them, unlisted."""
MINI = "mini"
SOURCES = ("folder", "coco", "hub")
"""Allowed prefixes before the colon in `data`."""
CHOICES: dict[str, tuple[str, ...]] = {
    "objective": tuple(NAMES),
    "reduction": ("mean", "sum"),
    "h_w": ("fit", "frozen", "default"),
    "h_w_from": ("embedding", "patches"),
    "trained": ("norms", "all"),
    "towers": tuple(TOWERS),
    "withheld_kind": ("", *KINDS),
}
OBJECTIVES = {
    "clip": "L_CLIP alone: the control at lambda = 0",
    "sds": "the paper's: L_CLIP + lambda L_SDS",
    "negatives": "swapped captions as hard negatives in L_CLIP",
    "preference": "the teacher's preference between a caption and its swap, scored once beforehand",
    "labels": "trained on which caption is true: no teacher, for comparison",
    "features": "L_CLIP + lambda x regression onto the denoiser's intermediate features",
}
"""Each objective in a few words."""
RANGES: Mapping[str, tuple[float, float]] = {
    "steps": (0, 1_000_000),
    "batch": (2, 65_536),
    "micro_batch": (0, 65_536),
    "learning_rate": (1e-8, 1.0),
    "warm_up": (0, 100_000),
    "weight_decay": (0.0, 10.0),
    "clip_norm": (1e-6, 1e6),
    "ema": (0.0, 0.99999),
    "wise_ft": (0.0, 1.0),
    "lam": (0.0, 1e6),
    "timestep_low": (0.0, 1.0),
    "timestep_high": (0.0, 1.0),
    "h_w_scale": (1e-6, 1e6),
    "fitted_on": (2, 1_000_000),
    "pool": (0, 10_000_000),
    "teacher_timesteps": (1, 64),
    "teacher_noises": (1, 16),
    "sharpness": (1e-3, 1e3),
    "seed": (0, 2**31 - 1),
    "measure_every": (0, 1_000_000),
    "keep_every": (1, 1_000_000),
    "held_out": (LEAST_HELD_OUT, 100_000),
    "mislabelled": (0.0, 1.0),
    "error_weight": (0.0, 1e6),
    "contrast_weight": (0.0, 1e6),
    "contrast_scale": (1e-3, 1e6),
    "latent_weight": (0.0, 1e6),
    "negative_weight": (1e-3, 1e6),
    "teacher_right": (0.0, 1.0),
}
"""Lowest and highest value of each number in a recipe."""


def setting(default: Any, meaning: str, heading: str = "") -> Any:
    """A dataclass field of `Recipe`. heading: opens a new group of settings with this one."""
    return field(default=default, metadata={"meaning": meaning, "heading": heading})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one run, grouped under headings, most used first. `check` validates them."""

    objective: Name = setting("sds", "What is minimised: " + ", ".join(NAMES) + ".", heading="the objective")
    lam: float = setting(1.0, "Lambda, the weight of the second term.")
    shuffled: bool = setting(False, "Control of sds: the captions and true latents it reads are those of other images.")
    permuted: bool = setting(False, "Control of preference: the teacher's preferences are shuffled across pairs.")
    unordered: bool = setting(False, "Control of preference: as --permuted, and with a random sign.")
    negative_weight: float = setting(1.0, "For negatives: how many captions each swap counts as.")
    base: str = setting("mini-clip", "CLIP model to start from: a card or a spec.", heading="what is trained")
    trained: Trained = setting("norms", "norms: LayerNorms, as in the paper; all: every parameter but the logit scale.")
    towers: Towers = setting("both", "Towers to train: both, image or text.")
    data: str = setting(MINI, "mini, folder:PATH, coco:PATH, or hub:ORG/NAME.", heading="the data")
    pool: int = setting(4_000, "Images to train on, reused every epoch; for Mini they are generated. 0: all.")
    held_out: int = setting(500, "Images of your own data held out to evaluate before and after training.")
    withheld_kind: str = setting("", "A kind of swap never to train on: " + ", ".join(KINDS) + ".")
    replacements: bool = setting(
        True, "For your own data: allow a swap with a new word if the caption's own words allow none."
    )
    withheld_words: str = setting("", "Captions with these words get no swap: a template never to train on.")
    mislabelled: float = setting(
        0.0, "Share of captions that are replaced by their swaps, so that the false one is the label."
    )
    image_column: str = setting("image", "Image column of a Hub data set.")
    caption_column: str = setting("", "Caption column, if it is not found automatically.")
    steps: int = setting(400, "Optimiser steps.", heading="the steps")
    batch: int = setting(32, "Image-caption pairs per step.")
    learning_rate: float = setting(3e-3, "Peak learning rate: linear warm-up, then cosine decay.")
    warm_up: int = setting(40, "Steps of learning-rate warm-up.")
    seed: int = setting(0, "Random seed for the data order, the noise and h_w.")
    micro_batch: int = setting(
        0, "Rows processed at once, to save memory; 0: the whole batch. The step stays the same."
    )
    weight_decay: float = setting(0.0, "Weight decay of AdamW, except of gains and biases, as in CLIP.")
    clip_norm: float = setting(1.0, "Gradient norm to clip to.")
    ema: float = setting(0.0, "Decay of an exponential moving average of the weights; 0: off.")
    wise_ft: float = setting(
        1.0, "WiSE-FT: weight of the trained model when interpolating with the base; 1: only the trained one."
    )
    teacher: str = setting(
        "mini-diffusion",
        "Diffusion model to distil from; for preference, a CLIP too: a card or a spec.",
        heading="the teacher",
    )
    sharpness: float = setting(2.0, "Scale of the teacher's preferences: p = sigmoid(sharpness x gap / median gap).")
    teacher_timesteps: int = setting(4, "Timesteps at which the teacher compares a caption with its swap.")
    teacher_noises: int = setting(1, "Noise draws per timestep for that comparison, none of them in pairs.")
    teacher_right: float = setting(
        0.0, "Reverse random answers until the teacher is right about this share of swaps; 0: leave all as they are."
    )
    reduction: Reduction = setting(
        "mean",
        "How L_SDS is reduced over a latent's elements: mean or sum.",
        heading="the teacher in every step",
    )
    jacobian: bool = setting(True, "Backpropagate L_SDS through the whole denoiser.")
    timestep_low: float = setting(0.0, "Lower end of the timestep range, as a share of the schedule.")
    timestep_high: float = setting(1.0, "Upper end of the timestep range.")
    h_w: str = setting(
        "fit",
        "How h_w is initialised: fit (least squares onto true latents), frozen (fit, and never trained) or default "
        "(random).",
    )
    h_w_unit: bool = setting(False, "Normalise h_w's output to unit variance per latent.")
    h_w_scale: float = setting(1.0, "Factor on h_w's output, which a fit makes up for.")
    fitted_on: int = setting(2_000, "Images to fit h_w on.")
    h_w_from: Read = setting("embedding", "What h_w reads: the image embedding, or each patch token for its place.")
    error_weight: float = setting(1.0, "Within L_SDS, the weight of the denoising error with the image's caption.")
    contrast_weight: float = setting(0.0, "Within L_SDS, the weight of that error against the one with its swap.")
    contrast_scale: float = setting(100.0, "How sharply they are compared: softplus(scale x difference) / scale.")
    latent_weight: float = setting(0.0, "Within L_SDS, the weight of h_w's squared distance from the true latent.")
    measure: str = setting(
        "",
        "Benchmark to evaluate before and after; empty: mini-validation for Mini, otherwise the held-out data.",
        heading="evaluation and checkpoints",
    )
    measure_every: int = setting(0, "Steps between evaluations on held-out data; 0: five evaluations per run.")
    keep_every: int = setting(100, "Steps between checkpoints; if saving is quick, one is also written every 10 s.")

    def check(self) -> Recipe:
        """The recipe itself. Raises `UserError` naming the first invalid setting and its range."""
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                said = ", ".join(word or "nothing" for word in allowed)
                raise UserError(f"{cli_flag(name)} must be one of {said}; it was {quoted(getattr(self, name))}.")
        if self.is_mini and self.withheld_kind not in ("", *MINI_SWAPS):
            raise UserError(
                f"Mini has no swaps of the kind {self.withheld_kind}: --withheld-kind is one of "
                f"{', '.join(MINI_SWAPS)}."
            )
        for name, (low, high) in RANGES.items():
            _check_number(name, getattr(self, name), low, high)
        if not self.is_mini and self.data.partition(":")[0] not in SOURCES:
            raise UserError(f"--data must be mini, folder:PATH, coco:PATH or hub:ORG/NAME; it was {quoted(self.data)}.")
        if self.timestep_low >= self.timestep_high:
            raise UserError("--timestep-low must be below --timestep-high.")
        self._check_objective()
        if self.micro_batch > self.batch:
            raise UserError(f"--micro-batch must be at most the batch, {self.batch}; it was {self.micro_batch}.")
        if self.uses_teacher and not self.teacher:
            raise UserError(f"The objective {self.objective} needs a teacher: name one with --teacher.")
        return self

    def _check_objective(self) -> None:
        """Raises `UserError` for settings without effect on the objective, or that contradict one another."""
        for name, objectives in (CONTROLS | STUDIED).items():
            if getattr(self, name) != getattr(_DEFAULT, name) and self.objective not in objectives:
                what = "control" if name in CONTROLS else "setting"
                raise UserError(
                    f"{cli_flag(name)} is a {what} of {' and '.join(objectives)} and has no effect on the objective "
                    f"{self.objective}: leave it out."
                )
        if not (self.error_weight or self.contrast_weight or self.latent_weight):
            raise UserError("L_SDS has no term left: raise --error-weight, --contrast-weight or --latent-weight.")
        if self.teacher_in_loop and self.towers == "text":
            raise UserError(
                f"The objective {self.objective} teaches the image tower alone, which --towers text never trains: use "
                "--towers both or image, or another objective."
            )
        if self.teacher_right and (self.permuted or self.unordered):
            raise UserError("--teacher-right has no effect on preferences that are shuffled: leave one of them out.")

    @property
    def contrasts_swaps(self) -> bool:
        """Whether L_SDS reads the swaps too."""
        return self.objective == "sds" and self.contrast_weight > 0

    @property
    def needs_latents(self) -> bool:
        """Whether a step regresses on, or noises, the true latents."""
        return self.objective == "features" or (self.objective == "sds" and self.latent_weight > 0)

    @property
    def teacher_in_loop(self) -> bool:
        """Whether the denoiser runs in every step."""
        return self.objective in WITH_TEACHER_IN_LOOP

    @property
    def uses_teacher(self) -> bool:
        """Whether the run needs a diffusion model."""
        return self.teacher_in_loop or self.objective == "preference"

    @property
    def is_mini(self) -> bool:
        """Whether the run trains on the Mini world."""
        return self.data == MINI

    def as_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def command(self, out: str) -> str:
        """The equivalent command line, which starts from the command's own preset."""
        words = ["python", "-m", "sdsdemo", "finetune"]
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value != getattr(PRESETS[USUAL_PRESET], entry.name):
                flag = cli_flag(entry.name)
                words += ([flag] if value else ["--no-" + flag[2:]]) if isinstance(value, bool) else [flag, str(value)]
        return shlex.join([*words, "--out", out])


_DEFAULT = Recipe()
USUAL_PRESET = "mini"
"""The preset of the command line if it names none."""
PRESETS: dict[str, Recipe] = {
    "minute": Recipe(
        objective="preference",
        lam=3.0,
        sharpness=4.0,
        trained="all",
        learning_rate=3e-4,
        steps=200,
        warm_up=20,
        pool=2_400,
        measure_every=25,
    ),
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
    "minute": "a change that can be seen, in about a minute",
    "quick": "a first look at the paper's objective, half a minute",
    "mini": "the settings of Mini SDS-CLIP, a few minutes",
    "paper-vit-b-16": "the paper's settings as far as they are known; about 6 h on a 48 GB GPU (from memory)",
}


def meaning(name: str) -> str:
    """A setting's one-sentence meaning."""
    says: str = next(entry.metadata["meaning"] for entry in fields(Recipe) if entry.name == name)
    return says


def headings() -> dict[str, list[Field[Any]]]:
    """The settings grouped by heading, in order; those of `STUDIED` too."""
    found: dict[str, list[Field[Any]]] = {}
    heading = ""
    for entry in fields(Recipe):
        heading = entry.metadata["heading"] or heading
        found.setdefault(heading, []).append(entry)
    return found


def from_preset(preset: str, changes: Mapping[str, Any]) -> Recipe:
    """A preset with some settings changed, validated. Raises `UserError` for an unknown preset or a bad value."""
    if preset not in PRESETS:
        raise UserError(f"There is no preset '{preset}'. Choose from {', '.join(PRESETS)}.")
    return replace(PRESETS[preset], **changes).check()


def with_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored recipe, with the defaults of settings added since."""
    return Recipe().as_dict() | dict(stored)


def from_stored(stored: Mapping[str, Any]) -> Recipe:
    """A stored recipe, validated. Raises `UserError` for an unknown setting, a wrong type or a bad value."""
    first = Recipe().as_dict()
    for name, value in with_defaults(stored).items():
        wanted = (int, float) if isinstance(first.get(name), float) else type(first.get(name))
        if name not in first or not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
            raise UserError(f"The stored recipe has no setting {cli_flag(name)} with the value {str(value)[:40]!r}.")
    return Recipe(**with_defaults(stored)).check()


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if not is_number or not low <= value <= high:
        kind = "" if is_number else "a number "
        raise UserError(f"{cli_flag(name)} must be {kind}from {limit(low)} to {limit(high)}; it was {quoted(value)}.")


def cli_flag(name: str) -> str:
    """A setting's flag on the command line."""
    return "--" + ("lambda" if name == "lam" else name.replace("_", "-"))
