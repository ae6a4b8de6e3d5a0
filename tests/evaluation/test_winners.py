"""Examples alone, batched and shared by two processes: no winner changes, for a CLIP that is a bag of words too; both
processes really work, and together they give what one gives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.decision import decide
from sdsdemo.core.metrics import METRICS
from sdsdemo.core.outcomes import judge
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.sampling import stratified
from sdsdemo.evaluation.store import StoredRun, read_run
from sdsdemo.settings import ROOT, budget
from sdsdemo.types import Scores
from tests import twins

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sdsdemo"]
SPEND = budget(2, 2, 0)
COUNT = int(os.environ.get("SDSDEMO_WINNERS", "80"))
"""Examples; of 400."""
BENCHMARK = "mini"
"""Its captions have the same words in another order, so that a bag of words has nothing to tell them apart by."""


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"open_clip:local-dir:{twins.bag_of_words_folder(tmp_path_factory.mktemp('bag') / 'bag')}"


def alone(workbench: Workbench, model: str) -> list[Scores]:
    scorer = workbench.scorer(model)
    return [
        scorer.score([picture.open() for picture in example.images], example.captions, SPEND)
        for example in stratified(read_benchmark(BENCHMARK), COUNT)
    ]


def shared_by_two(models: list[str], out: Path) -> dict:
    named = [word for model in models for word in ("--model", model)]
    settings = ["--limit", str(COUNT), "--timesteps", "2", "--noises", "2"]
    command = [*TWO, "evaluate", BENCHMARK, "--out", str(out), "--json", *settings, *named]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_shared(one: StoredRun, two: StoredRun, scored: int) -> None:
    """Each of two processes has scored its half, and their scores are those of one process, in its order."""
    assert two.header["shares"] == [scored / 2, scored / 2]
    assert list(two.scores) == list(one.scores)
    for key, scores in one.scores.items():
        np.testing.assert_allclose(two.scores[key].score_IC, scores.score_IC, atol=1e-5)


def winners(scores_E: list[Scores]) -> list[tuple[int | None, bool]]:
    """(preferred, tie) of every image."""
    answers = [decide(scores, image) for scores in scores_E for image in range(2)]
    return [(answer.preferred, answer.tie) for answer in answers]


@pytest.mark.slow
@pytest.mark.long
def test_no_winner_changes_between_alone_batched_and_two_processes(bag: str, tmp_path: Path) -> None:
    models, workbench = [bag, "mini-clip", "mini-diffusion"], Workbench()
    result = evaluate(BENCHMARK, models, workbench=workbench, budget=SPEND, limit=COUNT, out=tmp_path / "one")
    by_two = shared_by_two(models, tmp_path / "two")
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert_shared(one, two, COUNT * len(models))
    assert (result["processes"], by_two["processes"]) == (1, 2)
    assert not list((tmp_path / "two").glob("scores.*.jsonl"))  # the parts were put together
    for model in models:
        batched, shared = one.of(model), two.of(model)
        assert batched is not None
        assert shared is not None
        by_itself = alone(workbench, model)
        assert winners(by_itself) == winners(batched) == winners(shared)
        for metric in METRICS:
            right = [judge(found).right[metric].tolist() for found in (by_itself, batched, shared)]
            assert right[0] == right[1] == right[2]
        assert by_two["models"][model]["text"] == result["models"][model]["text"]
        if model == bag:
            exact = [scores.score_IC[i, 0] != scores.score_IC[i, 1] for scores in by_itself for i in range(2)]
    assert np.mean(exact) > 0.5  # rounding alone would name a winner
    assert result["models"][bag]["apart"]["ties"]["text"] == result["n"] == COUNT
    assert result["models"][bag]["text"]["value"] == 0.0


@pytest.mark.parametrize("model", ["mini-clip", "mini-diffusion"])
def test_scores_do_not_know_what_the_caller_has_switched_on(model: str) -> None:
    scorer, example = Workbench().scorer(model), read_benchmark(BENCHMARK)[0]
    images = [picture.open() for picture in example.images]
    plain = scorer.score(images, example.captions, SPEND).score_IC
    dtype = torch.get_default_dtype()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
        inside = scorer.score(images, example.captions, SPEND).score_IC
        (batched,) = scorer.score_examples([example], SPEND)
    try:
        torch.set_default_dtype(torch.float64)
        doubled = scorer.score(images, example.captions, SPEND).score_IC
    finally:
        torch.set_default_dtype(dtype)
    np.testing.assert_array_equal(inside, plain)
    np.testing.assert_allclose(batched.score_IC, plain, rtol=1e-6)
    np.testing.assert_allclose(doubled, plain, rtol=1e-6)
