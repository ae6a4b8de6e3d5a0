"""What fine-tuning minimises: which parameters move, that L_SDS is the scorer's error, that lambda = 0 is L_CLIP."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip import CLIP
from torch import Tensor, nn

from sdsdemo.losses import NoiseSchedule, clip_loss, denoising_error
from sdsdemo.mini import clips
from sdsdemo.objectives import Batch, Student, clip_objective, sds_objective
from sdsdemo.training import Course, train

LATENT = (4, 2, 2)


class TinyTeacher:
    """A frozen denoiser of two numbers a caption: enough for gradients to flow through."""

    latent_shape = LATENT
    schedule = NoiseSchedule(prediction="epsilon", alpha_bar=torch.linspace(0.99, 0.01, 50))

    def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        return noisy_B.tanh() * condition_B[:, 0, None, None, None] + condition_B[:, 1, None, None, None]


def student() -> Student:
    torch.manual_seed(0)
    return Student(clips.fresh(), LATENT)


def batch_at(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    token_BL = torch.randint(3, 40, (6, 20), generator=generator)
    token_BL[:, -1] = len(clips.words.VOCABULARY) - 1
    pixels_B = torch.randn(6, 3, 64, 64, generator=generator)
    return Batch(pixels_B=pixels_B, token_BL=token_BL, condition_B=torch.randn(6, 2, generator=generator))


def test_only_layer_norms_and_the_map_move() -> None:
    model = student()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(
        train(
            model, sds_objective(model, TinyTeacher(), batch_at, lam=1.0, seed=0), Course(steps=3, learning_rate=1e-3)
        )
    )
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert {name.rpartition(".")[0] for name in moved} == norms | {"h_w"}


def test_lambda_zero_is_the_contrastive_loss_alone() -> None:
    model = student()
    alone = clip_objective(model, batch_at)(0)
    both = sds_objective(model, TinyTeacher(), batch_at, lam=0.0, seed=0)(0)
    assert torch.equal(alone["loss"], both["loss"])
    batch = batch_at(0)
    image_BD, text_BD, scale = model.clip(batch.pixels_B, batch.token_BL)
    torch.testing.assert_close(alone["loss"], clip_loss(image_BD, text_BD, scale))


def test_the_regulariser_is_the_scorers_own_denoising_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []

    def spied(*arguments: Any, **options: Any) -> Tensor:
        asked.append(arguments)
        return denoising_error(*arguments, **options)

    monkeypatch.setattr("sdsdemo.losses.denoising_error", spied)
    model, teacher = student(), TinyTeacher()
    losses = sds_objective(model, teacher, batch_at, lam=2.0, seed=0)(0)
    ((_, _, latent_B, *_),) = asked
    expected = model.latents(model.clip.encode_image(batch_at(0).pixels_B, normalize=True))
    torch.testing.assert_close(latent_B, expected)
    torch.testing.assert_close(losses["loss"], losses["clip"] + 2 * losses["sds"])


def test_the_regulariser_reaches_the_image_tower_and_never_the_text_tower() -> None:
    model = student()
    sds_objective(model, TinyTeacher(), batch_at, lam=1.0, seed=0)(0)["sds"].backward()
    assert float(model.clip.visual.ln_post.weight.grad.norm()) > 0
    assert model.clip.ln_final.weight.grad is None


def test_timesteps_and_noises_come_from_seed_and_step_alone() -> None:
    model = student()
    value = [
        float(sds_objective(model, TinyTeacher(), lambda step: batch_at(0), lam=1.0, seed=seed)(step)["sds"].detach())
        for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3))
    ]
    assert value[0] == value[1]
    assert len(set(value)) == 3


def test_the_fit_recovers_a_linear_map() -> None:
    model = student()
    feature_ND = nn.functional.normalize(torch.randn(500, clips.WIDTH), dim=1)
    latent_N = (feature_ND @ torch.randn(clips.WIDTH, 16) + 3).unflatten(1, LATENT)
    assert model.fit(feature_ND, latent_N) > 0.99
    with torch.no_grad():
        gap_N = model.latents(feature_ND) - latent_N
    assert float(gap_N.square().mean()) < 0.02 * float(latent_N.var())


def test_a_clip_without_layer_norms_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="LayerNorms"):
        Student(nn.Linear(2, 2), LATENT)


def test_the_student_changes_the_clip_that_it_was_given() -> None:
    clip: CLIP = clips.fresh()
    assert Student(clip, LATENT).clip is clip
