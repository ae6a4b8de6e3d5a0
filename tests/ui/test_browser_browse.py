"""Browse and Results in a real browser, on the shipped Mini run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the browser tests need requirements-dev.txt")
from playwright.sync_api import Page, expect

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.mini.benchmarks import SWAPS
from sdsdemo.evaluation.store import read_run
from sdsdemo.models.cards import all_cards
from sdsdemo.settings import ASSETS, Settings
from tests.conftest import WAIT_MS, free_port
from tests.late import held_back

pytestmark = pytest.mark.browser
COUNT = "#browse-count .count"
OTHER_RESULT = "fresh-31001"
OPEN = "#browse .example"
EVENT = '"event_data":{{"value":"{}"'
INSIDE = SWAPS["inside"].share


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from sdsdemo.ui.page import build_page, launch_options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = build_page(Workbench(Settings.from_environment({"SDSDEMO_RUNS": "no-such-folder"})))
        _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
        yield address
        page.close()


def browse(page: Page, address: str, query: str = "?tab=browse&sort=benchmark") -> None:
    page.goto(address + query)
    page.locator(".pair-card").first.wait_for()


def test_a_bar_filters_the_gallery_and_clear_brings_everything_back(page: Page, address: str) -> None:
    browse(page, address)
    expect(page.locator(COUNT)).to_have_text("400 of 400")
    page.locator(".tag-row", has_text="Noun inside").click()
    expect(page.locator(COUNT)).to_have_text(f"{INSIDE} of 400")
    page.locator(".way", has_text="only Mini diffusion right").click()
    expect(page.locator(COUNT)).not_to_have_text(f"{INSIDE} of 400")
    expect(page.locator(COUNT)).to_have_text(re.compile(r"^\d+ of 400$"))
    page.locator(".filter-line").get_by_role("button", name="Clear all").click()
    expect(page.locator(COUNT)).to_have_text("400 of 400")


def test_the_failure_categories_of_mini_filter_the_gallery(page: Page, address: str) -> None:
    browse(page, address)
    page.get_by_role("button", name="More filters").click()
    page.get_by_label("Failure category").click()
    page.get_by_role("option", name="small object").click()
    small = sum(recipe.categories.get("small object", 0) for recipe in SWAPS.values())
    expect(page.locator(COUNT)).to_have_text(f"{small} of 400")


def test_an_example_opens_with_all_models_and_j_and_k_step_through(page: Page, address: str) -> None:
    browse(page, address)
    page.locator(".pair-card").nth(2).click()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "2")
    expect(page.locator(".example .matrix")).to_have_count(len(read_run(ASSETS / "mini" / "runs" / "mini").models))
    page.keyboard.press("j")
    expect(page.locator(OPEN)).to_have_attribute("data-id", "3")
    page.keyboard.press("k")
    expect(page.locator(OPEN)).to_have_attribute("data-id", "2")
    page.get_by_role("button", name="More filters").click()
    page.get_by_label("Words in the captions").click()
    page.keyboard.type("jk")  # typed, not stepped
    expect(page.locator(COUNT)).to_have_text("0 of 400")
    expect(page.locator(OPEN)).to_have_attribute("data-id", "2")
    page.locator(".empty-view button").click()
    expect(page.locator(COUNT)).to_have_text("400 of 400")


def test_on_a_slow_network_the_last_click_counts(page: Page, address: str) -> None:
    browse(page, address)
    page.route("**/gradio_api/run/**", lambda route: (page.wait_for_timeout(1_000), route.continue_()))
    page.locator(".pair-card").nth(2).click()
    page.locator(".pair-card").nth(4).click()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "4")
    page.unroute_all(behavior="wait")


def test_a_link_opens_the_same_example_and_a_dot_opens_its_own(page: Page, address: str) -> None:
    browse(page, address, "?tab=browse&run=mini&example=17&model=mini-sds-clip&against=mini-clip")
    expect(page.locator(OPEN)).to_have_attribute("data-id", "17")
    expect(page.locator("#browse-scatter h2")).to_contain_text(re.compile("Mini SDS-CLIP against .*Mini CLIP"))
    link = page.locator(".example [data-link]").get_attribute("data-link")
    assert link is not None
    assert "example=17" in link
    page.locator('.scatter circle[data-pick="5"]').dispatch_event("click", {"bubbles": True})
    expect(page.locator(OPEN)).to_have_attribute("data-id", "5")


@pytest.mark.main_flow
def test_an_example_goes_to_compare_and_is_scored_there(page: Page, address: str) -> None:
    browse(page, address, "?tab=browse&example=17")
    page.locator(".example").wait_for()
    caption = page.locator(".example figcaption").first.inner_text().removeprefix("A").strip()
    page.locator('[data-kind="compare"]').nth(0).click()
    expect(page.locator("#caption-a textarea")).to_have_value(caption)
    expect(page.locator("#answer .asked")).to_contain_text(caption, timeout=2 * WAIT_MS)
    expect(page.locator("#answer .verdict")).to_have_count(3, timeout=2 * WAIT_MS)


def test_a_picture_that_does_not_open_is_said_and_scores_nothing(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#answer .verdict")).to_have_count(3)
    page.get_by_role("tab", name="Browse").click()
    page.locator(".pair-card").first.click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/queue/join" in request.url else None)
    page.locator('[data-kind="compare"]').first.evaluate("button => button.dataset.pick = '7'")
    page.locator('[data-kind="compare"]').first.click()
    expect(page.locator("#browse-message [role=alert]")).to_contain_text("no such picture")
    expect(page.locator("#browse-message [role=alert]")).to_be_in_viewport()
    page.wait_for_timeout(500)
    assert asked == []


def test_back_from_compare_returns_to_the_example(page: Page, address: str) -> None:
    browse(page, address, "?tab=browse&example=17")
    page.locator(".example").wait_for()
    page.locator('[data-kind="compare"]').nth(0).click()
    expect(page.locator("#score")).to_be_visible()
    page.go_back()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "17")
    assert "tab=browse" in page.url


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Over the plot, in shares of its width and height."""
    plane = page.locator(".scatter .plane").bounding_box() or pytest.fail("there is no plot")
    ends = [(plane["x"] + x * plane["width"], plane["y"] + y * plane["height"]) for x, y in (start, end)]
    page.mouse.move(*ends[0])
    page.mouse.down()
    page.mouse.move(*ends[1], steps=3)
    page.mouse.up()


