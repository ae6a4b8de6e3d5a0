"""What tests of the page have in common: a browser tab on it, and the form of Compare filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.examples import ShownExample, read_examples
from tests.ui.compare_answers import CAPTIONS, MINI

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


@pytest.fixture
def examples(example_assets: Path) -> list[ShownExample]:
    return read_examples(example_assets)


@pytest.fixture
def form(examples: list[ShownExample]) -> Form:
    """What Compare asks of the first example at every fake."""
    return Form(image=str(examples[0].path), captions=list(CAPTIONS), models=list(MINI), timesteps=8, noises=4, seed=0)
