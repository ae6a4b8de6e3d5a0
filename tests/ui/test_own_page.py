"""A page that takes itself for its user's own answers its machine alone: what comes from elsewhere gets a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sdsdemo.errors import UserError
from sdsdemo.settings import ROOT, Settings
from sdsdemo.ui.own_page import OwnPage
from sdsdemo.ui.page import launch_options
from tests.conftest import free_port

HERE = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("the page"), methods=["GET", "POST"])])
    return TestClient(OwnPage(app), base_url=HERE)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"X-Real-IP": "203.0.113.7"},
        {"CF-Connecting-IP": "203.0.113.7"},
        {"Host": "demo.example.org"},
        {"Host": "192.168.1.4:7860"},
        {"Host": "localhost.example.org"},
        {"Host": "[broken"},
        {"Origin": "https://demo.example.org"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_from_elsewhere_is_told_how_to_start_the_page(
    client: TestClient, headers: dict[str, str], method: str
) -> None:
    answer = client.request(method, "/", headers=headers)
    assert answer.status_code == 403
    assert "SDSDEMO_SHARED=on" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "app.localhost:80"])
def test_this_machine_is_answered_whatever_it_calls_itself(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).text == "the page"
    assert client.post("/", headers={"Host": host, "Origin": f"http://{host}"}).text == "the page"


@pytest.mark.parametrize(
    ("environment", "allows", "refuses"),
    [
        ({}, True, True),
        ({"GRADIO_SERVER_NAME": "localhost"}, True, True),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, False, False),
        ({"GRADIO_SERVER_NAME": "::1"}, False, False),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.2"}, False, False),
        ({"GRADIO_ROOT_PATH": "/demo"}, False, False),
        ({"SDSDEMO_SHARED": "on"}, False, False),
        ({"SDSDEMO_SHARED": "off", "GRADIO_ROOT_PATH": "/demo", "GRADIO_SERVER_NAME": "0.0.0.0"}, True, False),
        ({"SDSDEMO_SHARED": "off", "SPACE_ID": "ada/demo"}, False, False),
    ],
)
def test_a_page_is_one_s_own_only_where_nothing_says_otherwise(
    environment: dict[str, str], allows: bool, refuses: bool
) -> None:
    settings = Settings.from_environment(environment)
    assert (settings.allow_specs, settings.refuses_others) == (allows, refuses)


def test_others_are_refused_only_where_that_is_asked_for() -> None:
    for refuses in (True, False):
        options = launch_options("127.0.0.1", 7860, refuses_others=refuses)
        assert (OwnPage in [kind for kind, *_ in options["app_kwargs"]["middleware"]]) == refuses


def test_a_misspelt_wish_to_share_is_refused() -> None:
    with pytest.raises(UserError, match="SDSDEMO_SHARED must be"):
        Settings.from_environment({"SDSDEMO_SHARED": "yes"})


@pytest.mark.slow
def test_the_app_starts_behind_a_proxy_and_answers_its_machine_alone(tmp_path: Path) -> None:
    port = free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SDSDEMO", "GRADIO", "SPACE"))}
    environment = plain | {"HTTP_PROXY": "http://127.0.0.1:9", "GRADIO_TEMP_DIR": str(tmp_path), "NO_PROXY": ""}
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port)]
        app = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + 120
    try:
        with httpx.Client(trust_env=False, timeout=30) as visitor:
            while "is ready" not in (said := (tmp_path / "log").read_text()):
                assert app.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.2)
            assert "SDS-CLIP" in visitor.get(address).text
            assert "SDSDEMO_SHARED=on" in visitor.get(address, headers={"X-Forwarded-For": "203.0.113.7"}).text
    finally:
        app.terminate()
        app.wait(timeout=20)
