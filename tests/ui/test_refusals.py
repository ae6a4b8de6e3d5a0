"""What does not fit the page is refused in a sentence; no log holds what a visitor typed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio import processing_utils

from sdsdemo.errors import UserError
from sdsdemo.ui.page import launch_options
from sdsdemo.ui.picture_field import safe_image
from sdsdemo.ui.refusals import ELSEWHERE, FAILED, UNFIT, Page, Refusals
from tests.conftest import free_port

TYPED = "a caption that nobody else may read"
CLOSED = (
    "component_server", "custom_component/html/client/x", "deep_link?session_hash=x", "dev/reload", "process_recording",
    "file=http://127.0.0.1/", "file=HTTPS://a/", "file/https://a/b", "profiling/summary", "proxy=http://a/",
    "run-history/buckets", "stream/a/b", "undo-vibe-edit", "vibe-code/",
)  # fmt: skip


def fails(text: str) -> str:
    if text == "user":
        raise UserError("Do <this> first.")
    raise KeyError(text)


@pytest.fixture(scope="module")
def address() -> Any:
    with Page() as page:
        field, out = gr.Number(minimum=0), gr.Textbox()
        gr.Button().click(lambda number: "well", field, out, api_name="number", queue=False)
        text = gr.Textbox()
        gr.Button().click(fails, text, out, api_name="fails", queue=False)
        gr.Button().click(fails, text, out, api_name="fails_in_line")
        fields = [safe_image(), gr.JSON()]
        gr.Button().click(lambda picture, values: "well", fields, out, api_name="files", queue=False)
    _, address, _ = page.launch(**launch_options("127.0.0.1", free_port()), quiet=True, prevent_thread_lock=True)
    yield address
    page.close()


@pytest.fixture
def run(address: str) -> Callable[..., httpx.Response]:
    return lambda name, *data: httpx.post(f"{address}gradio_api/run/{name}", json={"data": data}, timeout=30)


def test_what_fits_is_answered(run) -> None:
    assert run("number", 3).json()["data"] == ["well"]


@pytest.mark.parametrize("data", [(), ({"a": [TYPED]},), (TYPED,)])
def test_values_that_do_not_fit_are_refused_in_a_sentence(run, data, capfd, caplog) -> None:
    with caplog.at_level(logging.INFO, "sdsdemo"):
        answer = run("number", *data)
    assert (answer.status_code, answer.json()["error"]) == (422, UNFIT)
    assert TYPED not in "".join(capfd.readouterr())
    assert [record.getMessage() for record in caplog.records] == ["a request does not fit its event"]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that Gradio asks for."""
    asked: list[str] = []

    async def note(url: str) -> httpx.Response:
        asked.append(url)
        raise ConnectionError(url)

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", note)
    return asked


@pytest.mark.parametrize("place", [lambda file: (file, None), lambda file: (None, {"deep": [file]})])
def test_no_picture_is_fetched_from_another_address(run, fetched: list[str], place: Any) -> None:
    file = {"path": "https://example.com/a.png", "meta": {"_type": "gradio.FileData"}}
    answer = run("files", *place(file))
    assert (answer.status_code, answer.json()["error"]) == (422, ELSEWHERE)
    assert fetched == []


def test_a_failed_event_is_a_sentence_and_a_line_of_the_log(run, caplog) -> None:
    answer = run("fails", "x")
    assert (answer.status_code, answer.json()["error"]) == (422, FAILED)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["an event failed"]


def test_what_a_user_must_change_is_said_word_for_word(run) -> None:
    assert run("fails", "user").json()["error"] == "Do &lt;this&gt; first."


def test_a_failure_in_the_line_is_a_sentence_too(address: str) -> None:
    asked = httpx.post(f"{address}gradio_api/call/fails_in_line", json={"data": ["x"]}).json()
    with httpx.stream("GET", f"{address}gradio_api/call/fails_in_line/{asked['event_id']}", timeout=30) as lines:
        assert FAILED in "".join(lines.iter_lines())


@pytest.mark.parametrize("path", ["call/v2/nobody", "run/nobody", "call/nobody"])
def test_a_request_that_gradio_cannot_read_is_refused(address: str, path: str) -> None:
    answer = httpx.post(f"{address}gradio_api/{path}", json={"data": []})
    assert (answer.status_code, answer.json()) == (400, {"detail": UNFIT, "error": UNFIT})


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_routes_that_the_page_has_no_use_for_are_closed(address: str, path: str, method: str) -> None:
    answer = httpx.request(method, f"{address}gradio_api/{path}")
    assert (answer.status_code, answer.json()) == (404, dict.fromkeys(("detail", "error"), "There is nothing here."))


def test_refusals_lie_outside_all_others() -> None:
    assert launch_options("127.0.0.1", 7860)["app_kwargs"]["middleware"][0][0] is Refusals
