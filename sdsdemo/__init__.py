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
    antithetic: bool = False,
) -> AnswersRecord:
    """Which caption each model prefers for one image: the dict that `python -m sdsdemo score --json` prints.

        sdsdemo.score("cat.png", ["a cat on a mat", "a mat on a cat"], models=["mini-clip", "mini-diffusion"])

    `models` are names of cards or specs; none means those that the settings show first. What is not given of the
    budget has the default of `sdsdemo.settings`, and the timestep range that of each model's card. `region` is what of
    the picture every model sees: the middle square (`crop`), all of it (`squash`, `pad`), or what each model's authors
    chose (`own`). `antithetic` draws noise in pairs, each draw with its opposite. A model that cannot answer has a
    `problem` in its entry.
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
    )
