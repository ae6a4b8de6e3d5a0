"""Runs on data of one's own: a stream of the Hub from its first event to its last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.finetuning.events import Event
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
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
