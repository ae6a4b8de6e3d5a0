"""The Results tab says what its numbers say: a number that changes sides turns its sentence, a dot is at its value."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.evaluation import figures
from sdsdemo.evaluation.model_marks import marks_of
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.ui import results_figures, results_matrix, results_story
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse_address import NAMES
from sdsdemo.ui.results import ResultsTab
from sdsdemo.ui.results_claims import cost_claim, cost_words, costed, gap_claim
from sdsdemo.ui.results_figures import Scale

LEAD, BASE = "mini-diffusion", "mini-clip"


@pytest.fixture
def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ASSETS / results_story.MEASURED).read_text())
    return found


def test_the_gap_names_the_better_model_first_and_turns_with_it(result: dict[str, Any]) -> None:
    models = result["models"]
    assert gap_claim(result).startswith(f"{LEAD} reaches a text score of 95.8")
    assert f"{BASE}, with 37.0" in gap_claim(result)
    models[LEAD]["text"], models[BASE]["text"] = models[BASE]["text"], models[LEAD]["text"]
    models["mini-diffusion-short"]["text"] = models[LEAD]["text"]
    assert gap_claim(result).startswith(f"{BASE} reaches a text score of 95.8")


def test_two_models_that_cannot_be_told_apart_are_not_ranked(result: dict[str, Any]) -> None:
    for pair in result["paired"]:
        pair["p"] = 0.4
    assert "cannot be told apart by text score" in gap_claim(result)


def test_two_models_that_were_not_tested_are_neither_ranked_nor_tied(result: dict[str, Any]) -> None:
    for pair in result["paired"]:
        pair["p"] = None
    said = [(gap_claim(result), cost_claim(result))]
    del result["paired"][:]
    said.append((gap_claim(result), cost_claim(result)))
    for gap, cost in said:
        assert gap.startswith(f"On 400 examples, {LEAD} has a text score of 95.8")
        assert f"{BASE} one of 37.0" in gap
        assert "they cost" in cost
        assert not re.search("told apart|best|reaches|guessing \\(", gap + cost)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.10, 0.20, "does worse than guessing"), (0.2, 0.3, "no better than guessing"), (0.4, 0.5, "closer to guessing"),
     (0.8, 0.9, "well above guessing")],
)  # fmt: skip
def test_where_clip_stands_beside_chance_follows_its_interval(
    low: float, high: float, said: str, result: dict[str, Any]
) -> None:
    result["models"][BASE]["text"] |= {"value": (low + high) / 2, "low": low, "high": high}
    assert said in gap_claim(result)


def test_the_cost_turns_when_the_best_model_is_fast(result: dict[str, Any]) -> None:
    models = result["models"]
    times = models[LEAD]["seconds_per_example"] / models[BASE]["seconds_per_example"]
    assert f"costs {times:.0f} times as much as {BASE}" in cost_claim(result)
    assert "mini-clip-lesson, about as fast, closes 38 of the 59 points" in cost_claim(result)
    for entry in models.values():
        entry["seconds_per_example"] = 0.01
    assert "also among the fastest" in cost_claim(result)


def measure(result: dict[str, Any], p: float, **models: tuple[float, float]) -> dict[str, Any]:
    """The result with these models alone. models: score and milliseconds."""
    entry = result["models"][BASE]
    result["models"] = {
        name.replace("_", "-"): copy.deepcopy(entry) | {"seconds_per_example": ms / 1000}
        for name, (_, ms) in models.items()
    }
    for name, (score, _) in models.items():
        result["models"][name.replace("_", "-")]["text"]["value"] = score
    names = list(result["models"])
    result["paired"] = [{"a": a, "b": b, "metric": "text", "p": p} for a in names for b in names if a < b]
    return result


def test_a_cost_is_no_price_of_a_gain_that_chance_explains(result: dict[str, Any]) -> None:
    said = cost_claim(measure(result, 0.9, mini_clip=(0.3, 5.0), fast=(0.302, 5.0), slow=(0.303, 500.0)))
    assert "slow and mini-clip cannot be told apart by text score, but slow costs 100 times as much" in said
    assert "best" not in said
    assert "closes" not in said
    said = cost_claim(measure(result, 0.001, mini_clip=(0.3, 5.0), fast=(0.302, 5.0), slow=(0.303, 500.0)))
    assert "slow scores best and costs 100 times" in said
    assert "no model about as fast as mini-clip does measurably better" in said
    assert "closes 2 of the 6 points" in cost_claim(
        measure(result, 0.001, mini_clip=(0.3, 5.0), fast=(0.32, 5.0), slow=(0.36, 500.0))
    )
    assert "closes" not in cost_claim(measure(result, 0.2, mini_clip=(0.3, 5.0), fast=(0.32, 5.0), slow=(0.36, 500.0)))


def test_the_fastest_model_is_the_fastest_whatever_its_name(result: dict[str, Any]) -> None:
    said = cost_claim(measure(result, 0.001, mini_clip=(0.8, 500.0), small=(0.3, 1.0)))
    assert "mini-clip scores best and costs 500 times as much as small" in said
    said = cost_claim(measure(result, 0.001, mini_clip=(0.3, 500.0), slow=(0.8, 500.0), small=(0.4, 1.0)))
    assert "among the fastest" not in said
    assert "500 times as much as small" in said
    said = cost_claim(measure(result, 0.001, mini_clip=(0.3, 500.0), small=(0.4, 1.0)))
    assert "The best model, small, is also among the fastest" in said


def test_two_times_give_the_ratio_beside_them(result: dict[str, Any]) -> None:
    found = re.search(r"costs ([\d,]+) times .*: ([\d.,]+)\sms against ([\d.,]+)\sms", cost_claim(result))
    assert found
    times, slow, fast = (float(one.replace(",", "")) for one in found.groups())
    assert slow / fast == pytest.approx(times, rel=0.02)
    words = {ms: cost_words(costed(result)[0]._replace(milliseconds=ms)) for ms in (0.5, 5.0, 9.96, 1234.0)}
    assert [one.replace("\N{NO-BREAK SPACE}", " ") for one in words.values()] == [
        "0.50 ms",
        "5.0 ms",
        "10 ms",
        "1,234 ms",
    ]


def test_a_metric_is_written_without_underscores_in_every_figure(result: dict[str, Any]) -> None:
    result = json.loads(json.dumps(result).replace('"text"', '"text_of_image"'))
    for html in (results_figures.cost_html(result, "x"), results_figures.gap_html(result, "x")):
        shown = re.sub(r"<[^>]*>", " ", html)
        assert "text-of-image score" in shown
        assert "text_of_image" not in shown


def test_a_changed_file_changes_the_page(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / results_story.MEASURED
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))
    os.utime(path, (0, 0))
    assert f"<h2>{LEAD} reaches" in results_story.gap_part(tmp_path)
    for pair in result["paired"]:
        pair["p"] = 0.4
    path.write_text(json.dumps(result, indent=1))
    os.utime(path, (0, 0))  # as a copy that keeps the time
    assert "cannot be told apart" in results_story.gap_part(tmp_path)
    assert results_story.gap_part(tmp_path / "nowhere") == ""


def value_at(scale: Scale, place: str) -> float:
    """The value whose place this is, by halving."""
    low, high = scale.low, scale.high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (scale.at(middle) < float(place)) == (scale.start < scale.end) else (low, middle)
    return low


def test_a_dot_is_at_its_score_and_the_line_is_its_interval(result: dict[str, Any]) -> None:
    for metric in ("text", "image", "group"):
        panel = results_figures.gap_panel(result, metric, list(result["models"]), marks_of(result["models"]))
        ticks = {tick["words"]: float(tick["x"]) for tick in panel["ticks"]}
        scale = Scale(0, 100, ticks["0"], ticks["100"])
        for row in panel["rows"]:
            share = result["models"][row["name"]][metric]
            for key, place in (("value", "x"), ("low", "low"), ("high", "high")):
                assert value_at(scale, row[place]) == pytest.approx(100 * share[key], abs=0.1)
            assert f"{100 * share['value']:.1f}" == row["value"]
        assert value_at(scale, panel["chance"]) == pytest.approx(100 * result["chance"][metric], abs=0.1)


def test_the_axis_of_costs_is_logarithmic_and_every_dot_on_it(result: dict[str, Any]) -> None:
    models = costed(result)
    plot = results_figures.cost_plot(models, result)
    steps = [float(b["x"]) - float(a["x"]) for a, b in zip(plot["across"], plot["across"][1:], strict=False)]
    assert max(steps) - min(steps) < 0.2
    scale = results_figures._cost_scale(models)
    for dot, one in zip(plot["dots"], models, strict=True):
        assert value_at(scale, dot["x"]) == pytest.approx(one.milliseconds, rel=0.02)


def test_figures_say_their_conclusion_and_their_numbers_in_text(result: dict[str, Any]) -> None:
    parts = {name: getattr(results_story, f"{name}_part")(ASSETS) for name in ("gap", "effects", "cost")}
    for name, html in parts.items():
        said = re.search(r"<figure[^>]* aria-label=\"([^\"]+)\"", html)
        assert said, name
        assert f"<h2>{said[1]}</h2>" in html
        assert html.count('role="img" aria-label="') == html.count("<svg")
        assert "All numbers" in html or name == "gap"
    assert f"{LEAD} 95.8 [93, 97]" in parts["gap"]


def test_models_in_one_figure_never_share_a_mark(result: dict[str, Any]) -> None:
    html = results_figures.gap_html(result, "x")
    marks = dict(re.findall(r'<g class="(k\d)" data-model="([^"]+)"', html))
    assert len(marks) == len(result["models"])


def test_a_count_of_the_matrix_is_that_of_the_pair_and_opens_its_examples(result: dict[str, Any]) -> None:
    found = results_matrix.matrix(result, "text", "mini")
    assert found is not None
    names = [model["name"] for model in found["models"]]
    pair = next(p for p in result["paired"] if (p["a"], p["b"], p["metric"]) == (BASE, LEAD, "text"))
    a, b = names.index(BASE), names.index(LEAD)
    assert (found["rows"][a][b]["count"], found["rows"][b][a]["count"]) == (pair["only_a"], pair["only_b"])
    assert all(found["rows"][k][k] is None for k in range(len(names)))
    query = Query("browse", found["rows"][b][a]["link"].removeprefix("?"))
    assert {name: query.text(NAMES[name]) for name in ("run", "model", "against", "who", "metric")} == {
        "run": "mini", "model": LEAD, "against": BASE, "who": "broken", "metric": "text",
    }  # fmt: skip
    unnamed = results_matrix.matrix(result, "text")
    assert unnamed is not None
    assert not any(cell and cell["link"] for row in unnamed["rows"] for cell in row)


def test_the_examples_that_a_count_opens_are_as_many_as_it_says(result: dict[str, Any]) -> None:
    from sdsdemo.evaluation.catalogue import select
    from sdsdemo.ui import browse_address
    from sdsdemo.ui.browse_filters import filter_of

    catalogue = RunRegistry(Settings.from_environment({})).catalogue("mini")
    found = results_matrix.matrix(result, "text", "mini")
    by_group = results_matrix.matrix(result, "group", "mini")
    assert found is not None
    assert by_group is not None
    for cell in (found["rows"][0][2], found["rows"][2][0], found["rows"][6][1], by_group["rows"][2][1]):
        opened = browse_address.read(Query("browse", cell["link"].removeprefix("?")), "mini", catalogue, [BASE])
        assert len(select(catalogue, filter_of(opened.filters, catalogue))) == cell["count"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"antithetic": False}, "4 noise draws, seed"),
        ({"antithetic": True}, "4 noise draws in pairs, seed"),
        ({"antithetic": True, "adaptive": True}, "4 noise draws at most, in pairs, seed"),
    ],
)
def test_the_heading_says_how_noise_was_drawn(result: dict[str, Any], settings: dict[str, Any], says: str) -> None:
    from sdsdemo.ui import results_html

    changed: Any = {**result, "settings": {**result["settings"], **settings}}
    html = results_html.result_html(changed, {}, "mini")
    assert says in html


def test_no_table_of_the_tab_has_an_empty_header(result: dict[str, Any]) -> None:
    from sdsdemo.ui import results_html

    html = results_html.result_html(result, {}, "mini") + results_html.overview_html({"mini": copy.deepcopy(result)})
    html += results_html.published_html() + results_story.effects_part(ASSETS) + results_story.cost_part(ASSETS)
    heads = re.findall(r"<th[^>]*>(.*?)</th>", html, re.S)
    assert len(heads) > 100
    assert all(re.sub(r"<[^>]+>", "", head).strip() for head in heads)


@pytest.fixture(scope="module")
def tab() -> ResultsTab:
    with gr.Blocks():
        return ResultsTab(RunRegistry(Settings.from_environment({})))


def test_opening_the_tab_sends_little_and_draws_no_file(tab: ResultsTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "save_shares", lambda *_: pytest.fail("a file was drawn"))
    sent = [value for value in tab._open(None) if isinstance(value, str)]
    assert len(sent) == 2
    assert sum(map(len, sent)) < 100_000
    assert not any("base64" in part for part in sent)


def test_a_figure_that_the_story_has_shown_is_not_shown_again(tab: ResultsTab) -> None:
    assert "<svg" not in tab.show("mini")
    assert tab.show("fresh-31001").count("<svg") == 3
    assert 'class="conclusion"' in tab.show("fresh-31001")


def test_counts_are_links_only_where_browse_has_the_examples(tab: ResultsTab) -> None:
    assert tab.show("mini").count("data-view") > 50
    assert "data-view" not in tab.show("fresh-31001")
    assert tab.show("fresh-31001").count("exact McNemar, p") > 50
