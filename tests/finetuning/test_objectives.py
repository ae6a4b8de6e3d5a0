"""What fine-tuning minimises: which parameters move, that L_SDS is the scorer's error, that a cut step is whole."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from open_clip import CLIP
from torch import Tensor, nn

from sdsdemo.core.losses import clip_loss, denoising_error, negatives_loss, preference_loss
from sdsdemo.core.noising import add_noise
from sdsdemo.errors import UserError
from sdsdemo.finetuning.loop import TrainingConfig, train
from sdsdemo.finetuning.objectives import Objective, ObjectiveConfig
from sdsdemo.finetuning.recipe import NAMES, Recipe
from sdsdemo.finetuning.setup import Plan
from sdsdemo.finetuning.student import Student
from sdsdemo.mini.models import clip as clips
from sdsdemo.runtime.distributed import Processes
from tests.finetuning.tiny_teacher import LATENT, WHOLE, Drawn, First, TinyTeacher, objective, only, student


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


def test_the_noise_of_a_step_is_drawn_once_for_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = Objective._draw
    monkeypatch.setattr(Objective, "_draw", lambda self, step: drawn.append(step) or real(self, step))
    aim = objective(student(), parts=3)
    for step in (0, 1, 0):
        assert len(list(aim(step))) == 3
    assert drawn == [0, 1, 0]


def test_timesteps_stay_in_their_part_of_the_schedule() -> None:
    aim = objective(student(), timesteps=(0.2, 0.4))
    drawn = torch.cat([aim.draw(step, WHOLE)[0] for step in range(50)])
    assert int(drawn.min()) == 10
    assert int(drawn.max()) == 19


@pytest.mark.parametrize("low", [0.0, 0.5, 0.9, 0.989, 0.99, 0.9996, 1 - 1e-9])
@pytest.mark.parametrize("width", [1e-9, 1.0])
@pytest.mark.parametrize("name", ["sds", "features"])
def test_every_range_that_a_recipe_may_have_draws_timesteps(name: Any, low: float, width: float) -> None:
    asked = Recipe(objective=name, timestep_low=low, timestep_high=min(1.0, low + width)).check()
    aim = objective(student(), name=name, timesteps=(asked.timestep_low, asked.timestep_high))
    for step in range(3):
        timestep_R, _ = aim.draw(step, WHOLE)
        assert int(timestep_R.min()) >= min(low * 50 - 1, 49)
        assert int(timestep_R.max()) < min(50, (low + width) * 50 + 1)
    assert only(aim)["loss"].isfinite()


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


def test_weights_cast_without_a_gradient_are_not_kept_for_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    order, embed = [], Objective._embed

    def noted(self: Objective, batch: Any) -> Any:
        order.append("gradient" if torch.is_grad_enabled() else "no gradient")
        return embed(self, batch)

    monkeypatch.setattr(Objective, "_embed", noted)
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: order.append("cleared"))
    list(objective(student(), "clip", parts=2)(0))
    assert order == ["no gradient", "no gradient", "cleared", "gradient", "gradient"]


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


def test_the_map_can_be_brought_to_unit_variance_and_scaled() -> None:
    model = student(unit_variance=True, map_scale=3.0)
    latent_B = model.latents(nn.functional.normalize(torch.randn(5, clips.WIDTH), dim=1))
    torch.testing.assert_close(latent_B.flatten(1).std(1, correction=0), torch.full((5,), 3.0), rtol=1e-2, atol=1e-2)


def test_the_fit_recovers_a_linear_map() -> None:
    model = student()
    feature_ND = nn.functional.normalize(torch.randn(500, clips.WIDTH), dim=1)
    latent_N = (feature_ND @ torch.randn(clips.WIDTH, 16) + 3).unflatten(1, LATENT)
    model.fit(feature_ND, latent_N)
    assert model.explains(feature_ND, latent_N) > 0.99
    with torch.no_grad():
        gap_N = model.latents(feature_ND) - latent_N
    assert float(gap_N.square().mean()) < 0.02 * float(latent_N.var())


@pytest.mark.parametrize("map_scale", [0.5, 30.0])
def test_a_scaled_map_starts_at_true_latents_and_r2_is_of_them(map_scale: float) -> None:
    model = student(map_scale=map_scale)
    feature_ND = nn.functional.normalize(torch.randn(500, clips.WIDTH), dim=1)
    latent_N = (feature_ND @ torch.randn(clips.WIDTH, 16) + 3).unflatten(1, LATENT)
    model.fit(feature_ND, latent_N)
    assert model.explains(feature_ND, latent_N) > 0.99
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


@pytest.mark.parametrize(("batch", "most", "count"), [(32, 8, 1), (32, 5, 1), (10, 4, 1), (32, 8, 2), (32, 32, 2)])
def test_a_micro_batch_holds_at_most_the_rows_that_the_recipe_says(batch: int, most: int, count: int) -> None:
    where: Any = {"base_card": None, "teacher_card": None, "device": None, "settings": None, "cache": None}
    plan = Plan(recipe=Recipe(batch=batch, micro_batch=most), processes=Processes(index=0, count=count), **where)
    drawn: Any = SimpleNamespace(size=batch)
    nobody: Any = None
    aim = Objective(nobody, drawn, ObjectiveConfig(name="clip"), parts=plan.parts, processes=plan.processes)
    assert aim.at_once <= most
    assert len(aim.rows) == math.ceil(batch / count / most)


def test_features_regress_onto_standardised_inner_features() -> None:
    model, teacher, batch = student(), TinyTeacher(), Drawn().rows(0, WHOLE)
    aim = objective(model, "features")
    (losses,) = aim(0)
    timestep_R, noise_R = aim.draw(0, WHOLE)
    noisy_R = add_noise(teacher.schedule, batch.latent_R, noise_R, timestep_R)
    inner_RW = teacher.inner_features(noisy_R, timestep_R, batch.condition_R)
    spread_R1 = (inner_RW.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    guess_RW = model.h_f(model.clip.encode_image(batch.pixels_R, normalize=True))
    expected = (guess_RW - (inner_RW - inner_RW.mean(1, keepdim=True)) / spread_R1).square().mean()
    torch.testing.assert_close(losses["features"], expected, rtol=1e-4, atol=1e-5)


def test_a_logit_scale_beyond_clip_s_bound_counts_as_the_bound() -> None:
    model, batch = student(), Drawn().rows(0, WHOLE)
    with torch.no_grad():
        model.clip.logit_scale.fill_(math.log(300.0))
    (losses,) = objective(model, "clip")(0)
    image_BD, text_BD, _ = model.clip(batch.pixels_R, batch.token_RL)
    torch.testing.assert_close(losses["loss"], clip_loss(image_BD, text_BD, 100.0))