@pytest.mark.main_flow
def test_a_visitor_filters_brushes_opens_an_example_and_goes_back(page: Page, address: str) -> None:
    browse(page, address, "?tab=browse")
    view = page.locator('.saved-views [data-pick="fixed"]')
    held = view.locator("b").inner_text()
    view.click()
    expect(page.locator(COUNT)).to_have_text(f"{held} of 400")
    expect(page).to_have_url(f"{address}?tab=browse&outcome=fixed")
    drag(page, (0, 0), (1, 1))  # everything, so no range
    expect(page.locator(".scatter .brush")).not_to_have_attribute("width", re.compile("."))
    expect(page).to_have_url(f"{address}?tab=browse&outcome=fixed")
    drag(page, (0.05, 0.3), (0.5, 0.9))
    expect(page).to_have_url(re.compile(r"outcome=fixed&margins=[-0-9.]+:[-0-9.]+,[-0-9.]+:[-0-9.]+$"))
    brushed, url = page.locator(COUNT).inner_text(), page.url
    assert 0 < int(brushed.split()[0]) < int(held)
    page.mouse.wheel(0, 300)
    page.wait_for_function("window.scrollY > 200")
    scrolled = page.evaluate("window.scrollY")
    card = page.locator(".pair-card").nth(4)
    opened = card.get_attribute("data-pick") or ""
    card.click()
    expect(page.locator(OPEN)).to_have_attribute("data-id", opened)
    expect(page.locator(".example h2")).to_have_text(f"Example 5 of {brushed.split()[0]}")
    expect(page.locator(".example h2")).to_be_focused()
    page.mouse.wheel(0, 500)
    expect(page.locator(".example h2")).to_be_in_viewport()
    page.go_back()
    expect(page.locator(OPEN)).to_have_count(0)
    assert page.url == url
    expect(page.locator(COUNT)).to_have_text(brushed)
    expect(page.locator(f'.pair-card[data-pick="{opened}"]')).to_be_focused()
    assert abs(page.evaluate("window.scrollY") - scrolled) < 2
    page.reload()
    expect(page.locator(COUNT)).to_have_text(brushed)
    page.get_by_role("button", name="margins").click()
    expect(page.locator(COUNT)).to_have_text(f"{held} of 400")


