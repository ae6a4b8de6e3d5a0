"""Runs that are damaged, or of another shape: each is read, or refused in one sentence. Nothing else comes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import read_catalogue
from sdsdemo.evaluation.freshness import current
from sdsdemo.evaluation.report import results_of
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import EXAMPLES, HEADER, SCORES, RunFolder, read_run, scores_of
from sdsdemo.evaluation.store.row_format import parsed
from sdsdemo.evaluation.tables import as_csv, as_table
from sdsdemo.models import cards
from sdsdemo.runtime.files import from_json, whole_lines
from sdsdemo.settings import Settings, budget
from sdsdemo.types import Example, Picture, Scores
from sdsdemo.ui import opening
from sdsdemo.ui.results import SUMMARIES, ResultsTab
from tests.damage import damaged
from tests.evaluation.test_store import Shelf
from tests.fakes import FakeScorer

COUNT = 500
SPEND = budget(2, 2, 0, empty_prompt=False)
MODELS = ("mini-clip", "mini-diffusion")
KINDS = {"pairs": 2, "choices": 1}


def example(number: int, images: int) -> Example:
    pictures = tuple(
        Picture(name=f"{number}-{k}", open=lambda: Image.new("RGB", (8, 8)), key=f"{number}-{k}", content=lambda: "c")
        for k in range(images)
    )
    tags = {"tag": "ab"[number % 2], "secondary_tag": "x, y"}
    return Example(id=f"e{number}", images=pictures, captions=(f"{number} one", f"{number} two"), tags=tags)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound run of each shape."""
    folders = {}
    for kind, images in KINDS.items():
        folders[kind] = tmp_path_factory.mktemp(kind) / "run"
        examples = [example(number, images) for number in range(4)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name, examples=examples: examples)
            evaluate("mini", MODELS, workbench=Shelf(), budget=SPEND, out=folders[kind], blind=True)
    return folders


def used(folder: Path, examples: list[Example]) -> None:
    """Everything that reads a stored run."""
    steps: list[Callable[[], object]] = [
        lambda: shown(folder, examples),
        lambda: read_catalogue(read_run(folder), lambda name: examples),
        lambda: RunFolder(folder, "mini", examples, SPEND).enter("mini-clip", "other weights"),
        lambda: RunFolder(folder, "mini", examples, SPEND).finish(),
    ]
    for step in steps:
        with suppress(UserError):
            step()


def shown(folder: Path, examples: list[Example]) -> None:
    results = results_of([current(read_run(folder), lambda name: examples)])
    json.dumps(results, allow_nan=False)
    as_csv(results)
    for result in results:
        as_table(result)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", [HEADER, EXAMPLES, SCORES])
