"""The rivals' table: effects against the control with their doubt, costs, and what is shipped in the README."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.finetuning import measures
from sdsdemo.finetuning.estimating import Estimate
from sdsdemo.mini import rivals as module
from sdsdemo.mini.rivals import CELLS, CONTROL, SHARED, as_markdown, as_text, rivals
from sdsdemo.settings import ASSETS, ROOT, Settings
from sdsdemo.workbench import Workbench


def test_all_rivals_share_everything_but_their_objective() -> None:
    own = {"objective", "lam", "sharpness"}
    for recipe in CELLS.values():
        different = {name for name, value in recipe.as_dict().items() if value != SHARED.as_dict()[name]}
        assert different <= own


def test_an_effect_is_the_mean_difference_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(0)
    difference_SE = (rng.random((3, 400)) < 0.3).astype(float)
    found = module._effect(difference_SE)
    assert found["value"] == pytest.approx(difference_SE.mean(), abs=1e-4)
    assert found["low"] < found["value"] < found["high"]
    assert module._effect(np.zeros((3, 400))) == {"value": 0.0, "low": 0.0, "high": 0.0}


def timed(step: float, item: float = 0.0) -> Estimate:
    return Estimate(loading=0.0, item=item, frozen=0.0, step=step, image=0.0, image_again=0.0, images=0, first_images=0)


def test_asking_once_is_paid_back_by_the_quicker_steps() -> None:
    found = module._cheaper({"sds": timed(0.5), "preference": timed(0.1, item=0.05)}, 2_000)
    assert (found["loop_ratio"], found["asking_seconds"], found["steps"]) == (5.0, 100.0, 250)
    assert found["epochs"] == pytest.approx(250 * SHARED.batch / SHARED.pool)


def test_rivals_are_trained_scored_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "ZERO_SHOT", 3)
    monkeypatch.setattr(measures, "RETRIEVAL", (1, 3))
    monkeypatch.setattr(module, "TIMED_STEPS", 2)
    tiny = {"steps": 3, "batch": 4, "pool": 8, "fitted_on": 4, "teacher_timesteps": 2}
    monkeypatch.setattr(
        module, "CELLS", {cell: replace(CELLS[cell], **tiny) for cell in (CONTROL, "sds", "preference")}
    )
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path / "cache")}))
    first = rivals(1, tmp_path, workbench, lambda line: None, lambda line: None)
    said: list[str] = []
    again = rivals(1, tmp_path, workbench, said.append, said.append)
    for cell, row in first["cells"].items():
        assert again["cells"][cell] | {"step_seconds": 0} == row | {"step_seconds": 0}
    assert not any("  step " in line for line in said)
    assert first["cells"][CONTROL]["effect"]["value"] == 0
    assert first["cells"]["sds"]["denoiser_evaluations"][0]["forward_and_back"] == 12
    assert first["cells"]["preference"]["denoiser_evaluations"][0]["forward"] > 0
    assert "against clip" in as_text(first)


def test_the_readme_shows_the_shipped_table() -> None:
    found = json.loads((ASSETS / "mini" / "rivals.json").read_text())
    assert as_markdown(found) in (ROOT / "README.md").read_text()
    assert (found["seeds"], found["n"]) == (3, 400)
