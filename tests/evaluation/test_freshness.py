"""No old score for a new picture, caption, tag, model or setting: in evaluate, report, Browse and Results alike."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import read_catalogue
from sdsdemo.evaluation.freshness import current
from sdsdemo.evaluation.report import report
from sdsdemo.evaluation.store import EXAMPLES, HEADER, SCORES, read_run
from sdsdemo.evaluation.tables import as_table
from sdsdemo.models import cards
from sdsdemo.runtime.files import whole_lines
from sdsdemo.settings import Settings
from sdsdemo.types import Budget
from sdsdemo.ui.results_html import result_html
from tests import twins
from tests.evaluation.world import (
    COUNT,
    World,
    caption,
    changed,
    config,
    picture,
    setting,
    swapped,
    tag,
    tokenizer,
    weights,
)

CHANGES = 40
KINDS: list[Callable[[World, random.Random], None]] = [
    weights, config, tokenizer, picture, picture, caption, caption, swapped, tag, setting,
]  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    return World(tmp_path)


def stored(out: Path) -> dict[str, np.ndarray]:
    """What is shown of a run: by example, its scores. Nothing where it is refused."""
    try:
        run = current(read_run(out))
    except UserError:
        return {}
    return {example.id: run.scores[model, example.id, ""].score_IC for model in run.models for example in run.examples}


@pytest.mark.slow
def test_after_each_of_forty_changes_no_old_score_is_left(world: World, tmp_path: Path) -> None:
    draw, refused = random.Random(20), 0
    out = tmp_path / "run-0"
    world.evaluate(out)
    for number in range(CHANGES):
        kind = KINDS[number % len(KINDS)]
        kind(world, draw)
        truth = world.truth()
        for id_, score_IC in stored(out).items():  # before anything is evaluated again: what a page would show
            if kind is not setting:
                np.testing.assert_array_equal(score_IC, truth[id_], err_msg=f"{kind.__name__}, {id_}")
        result, reason = _asked_again(world, out)
        if result is None:
            assert "name another folder" in reason
            refused += 1
            out = tmp_path / f"run-{number + 1}"
            result = world.evaluate(out)
        shown = stored(out)
        assert shown.keys() == truth.keys()
        for id_, score_IC in truth.items():
            np.testing.assert_array_equal(shown[id_], score_IC, err_msg=f"{kind.__name__}, {id_}")
        fresh = world.evaluate(None)
        (told,) = report([out], None, lambda line: None)
        for key in ("n", "models"):
            assert _untimed(result[key]) == _untimed(fresh[key]) == _untimed(told[key])
        assert len(whole_lines(out / SCORES)) == COUNT
    assert 10 <= refused <= CHANGES - 10


def _asked_again(world: World, out: Path) -> tuple[dict | None, str]:
    try:
        return world.evaluate(out), ""
    except UserError as error:
        return None, str(error)


def _untimed(found: object) -> object:
    if not isinstance(found, dict):
        return found
    return {key: _untimed(value) for key, value in found.items() if key != "seconds_per_example"}


# ---------------------------------------------------------------------------------------------------- one at a time


@pytest.mark.parametrize("name", [field.name for field in fields(Budget)])
def test_every_setting_of_a_question_is_one_of_its_run(world: World, tmp_path: Path, name: str) -> None:
    world.evaluate(tmp_path / "run")
    world.spend = changed(world.spend, name)
    with pytest.raises(UserError, match="different settings: name another folder"):
        world.evaluate(tmp_path / "run")


@pytest.mark.parametrize("kind", [picture, caption, swapped])
def test_only_the_examples_that_changed_are_scored_again(
    world: World, tmp_path: Path, kind: Callable[[World, random.Random], None]
) -> None:
    world.evaluate(tmp_path / "other")
    kind(world, random.Random(3))
    said: list[str] = []
    world.calls = 0
    world.evaluate(tmp_path / "other", said)
    assert world.calls == 1
    assert any(line.startswith(f"1 of {COUNT} examples have changed and are scored again (e") for line in said)


def test_tags_of_a_new_kind_cost_no_score(world: World, tmp_path: Path) -> None:
    """As when the labels of a benchmark are fetched after it was scored."""
    world.evaluate(tmp_path / "run")
    for row in world.rows:
        row["category"] = "Hard"
    world.write()
    world.calls = 0
    result = world.evaluate(tmp_path / "run")
    assert world.calls == 0
    assert result["models"][world.spec]["by_tag"]["category"]["Hard"]["text"]["n"] == COUNT
    assert read_run(tmp_path / "run").examples[0].tags["category"] == "Hard"


def test_another_tag_costs_no_score_and_is_reported(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    for row in world.rows[1:]:
        row["tag"] = "z"
    world.write()
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    shares = result["models"][world.spec]["by_tag"]["tag"]
    assert {tag: found["text"]["n"] for tag, found in shares.items()} == {"a": 1, "z": COUNT - 1}
    world.calls = 0
    world.evaluate(tmp_path / "run")
    assert world.calls == 0
    assert [example.tags["tag"] for example in read_run(tmp_path / "run").every] == ["a"] + ["z"] * (COUNT - 1)


def test_labels_that_are_not_on_this_machine_are_kept(world: World, tmp_path: Path) -> None:
    """As with Diwan's labels of Winoground, which only the machine has that fetched them."""
    for row in world.rows[:7]:
        row["category"] = "Hard"
    world.write()
    world.evaluate(tmp_path / "run")
    for row in world.rows:
        row.pop("category", None)
    world.write()
    world.calls = 0
    world.evaluate(tmp_path / "run")
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    assert (world.calls, result["n"]) == (0, COUNT)
    assert result["models"][world.spec]["by_tag"]["category"]["Hard"]["text"]["n"] == 7


