"""The whole way in a real browser with the shipped models: no fake between the click and the number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Browser, Page, expect

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from sdsdemo.settings import ASSETS, Settings
from tests.conftest import WAIT_MS, free_port
from tests.pictures import foreign_pictures
from tests.ui.accessibility import faults

pytestmark = pytest.mark.browser
VERDICTS = "#answer .verdict"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page as it is shipped, on a free port."""
    from sdsdemo.ui.page import build_page, launch_options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = build_page(Workbench(Settings.from_environment({})))
        _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
        yield address
        page.close()


@pytest.fixture
def page(open_tab: Callable[..., Page], address: str) -> Page:
    page = open_tab(address)
    page.set_default_timeout(2 * WAIT_MS)  # the first answer loads three models
    page.goto(address)
    page.locator("#tabs").wait_for()
    return page


def upload(page: Page, path: Path) -> None:
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").set_input_files(path)
    expect(page.locator("#picture img")).to_be_visible()


@pytest.mark.main_flow
def test_the_opening_answer_is_the_stored_one(page: Page) -> None:
    stored = json.loads((ASSETS / "mini" / "opening.json").read_text())
    expect(page.locator(VERDICTS)).to_have_count(3)
    for letter, caption in zip("ab", stored["captions"], strict=True):
        expect(page.locator(f"#caption-{letter} textarea")).to_have_value(caption)
    for row, entry in zip(page.locator(VERDICTS).all(), stored["models"], strict=True):
        expect(row).to_contain_text(f"prefers {'AB'[entry['preferred']]}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_of_ours_on_any_tab(open_tab: Callable[..., Page], address: str, scheme: str) -> None:
    rules = None if scheme == "light" else ["color-contrast"]
    page = open_tab(address, color_scheme=scheme)
    page.goto(address)
    expect(page.locator(VERDICTS)).to_have_count(3, timeout=2 * WAIT_MS)
    expect(page.locator("#evidence .js-plotly-plot")).to_have_count(2, timeout=2 * WAIT_MS)
    assert faults(page, rules) == []

    page.locator("#scene [data-do=open]").click()
    page.locator("#scene .chips summary").click()
    page.locator("#settings > button").click()
    page.locator("#score-changes").click()
    expect(page.locator(".word-changes[aria-busy=false]")).to_be_visible(timeout=2 * WAIT_MS)
    expect(page.locator("#answer .answer[aria-busy=false]")).to_be_visible()
    assert faults(page, rules) == []

    shown = {
        "Browse": ".cards-of-pairs",
        "Fine-tune": "#finetune svg",
        "Results": "#results svg",
        "How it works": ".about .cards",
    }
    for tab, part in shown.items():
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(part).first).to_be_visible()
        assert faults(page, rules) == [], tab
        if tab == "Browse":
            page.locator(".pair-card").first.click()
            expect(page.locator("#browse-example .example")).to_be_visible()
            assert faults(page, rules) == [], "an example"


@pytest.mark.main_flow
def test_an_uploaded_picture_gets_three_answers_and_the_teacher_is_right(page: Page, tmp_path: Path) -> None:
    pair = benchmark_pairs(5, "validation", 400)[0]
    draw(pair.scenes[0]).save(tmp_path / "mine.jpg", quality=90)
    page.locator("#examples .thumbnail-item").nth(2).click()
    expect(page.locator("#examples [aria-pressed=true]")).to_have_count(1)
    upload(page, tmp_path / "mine.jpg")
    expect(page.locator("#examples [aria-pressed=true]")).to_have_count(0)
    for letter, sentence in zip("ab", pair.sentences, strict=True):
        page.locator(f"#caption-{letter} textarea").fill(sentence.text)
    page.locator("#score").click()
    expect(page.locator("#answer .asked")).to_contain_text(pair.sentences[0].text, timeout=2 * WAIT_MS)
    expect(page.locator(VERDICTS)).to_have_count(3, timeout=2 * WAIT_MS)
    expect(page.locator(VERDICTS).nth(1)).to_contain_text("prefers A")
    expect(page.locator("#answer .mark")).to_have_count(0)  # nobody told the page which caption is true


def test_nothing_tells_the_answer_before_the_visitor_has_guessed(page: Page) -> None:
    page.locator("[data-guess=start]").click()
    page.locator("[data-guess='0']").click()
    page.locator("[data-guess=next]").click()
    expect(page.locator("[data-guess='0']")).to_be_enabled(timeout=2 * WAIT_MS)
    expect(page.locator("#scene-truth .right")).to_have_count(1)
    expect(page.locator("#scene-truth")).to_be_hidden()
    page.wait_for_timeout(500)
    expect(page.locator("#said")).to_be_empty()
    page.locator("[data-guess='0']").click()
    expect(page.locator("#scene-truth .right")).to_be_visible()
    expect(page.locator("[data-guess=next]")).to_be_visible()


