"""The gradient of L_SDS in double precision: finite differences, and the one derived by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sdsdemo.core.noising import NoiseSchedule, add_noise
from sdsdemo.finetuning.objectives import Batch, Objective, ObjectiveConfig
from sdsdemo.finetuning.sds_controls import sds_gradient
from sdsdemo.finetuning.student import Student
from sdsdemo.mini.models import clip as clips
from tests.finetuning.tiny_teacher import LATENT, SIZE, WHOLE, Drawn, TinyTeacher, student


def double() -> Student:
    return student().double()


class Doubled(Drawn):
    def rows(self, step: int, rows: slice) -> Batch:
        found = super().rows(step, rows)
        return Batch(pixels_R=found.pixels_R.double(), token_RL=found.token_RL, condition_R=found.condition_R.double())


class DoubleObjective(Objective):
    """Noise in double precision, and an error that nothing rounds to single precision on the way."""

    def draw(self, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        timestep_R, noise_R = super().draw(step, rows)
        return timestep_R, noise_R.double()


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Tensor.float` keeps double precision, so that differences of 1e-6 can be seen."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    monkeypatch.setattr(torch, "float32", torch.float64)


@pytest.mark.usefixtures("in_double")
def test_the_gradient_of_the_regulariser_is_that_of_finite_differences() -> None:
    model = double()
    aim = DoubleObjective(model, Doubled(), ObjectiveConfig(name="sds"), teacher=TinyTeacher())
    batch = aim.batches.rows(0, WHOLE)
    gradients = dict(zip(map(id, model.trained_parameters), sds_gradient(aim, batch, WHOLE, 0), strict=True))

    def value() -> float:
        with torch.no_grad():
            return float(aim.sds(batch, WHOLE, model.clip.encode_image(batch.pixels_R, normalize=True), 0))

    for weight in (model.clip.visual.ln_post.weight, model.clip.visual.transformer.resblocks[0].ln_1.bias):
        for place in (0, 17, 95):
            kept, step = float(weight.data[place]), 1e-5
            weight.data[place] = kept + step
            above = value()
            weight.data[place] = kept - step
            below = value()
            weight.data[place] = kept
            assert float(gradients[id(weight)][place]) == pytest.approx(
                (above - below) / (2 * step), abs=1e-6, rel=1e-6
            )


@pytest.mark.usefixtures("in_double")
def test_without_the_jacobian_the_gradient_is_the_one_derived_by_hand() -> None:
    """d L / d z = 2 sqrt(abar_t) (eps_hat - eps) / (elements B), then through h_w by the chain rule."""
    model, teacher = double(), TinyTeacher()
    aim = DoubleObjective(model, Doubled(), ObjectiveConfig(name="sds", jacobian=False), teacher=teacher)
    batch = aim.batches.rows(0, WHOLE)
    image_BD = model.clip.encode_image(batch.pixels_R, normalize=True).detach()
    aim.sds(batch, WHOLE, image_BD, 0).backward()
    timestep_B, noise_B = aim.draw(0, WHOLE)
    with torch.no_grad():
        latent_B = model.latents(image_BD)
        noisy_B = add_noise(teacher.schedule, latent_B, noise_B, timestep_B)
        residual_B = teacher.denoise(noisy_B, timestep_B, batch.condition_R) - noise_B
        root_B = teacher.schedule.alpha_bar[timestep_B].sqrt().double()
        slope_BE = (2 * root_B[:, None] * residual_B.flatten(1)) / (np.prod(LATENT) * SIZE)
    torch.testing.assert_close(model.h_w.weight.grad, slope_BE.T @ image_BD, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(model.h_w.bias.grad, slope_BE.sum(0), atol=1e-9, rtol=1e-6)


class UNetTeacher:
    """A tiny UNet of diffusers in double precision, with cross-attention."""

    latent_shape = (4, 4, 4)
    schedule = NoiseSchedule(prediction="epsilon", alpha_bar=torch.linspace(0.99, 0.01, 50, dtype=torch.float64))

    def __init__(self) -> None:
        from diffusers import UNet2DConditionModel

        torch.manual_seed(1)
        self.unet = UNet2DConditionModel(
            sample_size=4, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=6, norm_num_groups=4, attention_head_dim=2,
        ).double().requires_grad_(False)  # fmt: skip

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        return self.unet(noisy_B, timestep_B, encoder_hidden_states=condition_B, return_dict=False)[0]

    inner_features = TinyTeacher.inner_features


class Worded(Doubled):
    def rows(self, step: int, rows: slice) -> Batch:
        found = super().rows(step, rows)
        words_BLD = torch.randn(SIZE, 3, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        return Batch(pixels_R=found.pixels_R, token_RL=found.token_RL, condition_R=words_BLD[rows])


@pytest.mark.usefixtures("in_double")
def test_the_full_jacobian_through_a_unet_is_that_of_finite_differences() -> None:
    teacher = UNetTeacher()
    torch.manual_seed(0)
    model = Student(clips.fresh(), teacher.latent_shape, map_scale=3.0).double()
    aim = DoubleObjective(model, Worded(), ObjectiveConfig(name="sds"), teacher=teacher)
    batch = aim.batches.rows(0, WHOLE)
    weight = model.clip.visual.ln_post.weight
    place = next(k for k, trained_parameters in enumerate(model.trained_parameters) if trained_parameters is weight)
    found = sds_gradient(aim, batch, WHOLE, 0)[place]

    def value(change: float) -> float:
        with torch.no_grad():
            weight[17] += change
            error = float(aim.sds(batch, WHOLE, model.clip.encode_image(batch.pixels_R, normalize=True), 0))
            weight[17] -= change
        return error

    assert float(found[17]) == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, abs=1e-6, rel=1e-6)
    assert abs(float(found[17])) > 1e-5  # there is something to agree on
