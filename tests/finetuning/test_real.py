"""The path of real models, with tiny twins in the very same file formats: CLIP's own tokenizer, a Stable Diffusion
pipeline, images and captions in a folder; from the recipe to the file that scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning.estimate import estimate
from sdsdemo.finetuning.events import Done, Event, Step
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.setup import plan
from sdsdemo.settings import Settings, budget
from sdsdemo.types import Example, Picture
from tests import twins

CAPTIONS = (
    "a dog on a couch", "a red car behind a blue truck", "two cats under three chairs", "a sunset",
    "a man riding a horse", "a small bird on a big boat",
)  # fmt: skip
COUNT = 36


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    clip = twins.clip_folder(folder / "clip", words=False)
    return f"open_clip:local-dir:{clip}", f"diffusers:{twins.sd_folder(folder / 'sd')}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for k in range(COUNT):
        twins.picture(k).save(folder / f"{k}.png")
        rows.append({"file_name": f"{k}.png", "text": CAPTIONS[k % len(CAPTIONS)]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{folder}"


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache"), "SDSDEMO_DEVICE": "cpu"}))


def recipe(models: tuple[str, str], data: str, **changes: Any) -> Recipe:
    first = Recipe(base=models[0], teacher=models[1], data=data, steps=4, batch=4, fitted_on=8, held_out=20, pool=0)
    return replace(first, warm_up=1, teacher_timesteps=2, **changes)


def events(asked: Recipe, out: Path, workbench: Workbench) -> list[Event]:
    return list(finetune(asked, out, workbench=workbench))


@pytest.mark.parametrize("objective", ["clip", "sds", "negatives", "preference", "features"])
def test_a_real_shaped_clip_is_fine_tuned_and_its_file_scores(
    models: Any, data: str, workbench: Workbench, tmp_path: Path, objective: str
) -> None:
    found = events(recipe(models, data, objective=objective), tmp_path / "run", workbench)
    last = found[-1]
    assert isinstance(last, Done)
    assert last.state == "finished", last.reason
    assert sum(isinstance(event, Step) for event in found) == 4
    sets = last.record["measured"]["sets"]
    assert set(sets) == {"held-out swaps", "retrieval among 6"}
    assert 0 < last.record["data"]["without_swap"] < 1
    if objective == "preference":
        assert last.record["preferences"]["stand_ins"] > 0
    scorer = workbench.scorer(f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}")
    example = Example(
        id="0", images=(Picture(name="0", open=lambda: twins.picture(0)),), captions=CAPTIONS[:2], tags={}
    )
    (scores,) = scorer.score_examples([example], budget())
    assert scores.score_IC.shape == (1, 2)


def test_the_record_names_no_path_of_the_data(models: Any, data: str, workbench: Workbench, tmp_path: Path) -> None:
    last = events(recipe(models, data, objective="clip"), tmp_path / "run", workbench)[-1]
    assert isinstance(last, Done)
    described = json.dumps(last.record["data"])
    assert str(Path(data.partition(":")[2]).parent) not in described


def test_v_prediction_teaches_as_well(models: Any, data: str, workbench: Workbench, tmp_path: Path) -> None:
    teacher = f"diffusers:{twins.sd_folder(tmp_path / 'v', prediction='v_prediction')}"
    asked = replace(recipe(models, data, objective="sds"), teacher=teacher, jacobian=False)
    last = events(asked, tmp_path / "run", workbench)[-1]
    assert isinstance(last, Done)
    assert last.state == "finished", last.reason


def test_an_estimate_is_made_of_the_very_recipe(models: Any, data: str, workbench: Workbench) -> None:
    asked = recipe(models, data, objective="preference")
    found = estimate(asked, workbench)
    assert min(found.step, found.item, found.image) > 0
    assert found.items == COUNT
    assert found.total(replace(asked, steps=1_000)) > found.total(asked)
    assert "on this machine" in found.words(asked)


def test_a_real_teacher_without_a_gpu_says_how_long_it_would_take(data: str, models: Any, tmp_path: Path) -> None:
    asked = replace(recipe(models, data, objective="sds"), teacher="sd-v1-4")
    workbench = Workbench(Settings.from_environment({}))
    with pytest.raises(UserError) as caught:
        events(asked, tmp_path / "run", workbench)
    assert "not on this machine" in str(caught.value)
    assert "h on this machine" in str(caught.value)


def test_too_little_data_is_a_sentence(models: Any, workbench: Workbench, tmp_path: Path) -> None:
    twins.picture(0).save(tmp_path / "0.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a dog on a couch"}\n')
    last = events(recipe(models, f"folder:{tmp_path}", objective="clip"), tmp_path / "run", workbench)[-1]
    assert isinstance(last, Done)
    assert last.state == "failed"
    assert last.reason.endswith("has 1: add more, as 20 have to be.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"objective": "sds", "base": "mini-clip"},
            "Mini CLIP and Mini diffusion know only the words .* another --base and another --teacher",
        ),
        ({"objective": "preference"}, "Mini diffusion knows only the words .* another --teacher"),
        ({"objective": "sds"}, "Mini diffusion knows only the words .* another --teacher"),
        ({"objective": "preference", "teacher": "mini-clip"}, "Mini CLIP knows only the words .* another --teacher"),
        ({"objective": "clip", "base": "mini-clip"}, "Mini CLIP knows only the words .* another --base"),
    ],
)
def test_a_mini_model_is_refused_for_data_of_your_own(
    models: Any, data: str, workbench: Workbench, changes: Any, said: str
) -> None:
    asked = {"teacher": Recipe().teacher} | changes
    with pytest.raises(UserError, match=said):
        plan(replace(recipe(models, data), **asked), workbench)


def test_a_teacher_that_is_not_used_is_not_refused(models: Any, data: str, workbench: Workbench) -> None:
    asked = replace(recipe(models, data, objective="clip"), teacher=Recipe().teacher)
    assert plan(asked, workbench).teacher_card is None
