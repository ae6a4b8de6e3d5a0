"""Fine-tuning from a recipe to a file: exact resumption, stops, what is measured, what is kept, what is refused."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP

from sdsdemo.app.hub_upload import card
from sdsdemo.app.job_states import Job
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after, prepare
from sdsdemo.finetuning.console_report import as_text
from sdsdemo.finetuning.events import Done, Evaluated, Event, Notice, Step, WeightsSaved, Working
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import CHECKPOINT, LOG, TuningFolder
from sdsdemo.finetuning.setup import check_size
from sdsdemo.finetuning.student import Student
from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.mini.models import clip
from sdsdemo.models import cards
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import read_delta, read_header
from sdsdemo.runtime.distributed import Processes
from sdsdemo.settings import ROOT, Settings
from sdsdemo.ui.finetune_html import result_html
from tests.damage import damaged

TINY = Recipe(steps=6, batch=4, pool=16, fitted_on=8, warm_up=1, keep_every=2, measure_every=3, teacher_timesteps=2)
COUNT = 7


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs") / "small"
    write_benchmark(folder, seed=3, split="validation", count=COUNT)
    return f"folder:{folder}"


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sets, of few examples."""
    monkeypatch.setattr(before_after, "ZERO_SHOT", 6)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 5))


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))


@pytest.fixture
def run(benchmark: str, workbench: Workbench, tmp_path: Path) -> Any:
    """Runs a recipe to its end, or through `until`: `run(name, stop_at=..., **changes)`; gives the events."""

    def go(name: str = "run", *, resume: bool = False, stop_at: Any = None, **changes: Any) -> list[Event]:
        recipe = replace(TINY, measure=benchmark, **changes)
        events: list[Event] = []
        for event in finetune(recipe, tmp_path / name, workbench=workbench, resume=resume):
            events.append(event)
            if stop_at is not None and stop_at(event):
                TuningFolder(tmp_path / name).ask_to_stop()
        return events

    return go


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_delta(path / "model.safetensors")[0]


@pytest.mark.parametrize("objective", ["clip", "sds", "negatives", "preference", "labels", "features"])
def test_every_objective_runs_to_its_end_and_tells_its_story(run: Any, tmp_path: Path, objective: str) -> None:
    events = run(objective=objective)
    assert done(events).state == "finished"
    assert [event.step for event in events if isinstance(event, Step)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 3, 6]
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert (header["objective"], header["steps_done"], header["seed"]) == (objective, 6, 0)
    assert header["recipe"]["learning_rate"] == TINY.learning_rate
    assert header["measured"]["sets"][header["measured"]["benchmark"]]["n"] == COUNT
    assert {name.partition(".")[0] for name in tensors(tmp_path / "run")} == {"clip"} | (
        {"h_w"} if objective == "sds" else set()
    )
    assert len(list((tmp_path / "run").glob("*.run"))) == 2  # so that more steps can follow, were one damaged


