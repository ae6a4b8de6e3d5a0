"""A visitor draws a scene of their own, in a real browser."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from PIL import Image
from playwright.sync_api import Page, expect

from tests.late import held_back, until_quiet

pytestmark = pytest.mark.browser

STAGE = "#scene .stage"
SHAPES = f"{STAGE} [data-object]"
SCENE = "mint~house.blue.700.600.235.-12~star.red.250.300.165.20"


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB").resize((100, 100)), float)


def scene_of(page: Page) -> str:
    return page.locator("#scene .scene").get_attribute("data-scene") or ""


def test_own_scene_is_drawn_edited_scored_and_shared(visit):
    opened = visit(f"?scene={SCENE}&a=a+red+star+left+of+a+blue+house&b=a+blue+star+left+of+a+red+house")
    page = opened.page
    expect(page.locator("#scene-truth .right")).to_have_count(1)
    page.locator("#scene [data-do=open]").click()
    expect(page.locator(SHAPES)).to_have_count(2)
    assert scene_of(page) == SCENE
    expect(page.locator("#scene-truth .right")).to_have_count(1)
    expect(page.locator("#scene-truth .wrong")).to_have_count(1)

    # what the browser draws is what the models see
    page.mouse.move(0, 0)
    page.evaluate("document.querySelector('#scene .chosen')?.remove()")
    drawn = pixels(page.locator(STAGE).screenshot())
    source = page.locator("#picture img").get_attribute("src") or ""
    seen = pixels(page.request.get(source).body())
    within = slice(4, -4)  # the stage has rounded corners
    assert np.abs(drawn - seen)[within, within].mean() < 3

    # dragged, then moved by the keyboard: the scene changes, and the answer follows by itself
    expect(page.locator("#result.stale")).to_have_count(0)
    before = scene_of(page)
    box = page.locator(SHAPES).first.bounding_box() or pytest.fail("no shape")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 25, box["y"] + box["height"] / 2 + 10, steps=4)
    page.mouse.up()
    dragged = scene_of(page)
    assert dragged != before
    page.keyboard.press("ArrowLeft")
    moved = scene_of(page)
    assert moved not in (before, dragged)
    expect(page).to_have_url(re.compile(re.escape(moved)))
    expect(page.locator("#answer .verdict")).to_have_count(3)
    expect(page.locator("#result.stale")).to_have_count(0)

    # a word from the chips goes into the caption edited last; the truth follows
    caption = page.locator("#caption-b textarea")
    caption.fill("a")
    page.locator("#scene .chips summary").click()
    page.locator('#scene [data-word="house"]').click()
    expect(caption).to_have_value("a house")
    suggested = page.locator("#suggested [data-caption]").first
    text = suggested.inner_text()
    suggested.click()
    expect(caption).to_have_value(text)
    expect(page.locator("#answer .asked")).to_contain_text(text)

    # every small change of a caption, then the link opens the same scene
    caption.fill("a green star")
    expect(page.locator("#scene-truth .right")).to_have_count(1)
    page.locator("#score-changes").click()
    expect(page.locator(".word-changes[aria-busy=false] .counts tbody tr")).to_have_count(3)
    expect(page.locator("#answer .asked")).to_contain_text("a green star")
    expect(page.locator("#result.stale")).to_have_count(0)
    page.reload()
    expect(page.locator("#scene-truth .truth")).to_be_visible()
    expect(page).to_have_url(re.compile(re.escape(moved)))
    page.locator("#scene [data-do=open]").click()
    expect(page.locator("#scene .scene.open")).to_have_attribute("data-scene", moved)

    # there and back again: the answer on the page is that of this scene, without another press
    expect(page.locator("#result.stale")).to_have_count(0)
    page.locator("#scene-truth .truth").evaluate("truth => truth.removeAttribute('data-live')")
    page.locator(SHAPES).first.press("ArrowRight")
    expect(page.locator("#result.stale")).to_have_count(1)
    page.locator(SHAPES).first.press("ArrowLeft")
    expect(page).to_have_url(re.compile(re.escape(moved)))
    expect(page.locator("#result.stale")).to_have_count(0)
    page.locator("#scene-truth .truth").evaluate("truth => truth.setAttribute('data-live', '')")

    # Back to this scene after another edit: the editor opens with it again
    page.locator("#scene [data-edit=close]").click()
    for name in ("How it works", "Compare"):
        page.get_by_role("tab", name=name).click()
    picture = str(page.locator("#picture img").get_attribute("src"))
    let_go = held_back(page, r"\"do\":\"open\"", before=False)
    page.locator("#scene [data-do=open]").click()
    page.locator(SHAPES).first.press("ArrowUp")
    let_go()
    assert scene_of(page) != moved, "the late answer to the click undoes nothing"
    expect(page).not_to_have_url(re.compile(re.escape(moved)))
    for _ in range(2):
        page.go_back()
    expect(page.locator("#picture img")).to_have_attribute("src", picture)
    page.locator("#scene [data-do=open]").click()
    expect(page.locator("#scene .scene.open")).to_have_attribute("data-scene", moved)
    page.locator("#scene [data-do=surprise]").click()
    expect(page.locator("#scene .scene.open")).not_to_have_attribute("data-scene", moved)
    expect(page.locator("#scene-truth .wrong")).to_have_count(1)
    expect(page.locator("#result.stale")).to_have_count(0)
    until_quiet(page, opened.requests)
    assert opened.complaints == []
