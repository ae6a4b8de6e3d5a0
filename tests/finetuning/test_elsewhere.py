"""The commands for another machine: what of them is ours gives the recipe back."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace

import pytest

from sdsdemo.cli import main
from sdsdemo.finetuning import elsewhere
from sdsdemo.finetuning.recipe import PRESETS, Recipe, from_preset

RECIPES = [
    *PRESETS.values(),
    replace(PRESETS["minute"], objective="sds", lam=1.0, h_w="default", jacobian=False),
    replace(PRESETS["paper-vit-b-16"], data="folder:my pictures", withheld_words="left of; rm -rf"),
]


def given_by(words: list[str]) -> tuple[Recipe, str]:
    asked = main._parser().parse_args(words)
    changed = {f.name: v for f in fields(Recipe) if (v := getattr(asked, f.name)) is not None}
    return from_preset(asked.preset, changed), str(asked.out)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_command_for_two_gpus_gives_the_recipe_back(recipe: Recipe) -> None:
    words = shlex.split(elsewhere.on_gpus(recipe))
    assert words[:5] == ["torchrun", "--nproc-per-node", "2", "-m", "sdsdemo"]
    assert given_by(words[5:]) == (recipe, "runs/mine")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_job_runs_the_recipe_beside_its_bucket(recipe: Recipe) -> None:
    for mini, flavour in ((True, "cpu-upgrade"), (False, "a10g-large")):
        build, create, copy, job = elsewhere.on_jobs(recipe, mini=mini).splitlines()
        assert build.startswith("pip wheel")
        assert create == "hf buckets create sdsdemo"
        words = shlex.split(job)
        options, ours = words[: words.index("sdsdemo")], words[words.index("sdsdemo") + 1 :]
        assert options[:6] == ["hf", "jobs", "uv", "run", "--flavor", flavour]
        wheel = options[options.index("--with") + 1].rpartition("/")[2]
        assert copy.endswith(f"/{wheel}")
        assert given_by(ours) == (recipe, "/sdsdemo/mine")
