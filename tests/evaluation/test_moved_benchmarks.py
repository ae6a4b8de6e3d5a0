"""A benchmark of one's own that has moved, is named from another folder, or has grown since a run of it was stored."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.files.picture_digest import made_of
from sdsdemo.errors import UserError
from sdsdemo.evaluation import freshness, progress
from sdsdemo.evaluation.catalogue import read_catalogue
from sdsdemo.evaluation.report import report
from sdsdemo.evaluation.store import HEADER, read_run
from tests.evaluation.world import COUNT, World, picture


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    return World(tmp_path)


def test_a_moved_benchmark_is_found_once_it_is_evaluated_there(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    world.images.parent.rename(tmp_path / "moved")
    world.images, world.benchmark, world.calls = tmp_path / "moved" / "images", f"folder:{tmp_path / 'moved'}", 0
    world.evaluate(tmp_path / "run")
    assert world.calls == 0
    assert len(read_catalogue(read_run(tmp_path / "run")).examples) == COUNT
    picture(world, random.Random(3))
    assert report([tmp_path / "run"], None, lambda line: None)[0]["n"] == COUNT - 1


def test_a_relative_path_means_the_same_from_another_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world.benchmark = "folder:set"
    world.evaluate(tmp_path / "run")
    assert report([tmp_path / "run"], None, lambda line: None)[0]["benchmark"] == "folder:set"
    other = World(tmp_path / "other")
    other.rows[0]["caption_0"] += " there"
    other.write()
    monkeypatch.chdir(tmp_path / "other")
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    assert (result["benchmark"], result["n"]) == (f"folder:{tmp_path / 'set'}", COUNT)


def test_a_report_of_several_runs_reads_their_benchmark_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tmp_path / "one", tmp_path / "other"]
    for run in runs:
        world.evaluate(run)
    read, digested, said = [], [], []
    monkeypatch.setattr(freshness, "read_benchmark", lambda name: read.append(name) or read_benchmark(name))
    monkeypatch.setattr(progress, "made_of", lambda example: digested.append(example.id) or made_of(example))
    monkeypatch.setattr(progress, "REPORTED_EVERY", 0.0)
    report(runs, None, lambda line: None, said.append)
    assert len(read) == 1
    assert len(digested) == COUNT
    assert said[2] == "Checking the pictures of 3 of 12 examples"


@pytest.mark.parametrize("stored_as", ["absolute", "as it was typed"])
def test_a_benchmark_that_has_grown_is_not_called_another_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored_as: str
) -> None:
    monkeypatch.chdir(tmp_path)
    world.benchmark = "folder:set"
    world.evaluate(tmp_path / "run")
    if stored_as != "absolute":
        header = (tmp_path / "run" / HEADER).read_text()
        (tmp_path / "run" / HEADER).write_text(header.replace(f"folder:{tmp_path / 'set'}", "folder:set"))
    world.rows[0] |= {"id": "first"}
    world.rows.append(world.rows[1] | {"id": "last"})
    world.write()
    with pytest.raises(UserError, match="12 examples of folder:set, and this run has 13: 2 are new, 1 are gone"):
        world.evaluate(tmp_path / "run")


def test_a_benchmark_that_only_gained_examples_keeps_its_scores(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    calls = world.calls
    world.rows.append(world.rows[1] | {"id": "last"})
    world.write()
    assert world.evaluate(tmp_path / "run")["n"] == len(world.rows)
    assert world.calls == calls + 1
