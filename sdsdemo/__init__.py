"""CLIP, the denoising diffusion score and SDS-CLIP, side by side.

Importing this is quick: models and the libraries that run them load when they are first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdsdemo.evaluation.answers import AnswersRecord

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


def forget_models() -> None:
    """Frees the memory of the models that `score` and `score_many` keep loaded."""
    from sdsdemo.app.kept import forget_models

    forget_models()
