"""What is said of a model that a spec names, and the range of timesteps that may be asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.models import cards
from sdsdemo.models.remarks import remarks
from sdsdemo.settings import CHECKPOINTS, ROOT, budget, typed_range
from tests import twins

PICTURE = str(next((ROOT / "assets" / "mini" / "examples").glob("*.png")))
CAPTIONS = ["a red star left of a blue circle", "a blue circle left of a red star"]
SPEND = ["--timesteps", "2", "--noises", "1", "--json"]


@pytest.fixture(autouse=True)
def _with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is slow."""
    monkeypatch.setattr(cards, "has_gpu", lambda: True)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spec of a pipeline that has a card, from another folder."""
    folder = tmp_path_factory.mktemp("mine") / "pipeline"
    shutil.copytree(CHECKPOINTS / "mini-diffusion-short", folder)
    return f"diffusers:{folder}"


def timesteps(capsys: pytest.CaptureFixture[str], *asked: str) -> list[int]:
    assert main(["score", PICTURE, *CAPTIONS, *SPEND, *asked]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["models"]
    return entry["evidence"]["timesteps"]


def test_the_weights_of_a_card_under_a_spec_name_the_cards_range(copied: str) -> None:
    (sentence,) = remarks(cards.resolve(copied), budget())
    assert "mini-diffusion-short" in sentence
    assert "--timestep-range 0.2 0.8" in sentence
    assert remarks(cards.resolve(copied), budget(timestep_range=(0, 1))) == ()
    assert remarks(cards.resolve("mini-diffusion-short"), budget()) == ()


def test_a_pipeline_of_other_weights_calls_for_no_remark(tmp_path: Path) -> None:
    assert remarks(cards.resolve(f"diffusers:{twins.mini_folder(tmp_path / 'x')}"), budget()) == ()


@pytest.mark.parametrize(
    ("name", "change", "sign"),
    [
        ("klein", {"is_distilled": True}, "is_distilled in its model_index.json"),
        ("fast", {"scheduler": ["diffusers", "LCMScheduler"]}, "its LCMScheduler"),
        ("Z-Image-Turbo", {}, "its name"),
        ("base", {"is_distilled": False}, ""),
        ("Turbot", {}, ""),
    ],
)
def test_a_distilled_pipeline_is_told_from_its_files_or_name(
    tmp_path: Path, name: str, change: dict[str, object], sign: str
) -> None:
    index = twins.mini_folder(tmp_path / name) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    found = remarks(cards.resolve(f"diffusers:{tmp_path / name}"), budget(timestep_range=(0, 1)))
    expected = [f"{name} is distilled, as {sign}"] if sign else []
    assert [sentence.partition(" says:")[0] for sentence in found] == expected


def test_a_distilled_model_of_the_hub_is_told_from_its_name() -> None:
    (sentence,) = remarks(cards.resolve("diffusers:Tongyi-MAI/Z-Image-Turbo"), budget())
    assert "its name says" in sentence


def test_a_range_that_is_asked_for_goes_before_the_cards(copied: str, capsys: pytest.CaptureFixture[str]) -> None:
    wide, narrow = [250, 750], [350, 650]
    assert timesteps(capsys, "--model", copied) == wide
    assert timesteps(capsys, "--model", "mini-diffusion-short") == narrow
    assert timesteps(capsys, "--model", copied, "--timestep-range", "0.2", "0.8") == narrow
    assert timesteps(capsys, "--model", "mini-diffusion-short", "--timestep-range", "0", "1") == wide


def test_a_run_keeps_the_range_and_is_not_gone_on_with_at_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", "mini", "--limit", "2", "--model", "mini-diffusion", "--out", str(tmp_path / "run"), *SPEND]
    assert main([*asked, "--timestep-range", "0.4", "0.6"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["timestep_range"] == [0.4, 0.6]
    capsys.readouterr()
    assert main(asked) == 2
    assert "--timestep-range 0.4 0.6" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    [(0.8, 0.2), (0.5, 0.5), (-0.1, 1), (0, 1.1), (float("nan"), 1), (0,), (0, 1, 1), ("a", 1), 0.5, "01", (True, 1),
     (), {}, (0, 10**400), (10**5000, 1), "0.8 0.2", "0.2", "0.2 0.8 1", "a b", "-0.1 1", "nan 1", "0 1e999",
     "0.2;0.8"],
)  # fmt: skip
def test_a_range_that_is_none_is_refused_in_one_sentence(value: Any) -> None:
    with pytest.raises(UserError, match=r"such as 0\.2 0\.8; it was"):
        budget(timestep_range=value)


@pytest.mark.parametrize("typed", ["0.2 0.8", " .2, 0.8 ", "0.2,0.8", "2e-1 to 8E-1", "0.20\t0.80"])
def test_a_range_may_be_typed_with_a_space_a_comma_or_to(typed: str) -> None:
    assert budget(timestep_range=typed).timestep_range == (0.2, 0.8)


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_no_range_is_that_of_each_card(nothing: str | None) -> None:
    assert budget(timestep_range=nothing).timestep_range is None


@pytest.mark.parametrize("span", [(0, 1), (-0.0, 0.5), (1e-9, 1 / 3), (0.1 + 0.2, 0.7), (5e-324, 1.0)])
def test_a_range_that_is_written_out_is_read_again_to_the_last_digit(span: tuple[float, float]) -> None:
    assert budget(timestep_range=typed_range(budget(timestep_range=span).timestep_range)).timestep_range == span
