"""A run that is killed again and again, inside a write each time, goes on to what an uninterrupted run gives."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.evaluation.store import SCORES, read_run
from sdsdemo.settings import ROOT

WRITER = """
import os
import sys
import time
from pathlib import Path

import sdsdemo.evaluation.run
import tests.evaluation.test_store as shelf

sdsdemo.evaluation.run.read_benchmark = lambda name: shelf.EXAMPLES
real_open = Path.open
goal = int(sys.argv[2])


class InPieces:
    def __init__(self, file):
        self.file = file
        self.flush, self.fileno = file.flush, file.fileno

    def __enter__(self):
        return self

    def __exit__(self, *rest):
        self.file.close()

    def write(self, text):
        for start in range(0, len(text), 40):
            if start and os.fstat(self.fileno()).st_size > goal:
                print("inside a write", flush=True)
                time.sleep(600)  # until it is killed
            self.file.write(text[start : start + 40])
            self.file.flush()


def open_in_pieces(path, mode="r", *rest, **options):
    file = real_open(path, mode, *rest, **options)
    return InPieces(file) if mode == "ab" else file


Path.open = open_in_pieces
models = ["mini-clip", "mini-diffusion"]
sdsdemo.evaluation.run.evaluate("mini", models, workbench=shelf.Shelf(), budget=shelf.SPEND, out=Path(sys.argv[1]))
"""
NEVER = 10**9
KILLS = 4


def start(out: Path, goal: int = NEVER) -> subprocess.Popen:
    """A run that halts inside the first write after so many bytes of scores, and says so on stdout."""
    command = [sys.executable, "-c", WRITER, str(out), str(goal)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(out)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return out


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(whole: Path, tmp_path: Path) -> None:
    out, draw, cut = tmp_path / "run", random.Random(5), 0
    for _ in range(KILLS):
        before = (out / SCORES).stat().st_size if (out / SCORES).is_file() else 0
        process = start(out, before + draw.randrange(2_000, 9_000))
        assert process.stdout
        assert process.stdout.readline() == b"inside a write\n"
        process.kill()
        process.communicate()
        cut += not (out / SCORES).read_bytes().endswith(b"\n")
    last = start(out)
    last.communicate(timeout=120)
    assert last.returncode == 0
    ended, expected = read_run(out), read_run(whole)
    assert list(ended.scores) == list(expected.scores)
    for key, scores in expected.scores.items():
        np.testing.assert_allclose(ended.scores[key].score_IC, scores.score_IC, atol=1e-5)
    assert [json.loads(line)["example"] for line in (out / SCORES).read_text().splitlines()] == [
        json.loads(line)["example"] for line in (whole / SCORES).read_text().splitlines()
    ]
    assert cut == KILLS
