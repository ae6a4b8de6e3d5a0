"""Where a page cannot listen it says why, whatever the reason; a proxy is not asked for the page itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from sdsdemo.errors import UserError
from sdsdemo.runtime import listening
from sdsdemo.runtime.listening import check_address, listening_at, pass_by_proxies

NOBODY = "http://127.0.0.1:9"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that answers."""
    server = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*listening.PROXIES, "NO_PROXY"):
        for spelt in (name, name.lower()):
            monkeypatch.setenv(spelt, "")
            monkeypatch.delenv(spelt)


def test_a_free_port_is_free_and_a_taken_one_is_named(port: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
    check_address("127.0.0.1", other)
    with pytest.raises(UserError, match=f"Port {port} is already in use.*--port {port + 1}"):
        check_address("localhost", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-name.invalid", "::1", "a" * 70])
def test_an_address_that_is_not_this_machine_s_is_said(host: str) -> None:
    with pytest.raises(UserError, match=r"no IPv4 address called .*--host 127\.0\.0\.1"):
        check_address(host, 7860)


@pytest.mark.parametrize(
    ("error", "port", "said"),
    [
        (PermissionError(13, "Permission denied"), 80, "may not listen on port 80, as it is below 1024.*--port 8000"),
        (PermissionError(13, "Permission denied"), 5000, "may not listen on port 5000: choose another"),
        (OSError(98, "Address already in use"), 65_535, "Port 65535 is already in use.*--port 65534"),
        (OSError("Cannot find empty port in range: 7860-7860."), 7860, "Port 7860 is already in use"),
        (OSError(24, "Too many open files"), 7860, "Too many open files"),
        (httpx.ConnectError("refused"), 7860, "NO_PROXY=localhost,127.0.0.1"),
        (ValueError("When localhost is not accessible, a shareable link must be created."), 7860, "NO_PROXY"),
    ],
)
def test_what_keeps_a_page_from_starting_is_a_sentence(
    error: Exception, port: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "check_address", lambda host, port: None)
    with pytest.raises(UserError, match=said), listening_at("127.0.0.1", port):
        raise error


def test_a_bug_of_ours_is_not_taken_for_a_proxy() -> None:
    with pytest.raises(TypeError), listening_at("127.0.0.1", 0):
        raise TypeError("launch() got an unexpected argument")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_the_page_reaches_itself_past_a_proxy(variable: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, NOBODY)
    monkeypatch.setenv("no_proxy" if variable.islower() else "NO_PROXY", "intranet.example.org")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")
    pass_by_proxies("127.0.0.1", os.environ)
    for host in ("127.0.0.1", "localhost"):
        assert httpx.get(f"http://{host}:{port}/").status_code == 200
    assert "intranet.example.org" in os.environ["NO_PROXY"]


def test_without_a_proxy_of_the_environment_nothing_is_set() -> None:
    environment: dict[str, str] = {}
    pass_by_proxies("127.0.0.1", environment)
    assert environment == {}
