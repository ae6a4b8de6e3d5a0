"""One question asked from Python or from the command line. Knows no page; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from sdsdemo.models.images import open_image
from sdsdemo.results import answers_as_dict
from sdsdemo.settings import NOISES, SEED, TIMESTEPS, budget
from sdsdemo.workbench import Workbench


def ask(
    image: str | Path | Image,
    captions: Sequence[str],
    models: Sequence[str] = (),
    *,
    timesteps: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """The dict of `score --json`. Raises `UserError` for an image, captions, a model or a budget that must change."""
    spend = budget(
        TIMESTEPS.default if timesteps is None else timesteps,
        NOISES.default if noises is None else noises,
        SEED.default if seed is None else seed,
    )
    picture, name = (image, "picture") if isinstance(image, Image) else (open_image(Path(image)), Path(image).name)
    workbench = Workbench()
    answers = list(workbench.compare(picture, captions, tuple(models) or workbench.settings.models, spend))
    return answers_as_dict(name, captions, answers)
