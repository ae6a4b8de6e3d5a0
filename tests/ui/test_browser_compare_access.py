"""The Compare tab in a real browser for everyone: on a phone, in the dark, by keyboard alone."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Page, expect

from tests.ui.compare_page import caption

pytestmark = pytest.mark.browser
WHOLE = "#answer .answer[aria-busy=false] .asked"
"""Of an answer that is all here: the last part of it stops what plays, and puts the slider back."""


@pytest.mark.main_flow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(visit, scheme):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme).page
    expect(page.locator("#loss-chart .js-plotly-plot .scatterlayer")).to_be_visible()
    page.locator("#settings > button").click()
    expect(page.get_by_label("Seed")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#examples button").nth(1).click()
    expect(page.locator(WHOLE)).to_contain_text("a green square left of a red square")
    expect(page.locator("#result.stale")).to_have_count(0)
    page.locator("#denoising .play").click()
    expect(page.locator("#denoising .play")).to_have_text("❚❚")
    page.locator("#scene [data-do=open]").click()
    expect(page.locator("#scene .stage [data-object]").first).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="How it works").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("footer .divider").first).to_be_hidden()
    expect(page.locator(".gradio-container > .main")).to_have_css("padding-left", "16px")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_of_the_charts_is_readable_on_the_page_s_own_background(visit, scheme):
    page = visit(color_scheme=scheme).page
    text = page.locator("#difference-chart .js-plotly-plot .xtitle")
    expect(text).to_be_visible()
    ink = text.evaluate("node => getComputedStyle(node).fill")
    paper = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
    background = page.locator("#difference-chart .main-svg").first.evaluate("node => getComputedStyle(node).background")
    assert "rgba(0, 0, 0, 0)" in background
    assert contrast(ink, paper) >= 4.5


def test_everything_can_be_reached_by_keyboard_and_has_a_name(visit):
    page = visit().page
    for name in ("Swap A and B", "Score", "Copy link"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(page.get_by_label("Caption A")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until the focus is there, and checks that it can be seen."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
            assert width >= 2, f"the focus on {selector} is not seen"
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_compare_is_used_by_keyboard_alone(visit):
    page = visit(color_scheme="dark").page
    expect(page.locator("#loss-chart .js-plotly-plot .scatterlayer")).to_be_visible()
    tab_to(page, "#examples .thumbnail-item")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(caption(page, "a")).to_have_value("a red square left of a green square")
    tab_to(page, "#scene [data-do=open]")
    page.keyboard.press("Enter")
    expect(page.locator("#scene .stage [data-object]").first).to_be_visible()
    before = page.locator("#scene .scene").get_attribute("data-scene")
    tab_to(page, "#scene .stage [data-object]")
    page.keyboard.press("ArrowDown")
    assert page.locator("#scene .scene").get_attribute("data-scene") != before
    tab_to(page, "#caption-b textarea")
    page.keyboard.type(" and a moon")
    page.keyboard.press("Enter")
    expect(page.locator(WHOLE)).to_contain_text("and a moon")
    expect(page.locator("#result.stale")).to_have_count(0)
    tab_to(page, "#denoising input[type=range]")
    shown = page.locator("#denoising output").inner_text()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#denoising output")).not_to_have_text(shown)
    tab_to(page, "#score-changes")
    page.keyboard.press("Enter")
    expect(page.locator("#changes :is(.word-changes[aria-busy=false], .message)")).to_be_visible()


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio of two CSS colours."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