def test_browse_is_used_by_keyboard_alone(page: Page, address: str) -> None:
    browse(page, address, "?tab=browse")
    page.get_by_label("Run", exact=True).focus()
    for _ in range(3):
        page.keyboard.press("Tab")
        expect(page.get_by_role("listbox")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.get_by_role("listbox")).to_have_count(0)
    page.locator(".ranges summary").press("Enter")
    page.locator(".ranges input").first.fill("0")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}?tab=browse&margins=0:,:")
    expect(page.locator(".ranges input").first).to_be_focused()
    card = page.locator(".pair-card").nth(3)
    opened = card.get_attribute("data-pick") or ""
    card.press("Enter")
    expect(page.locator(OPEN)).to_have_attribute("data-id", opened)
    page.keyboard.press("j")
    expect(page.locator(OPEN)).not_to_have_attribute("data-id", opened)
    page.keyboard.press("k")
    expect(page.locator(OPEN)).to_have_attribute("data-id", opened)
    page.keyboard.press("j")
    expect(page.locator(OPEN)).not_to_have_attribute("data-id", opened)
    closed = page.locator(OPEN).get_attribute("data-id")
    page.keyboard.press("Escape")
    expect(page.locator(OPEN)).to_have_count(0)
    expect(page.locator(f'.pair-card[data-pick="{closed}"]')).to_be_focused()


def test_results_show_the_shipped_run_with_downloads(page: Page, address: str) -> None:
    page.goto(address + "?tab=results")
    expect(page.locator("#result-shown")).to_contain_text("n = 400", timeout=WAIT_MS)
    expect(page.locator("#result-shown details table").first).to_contain_text("95.8")
    for ending in ("csv", "json", "png", "svg"):
        with page.expect_download() as download:
            page.locator(f'#result-shown a[download$=".{ending}"]').click()
        assert Path(download.value.path()).stat().st_size > 1_000


def test_from_how_it_works_to_results_to_a_count_s_examples_and_back(page: Page, address: str) -> None:
    page.goto(address + "?tab=about")
    panel, cards = page.locator("#about .denoising"), page.locator("#about .cards article:visible")
    expect(page.locator("#about .find-models output")).to_have_text(f"{len(all_cards())} models")
    page.get_by_label("Find a model").fill("creativeml nosuch")
    expect(page.locator("#about .find-models output")).to_have_text(f"0 of {len(all_cards())} models: try fewer words")
    page.get_by_label("Find a model").fill("CreativeML stable")
    wanted = [card for card in all_cards().values() if "CreativeML" in card.licence and "Stable" in card.title]
    expect(cards).to_have_count(len(wanted))
    page.keyboard.press("Escape")
    expect(cards).to_have_count(len(all_cards()))
    before = panel.get_attribute("style")
    page.locator("#about input[type=range]").press("ArrowRight")
    expect(panel).not_to_have_attribute("style", before or "")
    page.locator("#about .steps").get_by_role("link", name="Results").last.click()
    expect(page).to_have_url(address + "?tab=results")
    page.get_by_role("radio", name="image score").check()
    count = page.locator(".against a:visible").nth(12)
    words = count.inner_text()
    page.evaluate("window.stays = true")
    count.focus()
    page.keyboard.press("Enter")
    expect(page.locator(COUNT)).to_have_text(f"{words} of 400")
    expect(page).to_have_url(re.compile(r"tab=browse&model=.*&metric=image&outcome=broken$"))
    page.go_back()
    expect(page.locator(".against:visible")).to_have_count(1)
    expect(page).to_have_url(address + "?tab=results")
    assert page.evaluate("window.stays")


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for query in ("?tab=browse&example=17", "?tab=results"):
        page.goto(address + query)
        page.locator(".example, #result-shown table").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_shows_through_an_example_that_lies_over_the_list(page: Page, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(address + "?tab=browse&example=17")
    page.locator(".example").wait_for()
    above = """() => {
        const panel = document.querySelector(".example"), {left, right, top, bottom} = panel.getBoundingClientRect();
        const found = [], end = Math.min(bottom, innerHeight) - 8;
        for (let x = left + 8; x < right - 8; x += 12) for (let y = top + 8; y < end; y += 6) {
            const hit = document.elementFromPoint(x, y);
            if (!panel.contains(hit)) found.push(hit.outerHTML.slice(0, 80));
        }
        return found;
    }"""
    assert page.evaluate(above) == []


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
def test_a_late_one_never_replaces_a_newer_example(page: Page, address: str, before: bool) -> None:
    browse(page, address)
    let_go = held_back(page, EVENT.format("example"), before=before)
    page.locator(".pair-card").nth(2).click()
    page.locator(".pair-card").nth(4).click()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "4")
    let_go()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "4")
    page.locator('[data-kind="move"][data-pick="1"]').click()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "5")


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
def test_a_late_one_never_replaces_a_newer_filter(page: Page, address: str, before: bool) -> None:
    browse(page, address)
    let_go = held_back(page, EVENT.format("tag"), before=before)
    row = page.locator(".tag-row").nth(1)
    shown = f"{row.locator('.name small').inner_text().removeprefix('n = ')} of 400"
    page.locator(".tag-row").nth(0).click()
    row.click()
    expect(row).to_have_attribute("aria-pressed", "true")
    expect(page.locator(COUNT)).to_have_text(shown)
    let_go()
    expect(row).to_have_attribute("aria-pressed", "true")
    expect(page.locator(COUNT)).to_have_text(shown)


