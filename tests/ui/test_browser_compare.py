"""The Compare tab in a real browser: what a visitor sees and can do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Page, expect

from tests.late import listen_to, until_quiet, until_said
from tests.ui.compare_page import VERDICTS, caption

pytestmark = pytest.mark.browser
ROWS = "#answer .model-row"


@pytest.mark.main_flow
def test_the_page_opens_with_an_answer_and_asks_no_other_site(visit, served):
    opened = visit()
    expect(opened.page.locator(VERDICTS)).to_have_count(3)
    expect(opened.page.locator("#loss-chart .js-plotly-plot .scatterlayer")).to_be_visible()
    expect(opened.page.locator("#difference-chart .js-plotly-plot .scatterlayer")).to_be_visible()
    foreign = [url for url in opened.requests if not url.startswith((served.address, "data:", "blob:"))]
    assert foreign == []
    expect(opened.page.locator("#result.stale")).to_have_count(0)
    assert opened.complaints == []


def test_the_opening_answer_marks_truth_and_judges_decided_rows(visit):
    page = visit().page
    expect(page.locator("#answer .asked .true")).to_have_count(1)
    marks = page.locator("#answer .mark")
    assert marks.count() == page.locator("#answer .verdict:is(.right, .wrong)").count() > 0


@pytest.mark.main_flow
def test_a_click_on_an_example_scores_it_in_three_rows(visit, served):
    page = visit().page
    page.locator("#examples button").nth(1).click()
    expect(caption(page, "a")).to_have_value("a red square left of a green square")
    expect(page.locator("#answer .asked")).to_contain_text("a green square left of a red square")
    expect(page.locator(ROWS)).to_have_count(3)
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator("#answer .asked p").nth(1)).to_contain_text("belongs to the picture")


@pytest.mark.main_flow
def test_score_answers_for_the_captions_as_they_are_now(visit):
    page = visit().page
    caption(page, "b").fill("two <b>bold</b> squares")
    expect(page.locator("#result.stale")).to_be_visible()
    page.locator("#score").click()
    expect(page.locator("#answer .asked")).to_contain_text("two <b>bold</b> squares")
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator("#result.stale")).to_have_count(0)
    expect(page.locator("#said")).to_contain_text(re.compile("Mini CLIP: .*Mini diffusion: .*Mini SDS-CLIP: "))
    expect(page.locator("#answer .mark")).to_have_count(0)


def test_enter_in_a_caption_scores(visit):
    page = visit().page
    caption(page, "a").fill("a purple square left of a blue square")
    caption(page, "a").press("Enter")
    expect(page.locator("#answer .asked")).to_contain_text("a purple square left of a blue square")
    expect(page.locator(VERDICTS)).to_have_count(3)


@pytest.mark.main_flow
def test_swap_changes_the_captions_round_and_the_answer_follows(visit):
    page = visit().page
    before = caption(page, "a").input_value(), caption(page, "b").input_value()
    values = page.locator("#answer .value").all_inner_texts()
    page.locator("#swap").click()
    expect(caption(page, "a")).to_have_value(before[1])
    expect(caption(page, "b")).to_have_value(before[0])
    page.locator("#score").click()
    expect(page.locator("#answer .asked p").first).to_contain_text(before[1])
    expect(page.locator(VERDICTS)).to_have_count(3)
    swapped = page.locator("#answer .value").all_inner_texts()
    assert swapped == [values[i ^ 1] for i in range(len(values))]


def test_an_empty_caption_is_explained_and_the_answer_stays_stale(visit):
    page = visit().page
    caption(page, "b").fill("")
    page.locator("#score").click()
    expect(page.locator("#message [role=alert]")).to_contain_text("B")
    expect(page.locator("#result.stale")).to_be_visible()


@pytest.mark.main_flow
def test_a_non_picture_is_refused_without_a_server_path(visit, tmp_path: Path):
    page = visit().page
    wrong = tmp_path / "holiday.jpg"
    wrong.write_text("this is not a picture")
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").set_input_files(wrong)
    expect(page.locator("#message [role=alert]")).to_be_visible()
    page.locator("#score").click()
    expect(page.locator("#message [role=alert]")).to_be_visible()
    assert not re.search(r"/\w+/", page.locator("#message").inner_text())
    expect(page.get_by_test_id("toast-body")).to_have_count(0)


def test_cleaned_text_is_shown_beside_the_answer_and_is_no_alarm(visit):
    page = visit().page
    caption(page, "a").fill("a red square &amp; a blue one")
    page.locator("#score").click()
    expect(page.locator("#message .remarks")).to_be_visible()
    expect(page.locator("#message [role=alert]")).to_have_count(0)
    expect(page.locator("#result.stale")).to_have_count(0)


@pytest.mark.main_flow
def test_an_address_opens_the_same_view_and_scores_it(visit):
    page = visit("?tab=compare&example=green-red&a=one&b=two&models=mini-diffusion&timesteps=3&noises=2&seed=7").page
    expect(caption(page, "a")).to_have_value("one")
    expect(page.locator(VERDICTS)).to_have_count(1)
    expect(page.locator("#answer .cost")).to_contain_text("12 denoiser calls")


def test_the_timestep_range_is_checked_and_kept_in_the_address(visit):
    page = visit("?tab=compare&example=green-red&timestep_range=0.4+0.6").page
    expect(page.locator(VERDICTS)).to_have_count(3)
    page.locator("#settings > button").click()
    field = page.get_by_label("Timestep range")
    expect(field).to_have_value("0.4 0.6")
    field.fill("0.8 0.2")
    page.locator("#score").click()
    expect(page.locator("#message [role=alert]")).to_contain_text("such as 0.2 0.8; it was 0.8 0.2")
    expect(page.locator(VERDICTS)).to_have_count(3)
    field.fill("0.5, 1")
    field.press("Enter")
    expect(page.locator("#answer [data-link]")).to_have_attribute("data-link", re.compile(r"timestep_range=0\.5\+1"))
    expect(page.locator("#message [role=alert]")).to_have_count(0)


def test_a_bad_setting_of_an_address_is_said_above_the_tabs(visit):
    page = visit("?tab=compare&example=green-red&timesteps=2&noises=9999").page
    expect(page.locator(VERDICTS)).to_have_count(3)
    expect(page.locator("#link-message")).to_contain_text("Noise draws must be from 1 to 16")


def test_opening_the_settings_is_no_change_and_editing_one_is(visit):
    page = visit().page
    page.locator("#score").click()
    expect(page.locator("#said")).to_contain_text("Mini SDS-CLIP")
    assert page.evaluate("sdsdemoIsAsked()") is True
    page.locator("#settings > button").click()
    expect(page.get_by_label("Seed")).to_be_visible()
    assert page.evaluate("sdsdemoIsAsked()") is True
    page.get_by_label("Seed").fill("7")
    page.keyboard.press("Tab")
    expect(page.locator("#result.stale")).to_have_count(1)


def test_an_address_without_a_picture_fills_in_the_captions(visit):
    page = visit("?tab=compare&a=one&b=two").page
    expect(page.locator("#link-message [role=alert]")).to_contain_text("picture")
    expect(caption(page, "b")).to_have_value("two")


def test_the_copied_link_reopens_the_example_and_files_hold_the_scores(visit, served):
    page = visit(permissions=["clipboard-read", "clipboard-write"]).page
    expect(page.locator("#loss-chart .js-plotly-plot .scatterlayer")).to_be_visible()
    button = page.get_by_role("button", name="Copy link")
    listen_to(button)
    button.click()
    until_said(page, "Link copied")
    assert "example=red-blue" in page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "sdsdemo-compare.csv"
    assert "mini-diffusion" in Path(download.value.path()).read_text()


def test_the_address_of_a_tab_opens_that_tab(visit):
    page = visit("?tab=about").page
    expect(page.locator("#about h2").first).to_be_visible()


@pytest.mark.main_flow
def test_the_slider_moves_pictures_words_and_cursors_without_a_request(visit):
    opened = visit()
    page, slider = opened.page, opened.page.locator("#denoising input[type=range]")
    expect(page.locator("#evidence .timestep-cursor")).to_have_count(2)
    until_quiet(page, opened.requests)  # after what the page asks for by itself when it opens
    asked = calls(opened.requests)
    slider.fill("0")
    first = _seen(page)
    slider.focus()
    page.keyboard.press("End")
    last = _seen(page)
    for name, before in first.items():
        assert before != last[name], name
    assert all(right > left for left, right in zip(first["cursors"], last["cursors"], strict=True))
    assert calls(opened.requests) == asked


def test_pointing_at_a_chart_moves_the_slider(visit):
    page = visit().page
    expect(page.locator("#evidence .timestep-cursor")).to_have_count(2)
    slider = page.locator("#denoising input[type=range]")
    slider.fill("0")
    plot = page.locator("#loss-chart .nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2, steps=4)
    expect(slider).to_have_value(slider.get_attribute("max") or "")


def test_the_denoising_is_that_of_the_answer_on_the_page(visit):
    opened = visit()
    page, slider = opened.page, opened.page.locator("#denoising input[type=range]")
    before = page.locator("#denoising .tile.c0").get_attribute("data-below")
    first = slider.get_attribute("value") or ""
    assert first != "0"
    slider.fill("0")
    caption(page, "a").fill("a moon left of a star")
    page.locator("#score").click()
    expect(page.locator("#result.stale")).to_have_count(0)
    expect(page.locator("#denoising .tile.c0")).not_to_have_attribute("data-below", before or "")
    expect(page.locator("#evidence .timestep-cursor")).to_have_count(2)
    assert slider.get_attribute("value") == first, "the new answer begins where the old one did"
    expect(slider).to_have_value(first)
    play = page.locator("#denoising .play")
    for text in ("❚❚", "▶", "❚❚"):
        play.click()
        expect(play).to_have_text(text)
    # an answer with fewer timesteps ends what was playing
    page.locator("#settings > button").click()
    page.locator("#timesteps input[type=number]").fill("3")
    page.locator("#timesteps input[type=number]").press("Tab")
    page.locator("#score").click()
    expect(slider).to_have_attribute("max", "2")
    expect(play).to_have_text("▶")
    at, timestep = slider.input_value(), page.locator("#denoising output").inner_text()
    page.wait_for_timeout(1_200)
    assert (slider.input_value(), page.locator("#denoising output").inner_text()) == (at, timestep)
    assert opened.complaints == []


@pytest.mark.main_flow
def test_a_round_asks_the_visitor_first_and_keeps_the_tally(visit, served):
    page = visit().page
    page.evaluate("localStorage.clear()")  # of other rounds in this browser
    page.reload()
    page.locator("[data-guess=start]").click()
    expect(page.locator("#answer")).to_be_hidden()
    expect(page.locator("#evidence")).to_be_hidden()
    total = page.locator("#examples .thumbnail-item").count()
    right = 0
    for number in range(total):
        choice = page.locator("[data-guess='0']")
        expect(choice).to_be_enabled()
        expect(page.locator(".guess .at")).to_have_text(f"{number + 1} of {total}")
        expect(choice).to_contain_text(caption(page, "a").input_value())
        choice.click()
        expect(page.locator("#answer .verdict").first).to_be_visible()
        is_right = page.locator("#answer .asked p").first.locator(".true").count() == 1
        right += is_right
        expect(page.locator(".guess .outcome")).to_contain_text("You are right" if is_right else "The other caption")
        expect(page.locator(".guess .tally")).to_contain_text(f"You: {right} of {number + 1} right")
        ticks = page.locator("#answer .verdict.right").count()
        expect(page.locator(".guess .outcome")).to_contain_text(f"{ticks} of 3 models are right")
        if number + 1 < total:
            page.locator("[data-guess=next]").click()
    expect(page.locator("[data-guess=next]")).to_be_hidden()
    page.locator(".told [data-guess=stop]").click()
    expect(page.locator("[data-guess=start]")).to_be_visible()
    page.reload()
    expect(page.locator(".guess .tally")).to_contain_text(f"You: {right} of {total} right")


def test_an_answer_that_is_the_same_as_before_is_an_answer_too(visit):
    page = visit().page
    page.locator("#score").click()
    expect(page.locator("#said")).to_contain_text("Mini SDS-CLIP")
    first = caption(page, "a").input_value()
    caption(page, "a").press("End")
    caption(page, "a").press_sequentially("s")
    caption(page, "a").press("Backspace")
    expect(caption(page, "a")).to_have_value(first)
    expect(page.locator("#result.stale")).to_have_count(1)
    fold = page.locator("#answer .behind").nth(1)
    fold.locator("summary").click()
    page.locator("#score").click()
    expect(page.locator("#result.stale")).to_have_count(0)
    # what was unfolded stays so, until it is folded
    expect(fold).to_have_attribute("open", "")
    fold.locator("summary").click()
    number = page.locator("#answer [data-asked]").get_attribute("data-asked") or ""
    page.locator("#score").click()
    expect(page.locator("#answer [data-asked]")).not_to_have_attribute("data-asked", number)
    expect(fold).not_to_have_attribute("open", "")
    # in a round: the second example is looked at, then it is its turn
    page.locator("[data-guess=start]").click()
    page.locator("#examples button").nth(1).click()
    expect(page.locator("[data-guess='0']")).to_contain_text("green")
    page.locator("[data-guess='0']").click()
    page.locator("[data-guess=next]").click()
    expect(page.locator(".guess .at")).to_have_text("2 of 2")
    expect(page.locator("[data-guess='0']")).to_be_enabled()
    expect(page.locator("[data-guess='0']")).to_contain_text("green")


def test_a_round_ends_when_the_visitor_asks_something_else(visit):
    page = visit().page
    page.locator("[data-guess=start]").click()
    expect(page.locator("#answer")).to_be_hidden()
    caption(page, "a").fill("a caption of my own")
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("[data-guess=start]")).to_be_visible()


def test_a_round_can_be_skipped(visit):
    page = visit().page
    page.locator("[data-guess=start]").click()
    page.locator(".asking [data-guess=stop]").click()
    expect(page.locator("#answer .verdict")).to_have_count(3)
    expect(page.locator("#answer")).to_be_visible()


@pytest.mark.main_flow
def test_a_click_draws_both_captions(visit):
    page = visit().page
    page.locator("#draw").click()
    expect(page.locator(".drawn[aria-busy=false] img")).to_have_count(8)
    for letter in "ab":
        assert caption(page, letter).input_value() in page.locator(".drawn").inner_text()


def calls(requests: list[str]) -> list[str]:
    """The requests that ask the server for something to be done."""
    return [url for url in requests if re.search(r"/gradio_api/(run|queue/join)", url)]


def _seen(page: Page) -> dict:
    """What the panel shows now: the timestep, the losses, where a strip stands, and where the cursors are."""
    return page.evaluate(
        """() => ({timestep: document.querySelector('#denoising output b').textContent,
        spoken: document.querySelector('#denoising input[type=range]').getAttribute('aria-valuetext'),
        losses: [...document.querySelectorAll('#denoising .below')].map((one) => one.textContent),
        strip: getComputedStyle(document.querySelector('#denoising .tile.noised i')).backgroundPositionX,
        cursors: [...document.querySelectorAll('#evidence .timestep-cursor')]
          .map((one) => parseFloat(one.style.left))})"""
    )
