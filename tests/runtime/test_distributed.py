"""One run shared by two processes: both really work, and together they give what one gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import read_run
from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.settings import ROOT, budget

COUNT = 4
MODELS = ["mini-clip", "mini-diffusion"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sdsdemo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "small"
    write_benchmark(folder, seed=1, split="validation", count=COUNT)
    return folder


def with_two(folder: Path, out: Path) -> dict:
    models = [word for model in MODELS for word in ("--model", model)]
    command = [*TWO, "evaluate", f"folder:{folder}", "--out", str(out), "--json", *models]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--timesteps", "2", "--noises", "2"], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_two_processes_share_a_run_and_give_what_one_gives(folder: Path, tmp_path: Path) -> None:
    spend = budget(2, 2, 0)
    one = evaluate(f"folder:{folder}", MODELS, workbench=Workbench(), budget=spend, out=tmp_path / "one")
    two = with_two(folder, tmp_path / "two")
    assert (one["processes"], two["processes"]) == (1, 2)
    merged, single = read_run(tmp_path / "two"), read_run(tmp_path / "one")
    assert merged.header["shares"] == [COUNT, COUNT]  # of two models, each process scored its half
    assert list(merged.scores) == list(single.scores)
    for key, scores in single.scores.items():
        np.testing.assert_allclose(merged.scores[key].score_IC, scores.score_IC, atol=1e-5)
    for model in MODELS:
        assert two["models"][model]["text"] == one["models"][model]["text"]
    assert not list((tmp_path / "two").glob("scores.*.jsonl"))  # the parts were put together


def test_library_output_stays_out_of_the_results() -> None:
    code = (
        "import os; from sdsdemo.runtime.distributed import _stdout_to_stderr\n"
        "with _stdout_to_stderr(): os.write(1, b'[Gloo] Rank 0 is connected')\n"
        "print('results')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("results\n", "[Gloo] Rank 0 is connected")
