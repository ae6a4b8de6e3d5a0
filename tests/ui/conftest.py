"""What the browser tests of the page have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def page(open_tab: Callable[..., Page], address: str) -> Iterator[Page]:
    """A tab for the page at `address`, in which no script fails, no answer is an error, and no other host is asked."""
    page = open_tab(address, viewport={"width": 1300, "height": 900})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 500 else None)
    ours = (address, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(ours) else complaints.append(asked.url))
    yield page
    assert not complaints
