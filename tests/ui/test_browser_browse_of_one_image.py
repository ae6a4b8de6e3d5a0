"""Browse of a run of one image and many captions in a real browser. The scores are drawn, the examples are Mini's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Page, expect

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation.store import RunFolder
from sdsdemo.models import cards
from sdsdemo.settings import Settings, budget
from sdsdemo.types import Evidence, Scores
from tests.conftest import free_port

pytestmark = pytest.mark.browser
COUNT = "#browse-count .count"
SETS = {"orders": "mini-orders", "retrieval": "mini-retrieval"}
EXAMPLES = 6


def store(folder: Path, benchmark: str) -> None:
    """A run with drawn scores; by the first model example 0 is right, and its strongest rival the last caption."""
    examples = read_benchmark(benchmark)[:EXAMPLES]
    run, rng = RunFolder(folder, benchmark, examples, budget(3, 2, 0)), np.random.default_rng(0)
    for model in ("mini-clip", "mini-diffusion"):
        run.enter(model, cards.fingerprint(cards.resolve(model)))
        for place, example in enumerate(examples):
            loss_ICTN = rng.uniform(0.5, 1, (1, len(example.captions), 3, 2)).astype(np.float32)
            if place == 0:
                loss_ICTN[0, 0], loss_ICTN[0, -1] = 0.1, 0.2
            score_IC = -loss_ICTN.astype(np.float64).mean(axis=(2, 3))
            found = Evidence(timestep_T=np.array([100, 500, 900]), loss_ICTN=loss_ICTN, evaluations=6)
            denoising = Scores(kind="denoising", score_IC=score_IC, evidence=found)
            similarity = Scores(kind="similarity", score_IC=score_IC)
            run.add(model, example.id, denoising if model == "mini-diffusion" else similarity)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from sdsdemo.ui.page import build_page, launch_options

    runs = tmp_path_factory.mktemp("runs")
    for name, benchmark in SETS.items():
        store(runs / name, benchmark)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = build_page(Workbench(Settings.from_environment({"SDSDEMO_RUNS": str(runs)})))
        _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
        yield address
        page.close()


def choose(page: Page, field: str, option: str) -> None:
    page.get_by_label(field, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.long
def test_runs_of_either_kind_follow_each_other(page: Page, address: str) -> None:
    page.goto(address + "?tab=browse")
    expect(page.locator(COUNT)).to_have_text("400 of 400")
    page.get_by_role("button", name="More filters").click()
    choose(page, "Metric", "group")
    choose(page, "Run", "runs/orders")
    expect(page.locator(COUNT)).to_have_text(f"{EXAMPLES} of {EXAMPLES}")
    expect(page.get_by_label("Metric")).to_have_value("accuracy")
    expect(page.get_by_label("Failure mode, first model")).to_be_hidden()
    expect(page.locator(".pair-card .c1")).to_have_count(EXAMPLES)
    expect(page.locator(".tallies")).to_contain_text(f"n = {EXAMPLES}")
    expect(page.locator("#browse-charts")).to_contain_text("Accuracy by tag")
    choose(page, "Outcome", "first model right")
    expect(page.locator(COUNT)).to_have_text(re.compile(rf"^[1-{EXAMPLES - 1}] of {EXAMPLES}$"))
    page.locator("#browse-clear").click()
    expect(page.locator(COUNT)).to_have_text(f"{EXAMPLES} of {EXAMPLES}")
    choose(page, "Run", "mini")
    expect(page.locator(COUNT)).to_have_text("400 of 400")
    expect(page.get_by_label("Metric")).to_have_value("text")
    expect(page.get_by_label("Failure mode, first model")).to_be_visible()
    expect(page.locator("#browse-message .message")).to_have_count(0)


def test_an_example_of_many_captions_opens_and_goes_to_compare(page: Page, address: str) -> None:
    captions = read_benchmark("mini-retrieval")[0].captions
    page.goto(address + "?tab=browse&run=runs/retrieval&sort=benchmark")
    page.locator(".pair-card").first.click()
    expect(page.locator(".example")).to_contain_text(f"{len(captions)} captions: 1 true, {len(captions) - 1} rivals")
    expect(page.locator(".example .matrix").first.locator("tr")).to_have_count(9)
    expect(page.locator(".example .matrix .curves")).to_have_count(1)
    page.locator('.example [data-kind="compare"]').click()
    expect(page.locator("#caption-a textarea")).to_have_value(captions[0])
    expect(page.locator("#caption-b textarea")).to_have_value(captions[-1])


@pytest.mark.parametrize("name", SETS)
def test_on_a_phone_no_set_of_captions_is_wider_than_the_screen(page: Page, address: str, name: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{address}?tab=browse&run=runs/{name}")
    page.locator(".pair-card").first.click()
    page.locator(".example .matrix").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
