"""`finetune --resume` in the shell: whose settings it takes, and when it starts a run. Trains nothing."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from sdsdemo.cli.finetuning import _recipe
from sdsdemo.cli.main import _parser
from sdsdemo.finetuning import elsewhere
from sdsdemo.finetuning.recipe import PRESETS, Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from tests.cli.shell import said

STORED = replace(PRESETS["minute"], lam=2.5, seed=7)


def run_in(folder: Path, steps_done: int = 3) -> Path:
    folder.mkdir()
    FineTuningFolder(folder).write({"state": "stopped", "steps_done": steps_done, "recipe": STORED.as_dict()})
    return folder


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], STORED),
        (["--steps", "900", "--micro-batch", "4"], replace(STORED, steps=900, micro_batch=4)),
        (["--preset", "quick", "--steps", "900"], replace(PRESETS["quick"], steps=900)),
    ],
)
def test_a_resumed_run_has_its_own_settings_but_for_those_given(
    flags: list[str], wanted: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(run_in(tmp_path / "run"))
    status, shown, _ = said(capsys, "finetune", "--resume", "--out", out, *flags, "--show")
    assert (status, json.loads(shown)) == (0, wanted.as_dict())


def test_settings_for_a_run_without_a_step_begin_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(run_in(tmp_path / "run", steps_done=0))
    for flags, wanted in (([], STORED), (["--batch", "8"], replace(PRESETS["mini"], batch=8))):
        _, shown, _ = said(capsys, "finetune", "--resume", "--out", out, *flags, "--show")
        assert json.loads(shown) == wanted.as_dict()


def test_resume_alone_starts_nothing_in_a_folder_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = said(capsys, "finetune", "--resume", "--out", str(tmp_path / "tpyo"))
    assert status == 2
    assert f"There is no run in '{tmp_path / 'tpyo'}' to resume: check --out" in err
    assert not (tmp_path / "tpyo").exists()


@pytest.mark.parametrize("recipe", [PRESETS["mini"], PRESETS["quick"]])
def test_a_job_starts_its_run_and_resumes_no_other_recipe(recipe: Recipe, tmp_path: Path) -> None:
    """The settings of Mini's own preset need no other flag."""
    run_in(tmp_path / "run")
    for out in (tmp_path / "none", tmp_path / "run"):
        words = shlex.split(elsewhere.on_gpus(recipe, out=str(out)).splitlines()[0])
        asked = _parser().parse_args(words[words.index("finetune") :])
        changes = {name: getattr(asked, name) for name in recipe.as_dict() if getattr(asked, name) is not None}
        assert _recipe(asked, changes) == recipe
