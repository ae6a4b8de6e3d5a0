"""Example pictures: which caption is true of them, and by what they are known."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from sdsdemo.errors import UserError
from sdsdemo.ui.examples import find_example, read_examples


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
