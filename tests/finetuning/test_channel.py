"""The channel of L_SDS: what h_w reads and whether it moves, and what its terms are worth where they should be zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import CLIP
from PIL import Image
from torch import Tensor, nn

from sdsdemo.core.losses import contrast_loss, latent_loss, negatives_loss
from sdsdemo.errors import UserError
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.loop import TrainingConfig, train
from sdsdemo.finetuning.objectives import Batch, Objective, ObjectiveConfig, SdsTerms
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.sds_controls import sds_controls, sds_gradient, sds_gradient_controls
from sdsdemo.finetuning.student import Student
from sdsdemo.finetuning.training_pairs import read_source
from sdsdemo.mini.models import clip as clips
from sdsdemo.models.clip import ClipModel
from sdsdemo.settings import CHECKPOINTS
from tests.finetuning.runs import TINY, done, tensors
from tests.finetuning.tiny_teacher import LATENT, SIZE, WHOLE, Drawn, TinyTeacher

SIDE = 8
"""Patches a row and a column of a Mini picture."""


class Swapped(Drawn):
    """Captions with their swaps; `same`: each caption is its own swap."""

    def __init__(self, same: bool = False) -> None:
        self.same = same

    def rows(self, step: int, rows: slice) -> Batch:
        found = super().rows(step, rows)
        twin_R = torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(step + 99))[rows]
        return replace(found, twin_condition_R=found.condition_R if self.same else twin_R)


class PatchTeacher(TinyTeacher):
    """Latents with as many places as there are patches."""

    latent_shape = (4, SIDE, SIDE)


def student(latent_shape: tuple[int, int, int] = LATENT, **options: Any) -> Student:
    torch.manual_seed(0)
    return Student(clips.fresh(), latent_shape, **options)


def sds(model: Student, batches: Drawn | None = None, lam: float = 1.0, **terms: float) -> Objective:
    config = ObjectiveConfig(name="sds", lam=lam, terms=SdsTerms(**terms))
    return Objective(model, batches or Swapped(), config, teacher=TinyTeacher())


def gradient(aim: Objective) -> Tensor:
    return torch.cat([g.flatten() for g in sds_gradient(aim, aim.batches.rows(0, WHOLE), WHOLE, 0)])


def test_a_caption_that_is_its_own_swap_gives_no_gradient() -> None:
    same, other = (gradient(sds(student(), Swapped(same), error=0.0, contrast=1.0)) for same in (True, False))
    assert float(same.norm()) == 0
    assert float(other.norm()) > 0


def test_contrast_is_the_excess_of_the_error_over_that_of_the_swap() -> None:
    error_B, swapped_B = torch.tensor([0.5, 0.1, 0.3]), torch.tensor([0.2, 0.4, 0.3])
    sharp_B = contrast_loss(error_B, swapped_B, 1e4)
    torch.testing.assert_close(sharp_B, torch.tensor([0.3, 0.0, 0.0]), atol=1e-4, rtol=0)
    soft_B = contrast_loss(error_B, swapped_B, 1e-2)
    torch.testing.assert_close(soft_B - soft_B[2], (error_B - swapped_B) / 2, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="scale must be"):
        contrast_loss(error_B, swapped_B, 0.0)


class First(Swapped):
    """The rows of step 0 at every step."""

    def rows(self, step: int, rows: slice) -> Batch:
        return super().rows(0, rows)


class OneNoise(Objective):
    """The timesteps and noises of step 0 at every step."""

    def draw(self, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        return super().draw(0, rows)


def test_contrast_lowers_the_own_error_against_that_of_the_swap() -> None:
    model = student(trained="all")
    config = ObjectiveConfig(name="sds", lam=1e3, terms=SdsTerms(error=0.0, contrast=1.0))
    aim = OneNoise(model, First(), config, teacher=TinyTeacher())
    batch = aim.batches.rows(0, WHOLE)

    def gap() -> float:
        with torch.no_grad():
            latent_R = model.latents(model.encode(batch.pixels_R)[1])
            own, other = (aim.errors(latent_R, c, WHOLE, 0).mean() for c in (batch.condition_R, batch.twin_condition_R))
        return float(own - other)

    before = gap()
    list(train(model, aim, TrainingConfig(steps=12, learning_rate=1e-3, warm_up=1)))
    assert gap() < before


def test_terms_add_up_with_their_weights() -> None:
    batch, value = Swapped().rows(0, WHOLE), {}
    for name, terms in {
        "error": {}, "contrast": {"error": 0.0, "contrast": 1.0}, "latent": {"error": 0.0, "latent": 1.0},
        "all": {"error": 0.5, "contrast": 3.0, "latent": 2.0},
    }.items():  # fmt: skip
        aim = sds(student(), **terms)
        value[name] = float(aim.sds(batch, WHOLE, aim.student.encode(batch.pixels_R)[1], 0).detach())
    assert value["all"] == pytest.approx(0.5 * value["error"] + 3 * value["contrast"] + 2 * value["latent"], rel=1e-5)


def test_the_regression_is_zero_on_true_latents_and_asks_no_denoiser(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = student(), Swapped().rows(0, WHOLE)
    aim = sds(model, error=0.0, latent=1.0)
    monkeypatch.setattr(TinyTeacher, "denoise", lambda *_: pytest.fail("the denoiser was asked"))
    read_R = model.encode(batch.pixels_R)[1]
    met = replace(batch, latent_R=model.latents(read_R).detach())
    assert float(aim.sds(met, WHOLE, read_R, 0)) == 0
    assert float(aim.sds(batch, WHOLE, read_R, 0)) > 0
    assert latent_loss(torch.zeros(2, 3), torch.full((2, 3), 2.0), reduction="sum").tolist() == [12.0, 12.0]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_map_does_not_move_while_clip_does(frozen: bool) -> None:
    model = student(frozen_map=frozen)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(train(model, sds(model), TrainingConfig(steps=3, learning_rate=1e-3)))
    moved = {
        name.partition(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, kept[name])
    }
    assert moved == ({"clip"} if frozen else {"clip", "h_w"})


def test_a_patch_makes_the_latent_at_its_place_and_no_other() -> None:
    model = student((4, SIDE, SIDE), from_patches=True)
    patch_BPYX = torch.randn(1, clips.WIDTH, SIDE, SIDE)
    other_BPYX = patch_BPYX.clone()
    other_BPYX[0, :, 2, 5] += 1
    with torch.no_grad():
        change_YX = (model.latents(other_BPYX) - model.latents(patch_BPYX)).abs().sum((0, 1))
    assert (change_YX > 1e-6).nonzero().tolist() == [[2, 5]]


def test_a_change_of_one_patch_changes_the_latent_there_most() -> None:
    model = student((4, SIDE, SIDE), from_patches=True)
    pixels_B = torch.zeros(1, 3, 64, 64)
    other_B = pixels_B.clone()
    other_B[..., 16:24, 40:48] = 1.0
    with torch.no_grad():
        change_YX = (model.latents(model.encode(other_B)[1]) - model.latents(model.encode(pixels_B)[1])).norm(
            dim=(0, 1)
        )
    assert divmod(int(change_YX.argmax()), SIDE) == (2, 5)


def test_reading_patches_leaves_the_image_embedding_as_it_is() -> None:
    whole, patches = student(), student((4, SIDE, SIDE), from_patches=True)
    pixels_B = Drawn().rows(0, WHOLE).pixels_R
    assert torch.equal(whole.encode(pixels_B)[0], patches.encode(pixels_B)[0])
    read_B = patches.encode(pixels_B)[1]
    assert read_B.shape == (SIZE, clips.WIDTH, SIDE, SIDE)
    pooled_BD = nn.functional.normalize(read_B.mean((2, 3)) @ patches.clip.visual.proj, dim=-1)
    torch.testing.assert_close(pooled_BD, whole.encode(pixels_B)[0])


def test_a_latent_of_other_rows_is_resized_from_the_patches() -> None:
    model = student((4, 2 * SIDE, 2 * SIDE), from_patches=True)
    latent_B = model.latents(torch.ones(3, clips.WIDTH, SIDE, SIDE))
    assert latent_B.shape == (3, 4, 2 * SIDE, 2 * SIDE)
    torch.testing.assert_close(latent_B, latent_B[..., :1, :1].expand_as(latent_B))


def test_the_fit_recovers_a_linear_map_of_patches() -> None:
    model = student((4, SIDE, SIDE), from_patches=True)
    read_N = torch.randn(40, clips.WIDTH, SIDE, SIDE)
    latent_N = torch.einsum("npyx,pc->ncyx", read_N, torch.randn(clips.WIDTH, 4)) + 3
    model.fit(read_N, latent_N)
    assert model.explains(read_N, latent_N) > 0.99
    assert model.explains(read_N.flip(0), latent_N) < 0.5


def test_l_sds_through_patches_reaches_the_image_tower() -> None:
    model = student(PatchTeacher.latent_shape, from_patches=True)
    aim = Objective(model, Swapped(), ObjectiveConfig(name="sds"), teacher=PatchTeacher())
    (losses,) = aim(0)
    losses["sds"].backward()
    assert float(model.clip.visual.ln_post.weight.grad.norm()) > 0
    assert float(model.h_w.weight.grad.norm()) > 0


@pytest.mark.parametrize("parts", [1, 4])
def test_a_step_with_every_term_is_the_same_in_micro_batches(parts: int) -> None:
    model = student(PatchTeacher.latent_shape, from_patches=True)

    class Latents(Swapped):
        def rows(self, step: int, rows: slice) -> Batch:
            return replace(super().rows(step, rows), latent_R=torch.ones(SIZE, *PatchTeacher.latent_shape)[rows])

    config = ObjectiveConfig(name="sds", terms=SdsTerms(error=1.0, contrast=1.0, latent=1.0))
    aim = Objective(model, Latents(), config, teacher=PatchTeacher(), parts=parts)
    value = sum(float(losses["loss"].detach()) for losses in aim(2))
    whole = Objective(model, Latents(), config, teacher=PatchTeacher())
    assert value == pytest.approx(sum(float(losses["loss"].detach()) for losses in whole(2)), abs=1e-5)


def test_controls_turn_captions_and_swaps_together() -> None:
    model = student()
    aim = sds(model, error=0.0, contrast=1.0)
    batch = aim.batches.rows(0, WHOLE)
    own = sds_controls(aim, batch, WHOLE, 0)
    assert own["student"] != pytest.approx(own["student shuffled"], rel=1e-3)
    turned = replace(
        batch, condition_R=batch.condition_R.roll(2, 0), twin_condition_R=batch.twin_condition_R.roll(2, 0)
    )
    found = sds_gradient_controls(aim, batch, WHOLE, 0)
    by_hand = [torch.cat([g.flatten() for g in sds_gradient(aim, one, WHOLE, 0)]) for one in (batch, turned)]
    cosine = nn.functional.cosine_similarity(*by_hand, dim=0)
    assert found["cosine with shuffled"] == pytest.approx(float(cosine), abs=1e-5)


def test_a_resnet_has_no_patches_and_says_what_to_do() -> None:
    resnet = CLIP(
        embed_dim=8,
        vision_cfg={"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
        text_cfg={"context_length": 20, "vocab_size": 50, "width": 8, "heads": 2, "layers": 1},
    )
    with pytest.raises(UserError, match="let h_w read the embedding"):
        Student(resnet, LATENT, from_patches=True)


def test_a_swap_of_weight_w_counts_as_w_swaps() -> None:
    image_BD, text_BD, twin_BD = (nn.functional.normalize(torch.randn(4, 8), dim=1) for _ in range(3))
    logit_BT = 10 * image_BD @ torch.cat([text_BD, twin_BD, twin_BD, twin_BD]).T
    by_image = -logit_BT.log_softmax(1).diagonal().mean()
    by_text = -(10 * text_BD @ image_BD.T).log_softmax(1).diagonal().mean()
    found = negatives_loss(image_BD, text_BD, twin_BD, 10.0, weight=3.0)
    torch.testing.assert_close(found, (by_image + by_text) / 2)
    with pytest.raises(ValueError, match="weight must be"):
        negatives_loss(image_BD, text_BD, twin_BD, 10.0, weight=0.0)


class Listening:
    """A teacher that encodes captions and pictures as they are."""

    device = torch.device("cpu")

    def encode_prompts(self, captions: list[str]) -> list[str]:
        return captions

    def encode_images(self, images: list[Image.Image]) -> list[bytes]:
        return [image.tobytes() for image in images]


@pytest.mark.parametrize("shuffled", [False, True])
def test_caption_swap_and_latent_are_of_one_image_also_when_shuffled(shuffled: bool) -> None:
    recipe = Recipe(pool=40, batch=16, contrast_weight=1.0, latent_weight=1.0, shuffled=shuffled).check()
    source = read_source(recipe)
    base = ClipModel.load("open_clip:local-dir:" + str(CHECKPOINTS / "mini-clip"))
    teacher: Any = Listening()
    rows = PairBatches(recipe, source, base, teacher).rows(1, slice(2, 12))
    pairs = source.draw(1, recipe.batch)
    known = {pair.caption: pair.twin or pair.caption for pair in pairs}
    assert rows.twin_condition_R == [known[caption] for caption in rows.condition_R]
    own = [pair.caption for pair in pairs[2:12]]
    assert all(a == b for a, b in zip(rows.condition_R, own, strict=True)) == (not shuffled)
    assert any(a != b for a, b in zip(rows.condition_R, rows.twin_condition_R, strict=True))
    drawn = {pair.caption: pair.picture.open().tobytes() for pair in pairs}
    assert rows.latent_R == [drawn[caption] for caption in rows.condition_R]


VARIANTS: dict[str, dict[str, Any]] = {
    "frozen": {"h_w": "frozen"},
    "patches": {"h_w_from": "patches"},
    "contrast": {"error_weight": 0.0, "contrast_weight": 10.0},
    "contrast, shuffled": {"error_weight": 0.0, "contrast_weight": 10.0, "shuffled": True},
    "regression": {"error_weight": 0.0, "latent_weight": 1.0},
    "regression, shuffled": {"error_weight": 0.0, "latent_weight": 1.0, "shuffled": True},
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_sets")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_l_sds_runs_and_is_in_the_record(run: Any, tmp_path: Path, name: str) -> None:
    assert done(run(**VARIANTS[name])).state == "finished"
    record = FineTuningFolder(tmp_path / "run").read()
    assert {key: record["recipe"][key] for key in VARIANTS[name]} == VARIANTS[name]
    assert "controls" in record
    written = tensors(tmp_path / "run")
    assert tuple(written["h_w.weight"].shape) == ((4, 96) if name == "patches" else (256, 96))


@pytest.mark.slow
@pytest.mark.usefixtures("small_sets")
def test_a_frozen_map_is_written_as_it_was_fitted(run: Any, tmp_path: Path) -> None:
    run("frozen", h_w="frozen")
    run("unmoved", h_w="fit", steps=0)
    frozen, fitted = (tensors(tmp_path / name)["h_w.weight"] for name in ("frozen", "unmoved"))
    assert torch.equal(frozen, fitted)


@pytest.mark.usefixtures("small_sets")
def test_a_better_sibling_can_be_asked_in_place_of_a_diffusion_model(run: Any) -> None:
    record = done(run(objective="preference", teacher="mini-clip-clean")).record
    answers = record["preferences"]
    assert (answers["evaluations"], answers["asked"] > 0) == (0, True)
    assert answers["teacher_right"]["n"] == answers["pairs"]
    assert answers["teacher_right"]["value"] > 0.6, "a higher cosine is a preference, as a lower loss is"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "clip", "contrast_weight": 1.0}, "--contrast-weight is a setting of sds and has no effect"),
        ({"objective": "clip", "negative_weight": 3.0}, "--negative-weight is a setting of negatives"),
        ({"objective": "labels", "teacher_right": 0.7}, "--teacher-right is a setting of preference"),
        ({"error_weight": 0.0}, "L_SDS has no term left: raise --error-weight, --contrast-weight or --latent-weight."),
        ({"h_w_from": "patches", "towers": "text"}, "The objective sds teaches the image tower alone, which"),
        ({"h_w": "frozen", "towers": "text"}, "use --towers both or image, or another objective."),
        ({"objective": "features", "towers": "text"}, "The objective features teaches the image tower alone, which"),
        ({"objective": "preference", "teacher_right": 0.7, "permuted": True}, "--teacher-right has no effect on"),
        ({"h_w": "hot"}, "--h-w must be one of fit, frozen, default"),
    ],
)
def test_variants_that_contradict_one_another_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        replace(TINY, **changes).check()
    assert said in str(caught.value)


def test_settings_of_the_studies_are_taken_by_the_shell_but_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from sdsdemo.cli import main
    from sdsdemo.finetuning.recipe import STUDIED, cli_flag

    with pytest.raises(SystemExit):
        main.main(["finetune", "--help"])
    listed = capsys.readouterr().out
    assert not [name for name in STUDIED if cli_flag(name) + " " in listed]
    given = main._parser().parse_args(["finetune", "--out", "x", "--contrast-weight", "2", "--h-w-from", "patches"])
    assert (given.contrast_weight, given.h_w_from) == (2.0, "patches")
    assert Recipe(contrast_weight=2.0).check()
