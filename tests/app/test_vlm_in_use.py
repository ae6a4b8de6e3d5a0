"""A vision-language model beside the others: in Compare, in `score`, in both shapes of benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sdsdemo.app.export import export
from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.main import main
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate
from sdsdemo.settings import budget
from sdsdemo.types import Example, Picture, Scores
from sdsdemo.ui import browse_one_image, browse_plot, compare_html
from tests import twins
from tests.models import vlm_twins

CAPTIONS = ["a red star left of a blue circle", "a blue circle left of a red star"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"vlm:{vlm_twins.save(tmp_path_factory.mktemp('vlm') / 'twin')}"


@pytest.fixture(scope="module")
def workbench() -> Workbench:
    return Workbench()


def picture_of(seed: int) -> Picture:
    return Picture(name=str(seed), open=lambda: twins.picture(seed), key=str(seed))


def pair(number: int) -> Example:
    images = (picture_of(number), picture_of(number + 10))
    return Example(id=str(number), images=images, captions=tuple(CAPTIONS), tags={})


def choice(number: int) -> Example:
    captions = (*CAPTIONS, "the star", "a circle right above a star, and another one")
    return Example(id=str(number), images=(picture_of(number),), captions=captions, tags={})


def test_it_is_a_row_in_compare(spec: str, workbench: Workbench) -> None:
    [answer] = workbench.compare(twins.picture(0), CAPTIONS, [spec], budget())
    assert answer.problem == ""
    assert answer.scores is not None
    assert answer.preference is not None
    expected = workbench.scorer(spec).score([twins.picture(0)], CAPTIONS, budget()).score_IC
    np.testing.assert_array_equal(answer.scores.score_IC, expected)
    html = compare_html.row_html(answer)
    assert "log-odds of “yes”" in html
    assert "cosine" not in html
    shares = 100 / (1 + np.exp(-expected[0]))
    assert all(f"{share:.1f}%" in html for share in shares)


def test_a_caption_with_a_mark_is_a_sentence_in_its_row(spec: str, workbench: Workbench) -> None:
    [answer] = workbench.compare(twins.picture(0), [CAPTIONS[0], "a <image> star"], [spec], budget())
    assert answer.scores is None
    assert answer.blocked_by == ("mark",)


def test_the_command_scores_with_it(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twins.picture(0).save(tmp_path / "picture.png")
    arguments = ["score", str(tmp_path / "picture.png"), *CAPTIONS, "--model", spec]
    assert main(arguments) == 0
    assert 'log-odds of "yes", higher is better' in " ".join(capsys.readouterr().out.split())
    assert main([*arguments, "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)["models"]
    assert answer["kind"] == "log-odds"
    assert len(answer["scores"]) == 2


@pytest.mark.parametrize(("make", "metrics"), [(pair, {"text", "image", "group"}), (choice, {"accuracy"})])
def test_both_shapes_of_benchmark_are_scored_and_resumed(
    spec: str, workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, metrics: set[str]
) -> None:
    examples = [make(number) for number in range(3)]
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: examples)
    first = evaluate("mini", [spec], workbench=workbench, budget=budget(), out=tmp_path / "run")
    entry = first["models"][spec]
    assert metrics <= set(entry)
    assert "blind" not in entry  # 32 pictures more an example: only where asked for
    rows = [json.loads(line) for line in (tmp_path / "run" / "scores.jsonl").read_text().splitlines()]
    stored = {row["example"]: row for row in rows}
    for example in examples:
        images = [picture.open() for picture in example.images]
        expected = workbench.scorer(spec).score(images, example.captions, budget()).score_IC
        assert stored[example.id]["kind"] == "log-odds"
        np.testing.assert_allclose(stored[example.id]["score"], expected, atol=1e-6)
    monkeypatch.setattr("sdsdemo.models.vlm.VisionLanguageModel.log_odds", _not_again)
    again = evaluate("mini", [spec], workbench=workbench, budget=budget(), out=tmp_path / "run")["models"][spec]
    assert {name: again[name] for name in metrics} == {name: entry[name] for name in metrics}


def _not_again(*_: object) -> None:
    raise AssertionError("scored again")


def test_it_is_no_model_to_export(spec: str, workbench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CLIP"):
        export(workbench, spec, tmp_path / "out", format="transformers")


@pytest.mark.parametrize(("by", "precision", "tie"), [(0.01, "float32", False), (0.01, "bfloat16", True)])
def test_any_difference_beyond_rounding_decides(by: float, precision: Any, tie: bool) -> None:
    found = decide(Scores(kind="log-odds", score_IC=np.array([[-3.0, -3.0 - by]]), precision=precision))
    assert (found.decided, found.tie, found.stderr) == (not tie, tie, None)
    lost = decide(Scores(kind="log-odds", score_IC=np.array([[np.nan, 0.0]])))
    assert "not a finite number" in lost.note


def test_no_view_calls_log_odds_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Scores(kind="log-odds", score_IC=np.array([[1.0, -2.0]]))
    catalogue: Any = SimpleNamespace(scores={"m": [scores]})
    assert browse_plot._unit(catalogue, "m") == "log-odds of “yes”"
    assert browse_one_image.UNIT["log-odds"] == "log-odds of “yes”"
