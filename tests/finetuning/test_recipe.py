"""Recipes: every setting is checked with a sentence, presets are whole, and the command line gives the recipe back."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, replace
from typing import Any

import pytest

from sdsdemo.cli import main
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import (
    OBJECTIVES,
    PRESET_WORDS,
    PRESETS,
    RANGES,
    STUDIED,
    USUAL_PRESET,
    Recipe,
    cli_flag,
    from_preset,
    headings,
    meaning,
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_sense_and_has_words(name: str) -> None:
    assert PRESETS[name].check() is PRESETS[name]
    assert PRESET_WORDS[name]


def test_every_setting_has_a_meaning_and_every_number_a_range() -> None:
    for setting in fields(Recipe):
        assert meaning(setting.name).endswith("."), setting.name
        number = isinstance(setting.default, int | float) and not isinstance(setting.default, bool)
        assert number == (setting.name in RANGES), setting.name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lam": -1.0}, "--lambda must be from 0 to 1,000,000; it was -1"),
        ({"lam": float("nan")}, "--lambda must be a number"),
        ({"steps": 10**9}, "--steps must be from 0 to 1,000,000; it was 1000000000"),
        ({"learning_rate": 2.0}, "--learning-rate must be from 1e-08 to 1; it was 2"),
        ({"steps": True}, "--steps must be a number"),
        ({"objective": "magic"}, "--objective must be one of clip, sds"),
        ({"batch": 1}, "--batch must be from 2"),
        ({"micro_batch": 64}, "--micro-batch must be at most the batch, 32"),
        ({"timestep_low": 0.7, "timestep_high": 0.3}, "must be below"),
        ({"teacher": ""}, "needs a teacher"),
        ({"data": "what"}, "--data must be mini, folder:PATH, coco:PATH or hub:ORG/NAME; it was 'what'"),
        (
            {"objective": "clip", "shuffled": True},
            "--shuffled is a control of sds and has no effect on the objective clip",
        ),
        ({"objective": "negatives", "permuted": True}, "--permuted is a control of preference"),
        ({"objective": "labels", "unordered": True}, "--unordered is a control of preference"),
        ({"withheld_kind": "verb"}, "--withheld-kind must be one of nothing, noun"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_what_it_may_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        from_preset("mini", changes)
    assert said in str(caught.value)


def test_an_unknown_preset_names_those_that_there_are() -> None:
    with pytest.raises(UserError, match="quick, mini, paper-vit-b-16"):
        from_preset("best", {})


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        PRESETS["minute"],
        replace(PRESETS["quick"], objective="preference", permuted=True, lam=0.5),
        replace(PRESETS["paper-vit-b-16"], data="folder:my pictures", jacobian=False),
        replace(PRESETS["mini"], h_w_from="patches", contrast_weight=100.0, error_weight=0.0),
    ],
)
def test_the_command_line_gives_the_recipe_back(recipe: Recipe) -> None:
    words = shlex.split(recipe.command("runs/x"))
    assert words[:4] == ["python", "-m", "sdsdemo", "finetune"]
    asked = main._parser().parse_args(words[3:])
    given = {f.name: v for f in fields(Recipe) if (v := getattr(asked, f.name)) is not None}
    assert from_preset(asked.preset or USUAL_PRESET, given) == recipe
    assert str(asked.out) == "runs/x"


def test_every_setting_is_under_one_heading_and_the_help_shows_it_there(capsys: pytest.CaptureFixture[str]) -> None:
    found = headings()
    assert all(found)
    assert sorted(s.name for settings in found.values() for s in settings) == sorted(f.name for f in fields(Recipe))
    with pytest.raises(SystemExit):
        main.main(["finetune", "--help"])
    shown = capsys.readouterr().out
    blocks = dict(block.split(":\n", 1) for block in shown.split("\n\n")[2:])
    assert list(blocks)[1:] == list(found)
    for heading, settings in found.items():
        listed = [cli_flag(s.name) for s in settings if s.name not in STUDIED]
        assert re.findall(r"^  (--[\w-]+)", blocks[heading], re.MULTILINE) == listed


def test_the_help_of_finetune_begins_with_an_example_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["finetune", "--help"])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert len(first) < 80
    assert main._parser().parse_args(shlex.split(second.removeprefix("example: python -m sdsdemo "))).out


def test_show_prints_the_whole_recipe_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["finetune", "--preset", "paper-vit-b-16", "--show"]) == 0
    shown = capsys.readouterr().out
    assert '"base": "clip-vit-b-16"' in shown
    assert '"lam": 0.001' in shown
    assert shown.count(":") >= len(fields(Recipe))


def test_every_objective_has_words() -> None:
    assert set(OBJECTIVES) == set(__import__("sdsdemo.finetuning.recipe", fromlist=["NAMES"]).NAMES)


@pytest.mark.parametrize("kind", ["object", "new-colour"])
def test_a_kind_that_mini_has_no_swaps_of_cannot_be_withheld_there(kind: str) -> None:
    with pytest.raises(UserError, match=f"Mini has no swaps of the kind {kind}: --withheld-kind is one of noun"):
        Recipe(withheld_kind=kind).check()
    assert Recipe(withheld_kind=kind, data="folder:x").check()
