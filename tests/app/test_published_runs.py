"""Runs that are published with the page: browsed like the others, but a gated set shows its numbers alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.data import benchmarks
from sdsdemo.errors import UserError
from sdsdemo.evaluation.numbers_alone import GREY, NOT_SHOWN
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.types import Example
from sdsdemo.ui.browse_filters import default_filters
from sdsdemo.ui.browse_view import BrowseView
from sdsdemo.ui.open_in_compare import RunPictures

RUN = "results/elsewhere"
SPACE = Settings.from_environment({"SPACE_ID": "someone/space", "GRADIO_SERVER_NAME": "0.0.0.0"})


def published(folder: Path, benchmark: str = "mini") -> Path:
    """The shipped run of Mini as someone's results of a benchmark."""
    run = folder / "elsewhere"
    shutil.copytree(ASSETS / "mini/runs/mini", run)
    header = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(header | {"benchmark": benchmark}))
    return folder


def test_a_published_run_is_browsed_on_a_public_page(tmp_path: Path) -> None:
    registry = RunRegistry(SPACE, published=published(tmp_path))
    assert RUN in registry.names()
    catalogue = registry.catalogue(RUN)
    assert catalogue.examples[0].captions == registry.catalogue("mini").examples[0].captions
    assert not catalogue.numbers_alone


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRegistry:
    """A Space with the results of Winoground, whose pictures its owner's token could fetch."""
    asked: list[Example] = benchmarks.read_benchmark("mini")
    monkeypatch.setitem(benchmarks.NAMED, "winoground", lambda: asked)
    return RunRegistry(SPACE, published=published(tmp_path, "winoground"))


def test_a_gated_set_shows_its_numbers_and_neither_picture_nor_caption(gated: RunRegistry) -> None:
    catalogue, mini = gated.catalogue(RUN), gated.catalogue("mini")
    shown = catalogue.examples[0]
    assert np.unique(np.asarray(shown.images[0].open()).reshape(-1, 3), axis=0).tolist() == [list(GREY)]
    assert not {caption for one in catalogue.examples for caption in one.captions} & {
        caption for one in mini.examples for caption in one.captions
    }
    assert NOT_SHOWN in catalogue.notes
    for model in mini.models:
        np.testing.assert_array_equal(catalogue.right[model]["text"], mini.right[model]["text"])


def test_a_gated_set_is_not_even_read_on_a_public_page(gated: RunRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> list[Example]:
        raise AssertionError("read")

    monkeypatch.setitem(benchmarks.NAMED, "winoground", read)
    assert gated.catalogue(RUN).numbers_alone


@pytest.mark.parametrize("name", ["winoground", "colorswap"])
def test_a_copy_of_a_gated_set_is_not_read_either(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = benchmarks.read_benchmark("mini")
    monkeypatch.setitem(benchmarks.READERS, name, lambda folder, note: asked)
    registry = RunRegistry(SPACE, published=published(tmp_path, f"{name}:{tmp_path}"))
    assert registry.catalogue(RUN).numbers_alone


def test_a_picture_that_is_not_shown_does_not_open_in_compare(gated: RunRegistry) -> None:
    example = gated.catalogue(RUN).examples[0].id
    with pytest.raises(UserError, match="not shown here"):
        RunPictures(gated).pair(RUN, example, 0)


def test_what_does_not_open_in_compare_has_no_button_for_it(gated: RunRegistry) -> None:
    view = BrowseView(Workbench(SPACE), gated, "", RunPictures(gated))
    for run, buttons in ((RUN, 0), ("mini", 2)):
        shown = view.show(default_filters(run, "mini-clip", "mini-diffusion"), 0, "17")
        assert shown.example.count("Open in Compare") == buttons


def test_a_benchmark_that_is_not_here_shows_its_numbers_alone(tmp_path: Path) -> None:
    registry = RunRegistry(SPACE, published=published(tmp_path, "sugarcrepe:/not/here"))
    assert registry.catalogue(RUN).numbers_alone


def test_on_your_own_machine_a_gated_set_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = benchmarks.read_benchmark("mini")
    monkeypatch.setitem(benchmarks.NAMED, "winoground", lambda: asked)
    registry = RunRegistry(Settings.from_environment({}), published=published(tmp_path, "winoground"))
    assert not registry.catalogue(RUN).numbers_alone
