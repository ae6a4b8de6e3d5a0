"""The Browse tab without a browser: saved views, chips, the varied order, ranges of margins, and heat maps."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import Catalogue, Filter, facts, select
from sdsdemo.evaluation.margin_box import MarginBox
from sdsdemo.evaluation.orders import varied
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.types import Scores
from sdsdemo.ui import browse_address, browse_bar
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse import BrowseTab, Selection
from sdsdemo.ui.browse_bar import PICKED, VIEWS
from sdsdemo.ui.browse_example import Position, _caption_row, _choice, example_html
from sdsdemo.ui.browse_filters import FilterValues, default_filters, filled_in, filter_of, two_models
from sdsdemo.ui.browse_html import PER_PAGE
from sdsdemo.ui.browse_parts import may_turn
from sdsdemo.ui.browse_plot import SIDE, Axis
from sdsdemo.ui.browse_view import BrowseView
from sdsdemo.ui.open_in_compare import RunPictures
from sdsdemo.ui.request_order import HEADER
from sdsdemo.ui.thumbnails import Thumbnails
from tests.ui.views import catalogue as made_up
from tests.ui.views import views

TWO = ("mini-clip", "mini-diffusion")
USUAL = default_filters("mini", *TWO)


@pytest.fixture(scope="module")
def view() -> BrowseView:
    settings = Settings.from_environment({})
    registry = RunRegistry(settings, ASSETS)
    return BrowseView(Workbench(settings), registry, "", RunPictures(registry))


@pytest.fixture(scope="module")
def catalogue(view: BrowseView) -> Catalogue:
    return view.registry.catalogue("mini")


def passing(catalogue: Catalogue, filters: FilterValues) -> list[int]:
    places: list[int] = select(catalogue, filter_of(filters, catalogue)).tolist()
    return places


@pytest.mark.parametrize("metric", ["text", "group"])
def test_a_saved_view_holds_as_many_examples_as_its_button_says(view: BrowseView, metric: str) -> None:
    filters = USUAL._replace(metric=metric, words="red", who="fixed", box=":,0:")
    bar = view.show(filters, 0, "").tally
    counts = dict(re.findall(r'data-kind="view" data-pick="([^"]+)".*?<b>(\d+)</b></button>', bar))
    assert set(counts) == set(VIEWS) - {"closest"}
    catalogue = view.registry.catalogue("mini")
    for name, count in counts.items():
        assert len(passing(catalogue, browse_bar.view_filters(filters, name))) == int(count)


def test_the_plot_s_corners_say_whose_score_the_margins_are(view: BrowseView) -> None:
    for metric, corners, rightly in (("text", 0, "chooses rightly"), ("group", 4, "right caption for both pictures")):
        shown = view.show(USUAL._replace(metric=metric), 0, "").scatter
        assert len(re.findall(r">text: (?:both|only . )", shown)) == corners
        assert rightly in shown


def test_only_an_outcome_that_hangs_on_noise_is_called_undecided(tmp_path: Path) -> None:
    found = made_up("x", tmp_path, one_image=False)
    said = [place for place in range(len(found.examples)) if may_turn(found, "mini-diffusion", place)]
    assert said
    assert not any(found.decided["mini-diffusion"][place] for place in said)
    assert not np.isfinite(found.margin["mini-diffusion"][8])
    assert 8 not in said
    assert not found.decided["mini-clip"][1], "a tie"
    wanted = Filter(model="mini-clip", against="mini-clip", metric="text")
    titles = {name: name for name in found.models}
    for place in (1, said[0]):
        html = example_html(found, place, Position(1, 1), wanted, titles, "", Thumbnails())
        assert html.count("other noise draws may change it") == (place in said)


def test_the_closest_calls_come_first_with_their_size(view: BrowseView, catalogue: Catalogue) -> None:
    closest = browse_bar.view_filters(USUAL, "closest")
    size_E = np.abs(catalogue.margin["mini-clip"][passing(catalogue, closest)])
    assert (np.diff(size_E) >= 0).all()
    said = re.findall(r"<small>● ([\w ]+) % of its usual margin</small>", view.show(closest, 0, "").gallery)
    usual = catalogue.usual_margin("mini-clip")
    assert said == [f"{100 * size / usual:.0f}" if size >= 0.01 * usual else "under 1" for size in size_E[:PER_PAGE]]


def test_each_chip_removes_its_own_filter_and_no_other(catalogue: Catalogue) -> None:
    full = USUAL._replace(
        metric="group", tags=["tag=Noun inside", "tag=Adjective-Size"], categories=["small object"],
        secondary=["secondary_tag=left"], modes=["swapped"], who="fixed", decided="decided", words="red", box="0:,:",
        of_several="all",
    )  # fmt: skip
    found = list(browse_bar.chips(catalogue, full, filter_of(full, catalogue), "Mini CLIP", "Mini diffusion"))
    assert len(found) == 11
    for chip in found:
        less = browse_bar.without(full, chip.pick, "text")
        rest = list(browse_bar.chips(catalogue, less, filter_of(less, catalogue), "Mini CLIP", "Mini diffusion"))
        gone = {one for one in found if one not in rest}
        assert chip in gone
        assert {one.words for one in gone - {chip}} <= {"all of these tags"}
    assert not list(browse_bar.chips(catalogue, USUAL, filter_of(USUAL, catalogue), "", ""))
    assert browse_bar.without(full, "run=x", "text") == full


def test_the_first_page_is_varied_and_the_whole_is_a_fixed_order(catalogue: Catalogue) -> None:
    places = passing(catalogue, USUAL)
    assert sorted(places) == list(range(len(catalogue.examples)))
    assert places == passing(catalogue, USUAL)
    tags = [tuple(facts(catalogue, place, ("tag",))) for place in places]
    ways = [tuple(bool(catalogue.right[model]["text"][place]) for model in TWO) for place in places]
    kinds = list(zip(tags, ways, strict=True))
    assert all(a != b for a, b in pairwise(tags[:PER_PAGE]))
    first = len(set(kinds))
    assert len(set(kinds[:first])) == first
    assert passing(catalogue, USUAL._replace(order="benchmark")) == sorted(places)


@pytest.mark.parametrize("seed", range(10))
def test_a_varied_order_leaves_nothing_out_and_takes_each_kind_once_first(seed: int) -> None:
    dice = random.Random(seed)
    n = dice.choice([0, 1, 2, 30, 200])
    tags, ways = [dice.choice("abcdefg") for _ in range(n)], [dice.choice([0, 0, 0, 1]) for _ in range(n)]
    order = varied(tags, ways).tolist()
    assert sorted(order) == list(range(n))
    kinds = [(tags[place], ways[place]) for place in order]
    assert len(set(kinds[: len(set(kinds))])) == len(set(kinds))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", [0, 1, 2, 3]),
        ("0:,:", [1, 2]),
        ("-1:1,:0.5", [0]),
        (":,:", [0, 1, 2, 3]),
        (" : , : ", [0, 1, 2, 3]),
        ("-1e0:+2.,.5:7.5E-1", [0, 1]),
        ("2:2,-1:-1", [2]),
        ("5:,:", []),
    ],
)
def test_a_rectangle_keeps_the_margins_inside_ends_included(text: str, kept: list[int]) -> None:
    x_E, y_E = np.array([-1.0, 1.0, 2.0, np.nan]), np.array([0.5, 0.75, -1.0, 0.0])
    box = MarginBox.read(text)
    inside = np.ones(4, dtype=bool) if box is None else box.holds(x_E, y_E)
    assert np.flatnonzero(inside).tolist() == kept
    assert box is None or MarginBox.read(str(box)) == box


@pytest.mark.parametrize(
    "text",
    ["1", "1:2", "1:2,3", "a:2,:", "2:1,:", "nan:,:", "inf:,:", "1e999:,:", ":,:,:", "1:2:3,4",
     "1_0:,:", "\u0663:,:", "0x1:,:"],
)  # fmt: skip
def test_what_is_no_rectangle_is_one_sentence_in_a_link_and_on_the_page(catalogue: Catalogue, text: str) -> None:
    query = Query("browse", {"margins": text, "sort": "worst"})
    opened = browse_address.read(query, "mini", catalogue, TWO)
    assert (opened.filters.box, opened.filters.order, len(query.left_out)) == ("", "worst", 1)
    with pytest.raises(UserError, match=r"^This range of margins cannot be used: [^\n]+\.$"):
        filter_of(USUAL._replace(box=text), catalogue)


def test_a_brush_over_the_whole_plot_is_no_filter(view: BrowseView) -> None:
    everything = view.show(USUAL, 0, "17")
    assert view.show(USUAL._replace(box=":,:"), 0, "17") == everything
    fields, content = np.split(np.array(view.pick(USUAL, 0, "17", "box", ":,:"), dtype=object), [len(PICKED)])
    assert fields[PICKED.index("box")] == ""
    assert tuple(content[: len(everything)]) == everything
    assert "margins=" not in everything.tally + everything.example


NONSENSE = [("page", "x"), ("move", "x"), ("move", ""), ("compare", "0-x"), ("compare", "-1")]


@pytest.mark.parametrize(
    ("filters", "kind", "pick"),
    [*[(USUAL, *click) for click in NONSENSE],
     *[(USUAL._replace(run="gone"), *click) for click in [("unset", "words="), ("move", "1")]],
     (USUAL._replace(model="gone"), "move", "1"), (USUAL._replace(tags=5), "tag", "tag=Noun inside")],
)  # fmt: skip
def test_a_click_that_means_nothing_changes_nothing(
    view: BrowseView, filters: FilterValues, kind: str, pick: str
) -> None:
    found = view.pick(filters, 0, "17", kind, pick)
    assert len(found) == len(view.pick(USUAL, 0, "17", "close", ""))
    assert all(one == gr.skip() for one in found)


@pytest.mark.parametrize(
    ("filters", "pick", "why"),
    [(USUAL, "2", "no such picture"), (USUAL, "9", "no such picture"), (USUAL._replace(run="gone"), "0", "no run")],
)
def test_a_picture_that_does_not_open_in_compare_is_one_sentence(
    view: BrowseView, filters: FilterValues, pick: str, why: str
) -> None:
    fields, found = view.pick(filters, 0, "17", "compare", pick), len(PICKED)
    assert why in fields.pop(found)
    assert all(one == gr.skip() for one in fields)


def test_after_such_a_click_the_example_is_still_open(view: BrowseView) -> None:
    with gr.Blocks():
        tab = BrowseTab(view.workbench, view.registry, "")
    selection, request = Selection(("17", 3)), SimpleNamespace(headers={HEADER: "8"}, session_hash="s")
    for kind, pick in NONSENSE:
        found = tab._pick(SimpleNamespace(value=kind, index=pick), request, *USUAL, 0, selection)
        assert all(one == gr.skip() for one in found)
        assert selection.now == ("17", 3)
    tab._pick(SimpleNamespace(value="move", index="1"), request, *USUAL, 0, selection)
    assert selection.now[0] not in ("", "17")


@pytest.mark.parametrize("name", FilterValues._fields)
def test_a_filter_of_another_type_is_one_sentence(
    view: BrowseView, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    for value in (5, 0, True, {}, [{}], [["red"]], ["red", None]):
        filters = USUAL._replace(**{name: value})
        assert f"The filter &#39;{name}&#39; must be a " in view.show(filters, 0, "").message
        assert filled_in(filters) == USUAL._replace(**{name: getattr(default_filters("", "", ""), name)})
    assert not caplog.records


def test_quadrants_of_the_plot_hold_the_outcomes_they_are_named_after(catalogue: Catalogue) -> None:
    for box, way in (("0:,0:", "always right"), (":0,0:", "fixed"), ("0:,:0", "broken"), (":0,:0", "still wrong")):
        assert passing(catalogue, USUAL._replace(box=box)) == passing(catalogue, USUAL._replace(who=way))


def test_the_same_model_twice_is_restored_and_said(view: BrowseView, catalogue: Catalogue) -> None:
    query = Query("browse", "model=mini-sds-clip&against=mini-sds-clip")
    opened = browse_address.read(query, "mini", catalogue, TWO)
    assert (opened.filters.model, opened.filters.against) == ("mini-sds-clip", "mini-sds-clip")
    shown = view.show(opened.filters, 0, "17")
    assert "Both models are Mini SDS-CLIP" in shown.tally
    assert "model=mini-sds-clip&amp;against=mini-sds-clip" in shown.tally
    assert len(set(re.findall(r'"model-name (k\d)"', shown.tally + shown.scatter + shown.gallery))) == 1
    assert "Both models are" not in view.show(USUAL, 0, "").tally
    for filters, pair in (
        (USUAL, TWO),
        (USUAL._replace(model="gone"), ("mini-clip", "mini-diffusion")),
        (USUAL._replace(model="gone", against="mini-clip"), ("mini-diffusion", "mini-clip")),
        (USUAL._replace(against="gone"), TWO),
        (default_filters("mini", "", ""), TWO),
    ):
        assert two_models(catalogue, filters, TWO) == pair


@pytest.mark.parametrize(
    ("score_IC", "by_text", "by_image"),
    [
        ([[3.0, 1.0], [1.0, 3.0]], {(0, 0), (1, 1)}, {(0, 0), (1, 1)}),
        ([[3.0, 1.0], [2.0, 1.5]], {(0, 0), (1, 0)}, {(0, 0), (1, 1)}),
        ([[1.0, 3.0], [3.0, 1.0]], {(0, 1), (1, 0)}, {(1, 0), (0, 1)}),
        ([[2.0, 2.0], [2.0, 5.0]], {(1, 1)}, {(1, 1)}),
        ([[np.nan, 2.0], [2.0, 5.0]], {(1, 1)}, {(1, 1)}),
    ],
)
def test_a_heat_map_frames_what_each_picture_and_each_caption_chooses(
    score_IC: list[list[float]], by_text: set, by_image: set
) -> None:
    scores = Scores(kind="similarity", score_IC=np.array(score_IC))
    cells = {(i, c): cell for c in range(2) for i, cell in enumerate(_caption_row(scores, c)["cells"])}
    assert {at for at, cell in cells.items() if cell["by_text"]} == by_text
    assert {at for at, cell in cells.items() if cell["by_image"]} == by_image
    order = sorted(cells, key=lambda at: scores.score_IC[at])
    if np.isfinite(scores.score_IC).all():
        assert [cells[at]["shade"] for at in order] == sorted(cell["shade"] for cell in cells.values())
    assert _choice(np.array([1.0, 2.0]), 1, "AB", 0.0) == ("B", True)
    assert _choice(np.array([2.0, 2.0]), 1, "AB", 0.0) == ("tie", False)


def test_an_example_shows_the_two_compared_models_and_folds_the_others(view: BrowseView) -> None:
    shown = view.show(USUAL._replace(order="benchmark"), 0, "17").example
    before, after = shown.split('<details class="other-models">')
    assert re.findall(r'<h3><span class="model-name k\d"><i[^>]*>.</i>([^<]+)', before) == [
        "Mini CLIP",
        "Mini diffusion",
    ]
    assert after.count('class="matrix') == len(view.registry.catalogue("mini").models) - 2
    assert "Example 18 of 400<" in before
    assert re.findall("<kbd>(.+?)</kbd>", before) == ["Esc", "k", "j"]


def test_a_tag_row_says_each_model_s_percent_and_n(view: BrowseView) -> None:
    row = re.findall(r'<button type="button" class="tag-row".*?</button>', view.show(USUAL, 0, "").charts)[0]
    words = " ".join(re.sub(r"<[^>]+>", " ", row).split())
    assert re.fullmatch(
        r"Both n = 26 ● Mini CLIP 54 % \(95 % interval \d+ to \d+\) "
        r"■ Mini diffusion 100 % \(95 % interval \d+ to 100\)",
        words,
    )


def test_axes_are_round_and_a_dot_lies_where_its_numbers_say(catalogue: Catalogue) -> None:
    for margin_E in (
        catalogue.margin["mini-clip"],
        catalogue.margin["mini-diffusion"],
        np.array([np.nan]),
        np.zeros(3),
    ):
        axis = Axis.of(margin_E)
        assert axis.low < 0 < axis.high
        ticks = axis.ticks()
        assert 3 <= len(ticks) <= 12
        assert 0.0 in ticks
        at = [axis.at(tick) for tick in ticks]
        assert np.allclose(np.diff(at), np.diff(at)[0])
        assert 0 <= min(at) < max(at) <= SIDE


class Names(HTMLParser):
    """Headers without text, and names that do not hold what is seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str | None, list[str]]] = []
        self.empty: list[str] = []
        self.differ: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("th", "button"):
            self.open.append((tag, dict(attrs).get("aria-label"), []))

    def handle_data(self, data: str) -> None:
        for _, _, texts in self.open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("th", "button"):
            return
        _, label, texts = self.open.pop()
        seen = " ".join("".join(texts).split())
        self.empty += [seen] if tag == "th" and not seen else []
        if label is not None and re.search(r"\w", seen) and seen.casefold() not in label.casefold():
            self.differ.append(seen)


def test_no_header_is_empty_and_every_name_holds_what_is_seen(tmp_path: Path) -> None:
    for name, html in views("x", tmp_path):
        if name.startswith("browse"):
            found = Names(html)
            assert not found.empty, name
            assert not found.differ, name


def test_a_click_may_set_every_filter_that_a_view_or_a_chip_changes() -> None:
    assert set(PICKED) >= {name for view in VIEWS.values() for name in view}
    assert replace(Filter(model="a", against="b"), order="closest").box is None
