"""Runs on data of one's own: a stream of the Hub from its first event to its last."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning import prepare
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.events import Event
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_record import why_not_resumed
from sdsdemo.finetuning.setup import check_size
from sdsdemo.finetuning.training_pairs import read_source
from sdsdemo.runtime.distributed import ALONE
from tests import twins
from tests.data.test_captions_stream import fake_hub, hub_row
from tests.finetuning.runs import done

__all__ = ["fake_hub"]

OWN = Recipe(objective="clip", steps=2, batch=4, pool=0, held_out=20, warm_up=1)


@pytest.fixture(scope="module")
def own_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"open_clip:local-dir:{twins.clip_folder(tmp_path_factory.mktemp('clip'), words=False)}"


def test_a_run_trains_on_a_stream(fake_hub, own_clip: str, workbench: Workbench, tmp_path: Path) -> None:
    fake_hub([hub_row(n, caption=f"a red cat on a blue mat {n}") for n in range(60)])
    recipe = replace(OWN, base=own_clip, data="hub:org/name")
    events: list[Event] = list(finetune(recipe, tmp_path / "run", workbench=workbench))
    assert done(events).state == "finished"
    assert done(events).record["data"]["items"] is None


CAPTIONS = ("a dog on a couch", "a red car behind a blue truck", "two cats under three chairs", "a sunset")


def own_folder(path: Path, count: int = 60) -> Path:
    path.mkdir()
    for number in range(count):
        twins.picture(number, (8, 8)).save(path / f"{number}.png")
    rows = [json.dumps({"file_name": f"{k}.png", "text": CAPTIONS[k % len(CAPTIONS)]}) for k in range(count)]
    (path / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return path


def test_a_run_meets_its_data_again_wherever_they_lie(own_clip: str, workbench: Workbench, tmp_path: Path) -> None:
    data = own_folder(tmp_path / "data")
    recipe = replace(OWN, base=own_clip, data=f"folder:{data}", keep_every=1)
    assert done(list(finetune(recipe, tmp_path / "run", workbench=workbench))).state == "finished"
    data.rename(tmp_path / "elsewhere")
    moved = replace(recipe, data=f"folder:{tmp_path / 'elsewhere'}", steps=3)
    assert done(list(finetune(moved, tmp_path / "run", workbench=workbench, resume=True))).state == "finished"
    rows = (tmp_path / "elsewhere" / "metadata.jsonl").read_text().splitlines()
    (tmp_path / "elsewhere" / "metadata.jsonl").write_text("\n".join(rows[12:]) + "\n")
    last = done(list(finetune(replace(moved, steps=4), tmp_path / "run", workbench=workbench, resume=True)))
    assert last.state == "failed"
    assert "not those that it began with" in last.reason


@pytest.mark.parametrize(
    ("name", "written", "may_move"),
    [
        ("data", "folder:/{}", True),
        ("data", "hub:/{}/shards@val", True),
        ("data", "hub:{}/set", False),
        ("data", "hub:/shards@{}", False),
        ("base", "open_clip:local-dir:/{}", True),
        ("measure", "folder:/{}", False),
    ],
)
def test_only_what_is_compared_by_its_content_may_move(name: str, written: str, may_move: bool) -> None:
    one, other = written.format("one"), written.format("other")
    held, asked = (replace(Recipe(), **{name: value}) for value in (one, other))
    why = why_not_resumed({"recipe": held.as_dict(), "state": "stopped"}, asked)
    assert why == ("" if may_move else f"--{name} was {one!r}, and is {other!r} now")


def test_each_epoch_of_a_pool_has_batches_of_its_own(tmp_path: Path) -> None:
    recipe = replace(OWN, data=f"folder:{own_folder(tmp_path / 'data')}", pool=10)
    source = read_source(recipe)
    names = [[pair.picture.name for pair in source.draw(step, 5)] for step in range(8)]
    epochs = [sorted(names[k] + names[k + 1]) for k in range(0, 8, 2)]
    assert epochs == [epochs[0]] * 4
    assert len(set(epochs[0])) == 10
    assert len({frozenset(batch) for batch in names}) == 8
    unlimited = read_source(replace(recipe, pool=0))
    assert [pair.picture.name for step in range(2) for pair in unlimited.draw(step, 5)] == names[0] + names[1]


@pytest.mark.parametrize("items", [60, None])
def test_a_pool_smaller_than_a_batch_is_refused(items: int | None) -> None:
    with pytest.raises(UserError, match="--pool is 2, fewer than a batch of 4"):
        check_size(replace(OWN, data="folder:x", pool=2), {"items": items, "held_out": 20})


def stream_of_60(fake_hub: Any, **changes: Any) -> tuple[Any, Any, Any]:
    """The rows on the Hub, 20 of them held out, the source of pairs, and as much of a loaded run as reads them."""
    stream = fake_hub([hub_row(n, caption=f"a red cat on a blue mat {n}") for n in range(80)])
    recipe = replace(OWN, data="hub:org/name", steps=600, **changes)
    plan = SimpleNamespace(recipe=recipe, stop_if_asked=lambda: None, processes=ALONE)
    source = read_source(recipe)
    return stream, source, SimpleNamespace(plan=plan, source=source)


@pytest.mark.parametrize("pool", [0, 4000])
def test_the_teacher_s_pairs_of_a_stream_are_read_once(fake_hub, pool: int) -> None:
    stream, _, loaded = stream_of_60(fake_hub, pool=pool)
    kept: Any = SimpleNamespace(remember=lambda pairs: None)
    assert len(prepare._all_pairs(loaded, kept)) == 60
    assert (stream.begun, stream.given < 2 * 80) == (2, True)  # once, and for the row after the last


def test_a_frozen_tower_reads_a_stream_once(fake_hub) -> None:
    stream, source, loaded = stream_of_60(fake_hub, towers="text")
    steps: list[int] = []
    batches: Any = SimpleNamespace(
        encode_frozen=lambda step: steps.append(step) or (source.draw(step, 4) and {}), keep=lambda features: None
    )
    *_, last = prepare._encode_frozen(loaded, batches)
    assert (last.done, last.total, steps) == (16, 16, list(range(16)))
    assert stream.given < 2 * 80


def test_the_controls_halfway_read_no_step_again(fake_hub) -> None:
    _, source, loaded = stream_of_60(fake_hub)
    batches: Any = PairBatches(loaded.plan.recipe, source, SimpleNamespace(device="cpu"), teacher=SimpleNamespace())
    batches.inputs = batches.latents = lambda pairs: [pair.picture.name for pair in pairs]
    batches._encoded = lambda said: {}
    first = batches.control_batch(0, slice(0, 4)).pixels_R
    batches._pairs(7)
    batches._source = None
    assert batches.control_batch(0, slice(0, 4)).pixels_R == first
