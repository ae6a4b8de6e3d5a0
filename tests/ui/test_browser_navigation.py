"""Reload, Back and a lost connection in a real browser: what a visitor chose and typed is there again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Page, expect

from sdsdemo.ui.navigation import GONE
from tests.late import held_back, slow
from tests.pictures import foreign_pictures
from tests.ui.compare_page import VERDICTS, caption

pytestmark = pytest.mark.browser
ASKED = "#answer .asked"
STALE = "#result.stale"
MINE = re.compile(r"mine\.png$")


def upload(page: Page, folder: Path) -> None:
    foreign_pictures(1, 3)[0].save(folder / "mine.png")
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").set_input_files(folder / "mine.png")
    expect(page.locator("#picture img")).to_have_attribute("src", MINE)


def score(page: Page, text: str) -> None:
    caption(page, "a").fill(text)
    page.locator("#score").click()
    expect(page.locator(ASKED)).to_contain_text(text)
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator(STALE)).to_have_count(0)


def test_what_was_typed_chosen_and_uploaded_is_there_after_a_reload(visit, tmp_path: Path):
    page = visit().page
    upload(page, tmp_path)
    caption(page, "a").fill("typed <b>before</b>")
    page.locator("#settings button").first.click()
    page.locator("#seed input").fill("7")
    page.locator("#seed input").press("Tab")
    for _ in range(2):
        page.reload()
        expect(caption(page, "a")).to_have_value("typed <b>before</b>")
        expect(page.locator("#picture img")).to_have_attribute("src", MINE)
        expect(page.locator(STALE)).to_be_visible()
        page.locator("#settings button").first.click()
        expect(page.locator("#seed input")).to_have_value("7")


def test_a_picture_that_the_server_no_longer_has_is_asked_for_again(visit, tmp_path: Path):
    page = visit().page
    upload(page, tmp_path)
    caption(page, "a").fill("typed before")
    kept = page.evaluate("JSON.parse(sessionStorage.getItem('sdsdemo.form')).values.picture.path")
    Path(kept).unlink()
    page.reload()
    expect(page.locator("#message [role=alert]")).to_contain_text(GONE)
    expect(page.locator("#picture img")).to_have_count(0)
    expect(caption(page, "a")).to_have_value("typed before")


def test_an_answered_question_is_scored_again_after_a_reload(visit):
    page = visit().page
    score(page, "asked before")
    page.reload()
    expect(page.locator(ASKED)).to_contain_text("asked before")
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator(STALE)).to_have_count(0)


def test_a_question_in_mid_run_is_kept_and_not_asked_again_by_itself(visit, served):
    page = visit().page
    with slow(served.workbench, "too much"):
        caption(page, "a").fill("too much")
        page.locator("#score").click()
        expect(page.locator(ASKED)).to_contain_text("too much")
        page.reload()
        expect(caption(page, "a")).to_have_value("too much")
        expect(page.locator(STALE)).to_be_visible()
    page.wait_for_timeout(500)
    expect(page.locator(ASKED)).not_to_contain_text("too much")
    score(page, "too much")


def test_a_lost_connection_loses_nothing_that_was_typed(visit):
    page = visit().page
    caption(page, "b").fill("typed before the train went into the tunnel")
    page.context.set_offline(True)
    try:
        page.locator("#score").click()
        expect(page.locator("body")).to_contain_text("Connection to the server was lost")
        caption(page, "a").fill("typed in the tunnel")
        with page.expect_navigation():  # Gradio loads the page again
            page.context.set_offline(False)
    finally:
        page.context.set_offline(False)  # other tests visit in the same context
    expect(caption(page, "a")).to_have_value("typed in the tunnel")
    expect(caption(page, "b")).to_have_value("typed before the train went into the tunnel")


def test_an_address_is_followed_again_unless_the_form_says_something_else(visit):
    page = visit("?example=green-red&a=one&b=two").page
    expect(page.locator(ASKED)).to_contain_text("one")
    page.reload()
    expect(page.locator(ASKED)).to_contain_text("one")
    assert "a=one" in page.url
    caption(page, "a").fill("three")
    expect(page).not_to_have_url(re.compile("a=one"))
    page.reload()
    expect(caption(page, "a")).to_have_value("three")
    expect(caption(page, "b")).to_have_value("two")


def test_another_visit_begins_anew(visit, served):
    page = visit().page
    first = caption(page, "a").input_value()
    caption(page, "a").fill("typed before")
    page.goto(served.address)
    expect(caption(page, "a")).to_have_value(first)
    page.reload()
    expect(caption(page, "a")).to_have_value(first)


def test_a_reload_while_an_answer_is_awaited_is_no_error(visit, served):
    visited = visit()
    page = visited.page
    with slow(served.workbench, "awaited"):
        caption(page, "a").fill("awaited")
        page.locator("#score").click()
        expect(page.locator("#result [aria-busy=true]").first).to_be_visible()
        page.reload()
        expect(caption(page, "a")).to_have_value("awaited")
    score(page, "asked afterwards")
    assert visited.complaints == []


def test_a_failed_request_after_a_reload_is_a_complaint(visit):
    visited = visit()
    visited.page.reload()
    visited.page.locator("#tabs").wait_for()
    visited.page.evaluate("console.error('AbortError: of this very document')")
    visited.page.wait_for_timeout(200)
    assert visited.complaints == ["AbortError: of this very document"]


def test_back_returns_to_the_tab_before_and_a_reload_stays_in_it(visit):
    page = visit().page
    for name in ("Browse", "Results"):
        page.get_by_role("tab", name=name).click()
    page.go_back()
    tab(page, "Browse")
    page.reload()
    tab(page, "Browse")
    page.go_back()
    tab(page, "Compare")
    page.go_forward()
    tab(page, "Browse")


def test_tabs_that_were_chosen_before_the_first_view_came_are_entries(open_tab, served):
    page = open_tab(served.address)
    let_go = held_back(page, "queries", before=True)
    page.goto(served.address)
    for name in ("How it works", "Results"):
        page.get_by_role("tab", name=name).click()
        tab(page, name)
    let_go()
    expect(page).to_have_url(re.compile(r"\?tab=results"))
    for name in ("How it works", "Compare"):
        page.go_back()
        tab(page, name)


def test_back_brings_an_earlier_question_and_its_answer(visit):
    page = visit().page
    first = caption(page, "a").input_value()
    for text in ("a question of my own", "another of my own"):
        page.get_by_role("tab", name="How it works").click()
        expect(page).to_have_url(re.compile(r"\?tab=about$"))
        page.get_by_role("tab", name="Compare").click()
        score(page, text)
        for name in ("How it works", "Compare"):
            page.go_back()
            tab(page, name)
        expect(caption(page, "a")).to_have_value(first)
        expect(page.locator(ASKED)).to_contain_text(first)
        expect(page.locator(STALE)).to_have_count(0)


def test_back_to_where_the_page_opened_keeps_an_uploaded_picture(visit, tmp_path: Path):
    page = visit().page
    for name in ("How it works", "Compare"):
        page.get_by_role("tab", name=name).click()
        tab(page, name)
    upload(page, tmp_path)
    caption(page, "a").fill("of a picture that no address holds")
    expect(page).to_have_url(re.compile(r"\?a=of"))
    for name in ("How it works", "Compare"):
        page.go_back()
        tab(page, name)
    page.wait_for_timeout(500)  # what must not come
    expect(caption(page, "a")).to_have_value("of a picture that no address holds")
    expect(page.locator("#picture img")).to_have_attribute("src", MINE)


def tab(page: Page, name: str) -> None:
    expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")


def test_the_settings_of_a_fine_tuning_are_there_after_a_reload(visit):
    page = visit("?tab=finetune").page
    page.locator("#ft-preset input").click()
    page.get_by_role("option", name=re.compile("^mini:")).click()
    page.locator("#ft-advanced button").first.click()
    expect(page.locator("#ft-lam input")).to_have_value("10")
    page.locator("#ft-steps input").fill("123")
    page.locator("#ft-steps input").press("Tab")
    page.reload()
    expect(page.locator("#ft-preset input")).to_have_value(re.compile("^mini:"))
    page.locator("#ft-advanced button").first.click()
    expect(page.locator("#ft-lam input")).to_have_value("10")
    expect(page.locator("#ft-steps input")).to_have_value("123")
