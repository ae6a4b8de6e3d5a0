"""Fine-tuning in a real browser: a real run of the shipped models, stopped, or cut by the server's death; reload in
mid-run; two visitors at once.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Browser, Page, expect

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.objective_words import OBJECTIVE_NAMES
from sdsdemo.finetuning.recipe import NAMES, PRESETS
from sdsdemo.settings import Settings
from sdsdemo.ui.finetune_html import NOTHING, STATES
from sdsdemo.ui.run_estimate import RunEstimates
from tests import forks
from tests.app.trainer import Trainer
from tests.conftest import WAIT_MS, free_port
from tests.late import asked_by, held_back, listen_to, until_said
from tests.ui.accessibility import faults

pytestmark = pytest.mark.browser
STATE = ".run-status .state"
LONG = 3 * WAIT_MS
SHORT = {"batch": "16", "fitted_on": "64", "measure_every": "40"}
"""Settings of a run of 40 steps that takes a few seconds."""


def serve(tmp: Path, jobs: Jobs, workbench: Workbench) -> Iterator[str]:
    from sdsdemo.ui.page import build_page, launch_options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp / "gradio"))
        page = build_page(workbench, jobs=jobs)
        _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
        yield address
        page.close()


@dataclass
class Staged:
    """A page with a stand-in for the training itself."""

    address: str
    trainer: Trainer
    jobs: Jobs


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    """One page for all visitors of this file; it estimates nothing."""
    tmp, workbench, trainer = tmp_path_factory.mktemp("staged"), Workbench(Settings.from_environment({})), Trainer()
    jobs, estimated = Jobs(workbench, root=tmp / "runs", runner=trainer), RunEstimates._estimated
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            RunEstimates,
            "_estimated",
            lambda tab, recipe: "About a minute." if tab.jobs is jobs else estimated(tab, recipe),
        )
        for address in serve(tmp, jobs, workbench):
            yield Staged(address, trainer, jobs)


@pytest.fixture
def staged(shared: Staged) -> Iterator[str]:
    """The address of that page while nothing is trained; no run outlives its test."""
    until_idle(shared)
    yield shared.address
    until_idle(shared)


def until_idle(shared: Staged) -> None:
    shared.trainer.go.set()
    deadline = time.monotonic() + LONG / 1000
    while shared.jobs.is_busy:
        assert time.monotonic() < deadline, "a run outlives its test"
        time.sleep(0.01)


@pytest.fixture
def trainer(shared: Staged) -> Trainer:
    """Trains at once, until a test clears `go`."""
    return shared.trainer


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page with real models, real training and real sets, of few examples."""
    monkeypatch.setattr(before_after, "ZERO_SHOT", 6)
    monkeypatch.setattr(before_after, "RETRIEVAL", (1, 5))
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(tmp_path)}))
    yield from serve(tmp_path, Jobs(workbench, root=tmp_path / "runs"), workbench)


WINDOW: dict[str, Any] = {"viewport": {"width": 1300, "height": 900}}


QUICK = "preset=quick"


def visitor(browser: Browser, address: str, recipe: str = QUICK) -> Page:
    """Another visitor, with a browser of their own."""
    page = browser.new_context(**WINDOW).new_page()
    page.set_default_timeout(WAIT_MS)
    return at_the_form(page, address, recipe)


def at_the_form(page: Page, address: str, recipe: str = QUICK) -> Page:
    page.goto(f"{address}?tab=finetune&{recipe}")
    page.locator("#ft-start").wait_for()
    expect(page.locator("#ft-preset input")).to_have_value(re.compile("^quick:"))
    return page


@pytest.fixture
def page(staged: str, open_tab: Callable[..., Page]) -> Page:
    """The staged page in a browser that has what it needs of earlier visits, but no run."""
    page = open_tab(staged, **WINDOW)
    page.goto(f"{staged.rstrip('/')}/manifest.json")
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    return at_the_form(page, staged)


