"""A training step shared by two processes is that of one process with the same global batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdsdemo.mini.experiments.draw_assets import write_benchmark
from tests import forks
from tests.conftest import free_port


@pytest.mark.long
def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "pairs", seed=3, split="validation", count=7)
    benchmark = f"folder:{tmp_path / 'pairs'}"
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = {}
    for name, env in (("one", {}), *((f"two {k}", together | {"RANK": k, "LOCAL_RANK": k}) for k in "01")):
        command = ("tests.shared_step", str(tmp_path / name.split()[0]), benchmark)
        processes[name] = forks.started(forks.run_module, *command, out=tmp_path / f"{name}.txt", env=env)
    # a status of 3: the processes did not part, and would abort now and then
    said = {name: forks.ended(process, tmp_path / f"{name}.txt") for name, process in processes.items()}
    one, two = json.loads(said["one"]), json.loads(said["two 0"])
    assert (one["world"], two["world"]) == (1, 2)
    assert two["rows"] == [[0, 3], [3, 6]]
    for name, alone in one["found"].items():
        shared = two["found"][name]
        for a, b in zip(alone["losses"], shared["losses"], strict=True):
            assert b == pytest.approx(a, abs=1e-5), name
        assert shared["norm"] == pytest.approx(alone["norm"], rel=1e-5)
        assert shared["weights"] == pytest.approx(alone["weights"], rel=1e-7)
    for alone, shared in zip(one["tuned"], two["tuned"], strict=True):
        assert alone["preferences"].get("evaluations") == shared["preferences"].get("evaluations")  # each once
        for a, b in zip(alone["log"], shared["log"], strict=True):
            for key in a.keys() - {"s"}:
                assert b[key] == pytest.approx(a[key], abs=1e-4), key
