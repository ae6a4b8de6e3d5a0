"""`sdsdemo.evaluate` and `sdsdemo.finetune`: what the commands do, without a workbench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sdsdemo
from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.finetuning import console_report
from sdsdemo.finetuning.recipe import PRESETS, Recipe
from sdsdemo.runtime.files import finite, to_json

SMALL: dict[str, Any] = {"timesteps": 2, "noises": 2, "limit": 3}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Path, dict]]:
    """The recipes and folders of runs that end at once: failed, where 99 steps are asked for."""
    found: list = []

    def run(recipe: Recipe, out: Path, **options: Any) -> dict:
        found.append((recipe, out, options))
        options["progress"]("step 1")
        return {"state": "failed", "reason": "It is too warm."} if recipe.steps == 99 else {"state": "finished"}

    monkeypatch.setattr(console_report, "run_in_shell", run)
    return found


def test_evaluate_gives_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    ours = sdsdemo.evaluate("mini", ["mini-clip"], progress=said.append, **SMALL)
    assert capsys.readouterr().out == ""
    assert said
    flags = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    assert main(["evaluate", "mini", "--model", "mini-clip", *flags, "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    for result in (ours, theirs):
        result["models"]["mini-clip"].pop("seconds_per_example")
    assert theirs == json.loads(to_json(finite(ours)))


def test_evaluate_stores_scores_in_a_folder_named_by_a_text(tmp_path: Path) -> None:
    sdsdemo.evaluate("mini", ["mini-clip"], out=str(tmp_path / "run"), **SMALL)
    assert list((tmp_path / "run").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("models", "words"),
    [("mini-clip", r"as a list of names: \['mini-clip'\]"), (["mini-klip"], "Did you mean mini-clip")],
)
def test_evaluate_refuses_models_before_anything_is_read(models: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        sdsdemo.evaluate("nosuch", models)


def test_finetune_takes_the_settings_of_a_recipe_by_name(ran: list, tmp_path: Path) -> None:
    said: list[str] = []
    record = sdsdemo.finetune(str(tmp_path), preset="minute", steps=7, lam=2, progress=said.append, resume=True)
    ((recipe, out, options),) = ran
    assert record == {"state": "finished"}
    assert (recipe.steps, recipe.lam, recipe.sharpness) == (7, 2, PRESETS["minute"].sharpness)
    assert (out, options["resume"], said) == (tmp_path, True, ["step 1"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lamda": 3}, r"no setting 'lamda' \(did you mean lam\?\)"),
        ({"steps": "ten"}, "steps takes a whole number; it was 'ten'"),
        ({"steps": True}, "steps takes a whole number; it was True"),
        ({"lam": None}, "lam takes a number; it was None"),
        ({"shuffled": 1}, "shuffled takes True or False; it was 1"),
        ({"steps": -1}, "--steps must be from"),
        ({"preset": "x"}, "no preset 'x'"),
        ({"base": "mini-klip"}, "Did you mean mini-clip"),
        ({"steps": 99}, r"^It is too warm\.$"),
    ],
)
def test_finetune_says_what_must_change(ran: list, tmp_path: Path, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        sdsdemo.finetune(tmp_path, **settings)
    assert len(ran) == (settings == {"steps": 99})
