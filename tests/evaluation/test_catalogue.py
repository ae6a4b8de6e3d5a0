"""Filters, orders and breakdowns on a run made by hand, and what the tab shows of it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import (
    ALL,
    ANY,
    Catalogue,
    Filter,
    by_mode,
    by_tag,
    by_transition,
    read_catalogue,
    select,
)
from sdsdemo.evaluation.limits import LESSON
from sdsdemo.evaluation.store import RunFolder, read_run
from sdsdemo.models import cards
from sdsdemo.settings import ROOT, Settings, budget
from sdsdemo.types import Evidence, Example, Picture, Scores
from sdsdemo.ui import browse, browse_bar, browse_filters, browse_view, results_html
from sdsdemo.ui.browse import BrowseTab
from sdsdemo.ui.browse_filters import FilterValues
from sdsdemo.ui.result_files import addresses
from sdsdemo.ui.thumbnails import Thumbnails

RIGHT, ONE, SWAPPED = ((3.0, 1.0), (1.0, 3.0)), ((3.0, 1.0), (2.0, 1.5)), ((1.0, 3.0), (3.0, 1.0))
SCRIPT = {"mini-clip": [ONE, ONE, RIGHT, SWAPPED, RIGHT, ONE], "mini-diffusion": [RIGHT, ONE, RIGHT, RIGHT, ONE, RIGHT]}
TAGS = ["Noun", "Noun", "Size", "Size", "Colour", "Colour"]
SPEND = budget(2, 2, 0)


def example(number: int) -> Example:
    pictures = tuple(
        Picture(name=f"{number}-{k}", open=lambda: Image.new("RGB", (60, 40), "red"), key=f"{number}-{k}")
        for k in (0, 1)
    )
    words = ("a <b>red</b> star", "a star", "Ein ROTER Stern", "star red", "blue", "红色的星星")[number]
    tags = {"tag": TAGS[number], "collapsed_tag": "Object", "category": "Unusual Text, Hard" if number == 3 else ""}
    return Example(id=f"e{number}", images=pictures, captions=(f"{words} one", f"{words} two"), tags=tags)


EXAMPLES = [example(number) for number in range(6)]


def scores_of(model: str, number: int) -> Scores:
    score_IC = np.array(SCRIPT[model][number])
    if model == "mini-clip":
        return Scores(kind="similarity", score_IC=score_IC)
    noise_TN = np.array([[0.1, -0.1], [0.2, -0.2]]) * (number == 1)  # on example 1 the draws decide nothing
    loss_ICTN = -score_IC[..., None, None] + noise_TN * 40 * np.arange(4).reshape(2, 2, 1, 1)
    found = Evidence(timestep_T=np.array([250, 750]), loss_ICTN=loss_ICTN.astype(np.float32), evaluations=16)
    return Scores(kind="denoising", score_IC=score_IC, evidence=found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = RunFolder(tmp_path / "runs" / "made", "mini", EXAMPLES, SPEND)
    for model in SCRIPT:
        run.enter(model, cards.fingerprint(cards.resolve(model)))
        for number in range(6):
            run.add(model, f"e{number}", scores_of(model, number))
    monkeypatch.setattr(
        "sdsdemo.app.run_registry.read_catalogue", lambda run: read_catalogue(run, lambda name: EXAMPLES)
    )
    monkeypatch.setattr("sdsdemo.evaluation.freshness.read_benchmark", lambda name: EXAMPLES)
    return tmp_path


@pytest.fixture
def catalogue(folder: Path) -> Catalogue:
    return read_catalogue(read_run(folder / "runs" / "made"), lambda name: EXAMPLES)


BASE = Filter(model="mini-clip", against="mini-diffusion")


def test_breakdowns_sort_nothing(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.catalogue.varied", lambda *kinds: pytest.fail("sorted"))
    for breakdown in (by_tag, by_mode, by_transition):
        assert breakdown(catalogue, replace(BASE, order="varied")) == breakdown(catalogue, BASE)


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"tags": ("tag=Noun",)}, [0, 1]),
        ({"tags": ("tag=Noun", "tag=Size")}, [0, 1, 2, 3]),
        ({"tags": ("tag=Noun", "tag=Size"), "who": "fixed"}, [0, 3]),
        ({"who": "broken"}, [4]),
        ({"who": "always right"}, [2]),
        ({"who": "still wrong"}, [1]),
        ({"categories": ("Hard",)}, [3]),
        ({"modes": ("swapped",)}, [3]),
        ({"words": "RED star"}, [0, 3]),
        ({"words": "红色"}, [5]),
        ({"model": "mini-diffusion", "decided": "undecided"}, [1]),
        ({"order": "worst"}, [3, 0, 1, 5, 2, 4]),
        ({"order": "best"}, [2, 4, 0, 1, 5, 3]),
        ({"order": "closest"}, [0, 1, 5, 2, 3, 4]),
        ({"order": "disagreement"}, [3, 4, 1, 5, 0, 2]),
        ({"words": "nowhere"}, []),
    ],
)
def test_filters_widen_within_a_field_and_narrow_across_fields(
    catalogue: Catalogue, change: dict, places: list
) -> None:
    assert select(catalogue, replace(BASE, **change)).tolist() == places


@pytest.mark.parametrize("field", ["categories", "secondary"])
def test_of_several_tags_any_will_do_or_all_must_be_there(catalogue: Catalogue, field: str) -> None:
    kind = {"categories": "category", "secondary": "secondary_tag"}[field]
    owned = [{"abc"[k] for k in range(3) if number >> k & 1} for number in range(6)]
    examples = [
        replace(example, tags={kind: ", ".join(sorted(own))}) for example, own in zip(EXAMPLES, owned, strict=True)
    ]
    tagged = replace(catalogue, examples=examples)
    for wanted in ("a", "b", "ab", "ac", "abc"):
        values = tuple(tag if field == "categories" else f"{kind}={tag}" for tag in wanted)
        for how, holds in ((ANY, set(wanted).intersection), (ALL, None)):
            places = select(tagged, replace(BASE, **{field: values}, of_several=how)).tolist()
            expected = [k for k, own in enumerate(owned) if (holds(own) if holds else set(wanted) <= own)]
            assert places == expected


def test_the_page_asks_for_any_or_for_all_of_several_tags(tab: BrowseTab) -> None:
    asked = ASKED._replace(categories=["Hard", "Unusual Text"])
    assert "<b>1</b> of 6" in tab.view.show(asked._replace(of_several=ALL), 0, "").tally
    neither = asked._replace(categories=["Hard", "Nowhere"])
    assert "<b>1</b> of 6" in tab.view.show(neither, 0, "").tally
    assert "<b>0</b> of 6" in tab.view.show(neither._replace(of_several=ALL), 0, "").tally
    assert "Match tags must be one of any, all" in tab.view.show(asked._replace(of_several="x"), 0, "").message
    assert browse_filters.cleared_values()[browse_filters.CLEARED.index("of_several")] == ANY


def test_clear_gives_each_filter_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse_filters, "CLEARED", ("of_several", "words", "tags", "order"))
    assert browse_filters.cleared_values() == [ANY, "", [], "varied"]


def test_breakdowns_count_what_the_other_filters_leave(catalogue: Catalogue) -> None:
    assert by_transition(catalogue, BASE) == {"fixed": 3, "broken": 1, "still wrong": 1, "always right": 1}
    assert by_transition(catalogue, replace(BASE, who="fixed", tags=("tag=Noun",)))["still wrong"] == 1
    assert by_mode(catalogue, BASE) == {"right": 2, "one caption wins": 3, "swapped": 1}
    assert by_mode(catalogue, replace(BASE, tags=("tag=Noun",), modes=("swapped",))) == {"one caption wins": 2}
    first, second, chance = by_tag(catalogue, replace(BASE, tags=("tag=Noun",)))["tag=Size"]
    assert (first.value, second.value, first.n, chance) == (0.5, 1.0, 2, 0.25)


def test_a_benchmark_that_changed_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="no longer has example e0"):
        read_catalogue(read_run(folder / "runs" / "made"), lambda name: EXAMPLES[1:])


@pytest.mark.parametrize("shapes", [[(2, 2), (1, 5)], [(2, 3)], [(3, 3)], [(1, 2), (2, 2), (3, 3)], []])
def test_a_run_of_another_shape_or_of_several_is_one_sentence(folder: Path, shapes: list) -> None:
    run = read_run(folder / "runs" / "made")
    made = [replace(e, images=i, captions=c) for e, (i, c) in zip(run.examples, shapes, strict=False)]
    with pytest.raises(UserError, match=r"^[^\n]+\.$"):
        read_catalogue(replace(run, examples=tuple(made)), lambda name: EXAMPLES)


@pytest.fixture
def tab(folder: Path) -> BrowseTab:
    import gradio as gr

    settings = Settings.from_environment({"SDSDEMO_RUNS": str(folder / "runs")})
    with gr.Blocks():
        return BrowseTab(Workbench(settings), RunRegistry(settings, assets=folder), "")


ASKED = FilterValues("runs/made", "mini-clip", "mini-diffusion", "text", [], [], [], [], "any", "any", "", "benchmark")


def test_an_example_shows_every_model_s_scores_and_curves(tab: BrowseTab) -> None:
    shown = tab.view.show(ASKED, 0, "e1")
    assert "Example 2 of 6<" in shown.example
    assert shown.example.count("<table>") == 2
    assert "One caption wins." in shown.example
    assert "undecided: other noise draws may change it" in shown.example
    assert shown.example.count('class="line c0"') == 2
    assert "text ✗" in shown.example


def test_pairs_count_ties_and_scores_that_are_no_number_by_metric(
    tab: BrowseTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {0: ((3.0, 1.0), (3.0, 3.0)), 4: ((np.nan, 1.0), (1.0, 3.0)), 5: ((np.nan, np.nan), (np.inf, 3.0))}
    catalogue = tab.registry.catalogue("runs/made")
    scores = [
        replace(one, score_IC=np.array(made.get(e, one.score_IC)))
        for e, one in enumerate(catalogue.scores["mini-clip"])
    ]
    run = read_run(tab.registry._folder("runs/made"))
    again = {("mini-clip", f"e{e}", ""): one for e, one in enumerate(scores)}
    found = read_catalogue(replace(run, scores={**run.scores, **again}), lambda name: EXAMPLES)
    monkeypatch.setattr(tab.registry, "catalogue", lambda name: found)
    shown = tab.view.show(ASKED, 0, "e4")
    assert not shown.message
    assert "n = 4 <small>1 tie, which counts as wrong, 2 left out: a score is not finite" in shown.charts
    by_match = tab.view.show(ASKED._replace(metric="group_match"), 0, "").charts
    assert "n = 4 <small>no ties, 2 left out" in by_match
    assert shown.gallery.count('title="Mini CLIP: no finite score"') == 2
    lost = tab.view.show(ASKED._replace(who="no number"), 0, "")
    assert "<b>2</b> of 6" in lost.tally
    assert "nan" not in lost.charts + lost.scatter


def test_the_lesson_stands_beside_the_shares_of_both_mini_models(tab: BrowseTab) -> None:
    turned = ASKED._replace(model="mini-diffusion", against="mini-clip")
    for asked in (ASKED, turned):
        assert LESSON in unescape(tab.view.show(asked, 0, "").charts)
    assert LESSON not in unescape(tab.view.show(ASKED._replace(against="mini-clip"), 0, "").charts)


def test_everything_foreign_is_escaped(tab: BrowseTab) -> None:
    shown = tab.view.show(ASKED, 0, "e0")
    assert "<b>red</b>" not in "".join(map(str, shown))
    assert "&lt;b&gt;red&lt;/b&gt;" in shown.gallery
    link = FilterValues(*ASKED[:-3], "decided", '"><script>', "benchmark")
    assert "<script>" not in "".join(map(str, tab.view.show(link._replace(decided="any"), 0, "e0")))


@pytest.mark.parametrize(
    "asked",
    [
        ASKED._replace(run="../../etc"),
        ASKED._replace(model="no-model"),
        ASKED._replace(who="nobody"),
        ASKED._replace(order="sideways"),
    ],
)
def test_a_value_that_means_nothing_is_one_sentence(tab: BrowseTab, asked: FilterValues) -> None:
    shown = tab.view.show(asked, 0, "")
    assert 'role="alert"' in shown.message
    assert not shown.gallery


def test_opening_an_example_sends_nothing_else_again(tab: BrowseTab) -> None:
    sent = tab.view.pick(ASKED, 0, "e1", "example", "e2")[len(browse_bar.PICKED) :]
    opened = dict(zip(browse_view.BrowseContent._fields, sent, strict=False))
    assert 'data-id="e2"' in opened["example"]
    assert all(opened[name] == gr.skip() for name in browse_view.BESIDE_EXAMPLE)


def test_clicks_toggle_filters_and_steps_follow_the_filtered_order(tab: BrowseTab) -> None:
    filters = browse_bar.PICKED
    fields = tab.view.pick(ASKED, 0, "", "tag", "tag=Noun")
    assert fields[filters.index("tags")] == ["tag=Noun"]
    assert "<b>2</b> of 6" in fields[len(filters) + 1]
    chosen = ASKED._replace(tags=["tag=Noun", "tag=Colour"])
    assert tab.view.pick(chosen, 0, "", "tag", "tag=Noun")[filters.index("tags")] == ["tag=Colour"]
    assert tab.view.pick(chosen, 0, "e1", "move", "1")[-1 - browse_view.TO_COMPARE] == "e4"
    assert tab.view.pick(chosen, 0, "e5", "move", "1")[-1 - browse_view.TO_COMPARE] == "e5"
    compared = tab.view.pick(ASKED, 0, "e2", "compare", "1")
    assert compared[-4:] == [*EXAMPLES[2].captions, "crop", ""]


def test_nothing_left_offers_to_clear(tab: BrowseTab) -> None:
    shown = tab.view.show(ASKED._replace(words="nowhere"), 0, "")
    assert 'data-kind="clear"' in shown.gallery
    assert "<b>0</b> of 6" in shown.tally


def test_thumbnails_are_small_and_made_once() -> None:
    opened = []
    big = Picture(name="x", open=lambda: opened.append(1) or Image.new("RGB", (1500, 1500)), key="x")
    thumbs = Thumbnails()
    assert thumbs.of(big, 112) == thumbs.of(big, 112)
    assert len(opened) == 1
    assert len(thumbs.of(big, 112)) < 4_000


def test_own_runs_are_shown_only_where_the_page_runs_for_its_user_alone(folder: Path) -> None:
    alone = Settings.from_environment({"SDSDEMO_RUNS": str(folder / "runs")})
    public = Settings.from_environment({"SDSDEMO_RUNS": str(folder / "runs"), "GRADIO_SERVER_NAME": "0.0.0.0"})
    assert RunRegistry(alone, folder).names() == ["runs/made"]
    assert RunRegistry(public, folder).names() == []


def test_published_numbers_stand_apart_with_their_source() -> None:
    html = results_html.published_html()
    assert all(one["source"] and one["sure"] in ("read", "recalled") for one in results_html.published())
    assert html.count("from memory, not re-read") == sum(one["sure"] == "recalled" for one in results_html.published())
    assert "mini-clip" not in html
    from_table = [one for one in results_html.published() if "vl_compo" in one["source"]]
    assert {one["system"]: one["winoground"] for one in from_table} == {
        "CLIP": [31.25, 11.0, 8.75],
        "NegCLIP": [30.25, 11.0, 8.0],
        "GNM-CLIP": [34.5, 12.75, 10.25],
        "SigLIP": [38.5, 20.25, 15.75],
    }
    assert {one["sure"] for one in from_table} == {"read"}


def test_a_result_is_shown_with_its_downloads() -> None:
    stored = json.loads((ROOT / "assets/mini/results/mini.json").read_text())
    html = results_html.result_html(stored, addresses("mini"))
    for words in (
        "n = 400",
        "95.8 <small>93 to 97</small>",
        "exact McNemar",
        "By number of timesteps",
        "What it costs",
    ):
        assert words in html
    for ending in ("csv", "json", "png", "svg"):
        assert f'download="sdsdemo-mini.{ending}" href="results/mini.{ending}"' in html


def test_a_refresh_that_knows_no_example_leaves_the_open_one_alone(tab: BrowseTab) -> None:
    import gradio as gr

    late = tab._refresh(None, *ASKED, 0, browse.Selection())
    assert (late.example, late.selected) == (gr.skip(), gr.skip())
    assert 'data-id="e1"' in tab._refresh(None, *ASKED, 0, browse.Selection(("e1", 3))).example
    elsewhere = tab._refresh(None, *ASKED, 0, browse.Selection(("of another run", 3)))
    assert elsewhere.example == gr.skip()


def test_a_session_keeps_what_its_last_click_opened() -> None:
    session, other = copy.deepcopy(browse.Selection()), copy.deepcopy(browse.Selection())
    session.opens("e4", 7)
    session.opens("e2", 5)
    assert (session.now, other.now) == (("e4", 7), ("", 0))
    session.opens("", 8)
    assert session.now == ("", 8)


def test_an_example_says_which_click_opened_it_when_a_filter_redraws_it(tab: BrowseTab) -> None:
    drawn = tab._refresh(None, *ASKED, 0, browse.Selection(("e1", 3))).example
    assert drawn.startswith('<section class="example" data-id="e1" data-request="3"')
    assert "data-request" not in tab.view.show(ASKED, 0, "e1").example


def test_back_pressed_again_while_a_view_is_drawn_closes_the_example(
    tab: BrowseTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio as gr

    from sdsdemo.ui.address import Query
    from sdsdemo.ui.request_order import HEADER

    asked: list[Any] = [SimpleNamespace(headers={HEADER: str(number)}, session_hash="s") for number in (4, 5)]
    view, place = tab.view.show, len(tab.choices) + tab.outputs.index(tab.example)

    def pressed_meanwhile(*values: Any) -> browse_view.BrowseContent:
        shown = view(*values)
        monkeypatch.setattr(tab.view, "show", view)
        tab.open_address(Query("browse", ""), asked[1])
        return shown

    assert 'data-id="e1"' in str(tab._reopen(asked[0], *ASKED, 0, browse.Selection(("e1", 3)))[place])
    monkeypatch.setattr(tab.view, "show", pressed_meanwhile)
    assert tab._reopen(asked[0], *ASKED, 0, browse.Selection(("e1", 3)))[place] == gr.skip()


@pytest.mark.parametrize("ask", ["_reopen", "_refresh"])
def test_what_is_clicked_while_a_view_is_drawn_is_not_closed_by_it(
    tab: BrowseTab, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    import gradio as gr

    selection, view = browse.Selection(), tab.view.show

    def clicked_meanwhile(*values: Any) -> browse_view.BrowseContent:
        shown = view(*values)
        selection.opens("e2", 9)
        return shown

    monkeypatch.setattr(tab.view, "show", clicked_meanwhile)
    found = tab._refresh(None, *ASKED, 0, selection) if ask == "_refresh" else tab._reopen(None, *ASKED, 0, selection)
    assert (
        found[list(browse_view.BrowseContent._fields).index("example") - len(browse_view.BrowseContent._fields)]
        == gr.skip()
    )
    assert selection.now == ("e2", 9)