@pytest.mark.parametrize(("kind", "word"), [(weights, "weights"), (config, "preprocessing"), (tokenizer, "tokenizer")])
def test_a_changed_model_is_refused_with_a_reason_and_not_shown(
    world: World, tmp_path: Path, kind: Callable[[World, random.Random], None], word: str
) -> None:
    world.evaluate(tmp_path / "run")
    before = (tmp_path / "run" / SCORES).read_bytes()
    kind(world, random.Random(1))
    with pytest.raises(UserError, match=word):
        world.evaluate(tmp_path / "run")
    with pytest.raises(UserError, match=word):
        report([tmp_path / "run"], None, lambda line: None)
    with pytest.raises(UserError, match=word):
        read_catalogue(read_run(tmp_path / "run"))
    assert (tmp_path / "run" / SCORES).read_bytes() == before


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:df01d1a2\nsize 26366460\n"
UNREADABLE: dict[str, tuple[str, str, bytes | None]] = {
    "a pipeline without its index": ("diffusers", "model_index.json", None),
    "a pipeline with half an index": ("diffusers", "model_index.json", b'{"_class_name'),
    "a pipeline of another kind": ("diffusers", "model_index.json", b'{"_class_name": "FluxPipeline"}'),
    "a pipeline without a config": ("diffusers", "unet/config.json", None),
    "a pipeline without weights": ("diffusers", "vae/diffusion_pytorch_model.safetensors", None),
    "a pipeline with a pointer": ("diffusers", "text_encoder/model.safetensors", POINTER),
    "a pipeline with cut weights": ("diffusers", "unet/diffusion_pytorch_model.safetensors", b"\x10"),
    "a CLIP without its config": ("open_clip:local-dir", "open_clip_config.json", None),
    "a CLIP without weights": ("open_clip:local-dir", "open_clip_model.safetensors", None),
}
"""By fault: how the model is named, which file of it, and what that holds afterwards; None where it is gone."""


