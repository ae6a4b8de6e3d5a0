"""A fine-tuning run that is killed at any moment, inside a write too, goes on to the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.settings import ROOT

KILLS = 4


@pytest.mark.long
def test_a_killed_run_leaves_a_whole_checkpoint_and_no_process(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "pairs", seed=3, split="validation", count=7)
    command = [sys.executable, "-m", "tests.killed_training", str(tmp_path), f"folder:{tmp_path / 'pairs'}", str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["inside"] >= KILLS // 2
    assert set(found["states"]) == {"interrupted"}
    assert all(later > earlier for earlier, later in pairwise(found["steps"]))
    assert found["end"] == "finished"
    assert found["equal"]
