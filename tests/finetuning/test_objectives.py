"""What fine-tuning minimises: which parameters move, that L_SDS is the scorer's error, that a cut step is whole."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from torch import Tensor, nn

from sdsdemo.core.losses import clip_loss, denoising_error, negatives_loss, preference_loss
from sdsdemo.core.noising import NoiseSchedule, add_noise
from sdsdemo.errors import UserError
from sdsdemo.finetuning.loop import TrainingConfig, train
from sdsdemo.finetuning.objectives import Batch, Objective, ObjectiveConfig
from sdsdemo.finetuning.recipe import NAMES
from sdsdemo.finetuning.sds_controls import sds_controls, sds_gradient, sds_gradient_controls
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


def test_only_layer_norms_and_the_map_move() -> None:
    model = student()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(train(model, objective(model), TrainingConfig(steps=3, learning_rate=1e-3)))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert {name.rpartition(".")[0] for name in moved} == norms | {"h_w"}


@pytest.mark.parametrize(("towers", "still"), [("image", "ln_final.weight"), ("text", "visual.ln_post.weight")])
def test_a_tower_that_is_not_trained_stays(towers: Any, still: str) -> None:
    model = student(towers=towers)
    trained = {name for name, p in model.clip.named_parameters() if p.requires_grad}
    assert trained
    assert still not in trained
    assert all(name.startswith("visual.") == (towers == "image") for name in trained)


def test_all_parameters_but_the_logit_scale_can_be_trained() -> None:
    model = student(trained="all")
    assert [name for name, p in model.clip.named_parameters() if not p.requires_grad] == ["logit_scale"]


def test_a_resnet_trains_its_batch_norms_and_says_so() -> None:
    resnet = CLIP(
        embed_dim=8,
        vision_cfg={"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
        text_cfg={"context_length": 20, "vocab_size": 50, "width": 8, "heads": 2, "layers": 1},
    )
    model = Student(resnet)
    trained = [name for name, p in resnet.visual.named_parameters() if p.requires_grad]
    assert trained
    assert all("bn" in name or "downsample" in name for name in trained)
    assert "BatchNorms (no LayerNorms found" in model.says


def test_lambda_zero_is_the_contrastive_loss_alone() -> None:
    model = student()
    alone, both = only(objective(model, "clip")), only(objective(model, "sds", lam=0.0))
    assert torch.equal(alone["loss"], both["loss"])
    batch = Drawn().rows(0, WHOLE)
    image_BD, text_BD, scale = model.clip(batch.pixels_R, batch.token_RL)
    torch.testing.assert_close(alone["loss"], clip_loss(image_BD, text_BD, scale))


def test_the_regulariser_is_the_scorers_own_denoising_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []

    def spied(*arguments: Any, **options: Any) -> Tensor:
        asked.append(arguments)
        return denoising_error(*arguments, **options)

    monkeypatch.setattr("sdsdemo.core.losses.denoising_error", spied)
    model = student()
    losses = only(objective(model, lam=2.0))
    ((_, _, latent_B, *_),) = asked
    expected = model.latents(model.clip.encode_image(Drawn().rows(0, WHOLE).pixels_R, normalize=True))
    torch.testing.assert_close(latent_B, expected)
    torch.testing.assert_close(losses["loss"], losses["clip"] + 2 * losses["sds"])


def test_the_regulariser_reaches_the_image_tower_and_never_the_text_tower() -> None:
    model = student()
    only(objective(model))["sds"].backward()
    assert float(model.clip.visual.ln_post.weight.grad.norm()) > 0
    assert model.clip.ln_final.weight.grad is None


def test_timesteps_and_noises_come_from_seed_and_step_alone() -> None:
    model = student()
    value = [
        float(only(objective(model, batches=First(), seed=seed), step)["sds"].detach())
        for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3))
    ]
    assert value[0] == value[1]
    assert len(set(value)) == 3


def test_timesteps_stay_in_their_part_of_the_schedule() -> None:
    aim = objective(student(), timesteps=(0.2, 0.4))
    drawn = torch.cat([aim.draw(step, WHOLE)[0] for step in range(50)])
    assert int(drawn.min()) == 10
    assert int(drawn.max()) == 19


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_micro_batches_is_the_step_of_the_whole_batch(name: Any) -> None:
    found = []
    for parts in (1, 4):
        model = student()
        values: dict[str, float] = {}
        for losses in objective(model, name, parts=parts)(2):
            losses["loss"].backward()
            values = {key: values.get(key, 0.0) + float(value.detach()) for key, value in losses.items()}
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((values, gradient))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_each_objective_lowers_its_own_loss(name: Any) -> None:
    model = student(trained="all")
    aim = objective(model, name, batches=First())
    before = float(only(aim)["loss"].detach())
    list(train(model, aim, TrainingConfig(steps=8, learning_rate=1e-3, warm_up=1)))
    assert float(only(aim)["loss"].detach()) < before


def test_swapped_captions_are_candidates_for_images_only() -> None:
    image_BD, text_BD, twin_BD = (nn.functional.normalize(torch.randn(4, 8), dim=1) for _ in range(3))
    logit_BT = 10 * image_BD @ torch.cat([text_BD, twin_BD]).T
    by_image = -logit_BT.log_softmax(1).diagonal().mean()
    by_text = -(10 * text_BD @ image_BD.T).log_softmax(1).diagonal().mean()
    torch.testing.assert_close(negatives_loss(image_BD, text_BD, twin_BD, 10.0), (by_image + by_text) / 2)


def test_a_preference_is_followed_as_far_as_the_teacher_is_sure_of_it() -> None:
    image_BD, text_BD, twin_BD = (nn.functional.normalize(torch.randn(4, 8), dim=1) for _ in range(3))
    p_B = torch.tensor([0.9, 0.1, 0.5, float("nan")])
    loss_B = preference_loss(image_BD, text_BD, twin_BD, p_B, 10.0)
    gap_B = 10 * (image_BD * (text_BD - twin_BD)).sum(1)
    q_B = gap_B.sigmoid()
    expected_B = -0.8 * (p_B * q_B.log() + (1 - p_B) * (1 - q_B).log())
    torch.testing.assert_close(loss_B[:2], expected_B[:2])
    assert loss_B[2:].tolist() == [0.0, 0.0]


def test_a_preference_beyond_certainty_is_refused() -> None:
    features_BD = torch.ones(2, 3)
    with pytest.raises(ValueError, match="from 0 to 1"):
        preference_loss(features_BD, features_BD, features_BD, torch.tensor([0.5, 1.5]), 1.0)


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


def test_the_map_can_be_brought_to_unit_variance_and_scaled() -> None:
    model = student(unit_variance=True, map_scale=3.0)
    latent_B = model.latents(nn.functional.normalize(torch.randn(5, clips.WIDTH), dim=1))
    torch.testing.assert_close(latent_B.flatten(1).std(1, correction=0), torch.full((5,), 3.0), rtol=1e-2, atol=1e-2)


def test_the_fit_recovers_a_linear_map() -> None:
    model = student()
    feature_ND = nn.functional.normalize(torch.randn(500, clips.WIDTH), dim=1)
    latent_N = (feature_ND @ torch.randn(clips.WIDTH, 16) + 3).unflatten(1, LATENT)
    assert model.fit(feature_ND, latent_N) > 0.99
    with torch.no_grad():
        gap_N = model.latents(feature_ND) - latent_N
    assert float(gap_N.square().mean()) < 0.02 * float(latent_N.var())


@pytest.mark.parametrize("lam", [-1.0, float("nan"), float("inf")])
def test_a_lambda_that_means_nothing_is_refused(lam: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        objective(student(), lam=lam)


def test_a_clip_without_norms_is_refused_with_what_to_do() -> None:
    model = clips.fresh()
    model.visual = nn.Linear(2, 2)
    with pytest.raises(UserError, match="--trained all"):
        Student(model, LATENT)


def test_the_student_changes_the_clip_that_it_was_given() -> None:
    clip: CLIP = clips.fresh()
    assert Student(clip, LATENT).clip is clip


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


def unit(*shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(3)), dim=1)


def test_distinct_captions_give_the_loss_of_before_to_the_bit() -> None:
    image_BD, text_BD, twin_BD = unit(18, 8).chunk(3)
    number_B = torch.tensor([4, 0, 3, 9, 1, 7])
    assert torch.equal(clip_loss(image_BD, text_BD, 7.0, number_B), clip_loss(image_BD, text_BD, 7.0))
    found = negatives_loss(image_BD, text_BD, twin_BD, 7.0, number_B, number_B + 20)
    assert torch.equal(found, negatives_loss(image_BD, text_BD, twin_BD, 7.0))


def test_equal_captions_are_right_for_each_others_images() -> None:
    image_BD, number_B = unit(6, 8), torch.tensor([0, 1, 0, 0, 1, 2])
    text_BD = unit(3, 8)[number_B]
    log_BB = (7 * image_BD @ text_BD.T).log_softmax(1), (7 * text_BD @ image_BD.T).log_softmax(1)
    by_hand = [
        -math.log(sum(math.exp(log[b, c]) for c in range(6) if number_B[c] == number_B[b]))
        for log in log_BB
        for b in range(6)
    ]
    assert float(clip_loss(image_BD, text_BD, 7.0, number_B)) == pytest.approx(sum(by_hand) / 12, rel=1e-5)


def test_the_order_of_equal_captions_changes_nothing() -> None:
    image_BD, number_B = unit(6, 8), torch.tensor([0, 1, 0, 0, 1, 2])
    text_BD, turned_B = unit(3, 8)[number_B], torch.tensor([2, 4, 3, 0, 1, 5])
    assert torch.equal(number_B[turned_B], number_B)
    losses = [float(clip_loss(images, text_BD, 7.0, number_B)) for images in (image_BD, image_BD[turned_B])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_twin_that_is_another_rows_caption_is_no_wrong_choice_for_it() -> None:
    image_BD, text_BD = unit(3, 8), unit(9, 8)[3:6]
    twin_BD, number_B, twin_B = text_BD.roll(1, 0), torch.arange(3), torch.tensor([2, 0, 1])
    logit_BB = 7 * image_BD @ text_BD.T
    by_image = nn.functional.cross_entropy(logit_BB, torch.arange(3))
    by_text = nn.functional.cross_entropy(logit_BB.T, torch.arange(3))
    found = negatives_loss(image_BD, text_BD, twin_BD, 7.0, number_B, twin_B)
    torch.testing.assert_close(found, (by_image + by_text) / 2)


class Repeated(Drawn):
    """The captions of a step come twice each, and are numbered or not."""

    def __init__(self, numbered: bool) -> None:
        self.numbered = numbered

    def rows(self, step: int, rows: slice) -> Batch:
        whole = super().rows(step, WHOLE)
        pick_B = torch.arange(self.size) // 2
        words = {name: getattr(whole, name)[pick_B][rows] for name in ("token_RL", "twin_token_RL")}
        numbers = {"caption_B": pick_B, "twin_B": pick_B + self.size} if self.numbered else {}
        return replace(super().rows(step, rows), **words, **numbers)


@pytest.mark.parametrize("name", ["clip", "negatives", "sds"])
def test_equal_captions_are_found_across_micro_batches(name: Any) -> None:
    def value(numbered: bool, parts: int) -> float:
        found = objective(student(), name, Repeated(numbered), parts=parts)(1)
        return sum(float(losses["loss"].detach()) for losses in found)

    values = {(numbered, parts): value(numbered, parts) for numbered in (True, False) for parts in (1, 3)}
    assert values[True, 1] == pytest.approx(values[True, 3], abs=1e-5)
    assert values[True, 1] != pytest.approx(values[False, 1], abs=1e-4)


def test_two_captions_of_many_images_can_be_learned_to_the_end() -> None:
    number_B = torch.arange(8) % 2
    same_BD = torch.eye(4)[number_B]
    assert float(clip_loss(same_BD, same_BD, 100.0, number_B)) < 1e-6
    assert float(clip_loss(same_BD, same_BD, 100.0)) == pytest.approx(math.log(4))
