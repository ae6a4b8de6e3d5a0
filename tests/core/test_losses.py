"""The losses against diffusers' own schedulers, open_clip's own loss, and the properties that the formulas promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from sdsdemo.core import losses
from sdsdemo.core.losses import (
    clean_guess,
    clip_loss,
    denoising_error,
    denoising_residual,
    sds_loss,
    total_loss,
)
from sdsdemo.core.noising import NoiseSchedule, add_noise

STEPS = 1000
SHAPE = (4, 6, 6)
ELEMENTS = math.prod(SHAPE)
ALPHA_BAR = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod
SCHEDULES = {
    "epsilon": NoiseSchedule(prediction="epsilon", alpha_bar=ALPHA_BAR),
    "v": NoiseSchedule(prediction="v", alpha_bar=ALPHA_BAR),
    "flow": NoiseSchedule(prediction="flow", sigma=torch.arange(1, STEPS + 1) / STEPS),
}
TIMESTEP_B = torch.tensor([0, 31, 480, 700, 999])


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A latent, noise and a condition for each of `TIMESTEP_B`."""
    generator = torch.Generator().manual_seed(0)
    latent_B, noise_B, condition_B = torch.randn(3, len(TIMESTEP_B), *SHAPE, generator=generator).to(dtype)
    return latent_B, noise_B, condition_B


def denoise(noisy_B, timestep_B, condition_B):
    """A curved function of all that a network sees, in the precision of what it is given."""
    time_B = (timestep_B.to(noisy_B.dtype) / STEPS).reshape(-1, 1, 1, 1)
    return torch.sin(2 * noisy_B) * (1 + time_B) + 0.3 * condition_B


