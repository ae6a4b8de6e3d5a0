"""What a CLIP of real size costs on this machine: pictures and captions a second, and a fine-tuning step.

images, captions   as a benchmark is encoded: `PICTURES` picture files, `CAPTIONS` captions
... floor          the bare tower on ready tensors, as many at once
step               of `BATCH` pairs of Mini's world at the CLIP's own resolution: L_CLIP, by what is trained

over_floor_NAME_images = images / its floor      over_floor_NAME_captions alike
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sdsdemo.cli.bench import MEGABYTE, Question, peaks_mb, ratio, stepper, summary, timed
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.device_clock import Clock
from sdsdemo.models.images import open_image
from sdsdemo.models.precision import exactly

PICTURES, CAPTIONS, BATCH = 4, 16, 4
RECIPE = Recipe(objective="clip", batch=BATCH, steps=1_000, pool=64)
TRAINED = {"norms": replace(RECIPE, trained="norms"), "all": replace(RECIPE, trained="all")}


def measured_clip(
    scorer: ClipScorer, question: Question, short: str, repeats: int, progress: Callable[[str], None], clock: Clock
) -> dict[str, Any]:
    """What is measured of a CLIP: encoding, then steps, since peak memory only grows."""
    seconds = timed(_paths(scorer, question), repeats, progress, clock)
    memory = {"weights_mb": _weights_mb(scorer), **peaks_mb("after_scoring", scorer.model.device)}
    recipes = {name: replace(recipe, base=scorer.card.spec) for name, recipe in TRAINED.items()}
    steppers = {f"L_CLIP, {name}, batch {BATCH}": stepper(recipe) for name, recipe in recipes.items()}
    steps = timed(steppers, repeats, lambda line: progress(f"fine-tuning steps, {line}"), clock)
    counts = {"images": PICTURES, "captions": CAPTIONS}
    return {
        "ratios": {f"over_floor_{short}_{what}": ratio(seconds[what], seconds[f"{what}, floor"]) for what in counts},
        "a_second": {what: summary([count / value for value in seconds[what]]) for what, count in counts.items()},
        "seconds": {path: summary(values) for path, values in seconds.items()},
        "step_seconds": {step: summary(values) for step, values in steps.items()},
        "memory": memory | peaks_mb("after_training", scorer.model.device),
        "pixels": max(scorer.model.image_size),
        "precision": "float32",
    }


def clip_as_text(result: Mapping[str, Any]) -> list[str]:
    """The rates for people."""
    return [
        f"{what + ' a second':34} {found['median']:8.2f}     ({found['low']:.2f} to {found['high']:.2f})"
        for what, found in result["a_second"].items()
    ]


def _paths(scorer: ClipScorer, question: Question) -> dict[str, Callable[[], object]]:
    """The ordinary encoding and the bare towers, without gradients."""
    model = scorer.model
    captions = [f"{question.captions[0]} {k}" for k in range(CAPTIONS)]
    image, id_CL = open_image(question.path), model.tokenize(captions).to(model.device)
    input_I = model.prepare(image, "crop").expand(PICTURES, -1, -1, -1).contiguous().to(model.device)

    def exact(act: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with exactly(model.device):
                return act()

        return run

    return {
        "images": exact(lambda: model.encode_images([open_image(question.path) for _ in range(PICTURES)], "crop")),
        "images, floor": exact(lambda: model.module.encode_image(input_I)),
        "captions": exact(lambda: model.encode_texts(captions)),
        "captions, floor": exact(lambda: model.module.encode_text(id_CL)),
    }


def _weights_mb(scorer: ClipScorer) -> float:
    held = sum(int(weight.nbytes) for weight in scorer.model.module.parameters())
    return round(held / MEGABYTE, 1)