def test_the_settings_say_of_a_model_that_has_answered_that_it_is_loaded(page: Page) -> None:
    ask(page, "a red star", "a blue circle")
    expect(page.locator("#answer .asked")).to_contain_text("a red star", timeout=2 * WAIT_MS)
    expect(page.locator(VERDICTS)).to_have_count(3, timeout=2 * WAIT_MS)
    page.locator("#settings button").first.click()
    expect(page.locator("#model-states .yes")).to_have_text([re.compile("is loaded")] * 3)


def test_a_foreign_picture_stays_in_the_form_and_gets_no_number(page: Page, tmp_path: Path) -> None:
    foreign_pictures(1, 2)[1].save(tmp_path / "noise.png")
    upload(page, tmp_path / "noise.png")
    page.locator("#score").click()
    expect(page.locator("#answer .problem")).to_have_count(3, timeout=2 * WAIT_MS)
    expect(page.locator("#answer .problem").first).to_contain_text("would mean nothing")
    expect(page.locator(VERDICTS)).to_have_count(0)
    expect(page.locator("#picture img")).to_be_visible()


def test_an_unknown_word_is_named(page: Page) -> None:
    page.locator("#caption-a textarea").fill("a piano left of a red star")
    page.locator("#score").click()
    expect(page.locator("#answer .problem").first).to_contain_text("'piano'", timeout=2 * WAIT_MS)
    expect(page.locator("#caption-a textarea")).to_have_value("a piano left of a red star")


def ask(page: Page, first: str, second: str) -> None:
    for letter, caption in (("a", first), ("b", second)):
        page.locator(f"#caption-{letter} textarea").fill(caption)
    page.locator("#score").click()


def test_two_visitors_at_once_each_get_their_own_answer(page: Page, browser: Browser, address: str) -> None:
    other = browser.new_page()
    other.goto(address)
    other.locator("#tabs").wait_for()
    asked = {page: ("a red star", "a blue circle"), other: ("a green house", "a black ring")}
    for visitor, captions in asked.items():
        ask(visitor, *captions)
    for visitor, captions in asked.items():
        expect(visitor.locator("#answer .asked")).to_contain_text(captions[1], timeout=2 * WAIT_MS)
        expect(visitor.locator(VERDICTS)).to_have_count(3, timeout=2 * WAIT_MS)
        expect(visitor.locator("#answer .asked")).to_contain_text(captions[0])
    other.close()


def test_a_reload_in_the_middle_of_a_run_leaves_a_page_that_answers(page: Page) -> None:
    ask(page, "a red star", "a blue circle")
    with page.expect_response(lambda answer: "/run/predict" in answer.url):  # the form of the address has come
        page.reload()
    page.locator("#tabs").wait_for()
    expect(page.locator(VERDICTS)).to_have_count(3)
    ask(page, "a green house", "a black ring")
    expect(page.locator("#answer .asked")).to_contain_text("a black ring", timeout=2 * WAIT_MS)
    expect(page.locator(VERDICTS)).to_have_count(3, timeout=2 * WAIT_MS)


def test_a_ticked_box_stops_early_and_says_what_it_spent(page: Page) -> None:
    expect(page.locator(VERDICTS)).to_have_count(3)
    page.locator("#settings > button").click()
    box, draws = page.get_by_label("Stop as soon as the captions are told apart"), page.locator("#noises input").first
    expect(box).not_to_be_checked()
    box.press("Space")
    expect(draws).to_have_value("16")
    expect(page.locator("#result.stale")).to_be_visible()
    page.locator("#score").click()
    cost = page.locator("#answer .cost").nth(1)
    expect(cost).to_contain_text("of at most 256 denoiser calls")
    expect(page.locator(VERDICTS)).to_have_count(3)
    spent = int(re.findall(r"(\d+) of at most", cost.inner_text())[0])
    assert spent < 256
    expect(page.locator("#answer")).to_contain_text("told apart once it leaves the middle")
    expect(page.locator("#denoising figure").first).to_be_visible()
    expect(page.locator("#answer [data-link]")).to_have_attribute("data-link", re.compile("adaptive=on"))
    expect(page).to_have_url(re.compile("adaptive=on"))
    page.reload()
    page.locator("#settings > button").click()
    expect(box).to_be_checked()
    expect(cost).to_contain_text(f"{spent} of at most 256")
    box.uncheck()
    expect(draws).to_have_value("4")
    expect(page).not_to_have_url(re.compile("adaptive"))
