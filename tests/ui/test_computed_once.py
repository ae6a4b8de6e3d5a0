"""What many ask for alike is computed once, kept for a while, and a failure is nobody's answer for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.ui import browse_view
from sdsdemo.ui.browse_filters import default_filters
from sdsdemo.ui.browse_view import BrowseView
from sdsdemo.ui.open_in_compare import RunPictures

WAIT = 10.0


def test_everyone_who_asks_at_once_gets_one_computation() -> None:
    once: ComputedOnce[int] = ComputedOnce(4)
    made: list[int] = []
    go = threading.Event()

    def make() -> int:
        go.wait(WAIT)
        made.append(1)
        return 7

    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(once.get, "key", make) for _ in range(5)]
        go.set()
        assert [one.result(WAIT) for one in asked] == [7] * 5
    assert once.get("key", make) == 7
    assert made == [1]


def test_keys_do_not_wait_for_one_another() -> None:
    once: ComputedOnce[int] = ComputedOnce(4)
    go = threading.Event()

    def slow() -> int:
        assert go.wait(WAIT)
        return 1

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(once.get, "slow", slow)
        assert once.get("quick", lambda: 2) == 2
        go.set()
        assert waiting.result(WAIT) == 1


def test_the_least_recently_asked_for_is_forgotten_first() -> None:
    once: ComputedOnce[int] = ComputedOnce(2)
    made: list[str] = []

    def ask(key: str) -> None:
        once.get(key, lambda: made.append(key) or 0)

    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert made == ["a", "b", "c", "b"]


def test_sizes_add_up_to_no_more_than_the_most() -> None:
    once: ComputedOnce[str] = ComputedOnce(10, len)
    for key, value in (("a", "x" * 4), ("b", "x" * 4), ("large", "x" * 11), ("c", "x" * 4)):
        assert once.get(key, partial(str, value)) == value
    assert [once.find(key) is not None for key in ("a", "b", "large", "c")] == [False, True, False, True]


def test_finding_a_value_counts_as_asking_for_it() -> None:
    once: ComputedOnce[int] = ComputedOnce(2)
    for key in ("a", "b", "c"):
        once.get(key, lambda: 1)
        once.find("a")
    assert [once.find(key) for key in ("a", "b", "c")] == [1, None, 1]


def test_a_failure_is_raised_and_not_kept() -> None:
    once: ComputedOnce[int] = ComputedOnce(2)

    def fails() -> int:
        raise ValueError("not now")

    with pytest.raises(ValueError, match="not now"):
        once.get("key", fails)
    assert once.get("key", lambda: 3) == 3


@pytest.mark.slow
def test_browsing_alike_is_computed_once_and_anew_for_other_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    workbench = Workbench(Settings.from_environment({}))
    registry = RunRegistry(workbench.settings, ASSETS)
    view = BrowseView(workbench, registry, "", RunPictures(registry))
    made: list[int] = []
    whole = browse_view.select
    monkeypatch.setattr(browse_view, "select", lambda *given: made.append(1) or whole(*given))
    filters = default_filters(registry.names()[0], "mini-clip", "mini-diffusion")
    first = view.show(filters, 0, "")
    assert (first.message, made) == ("", [1])
    assert view.show(filters, 0, "") == first
    assert made == [1]
    name = registry.catalogue(filters.run).examples[3].id
    opened = view.show(filters, 0, name)
    assert opened.selected == name
    assert opened.example
    assert opened._replace(example="", selected="") == first
    assert made == [1]
    assert view.show(filters._replace(words="red"), 0, "").gallery != first.gallery
    assert view.show(filters, 1, "").page == 1
    assert made == [1, 1, 1]
