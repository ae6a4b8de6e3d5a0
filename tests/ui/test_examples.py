"""Example pictures: which caption is true of them, and by what they are known."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.errors import UserError
from sdsdemo.settings import ASSETS
from sdsdemo.ui.compare import CompareTab
from sdsdemo.ui.compare_address import CompareAddress
from sdsdemo.ui.examples import find_example, read_examples
from sdsdemo.ui.picture_field import keep_first_pictures
from sdsdemo.ui.results import ResultsTab
from sdsdemo.ui.scene_pictures import ScenePictures
from tests.conftest import fake_workbench


def test_the_truth_is_known_for_an_example_s_own_captions_in_either_order(examples):
    example = examples[1]
    assert example.truth(example.captions) == 1
    assert example.truth(example.captions[::-1]) == 0
    assert example.truth([example.captions[0].upper(), example.captions[1]]) == 1
    for kept in example.captions:
        assert example.truth([kept, "something else"]) is None


def test_an_example_is_known_by_its_bytes_under_any_name(examples, tmp_path):
    copy = tmp_path / "renamed.png"
    copy.write_bytes(examples[1].path.read_bytes())
    assert find_example(examples, copy) is examples[1]
    Image.new("RGB", (64, 64), "red").save(copy)
    assert find_example(examples, copy) is None


def test_examples_may_be_absent_and_a_broken_list_names_the_item(tmp_path):
    assert read_examples(tmp_path) == []
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "examples.json").write_text(json.dumps([{"image": "mini/none.png"}]))
    with pytest.raises(UserError, match=r"\(0\.captions: field required\)"):
        read_examples(tmp_path)


def test_the_first_picture_stays_however_old_the_checkout_is(tmp_path, monkeypatch):
    """The janitor deletes what is old in Gradio's folder, and Gradio's copy of a file has the age of the file."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (example, *_) = read_examples(ASSETS)
    old = tmp_path / "old.png"
    shutil.copy(example.path, old)
    os.utime(old, (0, 0))
    with gr.Blocks() as page:
        tab = CompareTab(fake_workbench(), [replace(example, path=old)], None, "")
    copy = Path(tab.picture.value["path"])
    assert copy.is_relative_to(tmp_path / "gradio")
    assert time.time() - copy.stat().st_mtime < 600
    os.utime(copy, (0, 0))
    assert Path(tab.picture.postprocess(str(old)).path) == copy
    assert time.time() - copy.stat().st_mtime < 600
    copy.unlink()
    keep_first_pictures(page)
    assert time.time() - copy.stat().st_mtime < 600


def test_an_example_that_could_not_be_read_once_is_known_when_it_can(examples, tmp_path):
    address, path = CompareAddress(fake_workbench(), examples, None, ScenePictures()), tmp_path / "a.png"
    assert address.example_at(str(path)) is None
    path.write_bytes(examples[0].path.read_bytes())
    assert address.example_at(str(path)) is examples[0]


def test_a_model_that_is_no_longer_here_is_said_in_our_words(examples):
    """A restart forgets the choices that a session got, and the page still shows them."""
    with gr.Blocks():
        tab = CompareTab(fake_workbench(SDSDEMO_SHARED="on"), examples, None, "")
        results = ResultsTab(RunRegistry(tab.workbench.settings), ASSETS)
    gone = tab.models[0].preprocess("tuned:gone")
    asked = {field: field.value for field in tab.inputs} | {tab.picture: str(examples[0].path), tab.models[0]: gone}
    with pytest.raises(UserError, match="no longer on this server"):
        tab._ask(tab._form(asked))
    assert "no longer on this server" in tab._describe_models(gone)
    assert "no longer on this server" in results.show(results.chosen.preprocess("tuned:gone"))
    assert tab._follow(asked)
