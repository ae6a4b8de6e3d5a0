"""The About tab: its figures are those of the stored files, and each model says whether it is here."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import ASSETS, ROOT, Settings
from sdsdemo.ui import about, results_html, results_story
from sdsdemo.ui.opening import read_opening


def test_the_about_tab_shows_the_stored_figures_with_n_and_intervals(tmp_path: Path) -> None:
    html = about.measured_html()
    stored = json.loads((ASSETS / about.MEASURED_FILE).read_text())
    assert f"{stored['n']} examples" in html
    assert stored["settings"]["antithetic"]
    assert "4 noise draws each in pairs, seed 0" in html
    for name, entry in stored["models"].items():
        assert f"<code>{name}</code>" in html
        assert f"{100 * entry['text']['value']:.1f} <small>{100 * entry['text']['low']:.0f} to" in html
    assert about.measured_html(tmp_path) == ""


def test_the_parts_of_the_gap_are_those_of_the_stored_scores() -> None:
    models = json.loads((ASSETS / about.MEASURED_FILE).read_text())["models"]
    said = re.findall(r"(\d+) of (\d+) points of (\w+) score", about.measured_html())
    assert [metric for *_, metric in said] == 2 * ["text", "image", "group"]
    steps = 3 * [("mini-clip", "mini-clip-clean")] + 3 * [("mini-clip-clean", "mini-clip-lesson")]
    for (gain, gap, metric), (low, high) in zip(said, steps, strict=True):
        score = {name: 100 * entry[metric]["value"] for name, entry in models.items()}
        assert int(gain) == pytest.approx(score[high] - score[low], abs=0.51)
        assert int(gap) == pytest.approx(score["mini-diffusion"] - score["mini-clip"], abs=0.51)
        assert metric == "group" or f"{gain} of {gap}" in (ROOT / "docs" / "models.md").read_text()
    assert [*about.gap_words({name: models[name] for name in models if name != "mini-clip-lesson"})] == ["captions"]


def test_our_cards_quote_cost_and_scores_from_files(tmp_path: Path) -> None:
    share = {"value": 0.5, "low": 0.25, "high": 0.75}
    result = {"benchmark": "mini", "n": 8, "chance": {"text": 0.25}, "models": {"mini-clip": {"text": share}}}
    (tmp_path / "mini" / "results").mkdir(parents=True)
    (tmp_path / about.MEASURED_FILE).write_text(json.dumps(result))
    for name, steps in (("mini-clip", 7), ("mini-clip-2", 9), ("mini-diffusion-vae", 10), ("mini-diffusion-unet", 20)):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"step": 1}, {"step": steps}]))
    assert about.measured_card("mini-clip", tmp_path, tmp_path) == [
        "Cost: 7 training steps.",
        "Measured on mini, n = 8: text 50.0 (25 to 75) percent.",
    ]
    assert about.measured_card("mini-diffusion", tmp_path, tmp_path) == ["Cost: 30 training steps in 2 parts."]
    assert about.measured_card("mini-unheard-of", tmp_path, tmp_path) == []
    html = about.models_html(Workbench(Settings.from_environment({})))
    assert "Captions: whole sentences only" in html
    assert "Limits: " in html
    assert "Measured on mini, n = 400: text " in html


def test_about_reports_fine_tuning_from_the_experiment_file(tmp_path: Path) -> None:
    found = json.loads((ASSETS / results_story.EXPERIMENT).read_text())
    first = next(row for row in found["confirm"]["contrasts"] if (row["cell"], row["control"]) == ("sds", "clip"))
    html = about.experiment_html()
    assert f"{100 * first['value']:+.1f} [{100 * first['low']:+.1f}, {100 * first['high']:+.1f}] points" in html
    assert html in about.measured_html()
    assert about.experiment_html(tmp_path) == ""
    (tmp_path / results_story.EXPERIMENT).parent.mkdir(parents=True)
    (tmp_path / results_story.EXPERIMENT).write_text(
        json.dumps({"confirm": {"declared": {}, "bases": [], "seeds": []}})
    )
    assert about.experiment_html(tmp_path) == ""


def test_the_about_tab_says_of_each_model_whether_it_is_here() -> None:
    html = about.models_html(Workbench(Settings.from_environment({})))
    assert "MB, here" in html
    assert "GB to download" in html
    assert "MB, once it is trained" in html


def test_the_first_step_shows_the_stored_picture_and_its_captions() -> None:
    workbench = Workbench(Settings.from_environment({}))
    opening = read_opening(workbench)
    assert opening is not None
    html = about.page_html(workbench, opening)
    assert len(re.findall(r"<li( class=\"first\")?><h3>", html)) == 6
    assert html.count('<section class="denoising"') == 1
    assert 'class="tile map' not in html
    for caption in opening[0].captions:
        assert caption in html
    assert html.count("<small>(true)</small>") == 1
    assert "denoising" not in re.findall(r'class="([^"]+)"', about.page_html(workbench))


def test_what_others_published_stands_apart_from_what_we_measured() -> None:
    html = about.models_html(Workbench(Settings.from_environment({})))
    cards = re.findall(r"<article>.*?</article>", html, re.S)
    kinds = [("Measured here" in card, "Published by others, not measured here" in card) for card in cards]
    assert set(kinds) == {(True, False), (False, True), (False, False)}
    for card in cards:
        _, _, after = card.partition("Published by others")
        assert "Measured on" not in after


def test_the_documents_of_how_it_works_are_links_to_their_text() -> None:
    html = about.page_html(Workbench(Settings.from_environment({})))
    assert set(re.findall(r'href="docs/([^"]+)"', html)) == set(about.DOCUMENTS)
    assert set(about.DOCUMENTS) < {path.name for path in (ROOT / "docs").glob("*.md")}


def test_headings_of_how_it_works_and_results_never_skip_a_level() -> None:
    workbench = Workbench(Settings.from_environment({}))
    stored = json.loads((ASSETS / results_story.MEASURED).read_text())
    parts = [getattr(results_story, f"{name}_part")(ASSETS) for name in ("gap", "effects", "cost")]
    for html in (
        about.page_html(workbench, read_opening(workbench)),
        "".join([*parts, results_html.result_html(stored)]),
    ):
        levels = [1, *map(int, re.findall(r"<h(\d)", html))]
        assert all(now <= before + 1 for before, now in pairwise(levels)), levels