@pytest.mark.parametrize("fault", UNREADABLE)
def test_an_unreadable_model_is_not_called_changed(fault: str, world: World, tmp_path: Path) -> None:
    kind, file, content = UNREADABLE[fault]
    if kind == "diffusers":
        world.model = twins.mini_folder(tmp_path / "painter")
        world.spec = f"diffusers:{world.model}"
    world.evaluate(tmp_path / "run")
    before = (tmp_path / "run" / SCORES).read_bytes()
    (world.model / file).unlink() if content is None else (world.model / file).write_bytes(content)
    for shown in (
        lambda: world.evaluate(tmp_path / "run"),
        lambda: report([tmp_path / "run"], None, lambda line: None),
        lambda: read_catalogue(read_run(tmp_path / "run")),
    ):
        with pytest.raises(UserError, match=world.model.name) as said:
            shown()
        assert "changed" not in str(said.value)
        assert content is not POINTER or "git lfs pull" in str(said.value)
    assert "can no longer be read" in str(said.value)
    assert (tmp_path / "run" / SCORES).read_bytes() == before


def test_a_benchmark_that_mostly_changed_is_refused_and_its_scores_stay(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    before = (tmp_path / "run" / SCORES).read_bytes()
    for number in range(COUNT):
        world.draw(f"{number}-0.png", (1, 2, number))
    with pytest.raises(UserError, match=f"{COUNT} of the {COUNT} examples have changed since"):
        world.evaluate(tmp_path / "run")
    assert (tmp_path / "run" / SCORES).read_bytes() == before


def test_report_and_browse_leave_changed_examples_out_and_say_so(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    world.rows[4]["caption_0"] += " more"
    world.write()
    said: list[str] = []
    (result,) = report([tmp_path / "run"], None, said.append)
    assert result["n"] == COUNT - 1
    assert "1 of 12 examples have changed and are left out (e4)" in said[0]
    assert result["notes"]
    catalogue = read_catalogue(read_run(tmp_path / "run"))
    assert len(catalogue.examples) == COUNT - 1
    assert "e4" in catalogue.notes[0]


def test_the_page_sees_a_change_at_the_next_look(world: World, tmp_path: Path) -> None:
    registry = RunRegistry(
        Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path / "runs")}), assets=tmp_path / "none"
    )
    world.evaluate(tmp_path / "runs" / "a")
    whole = registry.run("runs/a")
    assert (len(whole.examples), registry.run("runs/a")) == (COUNT, whole)
    assert registry.run("runs/a") is whole
    picture(world, random.Random(2))
    assert len(registry.run("runs/a").examples) == COUNT - 1
    assert len(registry.catalogue("runs/a").examples) == COUNT - 1
    world.evaluate(tmp_path / "runs" / "a")
    assert len(registry.catalogue("runs/a").examples) == COUNT
    weights(world, random.Random(2))
    with pytest.raises(UserError, match="weights changed after scoring"):
        registry.catalogue("runs/a")


@pytest.mark.parametrize("file", [HEADER, EXAMPLES, SCORES])
def test_the_page_reads_a_run_again_whichever_file_changes(world: World, tmp_path: Path, file: str) -> None:
    registry = RunRegistry(
        Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path / "runs")}), assets=tmp_path / "none"
    )
    world.evaluate(tmp_path / "runs" / "a")
    before = registry.run("runs/a")
    path = tmp_path / "runs" / "a" / file
    kept = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert registry.run("runs/a") is not before


