"""What the objectives cost: counted from their recipes, timed apart, and shown as the file says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sdsdemo import study_tables
from sdsdemo.errors import UserError
from sdsdemo.finetuning import measures
from sdsdemo.finetuning.estimating import Estimate
from sdsdemo.mini import clips, denoiser, operations, prompts, whole
from sdsdemo.mini import costs as module
from sdsdemo.mini.costs import BEFOREHAND, IN_LOOP, TEXT_ALONE, measured, recipes, summed
from sdsdemo.mini.operations import counted
from sdsdemo.mini.studies import CONFIRM, RETURN, STUDIES, TOWER, TOWERED
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.ui import tables
from sdsdemo.workbench import Workbench

PAIRS = 2_000
COURSES = ("drawing", "autoencoder", "encoding", "clip", "prompts", "both", "denoiser")


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


def test_the_recipes_of_the_confirmation_are_timed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "ZERO_SHOT", 3)
    monkeypatch.setattr(measures, "RETRIEVAL", (1, 3))
    monkeypatch.setattr(module, "TIMED_STEPS", 2)
    monkeypatch.setattr(module, "operations", lambda note: {"mini": {}})
    tiny = {"steps": 3, "batch": 4, "pool": 8, "fitted_on": 4, "teacher_timesteps": 2}
    cells = {cell: replace(CONFIRM.cells[cell], **tiny) for cell in (IN_LOOP, BEFOREHAND)}
    monkeypatch.setattr(module, "CONFIRM", replace(CONFIRM, cells=cells))
    alone = {cell: replace(TOWER.cells[cell], **tiny) for cell in TOWERED[0]}
    monkeypatch.setattr(module, "TOWER", replace(TOWER, cells=alone))
    monkeypatch.setattr(module, "TOWERED", TOWERED[:1])
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    with pytest.raises(UserError, match="mini study confirm"):
        measured([], workbench, lambda line: None)
    said: list[str] = []
    found = measured([{"preferences": {"pairs": 8}}], workbench, said.append)
    assert len(said) == len(found["cells"]) == 3
    assert all(cell["step_seconds"] > 0 for cell in found["cells"].values())
    json.dumps(found)


def lines_of(name: str, seconds: float) -> list[dict[str, Any]]:
    return [{"run": run, "seconds": seconds} for run, _ in STUDIES[name].runs()]


def test_a_training_that_several_studies_need_takes_its_time_once() -> None:
    alone = whole.training_seconds({"confirm": lines_of("confirm", 100.0)})
    assert sum(alone.values()) == 100 * 105
    back = whole.training_seconds({"confirm": lines_of("confirm", 100.0), "return": lines_of("return", 300.0)})
    assert back == alone, "a part of the way costs no training"
    assert sum(whole.training_seconds({"return": lines_of("return", 7.0)}).values()) == 7 * len(list(RETURN.runs()))
    beside = [*lines_of("confirm", 100.0), {"run": "sds mini-clip 0", "seconds": 40.0}]
    assert sum(whole.training_seconds({"confirm": beside}).values()) == 100 * 90 + 40 * 15, "the quickest of a cell"
    more = whole.training_seconds({name: lines_of(name, 100.0) for name in ("confirm", "screen")})
    assert 105 < len(more) < 105 + len(lines_of("screen", 0.0))


def test_a_teacher_is_asked_once_about_the_pairs_of_a_seed_and_share_of_wrong_labels() -> None:
    def told(name: str, run: str, asked: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
        return {name: [{"run": run, "seconds": 9.0, "preferences": {"asked": asked, "seconds": seconds}}]}

    own = told("confirm", "preference mini-clip 0", 5, 100.0)
    assert sum(whole.asking_seconds(own).values()) == 100
    again = told("dealt", "preference, permuted mini-clip 0", 5, 120.0)
    assert sum(whole.asking_seconds(own | again).values()) == 120, "the same pairs; the longer one counts"
    assert whole.asking_seconds(told("confirm", "preference mini-clip 0", 0, 3.0)) == {}, "found on the disk"
    other = told("better", "preference, better teacher mini-clip 0", 5, 60.0)
    half = told("mislabelled", "preference, half mislabelled mini-clip 0", 5, 30.0)
    assert sum(whole.asking_seconds(own | other | half).values()) == 190


def test_everything_from_scratch_is_timed_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "STEPS", 3)
    monkeypatch.setattr(whole, "PICTURES", 60)
    looked: list[bool] = []
    monkeypatch.setattr(whole, "look_at", lambda *_, larger: looked.append(larger))
    cells = {cell: {"step_seconds": 0.0, "run_seconds": 0.0} for cell in CONFIRM.cells}
    rows = {"confirm": lines_of("confirm", 3600.0)}
    workbench = Workbench(Settings.from_environment({}))
    found = whole.hours(rows, cells, workbench, 2, lambda line: None)
    assert found["studies"] == pytest.approx(105 / 2, abs=0.01)
    assert looked == [True, True, False, False], "once to draw the sets, once for the time, of either kind"
    assert found["whole"] == pytest.approx(found["models"] + found["variants"] + found["studies"], abs=0.02)
    assert 0.05 < found["variants"] < found["models"]
    monkeypatch.setattr(whole, "_seconds", lambda work: ((name, 0.0) for name in COURSES))
    monkeypatch.setattr(whole, "_look_seconds", lambda workbench, larger: 3600.0 if larger else 36.0)
    runs = [study.larger for study in STUDIES.values() for _ in study.runs()]
    looks = {larger: runs.count(larger) for larger in (True, False)}
    longer = whole.hours(rows, cells, workbench, 2, lambda line: None)
    assert longer["studies"] == pytest.approx((105 + looks[True] + looks[False] / 100) / 2, abs=0.01)
    said = study_tables.whole_words({"machine": "this one", "whole": found})
    assert f"takes about {found['whole']:.1f} hours (this one)" in said
    assert study_tables.whole_words({}) == ""


def test_operations_are_those_of_the_networks_that_a_step_runs() -> None:
    """A matrix product forward and back; the denoiser is there in `sds` alone, and the images are not read twice."""
    with torch.device("meta"):
        clip, unet = clips.fresh(), denoiser.fresh()
    found = counted(clip, unet)
    of = operations.PAIRS
    unet_alone = operations._count(
        lambda: (
            unet(
                torch.empty(of, 4, 8, 8, device="meta", requires_grad=True),
                torch.zeros(of, device="meta"),
                encoder_hidden_states=torch.empty(of, clip.context_length, prompts.WIDTH, device="meta"),
            )
            .sample.square()
            .mean()
        )
    )
    pixels = torch.empty(of, 3, 64, 64, device="meta")
    image = operations._count(lambda: clip.encode_image(pixels).sum())
    text = found["preference, text tower alone"] / 2
    assert found["preference"] == pytest.approx(image + 2 * text, rel=0.02)
    assert found["sds"] == pytest.approx(image + text + unet_alone, rel=0.02)
    linear = torch.nn.Linear(10, 20, device="meta")
    assert operations._count(lambda: linear(torch.empty(3, 10, device="meta")).sum()) * of * 1e9 == pytest.approx(
        2 * 2 * 3 * 10 * 20, rel=1e-6, abs=of * 1e6
    )


def test_the_words_say_what_the_size_of_the_denoiser_does() -> None:
    found = summed(times(), PAIRS) | {"machine": "this one"}
    assert "operations" not in study_tables.costs_words(found)
    sizes = {"mini": (4.0, 2.0, 1.0), "paper": (190.0, 10.0, 2.5)}
    names = ("sds", "preference", "preference, text tower alone")
    said = study_tables.costs_words(
        found | {"operations": {size: dict(zip(names, values, strict=True)) for size, values in sizes.items()}}
    )
    assert "it is 2.0 and 4.0 times here, where" in said
    assert "19 and 76 times for a ViT-B/16" in said


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
    assert "cheaper one from 250 steps on" in study_tables.costs_words(found)


def test_results_show_the_costs_where_they_were_measured(tmp_path: Path) -> None:
    (tmp_path / tables.EXPERIMENT).parent.mkdir(parents=True)
    (tmp_path / tables.EXPERIMENT).write_text((ASSETS / tables.EXPERIMENT).read_text())
    without = tables.experiment_html(tmp_path)
    (tmp_path / tables.COSTS).parent.mkdir()
    (tmp_path / tables.COSTS).write_text(json.dumps(summed(times(), PAIRS) | {"machine": "<this>"}))
    shown = tables.experiment_html(tmp_path)
    assert "what they cost" not in without
    assert "cheaper one from 250 steps on" in shown
    assert "&lt;this&gt;" in shown
    assert f"{PAIRS * 2 * CONFIRM.cells[BEFOREHAND].teacher_timesteps:,}" in shown
