"""The Compare tab in a real browser when answers come late: the last thing asked is answered, the old one marked."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import expect

from sdsdemo.ui.fair_queue import FULL, FairQueue
from tests.late import asked_by, held_back, slow
from tests.ui.compare_page import VERDICTS, caption, press

pytestmark = pytest.mark.browser


def test_a_slow_network_never_checks_an_earlier_picture(visit, tmp_path: Path):
    page = visit().page
    wrong = tmp_path / "holiday.jpg"
    wrong.write_text("this is not a picture")
    page.route("**/gradio_api/run/**", lambda route: (page.wait_for_timeout(1_500), route.continue_()))
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").set_input_files(wrong)
    expect(page.locator("#message [role=alert]")).to_be_visible()
    page.unroute_all(behavior="wait")


def test_an_answer_to_captions_edited_meanwhile_stays_marked_as_old(visit, served):
    page = visit().page
    with slow(served.workbench, "asked"):
        press(page, "asked")
        expect(page.locator("#answer .asked")).to_contain_text("asked")
        caption(page, "b").fill("edited since")
        expect(page.locator("#result.stale")).to_be_visible()
    expect(page.locator(VERDICTS)).to_have_count(3)
    page.wait_for_timeout(300)
    expect(page.locator("#result.stale")).to_be_visible()
    page.locator("#score").click()
    expect(page.locator("#answer .asked")).to_contain_text("edited since")
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator("#result.stale")).to_have_count(0)


def test_charts_of_an_earlier_answer_are_marked_until_the_new_are_here(visit, served):
    page = visit().page
    shown = page.locator("#denoising")
    said = "getComputedStyle(document.getElementById('evidence'), '::before').content"
    with slow(served.workbench, "asked"):
        press(page, "asked")
        expect(page.locator("#answer .asked")).to_contain_text("asked")
        expect(page.locator("#result.stale")).to_have_count(0)
        expect(shown).to_have_css("opacity", "0.55")
        assert "of the earlier answer" in page.evaluate(said)
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(shown).to_have_css("opacity", "1")
    assert page.evaluate(said) == "none"


def test_a_full_line_is_said_with_its_wait_and_only_to_those_who_ask(visit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FairQueue, "_refusal", lambda *_: FULL.format(wait="2 minutes"))
    browsing = visit("?tab=browse&run=mini").page
    browsing.wait_for_timeout(2_000)
    assert browsing.get_by_text("send it again").count() == 0
    page = visit().page
    page.wait_for_timeout(2_000)
    assert page.get_by_text("send it again").count() == 0
    page.locator("#score").click()
    expect(page.get_by_text("send it again in about 2 minutes")).to_be_visible()


def test_of_two_presses_the_later_one_is_answered(visit, served):
    page = visit().page
    with slow(served.workbench, "the older one"):
        press(page, "the older one")
        expect(page.locator("#answer .asked")).to_contain_text("the older one")
        press(page, "the newer one")
        expect(page.locator("#answer .asked")).to_contain_text("the newer one")
        expect(page.locator(VERDICTS)).to_have_count(3)
    page.wait_for_timeout(500)
    expect(page.locator("#answer .asked")).to_contain_text("the newer one")
    expect(page.locator(VERDICTS)).to_have_count(3)


def test_a_press_that_the_network_brings_late_changes_nothing(visit):
    page = visit().page
    caption(page, "a").fill("the older one")
    let_go = held_back(page, asked_by(page, "score"), before=True)
    page.locator("#score").click()
    press(page, "the newer one")
    expect(page.locator("#answer .asked")).to_contain_text("the newer one")
    let_go()
    expect(page.locator("#answer .asked")).to_contain_text("the newer one")
    expect(page.locator(VERDICTS)).to_have_count(3)


def test_an_example_clicked_while_an_answer_is_due_is_answered(visit, served):
    page = visit().page
    with slow(served.workbench, "the older one"):
        press(page, "the older one")
        expect(page.locator("#answer .asked")).to_contain_text("the older one")
        page.locator("#examples button").nth(1).click()
        expect(page.locator("#answer .asked")).to_contain_text("a green square")
        expect(page.locator(VERDICTS)).to_have_count(3)
    page.wait_for_timeout(500)
    expect(page.locator("#answer .asked")).to_contain_text("a green square")
    expect(page.locator(VERDICTS)).to_have_count(3)


def test_a_refusal_stays_while_the_answer_before_it_comes(visit, served):
    page = visit().page
    with slow(served.workbench, "the older one"):
        press(page, "the older one")
        expect(page.locator("#answer .asked")).to_contain_text("the older one")
        press(page, "")
        expect(page.locator("#message [role=alert]")).to_be_visible()
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator("#message [role=alert]")).to_be_visible()


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
def test_of_two_examples_the_one_clicked_last_is_answered(visit, before):
    page = visit("?tab=compare&a=one&b=two").page
    expect(caption(page, "b")).to_have_value("two")
    let_go = held_back(page, '"event_data":{"index":0', before=before)
    page.locator("#examples button").nth(0).click()
    page.locator("#examples button").nth(1).click()
    expect(page.locator("#answer .asked")).to_contain_text("a green square")
    let_go()
    expect(caption(page, "a")).to_have_value("a red square left of a green square")
    expect(page.locator("#answer .asked")).to_contain_text("a green square")
    expect(page.locator(VERDICTS)).to_have_count(3)
