"""A training step shared by two processes is that of one process with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.mini.experiments.draw_assets import write_benchmark
from sdsdemo.settings import ROOT


def ran(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr  # 3: the processes did not part, and would abort now and then
    return json.loads(done.stdout)


@pytest.mark.long
def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "pairs", seed=3, split="validation", count=7)
    benchmark = f"folder:{tmp_path / 'pairs'}"
    one = ran([sys.executable, "-m", "tests.shared_step", str(tmp_path / "one"), benchmark])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = ran([*launcher, "-m", "tests.shared_step", str(tmp_path / "two"), benchmark])
    assert (one["world"], two["world"]) == (1, 2)
    assert two["rows"] == [[0, 3], [3, 6]]
    for name, alone in one["found"].items():
        shared = two["found"][name]
        for a, b in zip(alone["losses"], shared["losses"], strict=True):
            assert b == pytest.approx(a, abs=1e-5), name
        assert shared["norm"] == pytest.approx(alone["norm"], rel=1e-5)
        assert shared["weights"] == pytest.approx(alone["weights"], rel=1e-7)
    for alone, shared in zip(one["tuned"], two["tuned"], strict=True):
        assert alone["preferences"].get("evaluations") == shared["preferences"].get("evaluations")  # asked once, by one
        for a, b in zip(alone["log"], shared["log"], strict=True):
            for key in a.keys() - {"s"}:
                assert b[key] == pytest.approx(a[key], abs=1e-4), key
