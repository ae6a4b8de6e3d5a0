"""Fine-tuning on ZeroGPU: a real base in the GPU function for as long as was said, Mini's here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext

from sdsdemo.app.gpu_jobs import RUN_SAVES, GpuJobs
from sdsdemo.app.gpu_time import GpuTimes
from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.workbench import Workbench
from sdsdemo.finetuning.events import DeviceChosen, Done
from sdsdemo.finetuning.recipe import from_preset
from sdsdemo.models.cards import resolve
from sdsdemo.settings import ASSETS, FINETUNING
from sdsdemo.ui.recipe_form import RecipeForm
from sdsdemo.ui.run_estimate import RunEstimates
from tests.spaces_stand_in import Platform


def tuning(recipe: Any, folder: Path, *, workbench: Workbench, resume: bool, seconds: float) -> Iterator[Any]:
    """A stand-in for `finetune`: says where it runs, and leaves a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "process").write_text(str(os.getpid()))
    yield DeviceChosen(device=f"{seconds:.0f} s")
    yield Done(state="finished", record={})


def ended(jobs: Jobs, recipe: Any) -> Job:
    id_, version = jobs.start(recipe), -1
    while not (job := jobs.wait(id_, version, 10)).is_over:
        version = job.version
    return job


@pytest.fixture
def asker() -> Iterator[object]:
    """The request that a visitor's click came with."""
    request: Any = object()
    token = LocalContext.request.set(request)
    yield request
    LocalContext.request.reset(token)


@pytest.mark.parametrize("base", ["mini-clip", "a real CLIP"])
def test_only_a_real_base_is_fine_tuned_in_the_gpu_function(
    space: Workbench, platform: Platform, real: dict[str, str], tmp_path: Path, asker: object, base: str
) -> None:
    jobs = Jobs(space, root=tmp_path, runner=tuning)
    recipe = replace(from_preset("quick", {}), base=real["clip"] if base == "a real CLIP" else base, objective="clip")
    job = ended(jobs, recipe)
    assert job.state == "finished", job.reason
    process = int((tmp_path / job.id / "process").read_text())
    if base == "mini-clip":
        assert (process, platform.seen) == (os.getpid(), [])
    else:
        assert process == platform.pids[0] != os.getpid()
        assert [(name, request) for name, _, request in platform.seen] == [("_finetune_in_fork", asker)]


def test_a_run_without_a_gpu_fails_with_a_sentence(
    space: Workbench, platform: Platform, real: dict[str, str], tmp_path: Path
) -> None:
    platform.refuses = "quota"
    recipe = replace(from_preset("quick", {}), base=real["clip"], objective="clip")
    job = ended(Jobs(space, root=tmp_path, runner=tuning), recipe)
    assert job.state == "failed"
    assert "quota" in job.reason


def test_a_run_with_a_teacher_takes_longer() -> None:
    base, teacher = resolve("clip-vit-b-32"), resolve("sd-v1-4")
    times, recipe = GpuTimes(), replace(from_preset("quick", {}), base=base.name, teacher=teacher.name)
    alone = times.of_run(replace(recipe, objective="clip"), base, None)
    assert times.of_run(replace(recipe, objective="preference"), base, teacher) > alone
    assert times.of_run(replace(recipe, objective="sds"), base, teacher) > alone
    fitted, random = (times.of_run(replace(recipe, h_w=h_w), base, teacher) for h_w in ("fit", "default"))
    assert fitted - random == pytest.approx((256 + 64) * times._unit(teacher)), "images to fit h_w, and to test it"


def test_a_run_says_what_it_reserves_and_reserves_that(
    space: Workbench, platform: Platform, real: dict[str, str], tmp_path: Path
) -> None:
    jobs = Jobs(space, root=tmp_path, runner=tuning)
    with gr.Blocks():
        estimates = RunEstimates(space, jobs, RecipeForm(space))
    recipe = replace(from_preset("quick", {}), base=real["clip"], objective="clip")
    said = estimates._estimated(recipe)
    ended(jobs, recipe)
    assert f"reserves {platform.seen[0][1]:.0f} s" in said
    longer = estimates._estimated(replace(recipe, steps=2000))
    assert f"reserves {FINETUNING.zerogpu_seconds} s" in longer


def test_a_tuned_real_model_scores_mini_in_the_gpu_function(
    space: Workbench, platform: Platform, real: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(benchmark: str, models: list[str], *, workbench: Workbench, out: Path, **options: Any) -> None:
        assert workbench.scorer(models[0]).card.name == models[0]
        (out / "process").write_text(str(os.getpid()))

    monkeypatch.setattr("sdsdemo.evaluation.run.evaluate", evaluate)
    jobs = Jobs(space, root=tmp_path, runner=tuning)
    run = shutil.copytree(ASSETS / "mini/runs/mini", tmp_path / "run")
    assert jobs.gpu is not None
    jobs.gpu.evaluate(space.card(real["clip"]), run)
    assert (run / "process").read_text() == str(platform.pids[0])


def test_a_run_is_told_to_end_before_its_loan_does(tmp_path: Path) -> None:
    told: list[float] = []

    def runner(*given: Any, seconds: float, **options: Any) -> Iterator[Any]:
        told.append(seconds)
        yield from ()

    workbench: Any = SimpleNamespace(gpu=SimpleNamespace(times=GpuTimes()), card=resolve)
    recipe = replace(from_preset("quick", {}), base="clip-vit-b-32", objective="clip")
    jobs = GpuJobs(workbench, runner)
    assert list(jobs.finetune(recipe, tmp_path, False)) == []
    assert told == [jobs.run_seconds(recipe)[1] - RUN_SAVES]
