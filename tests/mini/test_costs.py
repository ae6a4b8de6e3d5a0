"""What the objectives cost: counted from their recipes, timed apart, and shown as the file says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.estimate import Estimate, key
from sdsdemo.mini.experiments import costs as module
from sdsdemo.mini.experiments import flops, study_timing, total_timing
from sdsdemo.mini.experiments import tables as study_tables
from sdsdemo.mini.experiments import verdict as study_verdict
from sdsdemo.mini.experiments.costs import BEFOREHAND, IN_LOOP, TEXT_ALONE, measured, recipes, summed
from sdsdemo.mini.experiments.declared import CONFIRM, STUDIES, TOWER, TOWER_CONTRASTS
from sdsdemo.mini.experiments.flops import counted
from sdsdemo.mini.experiments.study_timing import Times
from sdsdemo.mini.models import clip as clips
from sdsdemo.mini.models import text_encoder
from sdsdemo.mini.models import unet as denoiser
from sdsdemo.settings import ASSETS, Settings, budget
from sdsdemo.ui import results_story

PAIRS = 2_000
COURSES = (
    "drawing", "autoencoder", "encoding", "clip", "taught clip", "clip's prompts", "clip of the 2 x 2",
    "taught clip of the 2 x 2", "prompts", "captions", "both", "denoiser",
)  # fmt: skip


def timed(step: float, item: float = 0.0) -> Estimate:
    return Estimate(loading=0.0, item=item, frozen=0.0, step=step, image=0.0, image_again=0.0, images=0, first_images=0)


def times() -> dict[str, Estimate]:
    own = {IN_LOOP: timed(0.5), BEFOREHAND: timed(0.1, item=0.05), TEXT_ALONE: timed(0.025, item=0.05)}
    return {cell: own.get(cell, timed(0.08)) for cell in recipes()}


def test_asking_once_is_paid_back_by_the_quicker_steps() -> None:
    cheaper = summed(times(), PAIRS)["cheaper"]
    assert (cheaper["loop_ratio"], cheaper["loop_ratio_text"]) == (5.0, 20.0)
    assert (cheaper["asking_seconds"], cheaper["steps"]) == (100.0, 250)
    recipe = CONFIRM.cells[BEFOREHAND]
    assert cheaper["epochs"] == pytest.approx(250 * recipe.batch / recipe.pool)
    assert cheaper["students"] == pytest.approx(250 / recipe.steps, abs=0.01)


def test_a_run_costs_its_steps_and_what_the_teacher_is_asked() -> None:
    cells, recipe = summed(times(), PAIRS)["cells"], CONFIRM.cells[BEFOREHAND]
    each = 2 * recipe.teacher_timesteps * recipe.teacher_noises
    assert cells[BEFOREHAND]["run_seconds"] == pytest.approx(recipe.steps * 0.1 + 100)
    assert (cells[BEFOREHAND]["forward"], cells[BEFOREHAND]["forward_and_back"]) == (PAIRS * each, 0)
    assert (cells[IN_LOOP]["forward"], cells[IN_LOOP]["forward_and_back"]) == (0, recipe.steps * recipe.batch)
    assert (cells["clip"]["forward"], cells["clip"]["forward_and_back"]) == (0, 0)


@pytest.mark.slow
def test_the_recipes_of_the_confirmation_are_timed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_after, "ZERO_SHOT", 3)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 3))
    monkeypatch.setattr(module, "TIMED_STEPS", 2)
    monkeypatch.setattr(module, "operations", lambda note: {"mini": {}})
    tiny = {"steps": 3, "batch": 4, "pool": 8, "fitted_on": 4, "teacher_timesteps": 2}
    cells = {cell: replace(CONFIRM.cells[cell], **tiny) for cell in (IN_LOOP, BEFOREHAND)}
    monkeypatch.setattr(module, "CONFIRM", replace(CONFIRM, cells=cells))
    alone = {cell: replace(TOWER.cells[cell], **tiny) for cell in TOWER_CONTRASTS[0]}
    monkeypatch.setattr(module, "TOWER", replace(TOWER, cells=alone))
    monkeypatch.setattr(module, "TOWER_CONTRASTS", TOWER_CONTRASTS[:1])
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    with pytest.raises(UserError, match="mini study confirm"):
        measured([], workbench, lambda line: None)
    said: list[str] = []
    found = measured([{"preferences": {"pairs": 8}}], workbench, said.append)
    assert len(said) == len(found["cells"]) == 3
    assert all(cell["step_seconds"] > 0 for cell in found["cells"].values())
    json.dumps(found)


@pytest.mark.slow
def test_everything_from_scratch_is_timed_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(total_timing, "STEPS", 3)
    monkeypatch.setattr(total_timing, "PICTURES", 60)
    kinds = [key(study_timing.kind(recipe)) for study in STUDIES.values() for _, recipe in study.runs()]
    times = Times(
        around=dict.fromkeys(kinds, 0.0), step=dict.fromkeys(kinds, 0.1), evaluation={True: 0.0, False: 0.0},
        pairs=0.0, asking=0.0,
    )  # fmt: skip
    shared: list[int] = []
    monkeypatch.setattr(study_timing, "measured", lambda processes: shared.append(processes) or times)
    cells = {cell: {"step_seconds": 0.0, "run_seconds": 0.0} for cell in CONFIRM.cells}
    costs = {"cells": cells, "cheaper": {"pairs": PAIRS}}
    found = total_timing.hours(costs, 2, lambda line: None)
    assert shared == [2]
    assert found["studies"] == pytest.approx(study_timing.study_seconds(times, PAIRS, 2) / 3600, abs=0.01)
    assert found["whole"] == pytest.approx(
        sum(found[part] for part in ("models", "variants", "lesson", "studies")), abs=0.02
    )
    assert min(found.values()) > 0.05
    slower = replace(times, evaluation={True: 3600.0, False: 0.0}, asking=1.0)
    monkeypatch.setattr(study_timing, "measured", lambda processes: slower)
    each = study_timing.scoring_seconds(slower, budget(), 400) / 3600
    monkeypatch.setattr(total_timing, "_seconds", lambda work: ((name, 0.0) for name in COURSES))
    unscored = total_timing.hours(costs, 2, lambda line: None)
    assert unscored["variants"] == pytest.approx(3 + 4 * each, abs=0.01)
    assert unscored["lesson"] == pytest.approx(4 * each, abs=0.01)
    second = {name: float(2**k) for k, name in enumerate(COURSES)}
    monkeypatch.setattr(total_timing, "_seconds", lambda work: iter(second.items()))
    trained = total_timing.hours(costs, 2, lambda line: None)["lesson"] - unscored["lesson"]
    clips = 1500 * (second["clip of the 2 x 2"] + second["taught clip of the 2 x 2"]) + 500 * second["clip's prompts"]
    assert 3600 * trained == pytest.approx(3 * clips + 2 * 1500 * (second["both"] + second["denoiser"]), rel=1e-3)
    said = study_verdict.whole_words({"machine": "this one", "whole": found})
    assert f"takes about {found['whole']:.1f} hours (this one)" in said
    assert "of the lesson" in said
    assert study_verdict.UNTIMED not in said
    del found["lesson"]
    assert study_verdict.UNTIMED in study_verdict.whole_words({"machine": "this one", "whole": found})
    assert study_verdict.whole_words({}) == ""


@pytest.mark.slow
def test_operations_are_those_of_the_networks_that_a_step_runs() -> None:
    """A matrix product forward and back; the denoiser is there in `sds` alone, and the images are not read twice."""
    with torch.device("meta"):
        clip, unet = clips.fresh(), denoiser.fresh()
    found = counted(clip, unet)
    of = flops.PAIRS
    unet_alone = flops._count(
        lambda: (
            unet(
                torch.empty(of, 4, 8, 8, device="meta", requires_grad=True),
                torch.zeros(of, device="meta"),
                encoder_hidden_states=torch.empty(of, clip.context_length, text_encoder.WIDTH, device="meta"),
            )
            .sample.square()
            .mean()
        )
    )
    pixels = torch.empty(of, 3, 64, 64, device="meta")
    image = flops._count(lambda: clip.encode_image(pixels).sum())
    text = found["preference, text tower alone"] / 2
    assert found["preference"] == pytest.approx(image + 2 * text, rel=0.02)
    assert found["sds"] == pytest.approx(image + text + unet_alone, rel=0.02)
    linear = torch.nn.Linear(10, 20, device="meta")
    assert flops._count(lambda: linear(torch.empty(3, 10, device="meta")).sum()) * of * 1e9 == pytest.approx(
        2 * 2 * 3 * 10 * 20, rel=1e-6, abs=of * 1e6
    )


def test_the_words_say_what_the_size_of_the_denoiser_does() -> None:
    found = summed(times(), PAIRS) | {"machine": "this one"}
    assert "operations" not in study_verdict.costs_words(found)
    sizes = {"mini": (4.0, 2.0, 1.0), "paper": (190.0, 10.0, 2.5)}
    names = ("sds", "preference", "preference, text tower alone")
    said = study_verdict.costs_words(
        found | {"operations": {size: dict(zip(names, values, strict=True)) for size, values in sizes.items()}}
    )
    assert "2.0 and 4.0 here, where" in said
    assert "19 and 76 for a ViT-B/16" in said


def test_the_table_joins_what_is_gained_with_what_it_costs() -> None:
    effect = {"value": 0.1, "low": 0.05, "high": 0.15}
    study = {
        "cells": {cell: {"text": 0.3} for cell in CONFIRM.cells},
        "contrasts": [{"cell": BEFOREHAND, "control": "clip", **effect}, {"cell": IN_LOOP, "control": "x", **effect}],
    }
    found = summed(times(), PAIRS) | {"machine": "this one"}
    rows = {row[0]: row for row in study_tables.costs_grid({"confirm": study}, found)}
    assert rows[BEFOREHAND][1:4] == ["30.0", "+10.0 [+5.0, +15.0]", "0.100"]
    assert rows[IN_LOOP][2] == rows[TEXT_ALONE][1] == ""
    tower = {
        "cells": {TEXT_ALONE: {"text": 0.2}},
        "contrasts": [{"cell": TEXT_ALONE, "control": "clip, text tower alone", **effect}],
    }
    rows = {row[0]: row for row in study_tables.costs_grid({"confirm": study, "tower": tower}, found)}
    assert rows[TEXT_ALONE][1:4] == ["20.0", "+10.0 [+5.0, +15.0]", "0.025"]
    assert "cheaper after 250 steps" in study_verdict.costs_words(found)


def test_results_show_the_costs_where_they_were_measured(tmp_path: Path) -> None:
    (tmp_path / results_story.EXPERIMENT).parent.mkdir(parents=True)
    (tmp_path / results_story.EXPERIMENT).write_text((ASSETS / results_story.EXPERIMENT).read_text())
    without = results_story.cost_part(tmp_path)
    (tmp_path / results_story.COSTS).parent.mkdir()
    (tmp_path / results_story.COSTS).write_text(json.dumps(summed(times(), PAIRS) | {"machine": "<this>"}))
    shown = results_story.cost_part(tmp_path)
    assert "what they cost" not in without
    assert "cheaper after 250 steps" in shown
    assert "&lt;this&gt;" in shown
    assert f"{PAIRS * 2 * CONFIRM.cells[BEFOREHAND].teacher_timesteps:,}" in shown
