"""The answer that Compare opens with: what the code computes now, with its pictures, or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sdsdemo.settings import budget
from sdsdemo.ui import answer_file, compare_logic, opening
from tests.conftest import fake_workbench
from tests.ui.compare_answers import scores_of


def test_the_page_is_built_without_examples_or_an_opening_answer_as_well(tmp_path):
    from sdsdemo.ui.page import build_page

    assert build_page(fake_workbench(), assets=tmp_path).config["title"]


def test_the_opening_answer_is_what_the_code_computes_now(example_assets):
    workbench = fake_workbench()
    kept = answer_file.as_json(opening.opening_answer(workbench, example_assets)[0])
    (example_assets / "mini" / "opening.json").write_text(kept)
    example, stored = opening.read_opening(workbench, example_assets) or pytest.fail("there is no opening answer")
    fresh = workbench.compare(Image.open(example.path), example.captions, workbench.settings.models, budget())
    for was, now in zip(stored, fresh, strict=True):
        np.testing.assert_allclose(scores_of(was).score_IC, scores_of(now).score_IC, atol=1e-5)


def test_the_stored_opening_has_the_pictures_of_its_denoising(example_assets):
    workbench = fake_workbench()
    opening.write_opening(workbench, example_assets)
    example, stored = opening.read_opening(workbench, example_assets) or pytest.fail("there is no opening answer")
    asked = Image.open(example.path), example.captions, workbench.settings.models, budget()
    for was, now in zip(stored, workbench.compare(*asked, show=1e9), strict=True):
        assert (was.denoised is None) == (now.denoised is None)
        if was.denoised and now.denoised:
            for part in opening.PARTS:
                np.testing.assert_array_equal(getattr(was.denoised, part), getattr(now.denoised, part))
    assert compare_logic.stored_view(example, stored).denoising


def test_pictures_of_another_opening_are_not_shown(example_assets, caplog):
    workbench = fake_workbench()
    opening.write_opening(workbench, example_assets)
    path = example_assets / opening.PICTURES_FILE
    with np.load(path) as stored:
        parts = dict(stored)
    name = "mini-diffusion.error_CTNHW"
    np.savez(path, **{**parts, name: parts[name] + 0.01})
    example, answers = opening.read_opening(workbench, example_assets) or pytest.fail("there is no opening answer")
    assert all(answer.denoised is None for answer in answers)
    assert compare_logic.stored_view(example, answers).denoising == ""
    assert "does not belong" in caplog.text


def test_an_opening_answer_about_other_models_is_not_shown(example_assets):
    kept = answer_file.as_json(opening.opening_answer(fake_workbench(), example_assets)[0])
    (example_assets / "mini" / "opening.json").write_text(kept)
    assert opening.read_opening(fake_workbench(SDSDEMO_MODELS="mini-clip"), example_assets) is None
