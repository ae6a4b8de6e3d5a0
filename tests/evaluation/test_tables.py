"""Results as text, CSV and figures; stored runs as results again; the blind row; what a benchmark means to a model."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.cli.main import main
from sdsdemo.core.number_format import NO_SCORE
from sdsdemo.errors import UserError
from sdsdemo.evaluation.blind import UNRELATED, blinded, unrelated
from sdsdemo.evaluation.figures import save_shares
from sdsdemo.evaluation.model_fit import check_fit
from sdsdemo.evaluation.report import read_result, report
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import read_run
from sdsdemo.evaluation.tables import as_csv, as_table, expected_lines
from sdsdemo.models import cards
from sdsdemo.settings import ASSETS, Settings, budget
from sdsdemo.types import Budget, Concern, Example, Picture, Region, Scores
from sdsdemo.ui.result_files import result_file
from sdsdemo.ui.results import SUMMARIES
from sdsdemo.ui.results_html import result_html
from tests.evaluation.test_run import EXAMPLES
from tests.fakes import FakeScorer, OneByOne, fake_card

SPEND = budget(4, 2, 0, empty_prompt=False)


class Shelf:
    """Fakes of two real cards, one of each kind."""

    def __init__(self) -> None:
        self.fakes = {
            name: FakeScorer(cards.resolve(name)) for name in ("mini-clip", "mini-diffusion", "mini-clip-clean")
        }

    def scorer(self, name: str) -> FakeScorer:
        return self.fakes[name]


@pytest.fixture(autouse=True)
def small_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    monkeypatch.setattr("sdsdemo.evaluation.freshness.read_benchmark", lambda name: EXAMPLES)


def run(out: Path, *models: str) -> dict:
    return evaluate("mini", models, workbench=Shelf(), budget=SPEND, out=out)


def test_stored_runs_reproduce_results_and_are_compared(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", "mini-clip"), run(tmp_path / "b", "mini-diffusion")
    (both,) = report([tmp_path / "a", tmp_path / "b"], None, lambda line: None)
    assert both["models"] == first["models"] | second["models"]
    assert {(pair["a"], pair["b"]) for pair in both["paired"]} == {("mini-clip", "mini-diffusion")}
    assert [*both] == [key for key in first if key != "processes"], "no key more, and in the same order"


def test_runs_of_one_model_are_named_by_settings_then_by_folder(tmp_path: Path) -> None:
    workbench: Any = type("Shelf", (), {"scorer": lambda self, name: FakeScorer(cards.resolve(name))})()
    for name, seed in (("a", 0), ("b", 1), ("c", 1)):
        evaluate("mini", ["mini-diffusion"], workbench=workbench, budget=budget(2, 2, seed), out=tmp_path / name)
    (result,) = report([tmp_path / name for name in "abc"], None, lambda line: None)
    named = "mini-diffusion (2 x 2, seed {}, region crop"
    assert list(result["models"]) == [f"{named.format(0)})", f"{named.format(1)}, b)", f"{named.format(1)}, c)"]
    assert len(result["paired"]) == 3 * 4


def test_no_model_of_several_runs_is_dropped_if_folders_are_called_alike(tmp_path: Path) -> None:
    for name in "abc":
        run(tmp_path / name / "run", "mini-clip", "mini-diffusion")
    paths = [tmp_path / name / "run" for name in "abc"]
    (result,) = report([*paths, paths[0]], None, lambda line: None)
    labels = ("a/run", "b/run", "c/run", "a/run, 2")
    assert list(result["models"]) == [f"{model} ({n})" for n in labels for model in ("mini-clip", "mini-diffusion")]


def test_a_stored_sample_is_still_called_a_sample(tmp_path: Path) -> None:
    evaluate("mini", ["mini-clip"], workbench=Shelf(), budget=SPEND, limit=8, out=tmp_path / "a")
    (result,) = report([tmp_path / "a"], None, lambda line: None)
    assert "n = 8 of 40, an even share of each tag" in as_table(result)


def test_a_report_is_written_as_json_csv_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path / "a", "mini-clip", "mini-diffusion")
    assert main(["report", str(tmp_path / "a"), "--out", str(tmp_path / "out"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == [result]
    assert Image.open(tmp_path / "out" / "0-mini.png").width > 1000
    assert "<svg" in (tmp_path / "out" / "0-mini.svg").read_text()
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert {row["model"] for row in rows} == {"mini-clip", "mini-diffusion"}


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "evaluate --out" in capsys.readouterr().err
    run(tmp_path / "a", "mini-clip")
    with (tmp_path / "a" / "scores.jsonl").open("r+") as file:
        lines = file.readlines()
        file.seek(0)
        file.write("".join(lines[:5]) + "{broken}\n")
        file.truncate()
    with pytest.raises(UserError, match=r"Line 6 of scores\.jsonl in '.*/a'"):
        read_run(tmp_path / "a")


def test_the_csv_has_a_line_for_every_share(tmp_path: Path) -> None:
    result = run(tmp_path / "a", "mini-diffusion")
    rows = list(csv.DictReader(io.StringIO(as_csv([result]))))
    by_key = {(row["group"], row["tag"], row["metric"]): row for row in rows}
    assert len(by_key) == len(rows)
    text = by_key["all", "", "text"]
    assert float(text["value"]) == result["models"]["mini-diffusion"]["text"]["value"]
    assert int(by_key["tag", "a", "text"]["n"]) == 30
    assert ("by_timesteps", "4", "group") in by_key


def test_the_table_shows_tags_modes_transitions_readings_and_cost(tmp_path: Path) -> None:
    table = as_table(run(tmp_path / "a", "mini-clip", "mini-diffusion"))
    for words in ("text by tag", "examples by mode", "fixed", "timesteps used", "L2 norm", "denoiser calls", "McNemar"):
        assert words in table


def test_all_timesteps_and_the_squared_error_give_the_score_itself(tmp_path: Path) -> None:
    entry = run(tmp_path / "a", "mini-diffusion")["models"]["mini-diffusion"]
    whole = {metric: entry[metric] for metric in ("text", "image", "group", "group_match")}
    assert entry["losses"]["by_timesteps"]["4"] == whole
    assert entry["losses"]["normalisations"]["squared error"] == whole


@pytest.mark.parametrize(
    ("benchmark", "of", "lines"), [("winoground", 400, 2), ("mini", 400, 0), ("winoground", 800, 0)]
)
def test_published_results_are_compared_on_the_whole_benchmark(benchmark: str, of: int, lines: int) -> None:
    share = {"low": 0, "high": 1, "n": 400}
    entry = {"text": {"value": 0.3, **share}, "image": {"value": 0.1, **share}, "group": {"value": 0.07, **share}}
    result = {
        "benchmark": benchmark,
        "n": 400,
        "of": of,
        "models": {"clip-vit-b-32": entry},
        "chance": dict.fromkeys(entry),
    }
    found = expected_lines(result, cards.resolve)
    assert len(found) == lines
    if lines:
        assert "expected .3075 / .1050 / .0800, got .3000 / .1000 / .0700" in found[0]


class Blindable(OneByOne):
    """Likes one caption whatever the image, unless the image is white."""

    card = cards.resolve("mini-clip")

    def scorer(self, name: str) -> Blindable:
        return self

    def score(self, images: Sequence[Image.Image], captions: Sequence[str], spend: Budget) -> Scores:
        likes = np.array([text.startswith("good") for text in captions], dtype=float)
        return Scores(kind="similarity", score_IC=np.stack([likes for _ in images]))


def choice(number: int, captions: tuple[str, str]) -> Example:
    picture = Picture(name=f"{number}.png", open=lambda: Image.new("RGB", (8, 8)), key=f"{number}")
    return Example(id=str(number), images=(picture,), captions=captions, tags={"tag": "x"})


def test_the_blind_row_says_how_much_can_be_won_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [choice(n, ("good one", "bad one") if n < 30 else ("bad one", "good one")) for n in range(40)]
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: examples)
    result = evaluate("set", ["mini-clip"], workbench=Blindable(), budget=SPEND)
    assert result["models"]["mini-clip"]["blind"]["accuracy"]["value"] == 0.75
    assert "mini-clip, blind" in as_table(result)
    for example, blind in zip(examples, unrelated(examples), strict=True):
        assert len({p.key for p in blind.images}) == UNRELATED
        assert example.images[0].key not in {p.key for p in blind.images}


def test_a_blind_score_is_the_mean_over_the_unrelated_images() -> None:
    scores = Scores(kind="similarity", score_IC=np.array([[1.0, 5.0], [3.0, 1.0], [2.0, 0.0]]), seconds=2.0)
    assert blinded(scores).score_IC.tolist() == [[2.0, 2.0]]


def test_a_result_that_is_shown_again_has_its_own_figures() -> None:
    result = read_result(ASSETS / SUMMARIES / "mini-retrieval.json")
    shown = result_file(result, "png").body
    assert result_file(result, "png").body is shown
    next(iter(result["models"].values()))["accuracy"]["low"] = 0.0
    assert result_file(result, "png").body == save_shares(result, "png") != shown


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_table_shows_a_share_of_scores_that_are_not_finite(value: float, tmp_path: Path) -> None:
    class Broken(FakeScorer):
        def score(self, *asked: Any, **named: Any) -> Scores:
            scores = super().score(*asked, **named)
            return replace(scores, score_IC=np.full_like(scores.score_IC, value))

    class Mixed(Shelf):
        def scorer(self, name: str) -> FakeScorer:
            return Broken(cards.resolve(name)) if name == "mini-clip" else super().scorer(name)

    evaluate("mini", ["mini-clip", "mini-clip-clean"], workbench=Mixed(), budget=SPEND, out=tmp_path / "run")
    (result,) = report([tmp_path / "run"], tmp_path / "out", lambda line: None)
    page = result_html(result)
    for table in (as_table(result), page, (tmp_path / "out" / "results.csv").read_text()):
        assert not re.search(r"\b(nan|inf|None)\b", table)
    assert as_table(result).count(NO_SCORE) >= 3
    assert page.count(NO_SCORE) >= 3


def test_a_model_that_does_not_know_the_words_scores_nothing(tmp_path: Path) -> None:
    concern = Concern(kind="unknown-words", text="It does not know 'piano'.", blocking=True)

    class Small:
        def scorer(self, name: str) -> FakeScorer:
            return FakeScorer(cards.resolve(name), concerns=[concern])

    with pytest.raises(UserError, match="Example 0 does not suit Mini CLIP: It does not know 'piano'"):
        evaluate("mini", ["mini-clip"], workbench=Small(), budget=SPEND, out=tmp_path / "run")


def test_pictures_from_all_over_the_set_are_looked_at_before_scoring() -> None:
    shown: list[int] = []

    class Looking(FakeScorer):
        def concerns(
            self, images: Sequence[Image.Image], captions: Sequence[str], region: Region = "crop"
        ) -> list[Concern]:
            shown.append(len(images))
            return []

    assert check_fit(Looking(fake_card()), EXAMPLES, "crop") == {}
    assert [place for place, images in enumerate(shown) if images] == [0, 10, 20, 30]
    assert set(shown) == {0, 2}


DAMAGE = {
    "no header": lambda folder: (folder / "run.json").unlink(),
    "a header that is no JSON": lambda folder: (folder / "run.json").write_text("{"),
    "a fine-tuning run": lambda folder: (folder / "run.json").write_text('{"kind": "fine-tune"}'),
    "another format": lambda folder: (folder / "run.json").write_text(
        (folder / "run.json").read_text().replace('"format": ', '"format": 9')
    ),
    "an example cut": lambda folder: (folder / "examples.jsonl").write_text("{\n"),
    "no example": lambda folder: (folder / "examples.jsonl").write_text(""),
    "a score that is no JSON": lambda folder: (folder / "scores.jsonl").write_text("{broken}\n"),
    "no score": lambda folder: (folder / "scores.jsonl").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_shell_names_a_run_as_typed_and_the_page_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    run(tmp_path / "mine" / "one", "mini-clip")
    DAMAGE[damage](tmp_path / "mine" / "one")
    monkeypatch.chdir(tmp_path)
    assert main(["report", "mine/one"]) == 2
    assert "'mine/one'" in capsys.readouterr().err
    page = RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path / "mine")}), assets=tmp_path / "none")
    page.lend("secret", tmp_path / "mine" / "one")
    for name, called in (("runs/one", "one"), ("secret", "one|run")):
        with pytest.raises(UserError, match=called) as refused:
            page.catalogue(name)
        assert str(tmp_path) not in str(refused.value)
        assert "secret" not in str(refused.value)


def test_evaluate_names_its_folder_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "mine" / "one", "mini-clip")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "one" / "run.json").write_text("{")
    with pytest.raises(UserError, match="'mine/one'"):
        run(Path("mine/one"), "mini-clip")


def test_thousands_left_out_do_not_hide_the_scores(tmp_path: Path) -> None:
    result = run(tmp_path, "mini-clip")
    result["skipped"] = [{"example": f"x{number}", "reason": "x.png is missing."} for number in range(5_000)]
    lines = as_table(result).splitlines()
    assert "left out: 5,000 examples, whose pictures cannot be opened" in lines
    assert "  and 4,992 more: --json names all" in lines
    assert sum("is missing" in line for line in lines) == 8
    html = result_html(result)
    assert html.count("x.png is missing") == 100
    assert "and 4,900 more" in html
