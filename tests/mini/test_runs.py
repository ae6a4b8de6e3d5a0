"""The runs of a study: made once, measured, shared by processes, and not trained again for another study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.benchmarks import read_benchmark, swaps
from sdsdemo.data.mini.drawing import MODEL_PIXELS
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after, training_pairs
from sdsdemo.finetuning import run as training
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.loop import TrainingConfig
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.mini.experiments import runs
from sdsdemo.mini.experiments import study as experiment
from sdsdemo.mini.experiments.study import Study, base_row, evaluate_clip, right_of, run_study
from sdsdemo.mini.experiments.study_store import Lines, StudyStore, TrainedRuns, read_rows
from sdsdemo.mini.models import train_loop
from sdsdemo.models import cards
from sdsdemo.models.clip import ClipModel
from sdsdemo.settings import Settings
from sdsdemo.types import Picture

EVERY = 40
"""Of the examples of a benchmark, one in so many is scored."""
N = 400 // EVERY


@pytest.fixture
def few_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are measured on little, so that they end soon."""
    monkeypatch.setattr(before_after, "ZERO_SHOT", 4)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 4))
    monkeypatch.setattr(before_after, "read_benchmark", lambda name: read_benchmark(name)[::EVERY])
    for sets in ("_choice_sets", "_choosing_sets"):
        monkeypatch.setattr(experiment, sets, dict)
    monkeypatch.setattr(experiment, "_CACHE", MiniCache())


@pytest.mark.slow
@pytest.mark.usefixtures("few_measured")
def test_runs_are_made_once_measured_and_shared_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "LARGER", 8)
    monkeypatch.setattr(experiment, "AMONG", 4)
    experiment.larger_sets.cache_clear()
    tiny = Recipe(objective="clip", steps=2, batch=4, pool=8, fitted_on=4, teacher_timesteps=2, warm_up=1)
    study = Study(cells={"clip": tiny, "sds": replace(tiny, objective="sds")}, seeds=(0,))
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    said: list[str] = []
    for part in ((1, 2), (0, 2), (0, 1)):
        store = StudyStore(tmp_path, tmp_path / "work")
        run_study(
            "lines", study, store=store, workbench=workbench, progress=said.append, part=part, keep=tmp_path / "kept"
        )
    rows = read_rows(tmp_path / "lines.jsonl")
    assert [row["run"] for row in rows] == ["sds mini-clip 0", "clip mini-clip 0"]
    assert sum(text.startswith("lines: ") for text in said) == 2
    assert [text for text in said if "clip_mini-clip_0  step 2 of 2  loss " in text]
    assert not [text for text in said if " step 1 of 2 " in text], "a log of hundreds of runs names no single steps"
    assert [text for text in said if text.startswith("sds_mini-clip_0  step 2  text ") and text.endswith(f", n = {N}")]
    assert [text for text in said if text.startswith("sds_mini-clip_0  ") and "h_w is fitted on 4 images" in text]
    assert right_of(rows[0], "mini-validation", "text").shape == (N,)
    assert -1 <= rows[0]["controls"]["0"]["cosine with shuffled"] <= 1
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        f"{r['run'].replace(' ', '_')}.safetensors" for r in rows
    }
    of_base = base_row("mini-clip", workbench)
    assert of_base["n"]["mini"] == N
    assert of_base["n"]["mini-zero-shot-8"] == of_base["n"]["mini-retrieval-8"] == 8
    assert "mini-zero-shot-8" not in rows[0]["n"]
    experiment.larger_sets.cache_clear()
    with (tmp_path / "lines.jsonl").open("a") as file:
        file.write('{"run": "half')
    assert read_rows(tmp_path / "lines.jsonl") == rows
    json.dumps(rows)