def shares(name: str, timestep_B: torch.Tensor = TIMESTEP_B) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the latent and of the noise in x_t."""
    schedule = SCHEDULES[name]
    if schedule.sigma is not None:
        sigma_B = schedule.sigma[timestep_B].reshape(-1, 1, 1, 1)
        return 1 - sigma_B, sigma_B
    assert schedule.alpha_bar is not None
    alpha_bar_B = schedule.alpha_bar[timestep_B].reshape(-1, 1, 1, 1)
    return alpha_bar_B.sqrt(), (1 - alpha_bar_B).sqrt()


# the denoising error


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_the_error_equals_a_float64_loop_over_a_scheduler(kind, prediction):
    scheduler = kind(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                     prediction_type=prediction)  # fmt: skip
    scheduler.set_timesteps(STEPS)
    latent_B, noise_B, condition_B = batch()
    slow = []
    for b, t in enumerate(TIMESTEP_B):
        z, eps = latent_B[b : b + 1].double(), noise_B[b : b + 1].double()
        x_t = scheduler.add_noise(z, eps, t[None])
        output = denoise(x_t, t[None], condition_B[b : b + 1].double())
        clean = scheduler.step(output, int(t), x_t).pred_original_sample
        alpha_bar = float(scheduler.alphas_cumprod[t])
        eps_hat = (x_t - math.sqrt(alpha_bar) * clean) / math.sqrt(1 - alpha_bar)
        slow.append(sum((float(d) ** 2 for d in (eps_hat - eps).flatten()), 0.0) / ELEMENTS)
    schedule = NoiseSchedule(prediction="v" if prediction[0] == "v" else "epsilon", alpha_bar=scheduler.alphas_cumprod)
    error_B = denoising_error(denoise, schedule, latent_B, noise_B, TIMESTEP_B, condition_B)
    np.testing.assert_allclose(error_B.numpy(), slow, rtol=1e-5)
    assert schedule.space == "eps"


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_model_s_error_equals_a_float64_loop_over_a_scheduler(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    latent_B, noise_B, condition_B = batch()
    slow = []
    for b, t in enumerate(TIMESTEP_B):
        z, eps = latent_B[b : b + 1].double(), noise_B[b : b + 1].double()
        x_t = scheduler.scale_noise(z, scheduler.timesteps[STEPS - 1 - t][None], eps)
        output = denoise(x_t, t[None], condition_B[b : b + 1].double())
        slow.append(sum((float(d) ** 2 for d in (output - (eps - z)).flatten()), 0.0) / ELEMENTS)
    schedule = NoiseSchedule(prediction="flow", sigma=scheduler.sigmas.flip(0))
    error_B = denoising_error(denoise, schedule, latent_B, noise_B, TIMESTEP_B, condition_B)
    np.testing.assert_allclose(error_B.numpy(), slow, rtol=1e-5)
    assert schedule.space == "velocity"


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_network_that_knows_the_answer_has_no_error(name):
    latent_B, noise_B, _ = batch()
    z_share_B, eps_share_B = shares(name)
    answer_B = {"epsilon": noise_B, "v": z_share_B * noise_B - eps_share_B * latent_B, "flow": noise_B - latent_B}[name]
    error_B = denoising_error(lambda x, t, c: answer_B, SCHEDULES[name], latent_B, noise_B, TIMESTEP_B, None)
    assert error_B.max() < 1e-10


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_sample_has_its_own_number_whatever_stands_beside_it(name):
    latent_B, noise_B, condition_B = batch()
    together_B = denoising_error(denoise, SCHEDULES[name], latent_B, noise_B, TIMESTEP_B, condition_B)
    for b in range(len(TIMESTEP_B)):
        one = slice(b, b + 1)
        alone = denoising_error(
            denoise, SCHEDULES[name], latent_B[one], noise_B[one], TIMESTEP_B[one], condition_B[one]
        )
        torch.testing.assert_close(alone, together_B[one])
    assert together_B.shape == TIMESTEP_B.shape


@pytest.mark.parametrize("jacobian", [True, False])
def test_epsilon_and_v_models_have_the_same_error_and_gradient(jacobian):
    latent_B, noise_B, condition_B = batch()
    z_share_B, eps_share_B = shares("v")

    def as_v(noisy_B, timestep_B, condition_B):
        return (denoise(noisy_B, timestep_B, condition_B) - eps_share_B * noisy_B) / z_share_B

    found = {}
    for name, network in (("epsilon", denoise), ("v", as_v)):
        z = latent_B.clone().requires_grad_()
        error_B = denoising_error(network, SCHEDULES[name], z, noise_B, TIMESTEP_B, condition_B, jacobian=jacobian)
        found[name] = error_B.detach(), torch.autograd.grad(error_B.sum(), z)[0]
    torch.testing.assert_close(found["epsilon"], found["v"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_half_precision_model_is_met_in_half_and_judged_in_float32(name):
    latent_B, noise_B, condition_B = batch(torch.float16)
    seen = []

    def network(noisy_B, timestep_B, condition_B):
        seen.append(noisy_B.dtype)
        return denoise(noisy_B, timestep_B, condition_B)

    error_B = denoising_error(network, SCHEDULES[name], latent_B, noise_B, TIMESTEP_B, condition_B)
    z, eps = latent_B.float(), noise_B.float()
    z_share_B, eps_share_B = shares(name)
    x_t = z_share_B * z + eps_share_B * eps
    output = denoise(x_t.half(), TIMESTEP_B, condition_B).float()
    guess, target = {
        "epsilon": (output, eps),
        "v": (z_share_B * output + eps_share_B * x_t, eps),
        "flow": (output, eps - z),
    }[name]
    assert seen == [torch.float16]
    assert error_B.dtype == torch.float32
    torch.testing.assert_close(error_B, (guess - target).square().flatten(1).mean(1), rtol=1e-6, atol=0)


def test_the_condition_reaches_the_network_as_it_is():
    latent_B, noise_B, _ = batch()
    condition = ("two", {"text": "encoders"})
    seen = []

    def network(*asked):
        seen.append(asked)
        return asked[0]

    denoising_error(network, SCHEDULES["epsilon"], latent_B, noise_B, TIMESTEP_B, condition)
    ((_, timestep_B, condition_B),) = seen
    assert condition_B is condition
    assert timestep_B is TIMESTEP_B


# the clean guess


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_clean_guess_is_the_one_of_diffusers(prediction: str) -> None:
    name = "epsilon" if prediction == "epsilon" else "v"
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, prediction_type=prediction
    )
    latent_B, noise_B, condition_B = batch()
    residual_B = denoising_residual(denoise, SCHEDULES[name], latent_B, noise_B, TIMESTEP_B, condition_B)
    noisy_B = add_noise(SCHEDULES[name], latent_B, noise_B, TIMESTEP_B)
    output_B = denoise(noisy_B, TIMESTEP_B, condition_B)
    expected = [
        scheduler.step(output_B[b], int(t), noisy_B[b]).pred_original_sample for b, t in enumerate(TIMESTEP_B[:-1])
    ]
    found_B = clean_guess(SCHEDULES[name], latent_B, residual_B, TIMESTEP_B)[:-1]
    torch.testing.assert_close(found_B, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_the_clean_guess_of_a_flow_model_goes_back_along_the_velocity() -> None:
    latent_B, noise_B, condition_B = batch()
    residual_B = denoising_residual(denoise, SCHEDULES["flow"], latent_B, noise_B, TIMESTEP_B, condition_B)
    noisy_B = add_noise(SCHEDULES["flow"], latent_B, noise_B, TIMESTEP_B)
    sigma_B = shares("flow")[1]
    expected_B = noisy_B - sigma_B * denoise(noisy_B, TIMESTEP_B, condition_B)
    torch.testing.assert_close(clean_guess(SCHEDULES["flow"], latent_B, residual_B, TIMESTEP_B), expected_B)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_network_that_makes_no_error_guesses_the_picture_itself(name: str) -> None:
    latent_B, _, _ = batch()
    guess_B = clean_guess(SCHEDULES[name], latent_B, torch.zeros_like(latent_B), TIMESTEP_B)
    assert torch.equal(guess_B, latent_B)


# gradients


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_gradient_on_the_latent_is_that_of_finite_differences(name):
    latent_B, noise_B, condition_B = batch()
    z = latent_B.clone().requires_grad_()
    direction_B = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))

    def error(shift: float) -> torch.Tensor:
        return denoising_error(denoise, SCHEDULES[name], z + shift * direction_B, noise_B, TIMESTEP_B, condition_B)

    slope_B = (torch.autograd.grad(error(0.0).sum(), z)[0] * direction_B).flatten(1).sum(1)
    finite_B = (error(5e-3) - error(-5e-3)).detach() / 1e-2
    torch.testing.assert_close(slope_B, finite_B, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_the_jacobian_the_numbers_are_the_same_bit_for_bit(name):
    latent_B, noise_B, condition_B = batch()
    asked = denoise, SCHEDULES[name], latent_B.requires_grad_(), noise_B, TIMESTEP_B, condition_B
    assert torch.equal(denoising_error(*asked, jacobian=True), denoising_error(*asked, jacobian=False))


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_the_jacobian_the_gradient_is_the_one_in_the_docstring(name):
    latent_B, noise_B, condition_B = batch()
    z = latent_B.clone().requires_grad_()
    error_B = denoising_error(denoise, SCHEDULES[name], z, noise_B, TIMESTEP_B, condition_B, jacobian=False)
    gradient_B = torch.autograd.grad(error_B.sum(), z)[0]
    z_share_B, eps_share_B = shares(name)
    x_t = z_share_B * latent_B + eps_share_B * noise_B
    output_B = denoise(x_t, TIMESTEP_B, condition_B)
    want_B = {
        "epsilon": 2 * z_share_B * (output_B - noise_B),
        "v": 2 * z_share_B * (z_share_B * output_B + eps_share_B * x_t - noise_B),
        "flow": 2 * (output_B - (noise_B - latent_B)),
    }[name] / ELEMENTS
    torch.testing.assert_close(gradient_B, want_B, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("jacobian", [True, False])
def test_only_with_the_jacobian_is_a_graph_built_through_the_network(name, jacobian):
    latent_B, noise_B, condition_B = batch()
    weight = torch.ones((), requires_grad=True)
    recording = []

    def network(noisy_B, timestep_B, condition_B):
        recording.append(torch.is_grad_enabled())
        return weight * denoise(noisy_B, timestep_B, condition_B)

    z = latent_B.requires_grad_()
    denoising_error(network, SCHEDULES[name], z, noise_B, TIMESTEP_B, condition_B, jacobian=jacobian).sum().backward()
    assert recording == [jacobian]
    assert (weight.grad is not None) == jacobian
    assert z.grad is not None
    assert z.grad.abs().sum() > 0


def test_nothing_is_recorded_where_the_caller_wants_no_gradient():
    latent_B, noise_B, condition_B = batch()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            error_B = denoising_error(
                denoise, SCHEDULES["v"], latent_B.requires_grad_(), noise_B, TIMESTEP_B, condition_B
            )
        assert not error_B.requires_grad


# wrong arguments


def test_wrong_shapes_and_timesteps_are_named():
    latent_B, noise_B, _ = batch()
    schedule = SCHEDULES["v"]
    for change, words in (
        ({"noise_B": noise_B[:1]}, "noise_B must have the shape"),
        ({"timestep_B": TIMESTEP_B[:1]}, "timestep_B must be 5 integers"),
        ({"timestep_B": TIMESTEP_B.float()}, "timestep_B must be 5 integers"),
        ({"timestep_B": TIMESTEP_B + 1}, "from 0 to 999; it ran from 1 to 1000"),
        ({"timestep_B": TIMESTEP_B - 1}, "from 0 to 999; it ran from -1 to 998"),
    ):
        asked = {"latent_B": latent_B, "noise_B": noise_B, "timestep_B": TIMESTEP_B} | change
        with pytest.raises(ValueError, match=words):
            add_noise(schedule, **asked)


def test_a_wrong_output_shape_is_refused_not_broadcast():
    latent_B, noise_B, _ = batch()
    with pytest.raises(ValueError, match="denoise must return the shape"):
        denoising_error(lambda x, t, c: x[:, :1], SCHEDULES["epsilon"], latent_B, noise_B, TIMESTEP_B, None)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"prediction": "x0", "alpha_bar": ALPHA_BAR}, "prediction must be"),
        ({"prediction": "v"}, "needs alpha_bar"),
        ({"prediction": "flow", "alpha_bar": ALPHA_BAR}, "needs sigma"),
        ({"prediction": "epsilon", "alpha_bar": ALPHA_BAR, "sigma": 1 - ALPHA_BAR}, "and no sigma"),
        ({"prediction": "v", "alpha_bar": ALPHA_BAR.flip(0)}, "must fall"),
        ({"prediction": "flow", "sigma": torch.linspace(1, 0, 9)}, "must rise"),
        ({"prediction": "flow", "sigma": torch.linspace(0, 1000, 9)}, "must lie in 0..1"),
        ({"prediction": "v", "alpha_bar": torch.tensor([0.9, math.nan])}, "must lie in 0..1"),
        ({"prediction": "v", "alpha_bar": ALPHA_BAR[None]}, "must be a vector"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(facts, words):
    with pytest.raises(ValueError, match=words):
        NoiseSchedule(**facts)


def test_a_schedule_knows_its_length():
    assert [schedule.steps for schedule in SCHEDULES.values()] == [STEPS] * 3


# L_CLIP, L_SDS and their sum


def test_the_contrastive_loss_is_its_formula_in_numpy():
    image_BD, text_BD = torch.nn.functional.normalize(
        torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    logit_BB = 7.0 * image_BD.double().numpy() @ text_BD.double().numpy().T
    by_image_B = np.log(np.exp(logit_BB).sum(axis=1)) - np.diag(logit_BB)
    by_text_B = np.log(np.exp(logit_BB).sum(axis=0)) - np.diag(logit_BB)
    want = (by_image_B.mean() + by_text_B.mean()) / 2
    assert float(clip_loss(image_BD, text_BD, 7.0)) == pytest.approx(want, rel=1e-5)
    assert float(clip_loss(image_BD, text_BD, torch.tensor(7.0))) == pytest.approx(want, rel=1e-5)


def test_features_that_say_nothing_lose_log_b_and_perfect_ones_nothing():
    assert float(clip_loss(torch.ones(8, 4) / 2, torch.ones(8, 4) / 2, 100.0)) == pytest.approx(math.log(8))
    assert float(clip_loss(torch.eye(8), torch.eye(8), 100.0)) < 1e-6


def test_half_precision_features_are_compared_in_float32():
    assert clip_loss(torch.eye(4).half(), torch.eye(4).half(), 3.0).dtype == torch.float32


def test_features_that_do_not_pair_up_are_refused():
    with pytest.raises(ValueError, match=r"one shape; they were \(4, 4\) and \(3, 4\)"):
        clip_loss(torch.eye(4), torch.eye(4)[:3], 1.0)


def test_l_sds_is_built_from_the_denoising_error(monkeypatch):
    latent_B, noise_B, condition_B = batch()
    asked = denoise, SCHEDULES["v"], latent_B, noise_B, TIMESTEP_B, condition_B
    assert torch.equal(sds_loss(*asked), denoising_error(*asked))
    monkeypatch.setattr(losses, "denoising_error", lambda *a, jacobian: torch.full((5,), 1.0 if jacobian else 2.0))
    assert sds_loss(*asked, reduction="sum").tolist() == [ELEMENTS] * 5
    assert sds_loss(*asked, jacobian=False).tolist() == [2.0] * 5


def test_l_sds_takes_a_mean_or_a_sum_and_nothing_else():
    latent_B, noise_B, condition_B = batch()
    unchecked: Any = "none"
    with pytest.raises(ValueError, match="reduction must be"):
        sds_loss(denoise, SCHEDULES["v"], latent_B, noise_B, TIMESTEP_B, condition_B, reduction=unchecked)


def test_the_total_weighs_l_sds_with_lambda():
    assert float(total_loss(torch.tensor(2.0), torch.tensor(30.0), 0.001)) == pytest.approx(2.03)
    for lam in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="lam must be"):
            total_loss(torch.tensor(2.0), torch.tensor(30.0), lam)
