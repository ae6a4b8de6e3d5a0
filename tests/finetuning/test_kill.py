"""A fine-tuning run that is killed at any moment, inside a write too, goes on to the same weights."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from sdsdemo.mini.experiments.draw_assets import write_benchmark
from tests import forks

KILLS = 4


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_run_leaves_a_whole_checkpoint_and_no_process(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "pairs", seed=3, split="validation", count=7)
    command = ("tests.killed_training", str(tmp_path), f"folder:{tmp_path / 'pairs'}", str(KILLS))
    found = json.loads(forks.ran(forks.run_module, *command, out=tmp_path / "found.json"))
    assert found["inside"] == KILLS // 2
    assert set(found["states"]) == {"interrupted"}
    assert all(later > earlier for earlier, later in pairwise(found["steps"]))
    assert found["end"] == "finished"
    assert found["equal"]