@pytest.mark.usefixtures("few_measured")
def test_what_another_study_has_trained_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(objective="clip", steps=2, batch=4, pool=8, warm_up=1, trained="all")
    trained: list[str] = []

    def finetune(asked: Recipe, out: Path, **options: Any) -> Any:
        trained.append(out.name)
        return training.finetune(asked, out, **options)

    monkeypatch.setattr(runs, "finetune", finetune)
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    store = StudyStore(tmp_path, tmp_path / "work")
    cells = {
        "first": {"clip": recipe},
        "second": {"again": recipe, "part": replace(recipe, wise_ft=0.5), "longer": replace(recipe, steps=3)},
        "anew": {"part": replace(recipe, wise_ft=0.5)},
    }
    for name, of in cells.items():
        run_study(
            name, Study(cells=of, seeds=(0,)), workbench=workbench, progress=lambda line: None, keep=tmp_path / name,
            store=StudyStore(tmp_path, tmp_path / "other") if name == "anew" else store,
        )  # fmt: skip
    assert trained == ["clip_mini-clip_0", "longer_mini-clip_0", "part_mini-clip_0"]
    (whole,), (again, part, _), (anew,) = (read_rows(tmp_path / f"{name}.jsonl") for name in cells)
    assert again["right"] == whole["right"]
    assert part["recipe"]["wise_ft"] == 0.5
    assert part["right"] == anew["right"]
    mixed, direct = (load_file(tmp_path / name / "part_mini-clip_0.safetensors") for name in ("second", "anew"))
    assert mixed.keys() == direct.keys()
    assert all(torch.equal(mixed[name], direct[name]) for name in mixed)


@pytest.mark.usefixtures("few_measured")
def test_a_run_of_other_weights_is_not_taken_for_the_same(tmp_path: Path) -> None:
    recipe = Recipe(objective="clip", steps=1, batch=4, pool=8, warm_up=1)
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    out = tmp_path / "work" / "first" / "run"
    runs.trained_run(recipe, out, workbench, lambda line: None)
    found = TrainedRuns(tmp_path / "work").like(recipe, workbench)
    assert found is not None
    assert found[0].path == out
    record = json.loads((out / "run.json").read_text())
    for change in ({"base_fingerprint": "another"}, {"state": "stopped"}):
        (out / "run.json").write_text(json.dumps(record | change))
        assert TrainedRuns(tmp_path / "work").like(recipe, workbench) is None


def test_a_finished_run_is_read_once_and_one_of_another_process_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(objective="clip", steps=1, batch=4, pool=8, warm_up=1)
    workbench, trained = Workbench(Settings.from_environment({})), TrainedRuns(tmp_path)
    models = {"base_fingerprint": cards.fingerprint(workbench.card(recipe.base)), "teacher_fingerprint": None}
    read: list[str] = []
    read_folder = FineTuningFolder.read
    monkeypatch.setattr(FineTuningFolder, "read", lambda folder: read.append(folder.path.name) or read_folder(folder))

    def write(name: str, state: str, seed: int) -> None:
        (tmp_path / "study" / name).mkdir(parents=True, exist_ok=True)
        FineTuningFolder(tmp_path / "study" / name).write(
            {**models, "state": state, "recipe": replace(recipe, seed=seed).as_dict()}
        )

    def found(seed: int) -> str | None:
        same = trained.like(replace(recipe, seed=seed), workbench)
        return None if same is None else same[0].path.name

    write("a", "finished", 0)
    write("b", "stopped", 1)
    assert [found(0), found(1), found(1)] == ["a", None, None]
    assert read == ["a", "b", "b"]
    write("b", "finished", 1)
    write("c", "finished", 2)
    assert [found(2), found(1), found(0), found(3)] == ["c", "b", "a", None]
    assert read == ["a", "b", "b", "b", "c"]


def test_a_line_that_was_added_is_there_at_once_and_in_the_file(tmp_path: Path) -> None:
    lines, other = (Lines(tmp_path / "new" / "lines.jsonl") for _ in range(2))
    row = {"run": "clip mini-clip 0", "right": {}, "n": {}}
    assert not lines.has("run", row["run"])
    lines.add(row)
    other.add(row | {"run": "sds mini-clip 0"})
    assert lines.has("run", row["run"])
    assert not lines.has("base", "mini-clip")
    assert [line["run"] for line in read_rows(lines.path)] == ["clip mini-clip 0", "sds mini-clip 0"]


