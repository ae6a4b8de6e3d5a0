"""A student with a teacher of two numbers a caption, and batches that are drawn at random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.finetuning.objectives import Batch, Objective, ObjectiveConfig
from sdsdemo.finetuning.student import Student
from sdsdemo.mini.models import clip as clips
from sdsdemo.mini.models import tokenizer

LATENT = (4, 2, 2)
SIZE = 6
WHOLE = slice(0, SIZE)
INNER = 5


class TinyTeacher:
    """A frozen denoiser of two numbers a caption: enough for gradients to flow through."""

    latent_shape = LATENT
    schedule = NoiseSchedule(prediction="epsilon", alpha_bar=torch.linspace(0.99, 0.01, 50))

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        return noisy_B.tanh() * condition_B[:, 0, None, None, None] + condition_B[:, 1, None, None, None]

    def inner_features(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        return noisy_B.flatten(1)[:, :INNER] * condition_B[:, :1]


class Drawn:
    """Random rows, the same for the same step however they are cut."""

    size = SIZE

    def rows(self, step: int, rows: slice) -> Batch:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(3, 40, (2, SIZE, 20), generator=generator)
        tokens[..., -1] = len(tokenizer.VOCABULARY) - 1
        pixels_B = torch.randn(SIZE, 3, 64, 64, generator=generator)
        preference_B = torch.rand(SIZE, generator=generator)
        preference_B[1] = float("nan")
        return Batch(
            pixels_R=pixels_B[rows],
            token_RL=tokens[0, rows],
            twin_token_RL=tokens[1, rows],
            condition_R=torch.randn(SIZE, 2, generator=generator)[rows],
            latent_R=torch.randn(SIZE, *LATENT, generator=generator)[rows],
            preference_R=preference_B[rows],
        )


class First(Drawn):
    """The rows of step 0 at every step."""

    def rows(self, step: int, rows: slice) -> Batch:
        return super().rows(0, rows)


def student(**options: Any) -> Student:
    torch.manual_seed(0)
    return Student(clips.fresh(), LATENT, inner_width=INNER, **options)


def objective(model: Student, name: Any = "sds", batches: Any = None, **options: Any) -> Objective:
    own = {key: options.pop(key) for key in ("parts", "seed") if key in options}
    return Objective(model, batches or Drawn(), ObjectiveConfig(name=name, **options), teacher=TinyTeacher(), **own)


def only(aim: Objective, step: int = 0) -> Any:
    (losses,) = list(aim(step))
    return losses
