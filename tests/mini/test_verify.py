"""Verification: what is shipped against what the weights and lines give now; a difference is seen and named."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli import mini
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.mini.experiments import results, verify
from sdsdemo.mini.experiments.declared import STUDIES
from sdsdemo.mini.models.clip import FURTHER
from sdsdemo.mini.models.from_folder import RelocatedWorkbench
from sdsdemo.settings import CHECKPOINTS, Settings
from sdsdemo.types import Budget
from tests.mini.test_study import BASE_ROWS, confirmed

pytestmark = pytest.mark.slow

read_findings = cache(verify.read_findings)
"""Of a folder whose lines stay as they are: those that are shipped take the better part of a minute."""


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The benchmark is not scored again: what `evaluate` gives is a copy of the shipped figures, to be changed."""
    monkeypatch.setattr(verify, "read_findings", read_findings)
    found: dict[str, Any] = deepcopy(json.loads((verify.RESULTS / "mini.json").read_text()))
    monkeypatch.setattr(verify, "evaluate", lambda *_, **__: found)
    return found


@pytest.fixture
def workbench() -> Workbench:
    return Workbench(Settings.from_environment({}))


def test_what_is_as_shipped_is_called_so(stored: dict[str, Any], workbench: Workbench, tmp_path: Path) -> None:
    found = verify.verify(tmp_path, workbench, lambda line: None)
    assert found["same"]
    assert len(found["rows"]) >= 4 * len(stored["models"])
    assert verify.as_text(found).endswith("Everything is as shipped.")


def test_one_example_more_is_rounding_and_two_are_a_difference(
    stored: dict[str, Any], workbench: Workbench, tmp_path: Path
) -> None:
    share = stored["models"]["mini-diffusion"]["text"]
    share["value"] += 1 / 400
    assert verify.verify(tmp_path, workbench, lambda line: None)["same"]
    share["value"] += 1 / 400
    found = verify.verify(tmp_path, workbench, lambda line: None)
    assert not found["same"]
    assert [row["what"] for row in found["rows"] if not row["same"]] == ["mini-diffusion, text"]
    assert "differs" in verify.as_text(found)


@pytest.mark.parametrize("pairs", [True, False])
def test_what_is_shipped_is_scored_again_with_noise_of_its_own_kind(
    stored: dict[str, Any], workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: bool
) -> None:
    asked: list[Budget] = []
    monkeypatch.setattr(verify, "read_result", lambda path: stored)
    monkeypatch.setattr(verify, "evaluate", lambda *_, budget, **__: asked.append(budget) or stored)
    stored["settings"] = {key: value for key, value in stored["settings"].items() if key != "antithetic"}
    stored["settings"] |= {"antithetic": True} if pairs else {}
    verify.verify(tmp_path, workbench, lambda line: None)
    assert [spend.antithetic for spend in asked] == [pairs]


@pytest.fixture
def few_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many examples as the made-up lines have."""
    few = tuple(read_benchmark("mini"))[:40]
    monkeypatch.setattr(results, "_examples", lambda name: few)
    monkeypatch.setattr(results, "coverage_findings", lambda difference, study: {})  # it takes long


@pytest.mark.usefixtures("stored", "few_examples")
def test_a_figure_of_the_experiment_that_its_lines_do_not_give_is_seen(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "experiment"
    write_lines(lines, gain=0.2)
    path = verify.write_findings(lines)
    monkeypatch.setattr(verify, "EXPERIMENT", lines)
    monkeypatch.setattr(verify, "FINDINGS", path)
    assert verify.verify(tmp_path / "run", workbench, lambda line: None)["same"]
    path.write_text(path.read_text().replace('"value": 0.2,', '"value": 0.3,'))
    assert not verify.verify(tmp_path / "run", workbench, lambda line: None)["same"]


def write_lines(folder: Path, gain: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("bases", BASE_ROWS), ("confirm", confirmed({"preference": gain}))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.usefixtures("few_examples")
@pytest.mark.parametrize(("gain", "same"), [(0.2, True), (0.6, False)])
def test_from_scratch_holds_new_effects_against_the_shipped_intervals(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, same: bool
) -> None:
    """Training is left out here; it has tests of its own."""
    write_lines(tmp_path / "shipped", gain=0.2)
    monkeypatch.setattr(verify, "FINDINGS", verify.write_findings(tmp_path / "shipped"))
    asked: list[Any] = []
    monkeypatch.setattr(verify, "train", lambda parts, *_: asked.append(list(parts)))
    monkeypatch.setattr(verify, "make_variants", lambda *_: asked.append("variants"))
    monkeypatch.setattr(verify, "make_lesson", lambda *_: asked.append("lesson"))
    monkeypatch.setattr(verify, "train_bases", lambda bases, *_: asked.append(bases))
    monkeypatch.setattr(
        verify, "share_studies", lambda names, where, _: (asked.append(names), write_lines(Path(where[1]), gain))
    )
    found = verify.from_scratch(tmp_path / "work", workbench, lambda line: None)
    assert asked == [list(verify.PARTS), "variants", "lesson", tuple(FURTHER), [*STUDIES]]
    assert found["same"] == same


def test_models_of_another_folder_are_opened_from_there(workbench: Workbench, tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "mini-clip", tmp_path / "mini-clip")
    moved = RelocatedWorkbench(workbench, tmp_path)
    assert moved.card("mini-clip").spec == f"open_clip:local-dir:{tmp_path.resolve() / 'mini-clip'}"
    assert moved.availability(moved.card("mini-clip")).can_run
    assert moved.scorer("mini-clip").card.name == "mini-clip"
    assert moved.card("clip-vit-b-32") == workbench.card("clip-vit-b-32")
    again = RelocatedWorkbench(moved, tmp_path / "further")
    assert again.card("mini-clip") == RelocatedWorkbench(workbench, tmp_path / "further").card("mini-clip")


def test_an_unknown_study_and_a_part_that_is_none_are_sentences(workbench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study called 'confrim'"):
        verify.make_studies(["confrim"], tmp_path, tmp_path, workbench, lambda line: None)
    for part in ("2/2", "a/2", "1"):
        with pytest.raises(UserError, match="--part takes a share"):
            mini._part(part)
    assert mini._part("1/2") == (1, 2)
