"""Several processes write into one run's folder, and some are killed: no row is lost, none is there twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL.Image import Image

import sdsdemo.evaluation.run
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import HEADER, LOCK, SCORES, RunFolder, read_run
from sdsdemo.models import cards
from sdsdemo.runtime.files import hold, whole_lines
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Scores
from tests.evaluation.test_run import EXAMPLES
from tests.fakes import FakeScorer, OneByOne

RUNS = int(os.environ.get("SDSDEMO_KILL_RUNS", "6"))
"""How many seeds are tried; 30 were before this was written down."""
MODELS = ("mini-clip", "mini-diffusion", "mini-clip-clean")
SPEND = budget(2, 2, 0)
FORK = multiprocessing.get_context("fork") if sys.platform != "win32" else None
pytestmark = pytest.mark.skipif(FORK is None, reason="processes are forked to start in milliseconds")


class Slow(OneByOne):
    """Fakes by name that take some milliseconds an example."""

    pause = 0.0
    """Seconds besides."""

    def scorer(self, name: str) -> Slow:
        self.card = cards.resolve(name)
        self.fake = FakeScorer(self.card)
        return self

    def score(self, images: Sequence[Image], captions: Sequence[str], spend: Budget) -> Scores:
        time.sleep(self.pause + 0.004 * random.random())
        return self.fake.score(images, captions, spend)


class SlowFile:
    """Writes in small pieces, so that a kill lands between them."""

    def __init__(self, file: Any) -> None:
        self.file, self.flush, self.fileno = file, file.flush, file.fileno

    def __enter__(self) -> SlowFile:
        return self

    def __exit__(self, *rest: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        for start in range(0, len(content), 300):
            self.file.write(content[start : start + 300])
            self.file.flush()
            time.sleep(0.0005)


def evaluate(out: Path, models: Sequence[str], said: Path, examples: Sequence = EXAMPLES) -> None:
    """Runs in a process of its own. said: gets a line for each row that `add` has promised to be kept."""
    open_, add = Path.open, RunFolder.add

    def slow_open(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = open_(path, mode, *rest, **options)
        return SlowFile(file) if mode == "ab" else file

    def promised(run: RunFolder, model: str, example: str, *rest: Any, **options: Any) -> Scores:
        scores = add(run, model, example, *rest, **options)
        os.write(promises, json.dumps([model, example]).encode() + b"\n")
        return scores

    promises = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    patch = pytest.MonkeyPatch()  # for the rest of this process
    patch.setattr(Path, "open", slow_open)
    patch.setattr(RunFolder, "add", promised)
    patch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: list(examples))
    random.seed(os.getpid())
    sdsdemo.evaluation.run.evaluate("mini", models, workbench=Slow(), budget=SPEND, out=out)


def started(target: Callable[..., None], *arguments: Any) -> Any:
    assert FORK is not None
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


def keys(out: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in whole_lines(out / SCORES)]
    return [(row["model"], row["example"]) for row in rows]


def promises(said: Path) -> set[tuple[str, str]]:
    return {tuple(json.loads(line)) for line in whole_lines(said)}


@pytest.mark.parametrize("seed", range(RUNS))
def test_what_killed_and_living_writers_have_scored_adds_up(tmp_path: Path, seed: int) -> None:
    draw, out, said = random.Random(seed), tmp_path / "run", tmp_path / "said"
    asked = [draw.sample(MODELS, draw.choice([1, 1, 2])) for _ in range(draw.randint(2, 4))]
    running = []
    for models in asked:
        running.append(started(evaluate, out, models, said))
        time.sleep(draw.uniform(0, 0.1))
    doomed = draw.sample(running, draw.randint(1, len(running)))
    for process in doomed:
        time.sleep(draw.uniform(0, 0.4))
        process.kill()
    for process in running:
        process.join(60)
        assert process.exitcode == 0 or process in doomed

    found = Counter(keys(out))
    assert not [key for key, count in found.items() if count > 1]
    assert promises(said) <= found.keys()
    living = {model for models, p in zip(asked, running, strict=True) if p not in doomed for model in models}
    assert {(model, example.id) for model in living for example in EXAMPLES} <= found.keys()

    last = started(evaluate, out, MODELS, tmp_path / "last")
    last.join(60)
    assert last.exitcode == 0
    assert len(promises(tmp_path / "last")) == len(MODELS) * len(EXAMPLES) - len(found)
    assert sorted(keys(out)) == sorted((model, example.id) for model in MODELS for example in EXAMPLES)
    assert set(json.loads((out / HEADER).read_text())["models"]) == set(MODELS)
    assert not list(out.glob("*.part"))
    fake = FakeScorer(cards.resolve("mini-clip"))
    stored = read_run(out)
    for example in EXAMPLES[::7]:
        scores = fake.score([p.open() for p in example.images], example.captions, SPEND)
        np.testing.assert_array_equal(stored.scores["mini-clip", example.id, ""].score_IC, scores.score_IC)


def test_two_runs_of_one_model_store_each_row_once(tmp_path: Path) -> None:
    running = [started(evaluate, tmp_path / "run", ["mini-clip"], tmp_path / f"said-{k}") for k in range(2)]
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(keys(tmp_path / "run")) == sorted(("mini-clip", example.id) for example in EXAMPLES)


def test_jobs_that_share_a_folder_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "pause", 0.03)
    running = [started(evaluate, tmp_path / "run", ["mini-clip"], tmp_path / "said") for _ in range(3)]
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    assert len(keys(tmp_path / "run")) == len(EXAMPLES)
    assert len(whole_lines(tmp_path / "said")) < 1.5 * len(EXAMPLES)  # in step they would score 2.5 times as many


def test_of_two_that_score_the_same_row_the_first_one_stands(tmp_path: Path) -> None:
    first, second = (RunFolder(tmp_path, "mini", EXAMPLES, SPEND) for _ in range(2))
    for run in (first, second):
        run.enter("mini-clip", "x")
    one, other = (Scores(kind="similarity", score_IC=np.full((2, 2), value)) for value in (1.0, 2.0))
    assert first.add("mini-clip", "0", one) is one
    np.testing.assert_array_equal(second.add("mini-clip", "0", other).score_IC, one.score_IC)
    assert len(whole_lines(tmp_path / SCORES)) == 1


def test_a_writer_that_knows_an_older_picture_leaves_no_row_of_it(tmp_path: Path) -> None:
    """It began before the picture was replaced, and goes on beside a run that began after."""
    before = {example.id: f"a-{example.id}" for example in EXAMPLES}
    old = RunFolder(tmp_path, "mini", EXAMPLES, SPEND, made_of=before)
    old.enter("mini-clip", "x")
    new = RunFolder(tmp_path, "mini", EXAMPLES, SPEND, made_of=before | {"3": "a-other"})
    new.enter("mini-clip", "x")
    one, other = (Scores(kind="similarity", score_IC=np.full((2, 2), value)) for value in (1.0, 2.0))
    for run, scores in ((old, one), (new, other), (old, one)):
        run.add("mini-clip", "3", scores)
        run.add("mini-clip", "4", scores)
    for run in (new, old):
        run.finish()
        stored = read_run(tmp_path).scores
        np.testing.assert_array_equal(stored["mini-clip", "3", ""].score_IC, other.score_IC)
        np.testing.assert_array_equal(stored["mini-clip", "4", ""].score_IC, one.score_IC)
        assert keys(tmp_path) == [("mini-clip", "3"), ("mini-clip", "4")]


def test_a_writer_of_a_sample_goes_on_beside_one_of_the_whole(tmp_path: Path) -> None:
    made_of = {example.id: f"a-{example.id}" for example in EXAMPLES}
    sample = RunFolder(tmp_path, "mini", EXAMPLES[:30:3], SPEND, made_of=made_of, of=len(EXAMPLES))
    sample.enter("mini-clip", "x")
    whole = RunFolder(tmp_path, "mini", EXAMPLES, SPEND, made_of=made_of)
    whole.enter("mini-clip", "x")
    for example in EXAMPLES[::-1]:
        whole.add("mini-clip", example.id, Scores(kind="similarity", score_IC=np.eye(2)))
    assert sample.add("mini-clip", "3", Scores(kind="similarity", score_IC=np.ones((2, 2)))).score_IC[0, 1] == 0
    sample.finish()
    assert keys(tmp_path) == [("mini-clip", example.id) for example in EXAMPLES]
    assert read_run(tmp_path).models == ["mini-clip"]


def test_a_reader_meets_a_run_that_is_just_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_of = {example.id: f"a-{example.id}" for example in EXAMPLES}
    RunFolder(tmp_path, "mini", EXAMPLES[:8], SPEND, made_of=made_of)
    before = (tmp_path / HEADER).read_bytes()
    RunFolder(tmp_path, "mini", EXAMPLES, SPEND, made_of=made_of)
    after = (tmp_path / HEADER).read_bytes()
    (tmp_path / HEADER).write_bytes(before)
    monkeypatch.setattr("sdsdemo.evaluation.store.reading.time.sleep", lambda s: (tmp_path / HEADER).write_bytes(after))
    assert len(read_run(tmp_path).every) == len(EXAMPLES)


def test_what_processes_of_older_versions_wrote_apart_is_put_together(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "mini", EXAMPLES, SPEND)
    run.enter("mini-clip", "x")
    for example in EXAMPLES:
        run.add("mini-clip", example.id, Scores(kind="similarity", score_IC=np.eye(2)))
    lines = whole_lines(tmp_path / SCORES)
    (tmp_path / SCORES).unlink()
    for part in (0, 1):
        cut = "" if part else '{"model": "mini-clip", "exa'
        (tmp_path / f"scores.{part}.jsonl").write_text("".join(f"{line}\n" for line in lines[part::2]) + cut)
    assert len(read_run(tmp_path).scores) == len(EXAMPLES)
    RunFolder(tmp_path, "mini", EXAMPLES, SPEND).finish()
    assert whole_lines(tmp_path / SCORES) == lines
    assert not list(tmp_path.glob("scores.*.jsonl"))


def test_the_end_of_one_run_leaves_the_rows_of_another_alone(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, "mini", EXAMPLES, SPEND)
    second = RunFolder(tmp_path, "mini", EXAMPLES, SPEND)
    one = np.eye(2)
    first.enter("mini-clip", "x")
    second.enter("mini-diffusion", "y")
    for number, example in enumerate(EXAMPLES):
        second.add("mini-diffusion", example.id, Scores(kind="similarity", score_IC=one))
        first.add("mini-clip", example.id, Scores(kind="similarity", score_IC=one))
        if number % 9 == 0:
            first.finish()
    second.finish()
    assert read_run(tmp_path).models == ["mini-clip", "mini-diffusion"]
    assert len(whole_lines(tmp_path / SCORES)) == 2 * len(EXAMPLES)


def test_a_lock_that_is_never_let_go_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path, "mini", EXAMPLES, SPEND)
    monkeypatch.setattr("sdsdemo.evaluation.store.writing.PATIENCE", 0.05)
    with hold(tmp_path / LOCK), pytest.raises(UserError, match="Another process has been writing"):
        run.enter("mini-clip", "x")