def test_a_damaged_run_is_read_or_refused_in_a_sentence(
    whole: dict[str, Path], tmp_path: Path, file: str, kind: str
) -> None:
    examples = [example(number, KINDS[kind]) for number in range(4)]
    for seed in range(COUNT // len(KINDS)):
        folder = tmp_path / "run"
        shutil.copytree(whole[kind], folder)
        content = damaged((folder / file).read_bytes(), seed, lines=file != HEADER)
        (folder / file).write_bytes(content)
        try:
            used(folder, examples)
        except Exception as error:
            raise AssertionError(f"seed {seed} of {file}: {content[:2000]!r}") from error
        shutil.rmtree(folder)


FAULTS = [
    (HEADER, "models", ["mini-clip"], "models"),
    (HEADER, "settings", {"timesteps": "2", "noises": 2, "seed": 0}, "settings.timesteps"),
    (EXAMPLES, "images", "two", r"Line 1 of examples\.jsonl.*images"),
    (EXAMPLES, "id", "e1", r"Line 2 of examples\.jsonl.*the id e1 appears twice"),
    (SCORES, "score", [[1.0], [2.0, 3.0]], r"Line 1 of scores\.jsonl.*differ in length"),
    (SCORES, "score", [[1.0, 2.0]], r"Line 1 of scores\.jsonl.*one list per image"),
    (SCORES, "score", [["1", "2"], ["3", "4"]], r"Line 1 of scores\.jsonl.*score"),
    (SCORES, "model", "a stranger", r"Line 1 of scores\.jsonl.*a stranger, which run\.json does not list"),
    (SCORES, "example", "e99", r"Line 1 of scores\.jsonl.*e99, which examples\.jsonl does not list"),
]


@pytest.mark.parametrize("rounds", [[[10**20, 2], [2, 2]], [[2, 2]], [[2, 3], [2, 2]], [[2], [2, 2]]])
def test_rounds_that_no_run_has_are_named(tmp_path: Path, rounds: object) -> None:
    row: dict[str, Any] = {
        "model": "m", "example": "e", "kind": "denoising", "score": [[1.0, 2.0]] * 2,
        "evidence": {
            "timesteps": [1], "loss": [[[[1.0, 2.0]]] * 2] * 2, "space": "eps", "seed": 0, "micro_batch": 1,
            "evaluations": 8, "antithetic": True, "rounds": [[2, 2], [2, 2]],
        },
    }  # fmt: skip
    assert scores_of(parsed(json.dumps(row))).evidence is not None
    row["evidence"]["rounds"] = rounds
    with pytest.raises(ValueError, match="rounds"):
        scores_of(parsed(json.dumps(row)))


@pytest.mark.parametrize(("file", "key", "value", "words"), FAULTS)
def test_another_shape_is_named_by_file_line_and_field(
    whole: dict[str, Path], tmp_path: Path, file: str, key: str, value: object, words: str
) -> None:
    shutil.copytree(whole["pairs"], tmp_path / "run")
    first, *rest = [(tmp_path / "run" / file).read_text()] if file == HEADER else whole_lines(tmp_path / "run" / file)
    changed = json.dumps(json.loads(first) | {key: value})
    (tmp_path / "run" / file).write_text("".join(line + "\n" for line in (changed, *rest)))
    with pytest.raises(UserError, match=words):
        read_run(tmp_path / "run")


# --------------------------------------------------------------------------------------------------- strict numbers


def test_numbers_that_are_not_finite_are_stored_as_null_and_come_back(tmp_path: Path) -> None:
    examples = [example(0, 2)]
    run = RunFolder(tmp_path, "mini", examples, SPEND)
    run.enter("mini-diffusion", "x")
    fake = FakeScorer(cards.resolve("mini-diffusion"), loss=float("nan"))
    scores = fake.score([p.open() for p in examples[0].images], examples[0].captions, budget(2, 1, 0))
    run.add("mini-diffusion", "e0", scores)
    (line,) = whole_lines(tmp_path / SCORES)
    assert from_json(line)["evidence"]["loss"][0][0] == [[None], [None]]
    again = read_run(tmp_path).scores["mini-diffusion", "e0", ""]
    assert again.evidence is not None
    assert np.isnan(again.score_IC).all()
    assert np.isnan(again.evidence.loss_ICTN).all()


def test_a_bare_nan_of_older_files_is_read_and_written_strictly(whole: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(whole["pairs"], tmp_path / "run")
    rows = [json.loads(line) for line in whole_lines(tmp_path / "run" / SCORES)]
    rows[0]["score"][0][0] = float("nan")
    (tmp_path / "run" / SCORES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert np.isnan(read_run(tmp_path / "run").scores["mini-clip", "e0", ""].score_IC[0, 0])
    (result,) = results_of([read_run(tmp_path / "run")])
    json.dumps(result, allow_nan=False)
    RunFolder(tmp_path / "run", "mini", [example(number, 2) for number in range(4)], SPEND).finish()
    assert all(from_json(line) for line in whole_lines(tmp_path / "run" / SCORES))


def test_a_row_that_was_measured_otherwise_is_refused(whole: dict[str, Path], tmp_path: Path) -> None:
    """Fewer timesteps in one row would be summed up with the others."""
    shutil.copytree(whole["pairs"], tmp_path / "run")
    run = RunFolder(tmp_path / "run", "mini", [example(number, 2) for number in range(4)], SPEND)
    run.enter("mini-x", "x")
    fake, pictures = FakeScorer(cards.resolve("mini-diffusion")), [p.open() for p in example(0, 2).images]
    for number, spend in enumerate([budget(2, 2, 0), budget(3, 2, 0)]):
        run.add("mini-x", f"e{number}", fake.score(pictures, example(number, 2).captions, spend))
    with pytest.raises(UserError, match=r"Line 10 .* measured differently from earlier lines of mini-x"):
        read_run(tmp_path / "run")


# ------------------------------------------------------------------------------------------------ what the page reads


def test_a_damaged_opening_answer_is_left_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from sdsdemo.settings import ASSETS

    workbench = Workbench(Settings.from_environment({}))
    content = (ASSETS / opening.OPENING_FILE).read_bytes()
    shutil.copytree(ASSETS / "mini" / "examples", tmp_path / "mini" / "examples")
    shutil.copy(ASSETS / "mini" / "examples.json", tmp_path / "mini")
    for seed in range(COUNT):
        (tmp_path / opening.OPENING_FILE).write_bytes(damaged(content, seed))
        try:
            found = opening.read_opening(workbench, tmp_path)
            if found is not None:
                for answer in found[1]:
                    assert answer.scores is None or isinstance(answer.scores, Scores)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert "writes it again" in caplog.text


@pytest.mark.slow
def test_damaged_pictures_of_the_opening_are_left_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from sdsdemo.settings import ASSETS

    workbench = Workbench(Settings.from_environment({}))
    content = (ASSETS / opening.PICTURES_FILE).read_bytes()
    shutil.copytree(ASSETS / "mini" / "examples", tmp_path / "mini" / "examples")
    for name in ("mini/examples.json", opening.OPENING_FILE):
        shutil.copy(ASSETS / name, tmp_path / name)
    for seed in range(COUNT):
        (tmp_path / opening.PICTURES_FILE).write_bytes(damaged(content, seed))
        try:
            found = opening.read_opening(workbench, tmp_path)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        assert found is not None
        assert len(found[1]) == len(workbench.settings.models)
    assert "writes it again" in caplog.text


def test_an_opening_answer_of_other_weights_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workbench = Workbench(Settings.from_environment({}))
    assert opening.read_opening(workbench) is not None
    monkeypatch.setattr(opening, "fingerprint", lambda card: "other weights")
    assert opening.read_opening(workbench) is None
    assert "has changed since" in caplog.text


@pytest.mark.slow
def test_a_damaged_summary_is_one_sentence_on_the_page(tmp_path: Path) -> None:
    import gradio as gr

    from sdsdemo.app.run_registry import RunRegistry
    from sdsdemo.settings import ASSETS

    (tmp_path / SUMMARIES).mkdir(parents=True)
    content = (ASSETS / SUMMARIES / "mini-retrieval.json").read_bytes()
    with gr.Blocks():
        tab = ResultsTab(
            RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path / "none")}), tmp_path), tmp_path
        )
    for seed in range(COUNT):
        (tmp_path / SUMMARIES / "kept.json").write_bytes(damaged(content, seed))
        shown = tab.show("kept")
        assert "written in the server's log" not in shown, seed
        assert 'class="results"' in shown or "kept.json is not a result of" in shown
        tab.overview_html(["kept"])
