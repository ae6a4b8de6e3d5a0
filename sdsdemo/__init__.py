"""CLIP, the denoising diffusion score and SDS-CLIP, side by side.

Importing this is quick: models and the libraries that run them load when they are first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdsdemo.evaluation.answers import AnswersRecord
    from sdsdemo.evaluation.result_schema import Result

__version__ = "0.1.0"


def score(
    image: str | Path | Image,
    captions: Sequence[str],
    models: Sequence[str] = (),
    *,
    timesteps: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
    timestep_range: tuple[float, float] | None = None,
    region: str = "crop",
    antithetic: bool | None = None,
    adaptive: bool = False,
) -> AnswersRecord:
    """Which caption each model prefers for one image: the dict that `python -m sdsdemo score --json` prints.

        sdsdemo.score("cat.png", ["a cat on a mat", "a mat on a cat"], models=["mini-clip", "mini-diffusion"])

    `models` are names of cards or specs; none means those that the settings show first. What is not given of the
    budget has the default of `sdsdemo.settings`, and the timestep range that of each model's card. `region` is what of
    the picture every model sees: the middle square (`crop`), all of it (`squash`, `pad`), or what each model's authors
    chose (`own`). `antithetic` draws noise in pairs, each draw with its opposite; by default so do four or more draws
    of an even number. `adaptive` stops as soon as the captions are told apart, with `noises` as the most. A model that
    cannot answer has a `problem` in its entry.

    Models stay loaded for the next call, as long as the environment variables stay; `forget_models` frees their memory,
    and makes the next call read changed files. Safe to call from several threads.
    Raises `UserError` for an image, captions, a model or a budget that must change.
    """
    from sdsdemo.cli.commands import ask

    return ask(
        image,
        captions,
        models,
        timesteps=timesteps,
        noises=noises,
        seed=seed,
        timestep_range=timestep_range,
        region=region,
        antithetic=antithetic,
        adaptive=adaptive,
    )


def score_many(
    questions: Sequence[tuple[str | Path | Image, Sequence[str]]],
    models: Sequence[str] = (),
    *,
    timesteps: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
    timestep_range: tuple[float, float] | None = None,
    region: str = "crop",
    antithetic: bool | None = None,
    adaptive: bool = False,
) -> list[AnswersRecord]:
    """The same for many pictures at once, each with its own captions: a dict for each, in order.

        sdsdemo.score_many([(path, ["a cat on a mat", "a mat on a cat"]) for path in paths], models=["mini-diffusion"])

    Pictures share calls of the models, and a caption that several of them share is encoded once; scores are those of
    `score` up to rounding.
    Raises `UserError` before anything is scored.
    """
    from sdsdemo.cli.commands import ask_many

    return ask_many(
        questions,
        models,
        timesteps=timesteps,
        noises=noises,
        seed=seed,
        timestep_range=timestep_range,
        region=region,
        antithetic=antithetic,
        adaptive=adaptive,
    )


def evaluate(
    benchmark: str,
    models: Sequence[str] = (),
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    timesteps: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
    timestep_range: tuple[float, float] | None = None,
    region: str = "crop",
    antithetic: bool | None = None,
    adaptive: bool = False,
    empty_prompt: bool = False,
    blind: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """A whole benchmark, scored: the dict that `python -m sdsdemo evaluate --json` prints.

        found = sdsdemo.evaluate("mini", ["mini-clip", "mini-diffusion"], out="runs/mine")
        found["models"]["mini-clip"]["text"]  # {"value": 0.37, "low": ..., "high": ..., "n": 400}

    `benchmark` is a name that `python -m sdsdemo benchmarks` lists, such as `mini`, or `folder:PATH`. `limit` scores
    only so many examples, an even share of each tag. With `out`, a folder, every score is stored at once, and the same
    call continues after a stop. `empty_prompt` also stores the losses of the empty prompt; `blind` adds the blind
    baseline of one-image sets for every model, not only CLIPs. `progress` is called with each line of progress, such as
    `print`. Models and the rest are as in `score`.

    Under `torchrun` or `accelerate launch` the processes share the examples, and each returns the whole result.
    Raises `UserError` for an unreadable benchmark, a model that cannot run here or on it, and another run's folder.
    """
    from sdsdemo.app import calls

    options: dict[str, Any] = {"region": region, "antithetic": antithetic, "empty_prompt": empty_prompt}
    spend = calls.spend_of(timesteps, noises, seed, timestep_range=timestep_range, adaptive=adaptive, **options)
    return calls.evaluate(
        benchmark, models, spend, limit=limit, out=out, blind=blind, progress=progress, remark=progress
    )


def finetune(
    out: str | Path,
    *,
    preset: str = "mini",
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Mapping[str, Any]:
    """Fine-tunes a CLIP into the folder `out`: the record that `python -m sdsdemo finetune --json` prints.

        record = sdsdemo.finetune("runs/try", preset="minute", steps=100, progress=print)
        record["state"], record["measured"]["sets"]
        sdsdemo.evaluate("mini", ["mini-clip", "sds-clip:runs/try/model.safetensors"])

    `settings` are those of `sdsdemo.finetuning.recipe.Recipe` by name, such as `objective`, `base`, `teacher`, `data`
    and `lam` (lambda); the rest is the preset's. `resume` continues the run in `out`, given its preset and settings
    again, or starts it. `progress` is called with each line of progress, such as `print`. Ctrl-C in the main thread
    stops the run and saves its weights: the record's `state` is then "stopped", else "finished".

    Under `torchrun` or `accelerate launch` the processes share each step, and only the main one returns the record,
    the others an empty one. For each step as it is made, see `sdsdemo.finetuning.run.finetune`.
    Raises `UserError` for a setting, a model or a folder that must change, and with the reason of a run that failed.
    """
    from sdsdemo.app import calls

    return calls.finetune(out, preset, settings, resume=resume, progress=progress)


def forget_models() -> None:
    """Frees the memory of the models that `score`, `score_many` and `evaluate` keep loaded."""
    from sdsdemo.app.kept import forget_models

    forget_models()