@pytest.mark.parametrize(("objective", "towers"), [("sds", "both"), ("preference", "both"), ("preference", "text")])
def test_a_resumed_run_gives_the_same_weights_bit_for_bit(
    run: Any, tmp_path: Path, objective: str, towers: str
) -> None:
    recipe = {"objective": objective, "towers": towers}
    run("straight", **recipe)
    first = run("cut", **recipe, stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    assert done(first).state == "stopped"
    second = run("cut", **recipe, resume=True)
    assert [event.step for event in second if isinstance(event, Step)] == [4, 5, 6]
    straight, cut = tensors(tmp_path / "straight"), tensors(tmp_path / "cut")
    assert straight.keys() == cut.keys()
    assert all(torch.equal(straight[name], cut[name]) for name in straight)
    rows = TuningFolder(tmp_path / "cut").log()
    assert sorted(row["step"] for row in rows if "what" not in row) == [1, 2, 3, 4, 5, 6]


def test_wise_ft_keeps_a_share_of_the_way_from_the_base(run: Any, tmp_path: Path, workbench: Workbench) -> None:
    for name, share in (("whole", 1.0), ("part", 0.25), ("none", 0.0)):
        run(name, objective="clip", trained="all", wise_ft=share)
    base = ClipModel.load(workbench.card("mini-clip").spec).module.state_dict()
    whole, part = tensors(tmp_path / "whole"), tensors(tmp_path / "part")
    assert whole.keys() == part.keys()
    for name, tensor in whole.items():
        began = base[name.removeprefix("clip.")]
        torch.testing.assert_close(part[name], began + 0.25 * (tensor - began))
    assert not tensors(tmp_path / "none")
    flipped = TuningFolder(tmp_path / "none").read()["measured"]["flipped"]
    assert flipped["fixed"] == flipped["broken"] == []


def test_a_wise_ft_run_resumes_from_the_trained_weights(run: Any, tmp_path: Path) -> None:
    recipe = {"objective": "clip", "wise_ft": 0.5}
    run("straight", **recipe)
    run("cut", **recipe, stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    run("cut", **recipe, resume=True)
    straight, cut = tensors(tmp_path / "straight"), tensors(tmp_path / "cut")
    assert all(torch.equal(straight[name], cut[name]) for name in straight)


def test_a_run_from_before_a_setting_was_added_can_be_continued(run: Any, tmp_path: Path) -> None:
    run("run", objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    del record["recipe"]["wise_ft"]
    path.write_text(json.dumps(record))
    assert done(run("run", objective="clip", resume=True)).state == "finished"


@pytest.mark.parametrize("towers", ["text", "image"])
def test_a_frozen_tower_runs_once_per_input_without_changing_results(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towers: str
) -> None:
    recipe = {"objective": "labels", "towers": towers, "steps": 8}  # two epochs
    met: list[int] = []
    name = {"text": "encode_image", "image": "encode_text"}[towers]
    real = getattr(CLIP, name)
    monkeypatch.setattr(CLIP, name, lambda self, rows, **more: met.append(len(rows)) or real(self, rows, **more))
    looked: list[int] = []

    def count(event: Event) -> bool:
        looked.append(sum(met)) if isinstance(event, Step) else None
        return False

    run("once", **recipe, measure_every=8, stop_at=count)
    assert looked[0] == looked[-1], "a step ran the frozen tower"

    def encode_nothing(loaded: Any, batches: Any) -> Iterator[Event]:
        yield from ()

    monkeypatch.setattr(prepare, "_encode_frozen", encode_nothing)
    run("always", **recipe)
    once, always = tensors(tmp_path / "once"), tensors(tmp_path / "always")
    assert once.keys() == always.keys()
    assert all(torch.allclose(once[key], always[key], atol=1e-4) for key in once)


def test_a_run_of_no_steps_changes_no_score(run: Any, tmp_path: Path, workbench: Workbench) -> None:
    assert done(run(steps=0, objective="clip")).state == "finished"
    code = (
        "import sys, numpy as np; from sdsdemo.app.workbench import Workbench; from sdsdemo.settings import budget;"
        "from sdsdemo.data.benchmarks import read_benchmark; w = Workbench(); e = read_benchmark('mini')[:4];"
        "a, b = ([s.score_IC for s in w.scorer(n).score_examples(e, budget())] for n in ('mini-clip', sys.argv[1]));"
        "print(all(np.array_equal(x, y) for x, y in zip(a, b)))"
    )
    model = f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    fresh = subprocess.run(
        [sys.executable, "-c", code, model], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert fresh.stdout.strip() == "True", fresh.stderr


def test_a_stop_while_the_teacher_is_asked_is_obeyed_and_the_file_loads(
    run: Any, tmp_path: Path, workbench: Workbench
) -> None:
    events = run(objective="preference", stop_at=lambda event: isinstance(event, Working) and "teacher" in event.text)
    assert done(events).state == "stopped"
    assert not any(isinstance(event, Step) for event in events)
    assert any(isinstance(event, WeightsSaved) for event in events)
    assert workbench.scorer(f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}")


def test_the_weights_are_written_before_anything_else_is_measured(run: Any) -> None:
    events = run(objective="clip")
    kinds = [type(event) for event in events]
    assert kinds.index(WeightsSaved) < len(kinds) - 1 - kinds[::-1].index(Evaluated)


def test_the_teacher_is_asked_about_a_pair_once_whatever_the_run(run: Any) -> None:
    first, second = (done(run(name, objective="preference")).record["preferences"] for name in ("a", "b"))
    assert first["asked"] > 0
    assert first["evaluations"] == first["asked"] * 2 * TINY.teacher_timesteps
    assert (second["asked"], second["evaluations"]) == (0, 0)
    assert second["pairs"] == first["pairs"]


def test_permuted_preferences_are_another_run(run: Any, tmp_path: Path) -> None:
    run("own", objective="preference")
    run("permuted", objective="preference", permuted=True)
    own, permuted = tensors(tmp_path / "own"), tensors(tmp_path / "permuted")
    assert any(not torch.equal(own[name], permuted[name]) for name in own)


def test_shuffled_captions_are_another_run_with_the_same_data(run: Any, tmp_path: Path) -> None:
    a, b = done(run("own", objective="sds")).record, done(run("shuffled", objective="sds", shuffled=True)).record
    assert a["data"] == b["data"]
    assert any(not torch.equal(t, tensors(tmp_path / "shuffled")[n]) for n, t in tensors(tmp_path / "own").items())


def test_the_controls_of_l_sds_are_logged_with_its_gradient(run: Any) -> None:
    events = run(objective="sds")
    record = done(events).record
    assert set(record["controls"]) == {"0", "3", "6"}
    found = record["controls"]["0"]
    assert found["true"] < found["true shuffled"]  # the teacher reads captions
    assert found["gradient on CLIP"] > 0
    assert -1 <= found["cosine with shuffled"] < 1
    assert any(isinstance(event, Notice) and "shuffled captions" in event.text for event in events)


def test_before_and_after_are_those_of_the_evaluation(run: Any, benchmark: str, tmp_path: Path) -> None:
    from sdsdemo.evaluation.run import evaluate
    from sdsdemo.settings import budget

    record = done(run(objective="labels", trained="all", learning_rate=1e-2)).record
    model = f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}"
    found = evaluate(benchmark, ["mini-clip", model], workbench=Workbench(), budget=budget())
    for name, when in (("mini-clip", "before"), (model, "after")):
        for metric in ("text", "image", "group"):
            ours = record["measured"]["sets"][benchmark]["metrics"][metric][when]
            assert ours["value"] == found["models"][name][metric]["value"], (name, metric)


def test_a_nan_loss_says_what_to_do_and_keeps_the_last_good_weights(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdsdemo.finetuning.objectives import Objective

    whole = Objective._losses

    def spoiled(self: Objective, batch: Any, rows: Any, features: Any, own: Any, step: int) -> Any:
        losses = whole(self, batch, rows, features, own, step)
        return {name: value * float("nan") if step == 4 else value for name, value in losses.items()}

    monkeypatch.setattr(Objective, "_losses", spoiled)
    events = run(objective="clip", trained="all")
    assert (done(events).state, done(events).record["steps_done"]) == ("failed", 4)
    assert "lower learning rate" in done(events).reason
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors(tmp_path / "run").values())


def test_a_run_that_is_there_is_not_overwritten(run: Any) -> None:
    run(objective="clip")
    with pytest.raises(UserError, match="--resume"):
        run(objective="clip")


@pytest.mark.parametrize("resume", [True, False])
def test_another_recipe_is_not_resumed(run: Any, resume: bool) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step))
    with pytest.raises(UserError, match="a different recipe"):
        run(objective="clip", resume=resume, lam=3.0)


def test_a_finished_run_is_not_made_again(run: Any) -> None:
    first = done(run(objective="clip")).record
    again = run(objective="clip", resume=True)
    assert not any(isinstance(event, Step) for event in again)
    assert done(again).record["seconds"] == first["seconds"]
    assert any(isinstance(event, Notice) and "already finished" in event.text for event in again)


def test_a_folder_of_something_else_is_named_as_such(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"benchmark": "mini"}')
    with pytest.raises(UserError, match="fine-tuning run: name another --out"):
        run(objective="clip")


def test_a_refused_run_leaves_no_folder_behind(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(base="nothing")
    assert not (tmp_path / "run").exists()


def test_a_fine_tuning_run_is_no_evaluation_and_says_what_to_do(run: Any, tmp_path: Path) -> None:
    from sdsdemo.evaluation.store import read_run

    run(objective="clip")
    with pytest.raises(UserError, match="sds-clip:FILE"):
        read_run(tmp_path / "run")


def test_other_weights_of_the_base_are_not_resumed(run: Any, tmp_path: Path) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step))
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"base_fingerprint": "other"}))
    with pytest.raises(UserError, match="a different base"):
        run(objective="clip", resume=True)