@pytest.mark.long
def test_a_race_grows_is_stopped_and_kept_and_its_model_answers(browser: Browser, real: str) -> None:
    page = visitor(browser, real, f"{QUICK}&objective=labels&steps=2000&measure_every=3")
    marks, ticks = page.locator(".race-plot .mark.own"), page.locator(".laps").first.locator("li")
    expect(page.locator(".race-plot .lane")).to_have_count(len(NAMES))
    expect(ticks).to_have_count(1)
    page.locator("#ft-start").click()
    expect(page.locator(STATE)).to_have_text("Training", timeout=LONG)
    expect(marks.nth(1)).to_be_visible(timeout=LONG)
    assert faults(page) == [], "with a run going"
    page.emulate_media(color_scheme="dark")
    page.reload()
    expect(marks.nth(2)).to_be_visible(timeout=LONG)
    assert faults(page, ["color-contrast"]) == [], "in dark"
    expect(ticks.nth(2)).to_be_visible()
    expect(page.locator("#ft-said")).to_contain_text(re.compile(r"step \d+ of 2,000. Text score \d"))
    page.locator("#ft-stop").click()
    expect(page.locator(STATE)).to_have_text(STATES["stopped"], timeout=LONG)
    expect(page.locator("#ft-result")).to_contain_text(re.compile("95 % interval|stopped before"))
    expect(page.locator("#ft-start")).to_be_enabled()
    with page.expect_download() as download:
        page.get_by_role("link", name="Weights (.safetensors)").click()
    assert download.value.suggested_filename == "model.safetensors"
    page.get_by_role("button", name="Use in Compare").click()
    expect(page.locator("#answer")).to_contain_text("Tuned here: labels", timeout=LONG)
    expect(page.locator("#answer")).to_contain_text("Mini CLIP")
    page.context.close()


@pytest.mark.main_flow
def test_a_run_survives_a_reload_and_is_private(browser: Browser, staged: str, trainer: Trainer) -> None:
    trainer.go.clear()
    first = visitor(browser, staged)
    first.locator("#ft-start").click()
    expect(first.locator(STATE)).to_have_text("Preparing")
    first.reload()
    first.locator("#ft-start").wait_for()
    expect(first.locator(STATE)).to_have_text("Preparing")
    expect(first.locator("#ft-start")).to_be_disabled()

    second = visitor(browser, staged)
    expect(second.locator("#ft-status")).to_contain_text(NOTHING)
    second.locator("#ft-start").click()
    expect(second.locator(STATE)).to_have_text("Waiting")
    expect(second.locator(".run-status")).to_contain_text("1 ahead of you")
    expect(second.locator(".run-status")).not_to_contain_text("<note>")

    trainer.go.set()
    for page in (first, second):
        expect(page.locator(STATE)).to_have_text("Finished", timeout=LONG)
        expect(page.locator(".run-curve").first).to_be_visible()
        page.context.close()


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
def test_a_late_stop_says_nothing_of_a_run_that_is_over(page: Page, trainer: Trainer, before: bool) -> None:
    trainer.go.clear()
    page.locator("#ft-start").click()
    expect(page.locator("#ft-stop")).to_be_enabled()
    let_go = held_back(page, asked_by(page, "ft-stop"), before=before)
    page.locator("#ft-stop").click()
    trainer.go.set()
    expect(page.locator("#ft-start")).to_be_enabled(timeout=LONG)
    let_go()
    expect(page.locator("#ft-stop")).to_have_text("Stop and save")
    expect(page.locator("#ft-stop")).to_be_disabled()


