"""Fixtures that several test files share: example pictures, a page served with fakes, and a real browser on it."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from PIL import Image, ImageDraw

from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings
from tests.fakes import fake_scorer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

gc.set_threshold(20_000, 20, 10)  # the libraries of models make a million objects, and none of them is garbage

CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--process-per-site",  # pages of one context share a process, and so what it has compiled
)  # fmt: skip
WAIT_MS = 30_000
LEAVING = "the browser leaves this document"
CUT_BY_LEAVING = ("AbortError", "Connection errored out")
"""What Gradio prints when it closes its stream because the browser leaves the document."""
EXAMPLES = (
    ("red-blue", "red", "blue", ("a red square left of a blue square", "a blue square left of a red square"), 0),
    ("green-red", "green", "red", ("a red square left of a green square", "a green square left of a red square"), 1),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, then those in a browser; of these, a file stays with one worker, which serves its page once.

    A test in a browser is slow, unless it is of a main flow.
    """
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
            if not item.get_closest_marker("main_flow"):
                item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, item.get_closest_marker("browser") is None))


def pytest_collection_finish() -> None:
    """What was imported is looked through for garbage no more."""
    gc.freeze()


def fake_workbench(**environment: str) -> Workbench:
    """A workbench on the shipped cards whose models are fakes."""
    return Workbench(Settings.from_environment(environment), opener=fake_scorer)


@pytest.fixture(scope="session", autouse=True)
def _uploads_of_these_tests_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gradio's own folder for uploads is one for all users of a machine, and may be another's."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))


@pytest.fixture(scope="session")
def example_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `assets/` with two example pictures and their list."""
    assets = tmp_path_factory.mktemp("assets")
    (assets / "mini" / "examples").mkdir(parents=True)
    listing = []
    for name, left, right, captions, true in EXAMPLES:
        path = f"mini/examples/{name}.png"
        _two_squares(left, right).save(assets / path)
        listing.append({"image": path, "captions": captions, "true": true, "title": f"{left} and {right}"})
    (assets / "mini" / "examples.json").write_text(json.dumps(listing))
    return assets


@dataclass
class Served:
    """A page that is being served."""

    address: str
    workbench: Workbench
    assets: Path


@pytest.fixture(scope="session")
def served(example_assets: Path) -> Iterator[Served]:
    """The whole page on a free port, with fakes, example pictures and a stored opening answer."""
    from sdsdemo.ui.opening import write_opening
    from sdsdemo.ui.page import build_page, launch_options

    workbench = fake_workbench()
    write_opening(workbench, example_assets)
    page = build_page(workbench, assets=example_assets)
    options = launch_options("127.0.0.1", free_port())
    options["allowed_paths"].append(str(example_assets))
    _, address, _ = page.launch(**options, quiet=True, prevent_thread_lock=True)
    yield Served(address, workbench, example_assets)
    page.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium. Where there is none: a failure in CI, elsewhere a skip that says why."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        _no_browser("playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        _no_browser("no Chromium was found")
    expect.set_options(timeout=WAIT_MS)  # a busy machine is slow, which is no fault of the page
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=list(CHROMIUM_FLAGS))
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A browser page on the served page, with what it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    leaving: bool = False
    """From when the browser leaves a document until it has read the next."""

    def complain(self, text: str) -> None:
        """Keep it, unless it says that Gradio cut its stream because the browser leaves the document."""
        if not (self.leaving and any(words in text for words in CUT_BY_LEAVING)):
            self.complaints.append(text)

    def heard(self, line: ConsoleMessage) -> None:
        """Keep an error in the console; learn that the browser leaves the document."""
        if line.text == LEAVING:
            self.leaving = True
        elif line.type == "error":
            self.complain(line.text)

    def arrived(self) -> None:
        self.leaving = False


@pytest.fixture(scope="session")
def contexts(browser: Browser) -> Iterator[dict[str, BrowserContext]]:
    """One browser context for each set of options, so that scripts are fetched and compiled once."""
    made: dict[str, BrowserContext] = {}
    yield made
    for context in made.values():
        context.close()


@pytest.fixture
def open_tab(browser: Browser, contexts: dict[str, BrowserContext]) -> Iterator[Callable[..., Page]]:
    """Opens an empty browser tab: `open_tab(address, **context options)`. Every tab is closed afterwards."""
    pages = []

    def open_one(address: str, **options: Any) -> Page:
        window, scheme = options.pop("viewport", None), options.pop("color_scheme", None)  # these need no other context
        key = f"{address} {options}"
        if key not in contexts:
            contexts[key] = browser.new_context(**options)
            contexts[key].set_default_timeout(WAIT_MS)
            contexts[key].new_page().goto(f"{address.rstrip('/')}/manifest.json")  # it keeps the shared process alive
        page = contexts[key].new_page()
        page.emulate_media(color_scheme=scheme)
        if window is not None:
            page.set_viewport_size(window)
        pages.append(page)
        return page

    yield open_one
    for page in pages:
        page.close()


@pytest.fixture
def visit(served: Served, open_tab: Callable[..., Page]) -> Callable[..., Visit]:
    """Opens the page, until the view that its URL asks for is here: `visit(query="", **context options)`."""

    def open_page(query: str = "", **options: Any) -> Visit:
        visit = Visit(open_tab(served.address, **options))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.add_init_script(f"addEventListener('beforeunload', () => console.info('{LEAVING}'))")
        visit.page.on("domcontentloaded", lambda _: visit.arrived())
        visit.page.on("pageerror", lambda error: visit.complain(str(error)))
        visit.page.on("console", visit.heard)
        visit.page.goto(served.address + query)
        visit.page.locator("#tabs").wait_for()
        visit.page.wait_for_function("window.sdsdemoAddress && !sdsdemoAddress.isWaiting()")
        return visit

    return open_page


def _no_browser(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must run the browser tests")
    pytest.skip(f"{reason}: the browser tests need Chromium and requirements-dev.txt")


def free_port() -> int:
    """Below the ports that systems give to outgoing connections, one of which could take it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def _two_squares(left: str, right: str) -> Image.Image:
    image = Image.new("RGB", (320, 320), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 110, 140, 210), fill=left)
    draw.rectangle((180, 110, 280, 210), fill=right)
    return image