def choose(page: Page, name: str) -> None:
    field = page.locator("#result-name input")
    field.click()
    field.fill(name)  # and not by a click: the list may open beyond the window while the page still grows
    expect(page.get_by_role("option", name=name, exact=True)).to_be_attached()
    field.press("Enter")
    expect(field).to_have_value(name)


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
def test_opening_results_never_undoes_a_choice_made_since(page: Page, address: str, before: bool) -> None:
    page.goto(address)
    let_go = held_back(page, '"value":"Results"', before=before)
    page.get_by_role("tab", name="Results").click()
    expect(page.locator(".claim figure.cost")).to_be_visible()  # from here on nothing above the list moves it
    choose(page, OTHER_RESULT)
    expect(page.locator("#result-shown table").first).to_be_visible()
    shown = page.locator("#result-shown .results").inner_text()
    let_go()
    expect(page.locator("#result-name input")).to_have_value(OTHER_RESULT)
    expect(page.locator("#result-shown .results")).to_have_text(shown, use_inner_text=True)
    page.locator("#result-overview summary").click()
    expect(page.locator("#result-overview table").first).to_be_visible()


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
def test_of_two_results_the_one_chosen_last_is_shown(page: Page, address: str, before: bool) -> None:
    page.goto(address + "?tab=results")
    expect(page.locator("#result-shown")).to_contain_text("n = 400")
    shown = page.locator("#result-shown .results").inner_text()
    let_go = held_back(page, f'"data":["{OTHER_RESULT}"]', before=before)
    choose(page, OTHER_RESULT)
    choose(page, "mini")
    let_go()
    expect(page.locator("#result-name input")).to_have_value("mini")
    expect(page.locator("#result-shown .results")).to_have_text(shown, use_inner_text=True)


@pytest.mark.parametrize("before", [False, True], ids=["answer", "request"])
@pytest.mark.parametrize("was_open", [True, False], ids=["another open", "none open"])
def test_a_change_of_filters_meanwhile_never_undoes_a_click(
    page: Page, address: str, before: bool, was_open: bool
) -> None:
    browse(page, address)
    if was_open:
        page.locator(".pair-card").nth(2).click()
        expect(page.locator(OPEN)).to_have_attribute("data-id", "2")
    let_go = held_back(page, EVENT.format("example"), before=before)
    page.locator(".pair-card").nth(4).click()
    page.get_by_label("Sort", exact=True).click()
    page.get_by_role("option").last.click()
    expect(page.locator(".pair-card").first).not_to_contain_text("0 ")
    let_go()
    expect(page.locator(OPEN)).to_have_attribute("data-id", "4")
    expect(page.locator('circle[aria-current="true"]')).to_have_attribute("data-pick", "4")
    expect(page.locator('[aria-current][data-pick="2"]')).to_have_count(0)
