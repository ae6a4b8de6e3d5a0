"""Browse of one image and k captions, the first ones true: against slow loops, on sets of odd shapes."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.decision import decide, of_captions
from sdsdemo.core.metrics import CHANCE
from sdsdemo.core.outcomes import contest
from sdsdemo.errors import UserError
from sdsdemo.evaluation.catalogue import Catalogue, Filter, by_mode, by_tag, is_decided, read_catalogue, select, tally
from sdsdemo.evaluation.store import RunFolder, read_run
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.models import cards
from sdsdemo.settings import Settings, budget
from sdsdemo.types import Evidence, Example, Picture, Scores
from sdsdemo.ui import browse, browse_one_image, compare_form
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse import BrowseTab
from sdsdemo.ui.browse_filters import FilterValues
from sdsdemo.ui.thumbnails import Thumbnails

SHAPES = [(1, 2), (2, 5), (1, 1), (2, 2), (1, 20), (3, 12), (1, 9), (1, 2), (2, 3), (1, 8)]
"""(true captions, captions) of an example."""
SPEND = budget(3, 2, 0)
MODELS = ("mini-clip", "mini-diffusion")
TIED, LOST = 7, 8
"""Places of an example that is a tie for the first model, and of one with a score that is no number for it."""
PLACES = range(len(SHAPES))
ASKED = FilterValues("runs/one", *MODELS, "accuracy", [], [], [], [], "any", "any", "", "benchmark")
BASE = Filter(model="mini-clip", against="mini-diffusion", metric="accuracy")


def example(number: int) -> Example:
    true, captions = SHAPES[number]
    picture = Picture(name=f"{number}", open=lambda: Image.new("RGB", (60, 40), (9 * number, 0, 0)), key=f"{number}")
    texts = tuple(f"<i>{number}</i> {'true' if c < true else 'rival'} {c}" for c in range(captions))
    tags = {"tag": f"t{number % 2}"} | ({"true captions": str(true)} if true > 1 else {})
    return Example(id=f"e{number}", images=(picture,), captions=texts, tags=tags)


EXAMPLES = [example(number) for number in PLACES]


def scores_of(model: str, number: int) -> Scores:
    rng = np.random.default_rng([number, len(model)])
    loss_ICTN = rng.uniform(0.5, 1, (1, SHAPES[number][1], 3, 2)).astype(np.float32)
    score_IC = -loss_ICTN.astype(np.float64).mean(axis=(2, 3))
    if model == "mini-diffusion":
        found = Evidence(timestep_T=np.array([100, 500, 900]), loss_ICTN=loss_ICTN, evaluations=6)
        return Scores(kind="denoising", score_IC=score_IC, evidence=found)
    if number == TIED:
        score_IC[0, 1] = score_IC[0, 0]
    if number == LOST:
        score_IC[0, 1] = math.nan
    return Scores(kind="similarity", score_IC=score_IC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = RunFolder(tmp_path / "runs" / "one", "mini", EXAMPLES, SPEND)
    for model, number in itertools.product(MODELS, PLACES):
        if number == 0:
            run.enter(model, cards.fingerprint(cards.resolve(model)))
        run.add(model, f"e{number}", scores_of(model, number))
    monkeypatch.setattr(
        "sdsdemo.app.run_registry.read_catalogue", lambda run: read_catalogue(run, lambda name: EXAMPLES)
    )
    monkeypatch.setattr("sdsdemo.evaluation.freshness.read_benchmark", lambda name: EXAMPLES)
    return tmp_path


@pytest.fixture
def catalogue(folder: Path) -> Catalogue:
    return read_catalogue(read_run(folder / "runs" / "one"), lambda name: EXAMPLES)


@pytest.fixture
def tab(folder: Path) -> BrowseTab:
    import gradio as gr

    settings = Settings.from_environment({"SDSDEMO_RUNS": str(folder / "runs")})
    with gr.Blocks():
        return BrowseTab(Workbench(settings), RunRegistry(settings, assets=folder), "")


def slow_margin(scores: Scores, true: int) -> float:
    """The smallest of all differences between a true caption and a rival."""
    score_C = scores.score_IC[0].tolist()
    if not all(map(math.isfinite, score_C)):
        return math.nan
    return min((a - b for a in score_C[:true] for b in score_C[true:]), default=math.inf)


def orders(true: int, captions: int) -> int:
    """In how many ways the true captions may lie among all."""
    return sum(1 for _ in itertools.combinations(range(captions), true))


@pytest.mark.parametrize("model", MODELS)
def test_margin_right_tie_and_chance_are_those_of_a_slow_loop(catalogue: Catalogue, model: str) -> None:
    for place, (true, captions) in enumerate(SHAPES):
        scores = catalogue.scores[model][place]
        expected = slow_margin(scores, true)
        assert catalogue.true[place] == true
        assert catalogue.margin[model][place] == pytest.approx(expected, nan_ok=True)
        assert catalogue.right[model]["accuracy"][place] == (expected > scores.resolution)
        assert catalogue.tied[model]["accuracy"][place] == (abs(expected) <= scores.resolution)
        assert catalogue.finite[model][place] == (not math.isnan(expected))
        assert catalogue.chance["accuracy"][place] == pytest.approx(1 / orders(true, captions))


def test_the_contest_is_the_smallest_true_rival_difference() -> None:
    rng = np.random.default_rng(0)
    for captions in range(1, 8):
        for true in range(1, captions + 1):
            score_C = rng.integers(-3, 3, captions).astype(float)
            score_C[rng.random(captions) < 0.2] = math.nan
            met = contest(score_C, true)
            if true == captions:
                assert met is None
                continue
            assert met is not None
            assert met[0] < true <= met[1] < captions
            if np.isfinite(score_C).all():
                scores = Scores(kind="similarity", score_IC=score_C[None])
                assert score_C[met[0]] - score_C[met[1]] == slow_margin(scores, true)
            elif np.isfinite(score_C[true:]).any():
                assert score_C[met[1]] == np.nanmax(score_C[true:])


@pytest.mark.parametrize(("true", "captions"), sorted(set(SHAPES)))
def test_decided_is_about_the_weakest_true_caption_and_the_best_rival(true: int, captions: int) -> None:
    rng, seen = np.random.default_rng(captions), set()
    for spread in (0.0, 0.5, 2.0, 8.0, 32.0):
        loss_ICTN = (1 + rng.random((1, captions, 1, 1)) + spread * rng.random((1, captions, 3, 4))).astype(np.float32)
        score_IC = -loss_ICTN.astype(np.float64).mean(axis=(2, 3))
        found = Evidence(timestep_T=np.array([1, 2, 3]), loss_ICTN=loss_ICTN)
        scores = Scores(kind="denoising", score_IC=score_IC, evidence=found)
        met = min(
            itertools.product(range(true), range(true, captions)),
            key=lambda pair: score_IC[0, pair[0]] - score_IC[0, pair[1]],
            default=None,
        )
        expected = True
        if met is not None:
            two = replace(found, loss_ICTN=loss_ICTN[:, list(met)])
            expected = decide(replace(scores, score_IC=score_IC[:, list(met)], evidence=two)).decided
        assert is_decided(scores, true) == expected
        seen.add(expected)
    assert captions == true or len(seen) == 2


def test_filters_split_a_run_into_right_wrong_and_no_number(catalogue: Catalogue) -> None:
    right, wrong, tied, lost = (
        select(catalogue, replace(BASE, who=who)).tolist() for who in ("right", "wrong", "tied", "no number")
    )
    assert sorted(right + wrong + lost) == list(PLACES)
    assert tied == [TIED]
    assert TIED in wrong
    assert lost == [LOST]


def test_shares_count_ties_as_wrong_and_leave_out_what_is_no_number(catalogue: Catalogue) -> None:
    found = tally(catalogue, "mini-clip", "accuracy", np.arange(len(SHAPES)))
    assert (found.ties, found.not_finite, found.share.n) == (1, 1, len(SHAPES) - 1)
    by = by_tag(catalogue, BASE)
    assert sum(shares.first.n for shares in by.values()) == found.share.n
    for t in (0, 1):
        chances = [1 / orders(*SHAPES[place]) for place in PLACES if place % 2 == t]
        assert by[f"tag=t{t}"].chance == pytest.approx(sum(chances) / len(chances))
    assert by_mode(catalogue, BASE) == {}


def test_a_filter_of_modes_left_from_another_run_filters_nothing(catalogue: Catalogue) -> None:
    assert len(select(catalogue, replace(BASE, modes=("swapped",)))) == len(SHAPES)


@pytest.mark.parametrize("place", PLACES)
def test_an_example_shows_every_true_caption_and_the_best_rivals(tab: BrowseTab, place: int) -> None:
    true, captions = SHAPES[place]
    shown = tab.view.show(ASKED, 0, f"e{place}")
    assert not shown.message
    articles = shown.example.split("<article")[1:]
    assert len(articles) == len(MODELS)
    for model, article in zip(MODELS, articles, strict=True):
        numbers = [int(text) - 1 for text in re.findall(r'<th scope="row"><span class="chip \w+">(\d+)<', article)]
        score_C = scores_of(model, place).score_IC[0]
        rivals = sorted(range(true, captions), key=lambda c: -np.nan_to_num(score_C[c], nan=-9))
        assert numbers == [*range(true), *(rivals if captions <= 8 else rivals[:8])]
        said = re.search(r"The best (\d+) of (\d+) rivals", article)
        assert (said is not None) == (len(numbers) < captions)
        if said:
            assert said.groups() == ("8", str(captions - true))
    assert shown.example.count('data-kind="compare"') == (true if captions > true else 0)
    assert "<i>" not in shown.example.replace("<i></i>", "")


def test_curves_are_of_every_caption_that_is_shown(tab: BrowseTab) -> None:
    for place, (true, captions) in enumerate(SHAPES):
        drawn = tab.view.show(ASKED, 0, f"e{place}").example
        assert drawn.count('class="line c0"') == true
        assert drawn.count('class="line c1"') == (captions > true)
        shown = browse_one_image.shown_captions(np.zeros(captions), true)
        assert drawn.count('class="line other"') == max(0, len(shown) - true - 1)


@pytest.mark.parametrize("place", [0, 1, 4, 5])
def test_compare_gets_a_true_caption_and_the_strongest_rival(tab: BrowseTab, place: int) -> None:
    true, _ = SHAPES[place]
    picks = re.findall(r'data-kind="compare" data-pick="([\d-]+)"', tab.view.show(ASKED, 0, f"e{place}").example)
    score_C = scores_of("mini-clip", place).score_IC[0]
    strongest = true + int(score_C[true:].argmax())
    for c, pick in enumerate(picks):
        picked = tab.view.pick(ASKED, 0, f"e{place}", "compare", pick)
        assert picked[-4:-2] == [EXAMPLES[place].captions[c], EXAMPLES[place].captions[strongest]]
    query = tab.run_pictures.pair("runs/one", f"e{place}", 0, 0, strongest).query
    assert (query["true"], query["rival"]) == ("0", str(strongest))


def test_the_address_of_an_answer_opens_the_same_true_caption_and_rival(tab: BrowseTab) -> None:
    shown = tab.run_pictures.pair("runs/one", "e5", 0, 2, 7)
    found = compare_form.form_of_address(tab.workbench, [], {"tab": "compare", **shown.query}, tab.run_pictures.pair)
    assert found is not None
    assert found[1] == shown
    assert shown.truth(found[0].captions) == 0
    for odd in ({"rival": "x"}, {"rival": "-1"}, {"true": "9" * 30}, {"rival": "1"}):
        query = Query("compare", {**shown.query, **odd})
        assert compare_form._of_run(query, tab.run_pictures.pair) is None
        assert len(query.left_out) == 1


@pytest.mark.parametrize(("true", "rival"), [(0, 0), (1, 1), (2, 3), (0, 5), (0, 99), (-1, 3)])
def test_compare_is_never_handed_two_captions_of_one_kind(tab: BrowseTab, true: int, rival: int) -> None:
    with pytest.raises(UserError):
        tab.run_pictures.pair("runs/one", "e1", 0, true, rival)


def test_an_image_that_is_not_shown_has_no_button_for_compare(tab: BrowseTab) -> None:
    found = tab.registry.catalogue("runs/one")
    titles = {name: name for name in found.models}
    for one, buttons in ((found, 2), (replace(found, numbers_alone=True), 0)):
        place = found.place("e1") or 0
        shown = browse_one_image.figure_html(one, place, found.models[0], titles, Thumbnails())
        assert (shown.count("Open in Compare"), "Compare takes" in shown) == (buttons, bool(buttons))


@pytest.mark.parametrize("metric", ["text", "group_match"])
def test_a_metric_of_another_run_gives_way_when_a_run_opens(tab: BrowseTab, metric: str) -> None:
    opened = dict(
        zip(["run", "model", "against", "metric"], tab._open(ASKED._replace(metric=metric), 0, "")[0], strict=False)
    )
    assert opened["metric"]["value"] == "accuracy"
    assert opened["metric"]["choices"] == ["accuracy"]


def test_the_page_counts_ties_and_scores_that_are_no_number(tab: BrowseTab) -> None:
    shown = tab.view.show(ASKED, 0, "")
    assert f"n = {len(SHAPES) - 1} <small>1 tie, which counts as wrong" in shown.charts
    assert "1 left out: a score is not finite" in shown.charts
    assert shown.gallery.count(">: no finite score<") == 1
    assert shown.gallery.count(">: tie<") == 1
    assert 'data-kind="mode"' not in shown.charts


@pytest.mark.parametrize("order", browse.ORDER)
def test_every_order_shows_every_example_and_ends_with_no_numbers(catalogue: Catalogue, order: str) -> None:
    places = select(catalogue, replace(BASE, order=order)).tolist()
    assert sorted(places) == list(PLACES)
    assert order == "benchmark" or places[-1] == LOST


@pytest.mark.parametrize("n", [1, 7, 20, 400])
def test_a_summary_of_pairs_has_the_chances_to_the_last_digit(n: int) -> None:
    scores = Scores(kind="similarity", score_IC=np.eye(2))
    assert summarise([EXAMPLES[0]] * n, {"m": Scored(scores_E=[scores] * n)})["chance"] == CHANCE


def test_decided_reads_the_rounds_of_the_two_captions_that_meet() -> None:
    """Adaptive scoring: the first two captions got two rounds, those that meet got eight."""
    rng = np.random.default_rng(0)
    loss_ICTN = np.full((1, 4, 8, 8), np.nan, dtype=np.float32)
    loss_ICTN[0, :2, :, :2] = 5 + rng.normal(size=(2, 8, 2))
    loss_ICTN[0, 2] = 1 + 0.1 * rng.normal(size=(8, 8))
    loss_ICTN[0, 3] = loss_ICTN[0, 2] + 0.02 + 0.05 * rng.normal(size=(8, 8))
    score_IC, rounds_IC = np.array([[-5.0, -5.0, -1.0, -1.02]]), np.array([[2, 2, 8, 8]])
    found = Evidence(timestep_T=np.arange(8), loss_ICTN=loss_ICTN, antithetic=True, rounds_IC=rounds_IC)
    scores = Scores(kind="denoising", score_IC=score_IC, evidence=found)
    alone = Scores(
        kind="denoising",
        score_IC=score_IC[:, 2:],
        evidence=replace(found, loss_ICTN=loss_ICTN[:, 2:], rounds_IC=rounds_IC[:, 2:]),
    )
    assert decide(of_captions(scores, (2, 3))) == decide(alone)
