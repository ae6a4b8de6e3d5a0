"""A training step shared by two processes is that of one process with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from sdsdemo.settings import ROOT


def ran(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_processes_make_the_steps_of_one() -> None:
    one = ran([sys.executable, "-m", "tests.shared_step"])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = ran([*launcher, "-m", "tests.shared_step"])
    assert (one["world"], two["world"]) == (1, 2)
    assert two["rows"] == [[0, 3], [3, 6]]
    for name, alone in one["found"].items():
        shared = two["found"][name]
        for a, b in zip(alone["losses"], shared["losses"], strict=True):
            assert b == pytest.approx(a, abs=1e-5), name
        assert shared["norm"] == pytest.approx(alone["norm"], rel=1e-5)
        assert shared["weights"] == pytest.approx(alone["weights"], rel=1e-7)
