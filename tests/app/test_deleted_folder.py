"""A model whose folder is deleted while it is loaded goes on; where it is needed again, a sentence says so."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import read_run
from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.models.images import open_image
from sdsdemo.settings import ASSETS, CHECKPOINTS, Settings, budget

CAPTIONS = ("a red cross is left of an orange arrow", "an orange arrow is left of a red cross")
PICTURE = open_image(ASSETS / "mini" / "examples" / "a-red-cross-is-left-of-an-orange-arrow.png")
SPEND = budget(2, 1, 0, empty_prompt=False)
SPECS = {"mini-clip": "open_clip:local-dir:{}", "mini-diffusion": "diffusers:{}"}


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a model in a folder `model` below `tmp_path`."""
    shutil.copytree(CHECKPOINTS / request.param, tmp_path / "model")
    return SPECS[request.param].format(tmp_path / "model")


def test_a_loaded_model_answers_and_a_new_server_says_what_is_missing(spec: str, tmp_path: Path) -> None:
    workbench = Workbench(Settings.from_environment({}))
    workbench.scorer(spec)
    shutil.rmtree(tmp_path / "model")
    (answer, other) = workbench.compare(PICTURE, CAPTIONS, [spec, "mini-clip-2"], SPEND)
    assert answer.scores is not None or "model" in answer.problem
    assert not answer.fault
    assert other.scores is not None
    (answer, other) = Workbench(Settings.from_environment({})).compare(PICTURE, CAPTIONS, [spec, "mini-clip-2"], SPEND)
    assert answer.scores is None
    assert not answer.fault
    assert other.scores is not None


def test_an_evaluation_ends_and_a_later_one_keeps_its_scores(spec: str, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "pairs", seed=3, split="validation", count=3)
    asked = partial(evaluate, f"folder:{tmp_path / 'pairs'}", [spec], budget=SPEND, out=tmp_path / "run")
    workbench = Workbench(Settings.from_environment({}))

    def delete(line: str) -> None:
        shutil.rmtree(tmp_path / "model", ignore_errors=True)

    asked(workbench=workbench, limit=3, progress=delete)
    assert len(read_run(tmp_path / "run").scores) == 3
    with pytest.raises(UserError):
        asked(workbench=Workbench(Settings.from_environment({})))
    assert len(read_run(tmp_path / "run").scores) == 3
