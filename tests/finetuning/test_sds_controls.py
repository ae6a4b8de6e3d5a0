"""The controls of L_SDS: other latents and captions in its place, and whether its gradient reads captions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sdsdemo.core.losses import denoising_error
from sdsdemo.finetuning.objectives import Objective, ObjectiveConfig
from sdsdemo.finetuning.sds_controls import sds_controls, sds_gradient, sds_gradient_controls
from tests.finetuning.tiny_teacher import WHOLE, Drawn, TinyTeacher, objective, only, student


def test_controls_are_l_sds_of_other_latents_and_captions() -> None:
    model = student()
    aim, batch = objective(model), Drawn().rows(0, WHOLE)
    found = sds_controls(aim, batch, WHOLE, 0)
    assert set(found) == {f"{who}{how}" for who in ("student", "true", "zero", "other") for how in ("", " shuffled")}
    assert found["student"] == pytest.approx(float(only(aim)["sds"]), rel=1e-5)
    timestep_R, noise_R = aim.draw(0, WHOLE)
    teacher = TinyTeacher()
    true_R = denoising_error(
        teacher.denoise, teacher.schedule, batch.latent_R, noise_R, timestep_R, batch.condition_R.roll(2, 0)
    )
    assert found["true shuffled"] == pytest.approx(float(true_R.mean()), rel=1e-5)


def test_zero_maps_nothing_and_other_takes_the_row_before() -> None:
    model, teacher, batch = student(), TinyTeacher(), Drawn().rows(0, WHOLE)
    aim = objective(model)
    timestep_R, noise_R = aim.draw(0, WHOLE)
    found = sds_controls(aim, batch, WHOLE, 0)
    with torch.no_grad():
        read_R = model.clip.encode_image(batch.pixels_R, normalize=True)
        latents = {"zero": model.latents(0 * read_R), "other": model.latents(read_R)[[5, 0, 1, 2, 3, 4]]}
        for name, latent_R in latents.items():
            for words, condition_R in (("", batch.condition_R), (" shuffled", batch.condition_R.roll(2, 0))):
                error_R = denoising_error(teacher.denoise, teacher.schedule, latent_R, noise_R, timestep_R, condition_R)
                assert found[name + words] == pytest.approx(float(error_R.mean()), rel=1e-5), name + words


def test_controls_take_conditions_of_several_tensors() -> None:
    class OfTwo(TinyTeacher):
        def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
            return super().denoise(noisy_B, timestep_B, torch.stack(condition_B, dim=1))

    batch = Drawn().rows(0, WHOLE)
    aim, two = objective(student()), objective(student())
    two.teacher = OfTwo()
    parted = replace(batch, condition_R=batch.condition_R.unbind(dim=1))
    assert sds_controls(two, parted, WHOLE, 0) == pytest.approx(sds_controls(aim, batch, WHOLE, 0))
    assert sds_gradient_controls(two, parted, WHOLE, 0) == pytest.approx(sds_gradient_controls(aim, batch, WHOLE, 0))


@pytest.mark.parametrize("at_once", [None, 4, 1])
def test_controls_run_no_more_rows_at_once_than_a_micro_batch(at_once: int | None) -> None:
    class Counts(TinyTeacher):
        met: set[int]

        def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
            self.met.add(len(noisy_B))
            return super().denoise(noisy_B, timestep_B, condition_B)

    model, batch, teacher = student(), Drawn().rows(0, WHOLE), Counts()
    whole, aim = objective(model), objective(model, parts=3)
    aim.teacher, teacher.met = teacher, set()
    found = sds_controls(aim, batch, WHOLE, 0, at_once)
    assert found == pytest.approx(sds_controls(whole, batch, WHOLE, 0), rel=1e-5)
    gradient = sds_gradient_controls(aim, batch, WHOLE, 0, at_once)
    assert gradient == pytest.approx(sds_gradient_controls(whole, batch, WHOLE, 0), rel=1e-4)
    assert max(teacher.met) == (at_once or 2)


def test_the_gradient_cosine_detects_whether_captions_matter() -> None:
    class Blind(TinyTeacher):
        def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
            return noisy_B.tanh()

    model, batch = student(), Drawn().rows(0, WHOLE)
    reads = objective(model)
    blind = Objective(model, Drawn(), ObjectiveConfig(name="sds"), teacher=Blind())
    found = sds_gradient_controls(reads, batch, WHOLE, 0)
    assert found["cosine with shuffled"] < 0.99
    assert sds_gradient_controls(blind, batch, WHOLE, 0)["cosine with shuffled"] == pytest.approx(1.0)
    norm = torch.cat([g.flatten() for g in sds_gradient(reads, batch, WHOLE, 0)]).norm()
    assert found["gradient on CLIP"] == pytest.approx(float(norm))


def test_the_teacher_keeps_its_precision_in_a_step_that_runs_in_half() -> None:
    class Asked(TinyTeacher):
        def denoise(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
            assert not torch.is_autocast_enabled("cpu")
            return super().denoise(noisy_B, timestep_B, condition_B)

    aim, batch = objective(student()), Drawn().rows(0, WHOLE)
    aim.teacher = Asked()
    own_R = aim.errors(batch.latent_R, batch.condition_R, WHOLE, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(aim.errors(batch.latent_R, batch.condition_R, WHOLE, 0), own_R)