def test_a_model_that_cannot_be_scored_is_said_until_the_next_press(
    page: Page, shared: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(id_: str) -> tuple[str, Path]:
        raise UserError("The disk is full.")

    page.locator("#ft-start").click()
    expect(page.locator(STATE)).to_have_text("Finished", timeout=LONG)
    monkeypatch.setattr(shared.jobs, "evaluated", fails)
    for where in ("Browse", "Results"):
        page.get_by_role("button", name=f"Use in {where}").click()
        expect(page.get_by_text("The disk is full.").first).to_be_visible()
        expect(page.locator("#ft-message [role=alert]")).to_contain_text("was not scored with your model")
        expect(page.locator("#ft-message")).not_to_contain_text("takes a few seconds")


def test_a_bad_setting_is_a_sentence_and_the_form_keeps_its_values(page: Page) -> None:
    page.locator("#ft-advanced button").first.click()
    page.locator("#ft-lam input").fill("-1")
    page.locator("#ft-start").click()
    expect(page.locator("#ft-message")).to_contain_text("“Lambda” must be from 0")
    expect(page.locator("#ft-lam input")).to_have_value("-1")
    expect(page.locator("#ft-start")).to_be_enabled()


def test_a_preset_fills_the_form(page: Page) -> None:
    page.locator("#ft-advanced button").first.click()
    page.locator("#ft-preset input").click()
    page.get_by_role("option", name=re.compile("^mini:")).click()
    expect(page.locator("#ft-lam input")).to_have_value("10")
    expect(page.locator("#ft-steps input")).to_have_value(str(PRESETS["mini"].steps))


def test_a_command_is_copied_without_https_from_a_fold_that_stays_open(page: Page) -> None:
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("addEventListener('copy', ({target}) => { window.copied = target.value })")
    fold = page.locator(".elsewhere")
    fold.locator("summary").click()
    command = fold.locator(".command").nth(1)
    before = command.inner_text()
    page.locator("#ft-advanced button").first.click()
    page.locator("#ft-steps input").fill("123")
    page.locator("#ft-steps input").press("Tab")
    expect(command).to_contain_text("123")
    assert command.inner_text() != before
    expect(fold).to_have_attribute("open", "")
    button = fold.get_by_role("button", name="Copy the commands for two GPUs")
    listen_to(button)
    button.click()
    until_said(page, "Copied the commands for two GPUs")
    assert page.evaluate("window.copied") == command.text_content()
    expect(button).to_be_visible()


def test_hidden_settings_of_other_objectives_keep_their_values(page: Page) -> None:
    page.locator("#ft-advanced button").first.click()
    page.locator("#ft-fitted_on input").fill("128")
    for objective, seen in {"preference": (False, True), "clip": (False, False), "sds": (True, False)}.items():
        page.get_by_role("radio", name=OBJECTIVE_NAMES[objective]).check()
        for group, is_seen in zip(("#ft-in-loop", "#ft-asked"), seen, strict=True):
            expect(page.locator(group)).to_be_visible(visible=is_seen)
    expect(page.locator("#ft-fitted_on input")).to_have_value("128")


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator("#ft-advanced button").first.click()
    page.locator("#ft-start").click()
    expect(page.locator(STATE)).to_have_text("Finished", timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


class Server:
    """The app in a process of its own, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.cache, self._port = folder / "cache", free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._environment = {"SDSDEMO_CACHE": str(self.cache), "GRADIO_TEMP_DIR": str(folder / "gradio")}
        self._said = folder / "server.txt"
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        command = ("tests.app_of_short_runs", "--port", str(self._port))
        self._process = forks.started(forks.run_module, *command, out=self._said, env=self._environment)
        deadline = time.monotonic() + LONG / 1000
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.2)
        raise AssertionError("the server does not answer")

    def kept_steps(self) -> int:
        """The steps that a run could continue from now: a curve needs two."""
        kept = [json.loads(file.read_text()) for file in self.cache.glob("page-runs/*/run.json")]
        return max((int(record.get("steps_done") or 0) for record in kept), default=0)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.long
def test_a_run_that_the_server_s_death_cut_is_resumed_to_its_end(browser: Browser, server: Server) -> None:
    page = visitor(browser, server.address)
    page.locator("#ft-advanced button").first.click()
    for name, value in SHORT.items():
        page.locator(f"#ft-{name} input").fill(value)
    page.locator("#ft-start").click()
    expect(page.locator(STATE)).to_have_text("Training", timeout=LONG)
    deadline = time.monotonic() + LONG / 1000
    while server.kept_steps() < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    server.kill()
    server.start()
    expect(page.locator(STATE), "the page comes back by itself").to_have_text("Interrupted", timeout=LONG)
    status = page.locator(".run-status")
    expect(status).to_contain_text(re.compile(r"at step \d+ of 40"))
    expect(status).to_contain_text(re.compile(r"continues from step ([1-9]|[1-3]\d)\b"))
    expect(page.locator("#ft-losses .run-curve")).to_be_visible()
    expect(page.locator("#ft-start")).to_be_enabled()
    page.locator("#ft-resume").click()
    expect(page.locator(STATE)).to_have_text("Finished", timeout=LONG)
    expect(status).to_contain_text("step 40 of 40")
    expect(page.locator("#ft-result")).to_contain_text("95 % interval")
    expect(page.locator("#ft-resume")).to_have_text("Train further")
    expect(page.locator("#ft-steps-in-all input")).to_have_value("80")
    page.context.close()
