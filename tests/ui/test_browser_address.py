"""The page's URL in a real browser: it follows the view, and opens it again after a reload, by Back, and elsewhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Browser, Page, Response, expect

from sdsdemo.app.jobs import Jobs
from sdsdemo.app.sharing import shared_name
from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings
from sdsdemo.ui.run_estimate import RunEstimates
from tests.app.trainer import Trainer
from tests.conftest import WAIT_MS, free_port
from tests.pictures import foreign_pictures
from tests.ui.compare_page import caption

pytestmark = pytest.mark.browser
COUNT = "#browse-count .count"
HEADING = ".example h2"
SAID = "#link-message li"
VIEW = "?tab=browse&against=mini-sds-clip&tag=tag=Noun+inside&outcome=always+right&words=the&sort=best"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from sdsdemo.ui.page import build_page, launch_options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = build_page(Workbench(Settings.from_environment({"SDSDEMO_RUNS": "no-such-folder"})))
        _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
        yield address
        page.close()


@pytest.fixture
def tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Jobs]]:
    """A page with a stand-in for the training, and its runs."""
    from sdsdemo.ui.page import build_page, launch_options

    monkeypatch.setattr(RunEstimates, "_estimated", lambda estimates, recipe: "About a minute.")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    workbench = Workbench(Settings.from_environment({}))
    jobs = Jobs(workbench, root=tmp_path / "runs", runner=Trainer())
    page = build_page(workbench, jobs=jobs)
    _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
    yield address, jobs
    page.close()


def elsewhere(browser: Browser, url: str) -> Page:
    """A link in another browser, which shares nothing with the first."""
    page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    return page


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def choose(page: Page, label: str, option: str | re.Pattern) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option).first.click()


def test_filters_are_in_the_address_and_there_after_a_reload(page: Page, address: str) -> None:
    page.goto(address)
    tab(page, "Browse")
    expect(page.locator(COUNT)).to_have_text("400 of 400")
    expect(page).to_have_url(f"{address}?tab=browse")
    page.locator(".tag-row", has_text="Noun inside").click()
    expect(page).to_have_url(f"{address}?tab=browse&tag=tag=Noun+inside")
    choose(page, "Sort", "clearest mistake first")
    expect(page).to_have_url(f"{address}?tab=browse&tag=tag=Noun+inside&sort=worst")
    page.get_by_role("button", name="More filters").click()
    page.get_by_label("Words in the captions").fill("heart & <b>")
    expect(page).to_have_url(re.compile(r"words=heart\+%26\+%3Cb%3E&sort=worst$"))
    page.get_by_label("Words in the captions").fill("heart")
    expect(page).to_have_url(re.compile(r"words=heart&sort=worst$"))
    expect(page.get_by_role("button", name="More filters")).to_have_attribute("aria-expanded", "true")
    count, first = page.locator(COUNT).inner_text(), page.locator(".pair-card").first.inner_text()
    page.reload()
    expect(page.locator(COUNT)).to_have_text(count)
    expect(page.locator(".pair-card").first).to_have_text(first, use_inner_text=True)
    expect(page.get_by_label("Words in the captions")).to_have_value("heart")
    expect(page.get_by_label("Sort", exact=True)).to_have_value("clearest mistake first")
    expect(page).to_have_url(re.compile(r"words=heart&sort=worst$"))
    page.get_by_role("button", name="Clear all").click()
    expect(page).to_have_url(f"{address}?tab=browse&sort=worst")


@pytest.mark.parametrize("query", ["", "?tab=browse", "?tab=browse&outcome=fixed&gallery=2&example=14"])
def test_browse_is_sent_once_when_it_is_opened(page: Page, address: str, query: str) -> None:
    """A view of Browse has about 200,000 bytes, and may come in parts."""
    large: list[int] = []

    def weigh(answer: Response) -> None:
        size = len(answer.body()) if "/run/" in answer.url else 0
        large.extend([size] if size > 30_000 else [])

    page.on("response", weigh)
    page.goto(address + query)
    tab(page, "Browse")
    page.locator(".pair-card").first.wait_for()
    page.wait_for_timeout(1_500)
    assert 150_000 < sum(large) < 300_000
    once = sum(large)
    tab(page, "How it works")
    tab(page, "Browse")
    page.wait_for_timeout(1_500)
    assert sum(large) == once


def test_back_closes_the_example_and_returns_to_it_from_another_tab(page: Page, address: str) -> None:
    page.goto(f"{address}?tab=browse&outcome=fixed")
    page.locator(".pair-card").nth(1).click()
    heading = page.locator(HEADING).inner_text()
    expect(page).to_have_url(re.compile(r"outcome=fixed&example=\d+$"))
    opened = page.url
    page.keyboard.press("j")
    expect(page.locator(HEADING)).not_to_have_text(heading)
    page.keyboard.press("k")
    expect(page.locator(HEADING)).to_have_text(heading)
    tab(page, "Results")
    expect(page).to_have_url(f"{address}?tab=results")
    page.go_back()
    expect(page.locator(HEADING)).to_be_visible()
    expect(page.locator(HEADING)).to_have_text(heading)
    assert page.url == opened
    page.go_back()
    expect(page.locator(HEADING)).to_have_count(0)
    expect(page).to_have_url(f"{address}?tab=browse&outcome=fixed")
    page.go_forward()
    expect(page.locator(HEADING)).to_have_text(heading)
    page.reload()
    expect(page.locator(HEADING)).to_have_text(heading)
    assert page.url == opened


def test_the_views_of_all_tabs_are_there_after_a_reload_in_another(page: Page, address: str) -> None:
    page.goto(f"{address}?tab=results&result=fresh-31002")
    expect(page.locator("#result-name input")).to_have_value("fresh-31002")
    tab(page, "Browse")
    page.locator(".tag-row", has_text="Noun inside").click()
    expect(page).to_have_url(f"{address}?tab=browse&tag=tag=Noun+inside")
    count = page.locator(COUNT).inner_text()
    tab(page, "How it works")
    expect(page).to_have_url(f"{address}?tab=about")
    page.reload()
    tab(page, "Browse")
    expect(page.locator(COUNT)).to_have_text(count)
    expect(page).to_have_url(f"{address}?tab=browse&tag=tag=Noun+inside")
    tab(page, "Results")
    expect(page.locator("#result-name input")).to_have_value("fresh-31002")
    expect(page).to_have_url(f"{address}?tab=results&result=fresh-31002")


def test_a_link_shows_the_same_browse_view_in_another_browser(page: Page, address: str, browser: Browser) -> None:
    page.goto(address + VIEW)
    page.locator(".pair-card").first.click()
    expect(page).to_have_url(re.compile(r"&example=\d+$"))
    other = elsewhere(browser, page.url)
    for part in (COUNT, HEADING, ".pair-card >> nth=0", "#browse-charts"):
        expect(other.locator(part)).to_have_text(page.locator(part).inner_text(), use_inner_text=True)
    assert other.url == page.url
    expect(other.locator(SAID)).to_have_count(0)
    other.context.close()


@pytest.mark.main_flow
def test_a_link_asks_the_same_question_in_another_browser(page: Page, address: str, browser: Browser) -> None:
    page.goto(address)
    page.locator("#examples button").nth(2).click()
    expect(caption(page, "b")).to_have_value(
        "a purple arrow is above a red square"
    )  # the example's own, from the server
    caption(page, "a").fill("a red square & a purple arrow")
    page.locator("#settings button").first.click()
    page.locator("#seed input").fill("7")
    page.locator("#seed input").press("Tab")
    expect(page).to_have_url(re.compile(r"\?example=a-purple-arrow-is-above-a-red-square&a=a\+red.*%26.*&seed=7$"))
    other = elsewhere(browser, page.url)
    expect(caption(other, "a")).to_have_value("a red square & a purple arrow")
    expect(caption(other, "b")).to_have_value("a purple arrow is above a red square")
    expect(other.locator("#answer .asked")).to_contain_text("a red square & a purple arrow", timeout=2 * WAIT_MS)
    expect(other.locator("#answer .verdict")).to_have_count(3)
    expect(other.locator(SAID)).to_have_count(0)
    assert other.url == page.url
    other.context.close()


def test_an_uploaded_picture_is_never_in_the_address(
    page: Page, address: str, browser: Browser, tmp_path: Path
) -> None:
    foreign_pictures(1, 3)[0].save(tmp_path / "mine.png")
    page.goto(f"{address}?example=a-purple-arrow-is-above-a-red-square&seed=3")
    expect(page.locator("#answer .verdict")).to_have_count(3)
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "mine.png")
    expect(page.locator("#picture img")).to_have_attribute("src", re.compile(r"mine\.png$"))
    caption(page, "a").fill("one")
    expect(page).to_have_url(re.compile(r"\?a=one&b=[^&]+&seed=3$"))
    page.reload()
    expect(page.locator("#picture img")).to_have_attribute("src", re.compile(r"mine\.png$"))
    expect(page.locator(SAID)).to_have_count(0)
    assert "mine" not in page.url
    assert "example" not in page.url
    other = elsewhere(browser, page.url)
    expect(other.locator(SAID)).to_contain_text("never in a link")
    expect(caption(other, "a")).to_have_value("one")
    expect(other.locator("#picture img")).to_have_count(0)
    other.context.close()


@pytest.mark.parametrize(
    ("query", "said", "kept"),
    [
        ("?tab=nowhere&seed=7", "“tab=nowhere” is left out", "?example=this-is-a-blue-arrow-and-an-orange-star&seed=7"),
        ("?models=mini-clip,no-such", "no-such", "&models=mini-clip"),
        ("?timesteps=9999&noises=2", "“timesteps=9999” is left out: Timesteps must be from 1 to 64", "&noises=2"),
        ("?tab=browse&outcome=fixed&example=9999", "this run has no such example", "?tab=browse&outcome=fixed"),
        ("?tab=browse&tag=tag=Nothing&sort=worst", "this run has no such tag", "?tab=browse&sort=worst"),
        ("?tab=browse&gallery=99", "a whole number from 1 to 17", "?tab=browse"),
        ("?tab=browse&run=../../etc&sort=worst", "none of this name", "?tab=browse&sort=worst"),
        ("?tab=results&result=none", "none of this name", "?tab=results"),
        ("?tab=finetune&steps=many&lam=2", "it must be a whole number", "?tab=finetune&lam=2"),
    ],
)
def test_what_a_bad_link_means_is_said_and_the_rest_works(
    page: Page, address: str, query: str, said: str, kept: str
) -> None:
    page.goto(address + query)
    expect(page.locator(SAID).first).to_contain_text(said)
    expect(page).to_have_url(re.compile(re.escape(kept) + "$"))
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(SAID)).to_have_count(0)
    page.reload()
    expect(page.locator(SAID)).to_have_count(0)


def test_a_shared_run_and_its_model_open_in_another_browser(
    tuning: tuple[str, Jobs], browser: Browser, tmp_path: Path
) -> None:
    address, jobs = tuning
    owner = elsewhere(browser, f"{address}?tab=finetune&steps=60")
    owner.locator("#ft-start").click()
    expect(owner.locator(".run-status .state")).to_have_text("Finished")
    expect(owner).to_have_url(re.compile(r"\?tab=finetune&steps=60&run=tuned:[\w-]{22}$"))
    (id_,) = jobs.ids
    assert id_ not in owner.url

    friend = elsewhere(browser, owner.url)
    expect(friend.locator(SAID)).to_contain_text("a run that its owner started")
    expect(friend.locator(".run-status .state")).to_have_text("Finished")
    friend.locator("#ft-advanced button").first.click()
    expect(friend.locator("#ft-steps input")).to_have_value("60")
    expect(friend.get_by_role("button", name="Use in Compare")).to_be_hidden()
    expect(friend.get_by_role("button", name="Train further")).to_be_hidden()
    expect(friend.locator("#ft-stop")).to_be_disabled()
    friend.context.close()

    owner.get_by_role("button", name="Use in Compare").click()
    expect(owner).to_have_url(re.compile(r"models=mini-clip,tuned:[\w-]{22}$"))
    link = owner.url
    owner.reload()
    owner.locator("#settings button").first.click()
    expect(owner.locator("#model-2 input")).to_have_value("Tuned here: preference, 60 steps")
    expect(owner).to_have_url(link)
    expect(owner.locator(SAID)).to_have_count(0)
    owner.context.close()
    friend = elsewhere(browser, link)
    expect(friend.locator(SAID)).to_contain_text(
        "a model that its owner tuned here: “Tuned here: preference, 60 steps”"
    )
    expect(friend.locator("#answer")).to_contain_text("Tuned here: preference, 60 steps")
    friend.context.close()

    shutil.rmtree(jobs.root / id_)
    jobs._runs.clear()
    jobs.workbench.forget(shared_name(id_))
    friend = elsewhere(browser, link)
    expect(friend.locator(SAID)).to_contain_text("is no longer on this server")
    expect(friend.locator("#answer .verdict")).to_have_count(1, timeout=2 * WAIT_MS)
    friend.context.close()


def test_the_theme_of_a_link_stays_in_the_address(page: Page, address: str) -> None:
    page.goto(f"{address}?__theme=dark&tab=browse&sort=worst")
    page.locator(".pair-card").first.click()
    expect(page).to_have_url(re.compile(r"\?tab=browse&sort=worst&example=\d+&__theme=dark$"))