def test_a_broken_checkpoint_is_said_and_nothing_is_lost(run: Any, tmp_path: Path) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 4)
    for path in (tmp_path / "run").glob("*.run"):
        path.write_bytes(b"no checkpoint")
    (tmp_path / "run" / "STOP").unlink()
    was = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UserError, match="cannot be used"):
        run(objective="clip", resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == was


@pytest.mark.parametrize("damage", [b"no checkpoint", b"", None], ids=["other", "empty", "cut"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run: Any, tmp_path: Path, damage: bytes | None) -> None:
    whole = run(objective="clip", keep_every=1)
    expected = tensors(tmp_path / "run")
    assert done(whole).state == "finished"
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    run(objective="clip", keep_every=1, stop_at=lambda event: isinstance(event, Step) and event.step == 4)
    newest = tmp_path / "run" / CHECKPOINT
    newest.write_bytes(newest.read_bytes()[:-200] if damage is None else damage)
    events = run(objective="clip", keep_every=1, resume=True)
    told = [event.text for event in events if isinstance(event, Notice)]
    assert any("resuming from the one before, at step" in text for text in told)
    assert done(events).state == "finished"
    for name, tensor in tensors(tmp_path / "run").items():
        assert torch.equal(tensor, expected[name])


def test_a_finished_run_goes_on_to_more_steps(run: Any, tmp_path: Path) -> None:
    run(objective="clip")
    events = run(objective="clip", steps=9, resume=True)
    assert [event.step for event in events if isinstance(event, Step)] == [7, 8, 9]
    assert done(events).record["steps_done"] == 9
    assert any("now makes 9" in event.text for event in events if isinstance(event, Notice))
    with pytest.raises(UserError, match="a different recipe"):
        run(objective="clip", steps=5, resume=True)


def test_one_process_trains_in_a_folder_at_a_time(tmp_path: Path, benchmark: str, workbench: Workbench) -> None:
    recipe = replace(TINY, objective="clip", measure=benchmark)
    first = finetune(recipe, tmp_path / "run", workbench=workbench)
    next(first)
    with pytest.raises(UserError, match="being trained"):
        next(finetune(recipe, tmp_path / "run", workbench=workbench, resume=True))
    assert TuningFolder(tmp_path / "run").read()["state"] == "preparing"
    first.close()
    assert TuningFolder(tmp_path / "run").read()["state"] == "interrupted"


def test_a_full_disk_is_a_sentence(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: TuningFolder, row: Any) -> None:
        raise UserError("The folder 'run' cannot be written (No space left on device): make room.")

    monkeypatch.setattr(TuningFolder, "append", full)
    assert "make room" in done(run(objective="clip")).reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "mini-diffusion"}, "must be a CLIP"),
        ({"teacher": "mini-clip"}, "must be a diffusion model"),
        ({"base": "nothing"}, "no model called"),
        ({"data": "folder:."}, "only the words of the Mini world"),
        ({"data": "folder:nowhere"}, "no folder 'nowhere'"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_starts(run: Any, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(**changes)


def test_a_gpu_that_is_full_once_halves_the_micro_batch_and_says_so(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdsdemo.finetuning.objectives import Objective

    whole, asked = Objective.__call__, []

    def crowded(self: Objective, step: int) -> Iterator[Any]:
        asked.append(self.parts)
        if self.parts == 1:
            raise torch.OutOfMemoryError
        return whole(self, step)

    monkeypatch.setattr(Objective, "__call__", crowded)
    events = run(objective="clip")
    assert done(events).state == "finished"
    assert asked[:2] == [1, 2]
    assert sum("half as large" in event.text for event in events if isinstance(event, Notice)) == 1


def test_a_cut_last_line_of_the_log_is_dropped(run: Any, tmp_path: Path) -> None:
    run(objective="clip")
    whole = TuningFolder(tmp_path / "run").log()
    with (tmp_path / "run" / LOG).open("a") as file:
        file.write('{"step": 7, "lo')
    assert TuningFolder(tmp_path / "run").log() == whole


def test_a_published_model_is_never_touched(run: Any) -> None:
    before = cards.fingerprint(cards.resolve("mini-clip"))
    run(objective="labels", trained="all", learning_rate=1e-2)
    assert cards.fingerprint(cards.resolve("mini-clip")) == before


def test_withheld_swaps_are_reported_apart(run: Any) -> None:
    record = done(run(objective="labels", withheld_kind="colour")).record
    assert "colour" not in record["data"]["swaps"]
    assert record["measured"]["withheld"]["kind"]["withheld"] == "colour"
    assert record["measured"]["withheld"]["kind"]["change"]["n"] > 0


def test_non_inferiority_needs_a_suitable_base_and_the_margin() -> None:
    right, all_E = np.arange(1000) % 10 < 7, np.ones(1000, bool)
    same, worse = before_after._kept(before_after._row(right, right, all_E), all_E), right.copy()
    worse[np.flatnonzero(right)[:15]] = False  # -1.5 points, and the interval reaches further down than -2
    assert same == {"kept": True}
    assert before_after._kept(before_after._row(right, worse, all_E), all_E) == {"kept": False}
    assert before_after._kept(before_after._row(all_E, all_E, all_E), all_E) == {"kept": None}
    assert before_after._kept(before_after._row(right, right, all_E), np.arange(1000) > 0) == {"kept": False}


@pytest.mark.parametrize("broken", [1, 3, COUNT])
def test_scores_that_are_no_numbers_are_in_no_figure_and_are_said(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """broken: examples of the watched set whose image features are NaN after training."""
    right, judge = [], before_after.judge

    def judged(scores_E: Any) -> Any:
        """Looks at each of the three sets before and after, and on the way at the first."""
        right.append(judge(scores_E))
        if len(right) != 4 + 1:
            return right[-1]
        for scores in scores_E[:broken]:
            scores.score_IC[0, 0] = np.nan
        return judge(scores_E)

    monkeypatch.setattr(before_after, "judge", judged)
    record = done(run(objective="clip")).record
    stored = TuningFolder(tmp_path / "run").read()["measured"]
    first = stored["sets"][stored["benchmark"]]
    assert first["n"] == COUNT
    assert first["not_finite"] == {"before": 0, "after": broken}
    row, told = first["metrics"]["text"], slice(broken, None)
    assert [row[when]["n"] for when in ("before", "after", "change")] == [COUNT - broken] * 3
    wanted = [int(right[look].right["text"][told].sum()) for look in (0, 4)]
    if broken < COUNT:
        assert [row[when]["value"] * (COUNT - broken) for when in ("before", "after")] == pytest.approx(wanted)
        assert row["change"]["gained"] - row["change"]["lost"] == wanted[1] - wanted[0]
    else:
        assert row["change"]["value"] is row["before"]["value"] is None
    assert all("not_finite" not in found for name, found in stored["sets"].items() if name != stored["benchmark"])
    said = f"a score that is not a finite number: 0 of {COUNT} before, {broken} of {COUNT} after"
    assert said in as_text(record, tmp_path)
    stored_record = TuningFolder(tmp_path / "run").read()
    assert said in result_html(Job(id="a", recipe=TINY, state="finished", record=stored_record))
    assert said in card(stored_record, "ada/my-clip")


def test_a_cosine_says_in_which_tower_the_two_are_alike(run: Any) -> None:
    cosine = done(run(objective="clip")).record["measured"]["cosine"]
    assert set(cosine) == {"captions", "images"}
    assert all(0 < was <= 1 for was, _ in cosine.values())


def test_a_pickle_renamed_to_safetensors_is_refused(tmp_path: Path) -> None:
    torch.save({"clip.x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        Workbench().scorer(f"sds-clip:{tmp_path / 'model.safetensors'}")


def test_folders_of_fine_tuning_are_no_runs_of_a_benchmark(run: Any, tmp_path: Path) -> None:
    from sdsdemo.app.run_registry import RunRegistry

    run("tuned", objective="clip")
    registry = RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path)}), assets=tmp_path / "none")
    assert registry.names() == []
    shutil.rmtree(tmp_path / "tuned")


def test_a_stop_during_an_evaluation_is_obeyed_at_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_after, "AT_ONCE", 1)
    opened: list[str] = []
    whole = before_after.Evaluator._input

    def counted(self: Any, key: str, picture: Any) -> Any:
        opened.append(key)
        return whole(self, key, picture)

    monkeypatch.setattr(before_after.Evaluator, "_input", counted)
    before = run(
        "before", objective="clip", stop_at=lambda event: isinstance(event, Working) and "evaluation" in event.text
    )
    assert done(before).state == "stopped"
    assert opened == []
    on_the_way = run("way", objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    assert done(on_the_way).state == "stopped"
    assert [event.step for event in on_the_way if isinstance(event, Evaluated)] == [
        0,
        3,
    ]  # the last one is the look after


@pytest.mark.parametrize(("batch", "count", "near"), [(5, 2, "4 or 6"), (2, 3, "take 3"), (32, 7, "28 or 35")])
def test_a_batch_that_processes_cannot_share_is_refused_by_each(
    tmp_path: Path, workbench: Workbench, batch: int, count: int, near: str
) -> None:
    for index in range(count):
        processes = Processes(index=index, count=count)
        with pytest.raises(UserError, match=near):
            next(finetune(replace(TINY, batch=batch), tmp_path / "run", workbench=workbench, processes=processes))
    assert not (tmp_path / "run").exists()


def test_no_steps_are_measured_as_no_change(run: Any) -> None:
    measured = done(run(steps=0, objective="clip")).record["measured"]
    rows = [row for found in measured["sets"].values() for row in found["metrics"].values()]
    assert rows
    for row in rows:
        assert row["before"] == row["after"]
        assert (row["change"]["value"], row["change"]["gained"], row["change"]["lost"]) == (0.0, 0, 0)
        assert row["change"]["p"] == 1.0


def test_a_stop_before_the_run_has_begun_is_obeyed(tmp_path: Path, benchmark: str, workbench: Workbench) -> None:
    (tmp_path / "run").mkdir()
    TuningFolder(tmp_path / "run").ask_to_stop()
    recipe = replace(TINY, objective="clip", measure=benchmark)
    events = list(finetune(recipe, tmp_path / "run", workbench=workbench))
    assert done(events).state == "stopped"
    assert not any(isinstance(event, Step) for event in events)


def test_an_old_wish_to_stop_does_not_stop_the_run_that_goes_on(run: Any, tmp_path: Path) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    TuningFolder(tmp_path / "run").ask_to_stop()
    assert done(run(objective="clip", resume=True)).state == "finished"


@pytest.mark.parametrize("after", [Step, WeightsSaved, Evaluated])
def test_a_stop_after_the_last_step_is_no_finished_run(run: Any, tmp_path: Path, after: type) -> None:
    made: list[int] = []

    def late(event: Event) -> bool:
        made.append(event.step) if isinstance(event, Step) else None
        return made[-1:] == [6] and isinstance(event, after)

    assert done(run(objective="clip", stop_at=late)).state == "stopped"
    record = TuningFolder(tmp_path / "run").read()
    assert (record["state"], record["steps_done"]) == ("stopped", 6)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert done(run(objective="clip", resume=True)).state == "finished"


def test_a_slow_evaluation_after_a_stop_is_skipped_and_said(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.finetuning.ending.EVALUATION_AFTER_STOP", -1.0)
    events = run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    assert done(events).state == "stopped"
    assert "measured" not in done(events).record
    assert any(isinstance(event, Notice) and "not measured" in event.text for event in events)


def test_a_run_that_failed_before_its_first_step_leaves_its_folder_free(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_few(recipe: Recipe) -> Any:
        raise UserError("Too many are held out.")

    with monkeypatch.context() as patch:
        patch.setattr("sdsdemo.finetuning.setup.read_source", too_few)
        assert done(run(objective="clip")).state == "failed"
    assert done(run(objective="clip", steps=2)).state == "finished"


@pytest.mark.parametrize(("images", "batch"), [(1, 8), (7, 8), (25, 50)])
def test_data_with_fewer_images_than_a_batch_are_refused(images: int, batch: int) -> None:
    with pytest.raises(UserError, match=f"have {images} images to train on.*--batch"):
        check_size(Recipe(objective="clip", batch=batch), {"items": images + 3, "held_out": 3})


def test_what_h_w_explains_is_measured_on_other_images() -> None:
    torch.manual_seed(0)
    student = Student(clip.fresh(), (2, 2, 2))
    features, latents = torch.randn(24, clip.WIDTH), torch.randn(24, 2, 2, 2)
    assert student.fit(features[:8], latents[:8]) > 0.99  # learnt by heart
    assert student.explains(features[8:], latents[8:]) < 0.5


@pytest.mark.parametrize("phase", ["loading", "reading", "baseline evaluation"])
def test_a_stop_before_a_run_goes_on_keeps_its_weights(run: Any, tmp_path: Path, phase: str) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    kept = (tmp_path / "run" / "model.safetensors").read_bytes()
    events = run(
        objective="clip", resume=True, stop_at=lambda event: isinstance(event, Working) and phase in event.text
    )
    assert (done(events).state, done(events).record["steps_done"]) == ("stopped", 3)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == kept
    assert not any(isinstance(event, Evaluated) and event.step for event in events)
    again = run(objective="clip", resume=True)
    assert [event.step for event in again if isinstance(event, Step)] == [4, 5, 6]


def damage_both(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("*.run"):
        path.write_bytes(path.read_bytes()[:-100])


def lose_both(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("*.run"):
        path.unlink()


def take_another_s(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("*.run"):
        state = torch.load(path, weights_only=True)
        state["parameters"] = {f"other.{name}": tensor for name, tensor in state["parameters"].items()}
        torch.save(state, path)


def load_no_base(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise UserError("The base is gone.")

    patch.setattr("sdsdemo.finetuning.setup.ClipModel.load", refuse)


def read_no_data(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(recipe: Recipe) -> Any:
        raise UserError("The data are gone.")

    patch.setattr("sdsdemo.finetuning.setup.read_source", refuse)


@pytest.mark.parametrize("damage", [damage_both, lose_both, take_another_s, load_no_base, read_no_data])
def test_a_resume_that_fails_leaves_the_run_as_it_was(
    run: Any, tmp_path: Path, damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(objective="clip")
    kept, folder = TuningFolder(tmp_path / "run"), tmp_path / "run"
    record, rows, model = kept.read(), kept.log(), kept.model.read_bytes()
    assert record["measured"]
    damage(folder, monkeypatch)
    try:
        last = done(run(objective="clip", steps=9, resume=True))
    except UserError:
        pass
    else:
        assert last.state == "failed"
        assert "unchanged" in last.reason
    assert (kept.read(), kept.log(), kept.model.read_bytes()) == (record, rows, model)


@pytest.mark.parametrize("phase", [Working, Evaluated, Notice])
def test_a_stop_before_more_steps_keeps_what_was_measured(run: Any, tmp_path: Path, phase: type) -> None:
    run(objective="sds")
    kept = TuningFolder(tmp_path / "run")
    record, model = kept.read(), kept.model.read_bytes()
    last = done(run(objective="sds", steps=9, resume=True, stop_at=lambda event: isinstance(event, phase)))
    assert (last.state, kept.read(), kept.model.read_bytes()) == ("stopped", record, model)
    assert done(run(objective="sds", steps=9, resume=True)).record["steps_done"] == 9


def test_a_finished_run_with_a_damaged_checkpoint_goes_on_from_the_other(run: Any, tmp_path: Path) -> None:
    run(objective="clip")
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"cut")
    events = run(objective="clip", steps=9, resume=True)
    assert [event.step for event in events if isinstance(event, Step)] == [5, 6, 7, 8, 9]
    assert done(events).state == "finished"


@pytest.mark.parametrize("exists", [True, False])
def test_a_resume_without_a_run_says_that_one_begins(run: Any, tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "run").mkdir()
    first = run(objective="clip", steps=1, resume=True)[0]
    assert first == Notice(text=f"There is nothing to resume in '{tmp_path / 'run'}': starting a new run.")


def test_a_run_begun_under_fingerprints_of_weights_alone_goes_on(run: Any, tmp_path: Path) -> None:
    run(objective="sds", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    path = tmp_path / "run" / "run.json"
    older = {
        f"{what}_fingerprint": cards.weights_fingerprint(cards.resolve(getattr(TINY, what)))
        for what in ("base", "teacher")
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | older))
    assert done(run(objective="sds", resume=True)).state == "finished"
    path.write_text(json.dumps(json.loads(path.read_text()) | older | {"teacher_fingerprint": "other"}))
    with pytest.raises(UserError, match="a different teacher"):
        run(objective="sds", steps=9, resume=True)


def test_messages_name_the_folder_as_it_was_typed(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(objective="clip", steps=1)
    recipe, typed = replace(TINY, objective="clip"), Path("./here/../run")
    (tmp_path / "here").mkdir()
    for asked in (recipe, replace(recipe, lam=3.0)):
        with pytest.raises(UserError, match=re.escape(f"'{typed}'")):
            list(finetune(asked, typed, workbench=Workbench()))
    with (
        TuningFolder(typed).held(),
        pytest.raises(UserError, match=re.escape(f"'{typed}'")),
        TuningFolder(typed).held(),
    ):
        pass
    with pytest.raises(UserError, match=re.escape("'nowhere/data'")):
        list(
            finetune(
                replace(recipe, base="clip-vit-b-32", data="folder:nowhere/data"), Path("new"), workbench=Downloaded()
            )
        )


class Downloaded(Workbench):
    """As where every card is there already."""

    def availability(self, card: Any) -> Any:
        return SimpleNamespace(can_run=True)


class Threads(Processes):
    """Processes that are threads of one, and meet at a barrier."""

    def __init__(self, index: int, barrier: threading.Barrier, shared: list[list[Any]]) -> None:
        super().__init__(index=index, count=barrier.parties)
        object.__setattr__(self, "barrier", barrier)
        object.__setattr__(self, "shared", shared)

    def wait(self) -> None:
        self.barrier.wait(30)  # type: ignore[attr-defined]

    def gather(self, items: list[Any]) -> list[Any]:
        self.shared[self.index] = items  # type: ignore[attr-defined]
        self.wait()
        found = [item for part in self.shared for item in part]  # type: ignore[attr-defined]
        self.wait()
        return found


def test_a_folder_that_is_taken_is_told_by_every_process(tmp_path: Path, benchmark: str, workbench: Workbench) -> None:
    barrier, shared, said = threading.Barrier(3), [[], [], []], []
    recipe = replace(TINY, objective="clip", measure=benchmark, batch=6)

    def process(index: int) -> None:
        processes = Threads(index, barrier, shared)
        try:
            list(finetune(recipe, tmp_path / "run", workbench=workbench, processes=processes))
        except UserError as error:
            said.append(str(error))

    with TuningFolder(tmp_path / "run").held():
        threads = [threading.Thread(target=process, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(said) == 3
    assert all("is being trained right now" in text for text in said)


def test_a_failure_before_the_first_step_is_told_reason_first() -> None:
    failed = {"state": "failed", "steps_done": 0, "steps": 2, "reason": "The data are gone.", "recipe": {}}
    assert as_text(failed, Path("out")) == "The data are gone."
    assert as_text(failed | {"steps_done": 1}, Path("out")).startswith("Failed after 1 of 2 steps: The data")


@pytest.mark.parametrize("name", ["run.json", LOG])
def test_damaged_files_of_a_run_are_read_or_refused_in_a_sentence(run: Any, tmp_path: Path, name: str) -> None:
    run(objective="clip", steps=2)
    kept, path = TuningFolder(tmp_path / "run"), tmp_path / "run" / name
    whole, read, refused = path.read_bytes(), 0, 0
    for seed in range(400):
        path.write_bytes(damaged(whole, seed, lines=name == LOG))
        try:
            if name == LOG:
                kept.log()
            else:
                as_text(kept.read(), kept.path)
        except UserError:
            refused += 1
        else:
            read += 1
    assert min(read, refused) > 20


def test_a_damaged_record_is_resumed_or_refused_in_a_sentence(run: Any, tmp_path: Path) -> None:
    run(objective="clip", steps=2)
    path = tmp_path / "run" / "run.json"
    whole, refused = path.read_bytes(), 0
    for seed in range(300):
        path.write_bytes(damaged(whole, seed))
        recipe = replace(TINY, objective="clip", steps=2, measure=json.loads(whole)["recipe"]["measure"])
        try:
            events = finetune(recipe, tmp_path / "run", workbench=Workbench(), resume=True)
            for _ in events:
                break  # what can be wrong with the record is known before the first event
            events.close()
        except UserError:
            refused += 1
    assert refused > 20


STOPS = 10
MOST_SECONDS = 2.0
"""From the wish to stop to the end of the run."""


def stopped_after(recipe: Recipe, out: Path, workbench: Workbench, seconds: float) -> tuple[str, float]:
    """A run that is stopped so long after its start: its state, and how long it took to end."""
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.monotonic())
        TuningFolder(out).ask_to_stop()

    out.mkdir()
    timer = threading.Timer(seconds, ask)
    timer.start()
    *_, last = finetune(recipe, out, workbench=workbench)
    ended = time.monotonic()
    timer.join()
    assert isinstance(last, Done)
    return last.state, ended - asked[0]


def test_a_stop_at_any_moment_is_quick_and_costs_no_weight(
    tmp_path: Path, benchmark: str, workbench: Workbench
) -> None:
    """A stop in the last milliseconds may come too late: then the run has finished."""
    recipe, draw = replace(TINY, measure=benchmark, fitted_on=64), random.Random(3)
    began = time.monotonic()
    *_, last = finetune(recipe, tmp_path / "straight", workbench=workbench)
    whole, expected = time.monotonic() - began, tensors(tmp_path / "straight")
    states = []
    for number in range(STOPS):
        out = tmp_path / f"cut {number}"
        state, late = stopped_after(recipe, out, workbench, whole * (number + draw.random()) / STOPS)
        states.append(state)
        assert state in ("stopped", "finished")
        assert late < MOST_SECONDS
        *_, last = finetune(recipe, out, workbench=workbench, resume=True)
        assert last.state == "finished"  # type: ignore[union-attr]
        found = tensors(out)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found), number
    assert states.count("stopped") > STOPS // 2
