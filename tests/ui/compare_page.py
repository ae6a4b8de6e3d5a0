"""The Compare tab in a browser, as tests read it and press it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

VERDICTS = "#answer .verdict"


def caption(page: Page, letter: str) -> Locator:
    return page.locator(f"#caption-{letter} textarea")


def press(page: Page, text: str) -> None:
    caption(page, "a").fill(text)
    page.locator("#score").click()
