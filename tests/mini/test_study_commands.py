"""A study's names, and the commands of its cells."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from sdsdemo.cli import main
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Recipe, from_preset
from sdsdemo.mini.experiments.declared import STUDIES, study_commands
from sdsdemo.settings import ROOT


@pytest.mark.parametrize("name", STUDIES)
def test_the_commands_of_a_study_are_its_recipes(name: str) -> None:
    parser = main._parser()
    for cell, command in study_commands(name).items():
        asked = vars(parser.parse_args(shlex.split(command)[3:]))
        changes = {entry: value for entry in Recipe().as_dict() if (value := asked[entry]) is not None}
        first = STUDIES[name].bases[0]
        assert from_preset("mini", changes) == replace(STUDIES[name].cells[cell], base=first, seed=0), cell


def test_an_unknown_study_is_answered_with_every_name() -> None:
    with pytest.raises(UserError, match="preference-controls"):
        study_commands("nosuch")


def test_the_document_names_every_study() -> None:
    document = (ROOT / "docs" / "mini.md").read_text(encoding="utf-8").split("## Reproducing it")[1]
    for name in STUDIES:
        assert f"\n| `{name}` |" in document, name