def test_what_is_not_on_this_machine_contradicts_nothing(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    world.model.rename(tmp_path / "elsewhere")
    world.images.parent.rename(tmp_path / "away")
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    assert result["n"] == COUNT


def packed(world: World) -> None:
    with ZipFile(world.images.parent / "images.zip", "w") as archive:
        for path in sorted(world.images.iterdir()):
            archive.write(path, f"images/{path.name}")
    shutil.rmtree(world.images)


def before_this_digest(out: Path) -> None:
    """A run of pictures in a zip file as earlier versions wrote it."""
    for file in (EXAMPLES, SCORES):
        rows = [json.loads(line) for line in whole_lines(out / file)]
        digests = (row["made_of"].split("-") for row in rows)
        rows = [row | {"made_of": f"{found[0]}-{found[2]}"} for row, found in zip(rows, digests, strict=True)]
        (out / file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_pictures_that_are_packed_or_unpacked_are_the_same(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "unpacked")
    packed(world)
    world.calls = 0
    assert report([tmp_path / "unpacked"], None, lambda line: None)[0]["n"] == COUNT
    world.evaluate(tmp_path / "packed")
    assert len(report([tmp_path / "unpacked", tmp_path / "packed"], None, lambda line: None)) == 1
    assert world.calls == COUNT
    world.evaluate(tmp_path / "unpacked")
    before_this_digest(tmp_path / "packed")
    assert report([tmp_path / "packed"], None, lambda line: None)[0]["n"] == COUNT
    world.evaluate(tmp_path / "packed")
    assert world.calls == COUNT
    shutil.unpack_archive(world.images.parent / "images.zip", world.images.parent)
    (world.images.parent / "images.zip").unlink()
    world.evaluate(tmp_path / "packed")
    assert world.calls == COUNT


def older(out: Path, model: str, name: str) -> None:
    """A run as older versions wrote it: no digest of an example, and one of the model's weights alone."""
    for file in (EXAMPLES, SCORES):
        rows = [json.loads(line) for line in whole_lines(out / file)]
        (out / file).write_text("".join(json.dumps({k: row[k] for k in row if k != "made_of"}) + "\n" for row in rows))
    header = json.loads((out / HEADER).read_text())
    del header["model_facts"]
    header["models"] = {model: name}
    (out / HEADER).write_text(json.dumps(header))


def test_a_consistent_run_of_an_older_version_is_completed(world: World, tmp_path: Path) -> None:
    fresh = world.evaluate(tmp_path / "run")
    older(tmp_path / "run", world.spec, cards.weights_fingerprint(cards.resolve(world.spec)))
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    assert result["models"] == fresh["models"]
    world.calls, said = 0, []
    world.evaluate(tmp_path / "run", said)
    assert world.calls == 0
    assert sum("older version" in line for line in said) == 2  # of the benchmark, and of the model
    run = read_run(tmp_path / "run")
    assert all(example.made_of for example in run.examples)
    assert run.header["models"][world.spec] == cards.fingerprint(cards.resolve(world.spec))
    assert all(json.loads(line)["made_of"] for line in whole_lines(tmp_path / "run" / SCORES))
    picture(world, random.Random(3))
    world.evaluate(tmp_path / "run")
    assert world.calls == 1


@pytest.mark.parametrize("kind", [caption, swapped, weights])
def test_a_run_of_an_older_version_that_something_contradicts_is_refused(
    world: World, tmp_path: Path, kind: Callable[[World, random.Random], None]
) -> None:
    world.evaluate(tmp_path / "run")
    older(tmp_path / "run", world.spec, cards.weights_fingerprint(cards.resolve(world.spec)))
    kind(world, random.Random(3))
    with pytest.raises(UserError, match="name another folder"):
        world.evaluate(tmp_path / "run")
    with pytest.raises(UserError, match=r"with a new --out\."):
        report([tmp_path / "run"], None, lambda line: None)


def test_runs_before_and_after_a_change_are_not_compared(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "before")
    picture(world, random.Random(2))
    world.evaluate(tmp_path / "after")
    (only,) = report([tmp_path / "after"], None, lambda line: None)
    said: list[str] = []
    both = report([tmp_path / "before", tmp_path / "after"], None, said.append)
    assert any("but other pictures in 1 examples: they are not compared" in line for line in said)
    assert [result["n"] for result in both] == [COUNT - 1, COUNT]
    assert both[1]["models"] == only["models"]


def test_a_whole_set_with_a_changed_example_is_no_sample(world: World, tmp_path: Path) -> None:
    world.evaluate(tmp_path / "run")
    world.rows[0]["caption_0"] += " again"
    world.write()
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    for said in (as_table(result), result_html(result)):
        assert f"n = {COUNT - 1} of {COUNT}" in said
        assert "even share" not in said
        assert f"1 of {COUNT} examples have changed" in said