def test_a_line_that_a_kill_left_unfinished_makes_way_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "confirm.jsonl"
    path.write_text('{"run": "a"}\n{"run": "b", "ba')
    lines = Lines(path)
    for name in "cd":
        lines.add({"run": name})
    assert [row["run"] for row in read_rows(path)] == ["a", "c", "d"]


def test_a_damaged_line_is_named_and_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "confirm.jsonl"
    path.write_text('{"run": "a"}\n{"run": "b", "ba{"run": "c"}\n{"run": "d"}\n')
    with pytest.raises(UserError, match=r"Line 2 of confirm\.jsonl is damaged"):
        Lines(path)


def test_a_learning_curve_goes_on_after_a_kill_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "map.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    model, config = torch.nn.Linear(2, 1), TrainingConfig(steps=3, learning_rate=1e-3, warm_up=1)

    def losses(step: int) -> dict[str, torch.Tensor]:
        return {"loss": model(torch.ones(1, 2)).sum()}

    curve = train_loop.run("map", model, losses, config, work=tmp_path, progress=lambda line: None)
    assert [point["step"] for point in curve] == [1, 3]


@pytest.mark.usefixtures("few_measured")
def test_what_one_run_has_drawn_the_next_one_finds_and_trains_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[object] = []
    draw, prepare = training_pairs.draw, before_after.Evaluator._input
    monkeypatch.setattr(training_pairs, "draw", lambda *of: drawn.append(of) or draw(*of))
    monkeypatch.setattr(
        before_after.Evaluator, "_input", lambda self, key, picture: prepare(self, key, noting(picture))
    )

    def noting(picture: Picture) -> Picture:
        return replace(picture, open=lambda: drawn.append(picture.key) or picture.open())

    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    recipe = Recipe(objective="clip", steps=3, batch=4, pool=8, warm_up=1)
    common = MiniCache()

    def run(name: str, recipe: Recipe, drawn_before: MiniCache | None = common) -> dict[str, torch.Tensor]:
        drawn.clear()
        runs.trained_run(recipe, tmp_path / name, workbench, lambda line: None, drawn_before)
        return load_file(tmp_path / name / "model.safetensors")

    first, count = run("first", recipe), len(drawn)
    assert count > 8 + 20, "the pool, and the sets before the run; after it they are there"
    again = run("again", replace(recipe, objective="labels"))
    assert drawn == []
    alone = run("alone", replace(recipe, objective="labels"), None)
    assert len(drawn) == count
    assert again.keys() == alone.keys() == first.keys()
    assert all(torch.equal(again[name], alone[name]) for name in alone)
    assert not all(torch.equal(again[name], first[name]) for name in first)
    for other in (
        replace(recipe, seed=1),
        replace(recipe, pool=9),
        replace(recipe, withheld_kind="size"),
        replace(recipe, mislabelled=0.5),
    ):
        common.source(recipe)
        assert [p.caption for p in common.source(other).draw(0, 8)] == [
            p.caption for p in training_pairs.read_source(other).draw(0, 8)
        ], "pairs of other settings are other pairs"


@pytest.mark.usefixtures("few_measured")
def test_inputs_of_one_evaluation_serve_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_choice_sets", lambda: {"swaps": few_swaps})
    few_swaps = swaps(pixels=MODEL_PIXELS)[:3]
    workbench, opened = Workbench(Settings.from_environment({})), []

    def load(name: str, shade: float) -> ClipModel:
        model = ClipModel.load(workbench.card(name).spec)
        own = model.preprocess
        model.preprocess = lambda image: opened.append(image) or shade * own(image)
        return model

    model = load("mini-clip", 1.0)
    first = evaluate_clip(model, "mini")
    assert len(opened) >= 28
    opened.clear()
    assert evaluate_clip(model, "mini") == first
    assert len(opened) <= 1, "one picture tells how large they are"
    darker = load("mini-clip", 0.0)
    assert evaluate_clip(darker, "mini") != first
    assert len(opened) >= 28, "another way of preparing them has inputs of its own"
