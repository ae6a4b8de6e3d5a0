"""Hostile requests by hand: paths that climb, methods, ranges, queries, bodies and fields, Gradio's other routes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sdsdemo.settings import ROOT
from tests.hostile import http_edges
from tests.hostile.http_edges import API, JSON, SCRIPT
from tests.hostile.wire import Call

PLACES = (
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/app.py",
)
ROOMS = (
    f"{API}/file/",
    "/file=",
    "/static/",
    "/assets/",
    "/svelte/",
    "/docs/",
    "/results/",
    f"{API}/proxy=",
    f"{API}/custom_component/file/client/",
    f"{API}/stream/x/y/",
)
METHODS = ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "HOSTILE")
ASKED = (
    "/",
    "/config",
    "/health",
    "/docs/api.md",
    "/results/x.csv",
    f"{API}/upload",
    f"{API}/queue/join",
    f"{API}/info",
)
RANGES = (
    "bytes=0-",
    "bytes=5-2",
    "bytes=-1",
    "bytes=-99999999",
    "bytes=99999999999-",
    "bytes=0-999999999999",
    "bytes=--",
    "bytes=a-b",
    "bytes=1-2-3",
    "bytes=0-0,2-3",
    "bytes=" + ",".join(f"{n}-{n}" for n in range(500)),
    "lines=1-2",
    "bytes=\xb2-\xb3",
    "bytes=",
    "bytes= 1-2",
)
DEEP = b"[" * 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a brace": b"{",
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "a text": b'"x"',
    "NaN": b"NaN",
    "nesting of 100,000": DEEP,
    "closed nesting": DEEP + b"]" * 100_000,
    "a number of 100,000 digits": b"9" * 100_000,
    "no Unicode": b'{"data": ["\xff\xfe"]}',
    "UTF-16": '{"data": []}'.encode("utf-16"),
    "zeros": bytes(1000),
    "half a letter": b'{"data": ["\\ud800"], "fn_index": 0, "session_hash": "\\ud800"}',
    "the wrong fields": b'{"x": 1}',
}
TAKE_JSON = ("queue/join", "run/predict", "call/score", "call/v2/score", "cancel", "component_server", "reset")
FIELDS: dict[str, object] = {
    "a function of -1": {"fn_index": -1},
    "a function of 10**9": {"fn_index": 10**9},
    "a function x": {"fn_index": "x"},
    "a function of 1.5": {"fn_index": 1.5},
    "a function true": {"fn_index": True},
    "no function": {"fn_index": None},
    "a list as session": {"session_hash": []},
    "a number as session": {"session_hash": 7},
    "a path as session": {"session_hash": "../../etc"},
    "a session of 1 MB": {"session_hash": "a" * 1_000_000},
    "a text as data": {"data": "x"},
    "an object as data": {"data": {"a": 1}},
    "null as data": {"data": None},
    "data of 100,000": {"data": [None] * 100_000},
    "an event of another": {"event_id": "0" * 32, "event_data": [1]},
    "batches": {"batched": True, "data": [[None]]},
    "a forged trigger": {"trigger_id": "x" * 10_000},
}


def calls(uploaded: str, secret: Path) -> list[Call]:
    """All of them. uploaded: the path that a sound upload got; secret: a file that nobody may be sent."""
    return [
        *_paths(uploaded, secret),
        *_methods(),
        *_ranges(uploaded),
        *_queries(),
        *_bodies(),
        *_fields(uploaded),
        *_rooms(),
        *http_edges.headers(),
        *http_edges.uploads(),
        *http_edges.raw(),
    ]


def _paths(uploaded: str, secret: Path) -> Iterator[Call]:
    folder = str(Path(uploaded).parent.parent)
    wanted = [
        *PLACES,
        str(secret),
        str(ROOT / "app.py"),
        str(ROOT / ".git/config"),
        str(ROOT / "sdsdemo/settings/__init__.py"),
        str(Path.home() / ".ssh/id_rsa"),
        str(Path.home() / ".bash_history"),
        "/proc/self/environ",
        "/proc/self/mem",
        "/proc/1/cmdline",
        "/dev/zero",
        "/dev/random",
        "/",
        "",
        ".",
        "~/.bashrc",
        "$HOME",
        "C:/Windows/win.ini",
        folder,
        f"{folder}/../..",
        f"{folder}.lock",
        f"{uploaded}/..",
        f"{uploaded}%00.txt",
        f"{uploaded}/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://127.0.0.1:22/",
        "http://[::1]/",
        "http://169.254.169.254/",
        "http://",
        "a" * 9_000,
        "\\\\host\\share",
        "%",
        "%zz",
        "%00",
        "%ff%fe",
        "https:/x",
        "//host/x",
        "0x7f.1",
        "\u202e",
    ]
    for place in wanted:
        path = place if "%" in place else quote(place, safe="/:\\")
        yield Call(name=f"file={place[:60]}", path=f"{API}/file={path}", patience=8)
    yield Call(name="file/ of another host", path=f"{API}/file/https://example.com/a.png", patience=8)
    for room in ROOMS:
        for place in (*PLACES[1:], quote(str(secret))):
            yield Call(name=f"{room}{place[:50]}", path=room + place)


def _methods() -> Iterator[Call]:
    for method in METHODS:
        for path in (*ASKED, "*"):
            if path != "*" or method == "OPTIONS":
                yield Call(name=f"{method} {path}", method=method, path=path, may_be_cut=method == "CONNECT")


def _ranges(uploaded: str) -> Iterator[Call]:
    for said in RANGES:
        header = ("Range", said.encode("latin-1"))
        yield Call(name=f"range {said[:30]}", path=f"{API}/file={quote(uploaded)}", headers=[header])


def _queries() -> Iterator[Call]:
    fields = ("a", "run", "example", "models", "scene", "seed", "tab", "deep_link", "page", "__theme", "view")
    values = {
        "a script": quote(SCRIPT),
        "control characters": "%00%01%1b[31m%0d%0aX: 1",
        "half a letter": "%ED%A0%80",
        "a path": "../../../../etc/passwd",
        "20,000 letters": "a" * 20_000,
        "a number": "1e999",
    }
    for field in fields:
        for said, value in values.items():
            yield Call(name=f"?{field}= {said}", path=f"/?{field}={value}")
    yield Call(name="10,000 fields", path="/?" + "&".join(f"a{n}=1" for n in range(6_000)))
    yield Call(name="a megabyte of query", path="/?a=" + "a" * 1_000_000, may_be_cut=True)
    yield Call(name="no encoding in a query", path=b"/?a=\xff\xfe\x80", may_be_cut=True)
    yield Call(name="every tab and a script", path="/?tab=browse&run=" + quote(SCRIPT) + "&words=" + quote(SCRIPT))


def _bodies() -> Iterator[Call]:
    for route in TAKE_JSON:
        for said, body in BODIES.items():
            yield _post(f"{route}: {said}", route, body)
    for kind in (
        "text/xml",
        "multipart/form-data",
        "multipart/form-data; boundary=" + "a" * 5_000,
        "application/json; charset=x",
    ):
        yield Call(
            name=f"join as {kind[:40]}",
            method="POST",
            path=f"{API}/queue/join",
            headers=[("Content-Type", kind)],
            body=b'{"data": []}',
        )
    packed = ("Content-Encoding", "gzip")
    yield Call(
        name="a packed body",
        method="POST",
        path=f"{API}/queue/join",
        headers=[JSON, packed],
        body=gzip.compress(bytes(10**8)),
    )
    for route in TAKE_JSON:
        yield _post(f"{route}: 2.5 MB", route, b'{"data": ["' + b"a" * 2_500_000 + b'"]}', may_be_cut=True)


def _fields(uploaded: str) -> Iterator[Call]:
    sound = {"data": [], "fn_index": 0, "session_hash": "hostile"}
    for route in ("queue/join", "run/predict"):
        for said, changed in FIELDS.items():
            assert isinstance(changed, dict)
            yield _post(f"{route}: {said}", route, json.dumps({**sound, **changed}).encode())
    for name in ("nobody", "_score", "../config", "__class__", "%2e%2e", ""):
        yield _post(f"call {name}", f"call/{name}", b'{"data": []}')
        yield _post(f"call by fields {name}", f"call/v2/{name}", b"{}")
        yield _post(f"run {name}", f"run/{name}", b'{"data": []}')
    for said, given in {
        "wrong names": {"nobody": 1},
        "texts in place of lists": {"image": uploaded, "captions": "x", "models": 7},
    }.items():
        yield _post(f"call/v2/score: {said}", "call/v2/score", json.dumps(given).encode())
    for body in (
        {"session_hash": "another", "fn_index": 0, "event_id": "0" * 32},
        {"session_hash": "\ud800", "fn_index": -1, "event_id": ""},
    ):
        yield _post(f"cancel of {body['session_hash']!r}", "cancel", json.dumps(body).encode())


def _rooms() -> Iterator[Call]:
    """Gradio's other routes."""
    for path in (
        "token",
        "user",
        "login_check",
        "app_id",
        "runs",
        "openapi.json",
        "startup-events",
        "queue/status",
        "info?all_endpoints=true",
        "upload_progress?upload_id=x",
        "upload_progress",
        "queue/data",
        "queue/data?session_hash=",
        "queue/data?session_hash=another",
        "queue/data?session_hash=" + "a" * 9_000,
        "call/score/" + "0" * 32,
        "call/score/..",
        "heartbeat/another",
        "heartbeat/..",
        "dev/reload",
        "stream/x/1/2/playlist.m3u8",
        "stream/x/1/2/y.aac",
        "stream/x/1/2/playlist-file",
        "deep_link?session_hash=another",
        "deep_link?session_hash=../..",
        "vibe-code",
        "profiling/traces",
        "monitoring",
        "custom_component/image/server/component/index.js",
        "custom_component/image/client/../../component.py",
        "custom_component/html/client/x",
    ):
        yield Call(name=path[:60], path=f"{API}/{path}", patience=5, until=b"\n\n")
    for path in (
        "login", "logout", "monitoring", "monitoring/summary", "monitoring/x", "pwa_icon", "pwa_icon/192",
        "pwa_icon/-1", "pwa_icon/1000000", "pwa_icon/x", "manifest.json", "robots.txt", "theme.css", "docs", "redoc",
        "openapi.json", "docs/..", "docs/%2e%2e%2fapp.py", "results/..%2f..%2fx.csv", "results/a.exe",
        "results/" + "a" * 5_000 + ".csv", "preview.png/..", ".git/config", "wp-login.php", "mcp", "gradio_api",
    ):  # fmt: skip
        yield Call(name=f"/{path[:60]}", path=f"/{path}")
    for path in (
        "vibe-edit",
        "undo-vibe-edit",
        "vibe-code",
        "vibe-starter-queries",
        "process_recording",
        "stream/" + "0" * 32,
        "stream/x/close",
        "run-history/connect",
        "profiling/clear",
    ):
        yield _post(path[:60], path, b'{"code": "import os", "prompt": "x", "hash": "x", "data": []}')
    for fields in (
        {},
        {"component_id": 10**9},
        {"component_id": "x"},
        {"component_id": []},
        {"session_hash": []},
        {"fn_name": "__init__"},
        {"fn_name": 7},
    ):
        body = {"data": [], "component_id": 1, "session_hash": "x", "fn_name": "preprocess", **fields}
        yield _post(f"component_server {fields}", "component_server", json.dumps(body).encode())
    yield Call(
        name="login",
        method="POST",
        path="/login",
        headers=[("Content-Type", "application/x-www-form-urlencoded")],
        body=b"username=a&password=b",
    )


def _post(name: str, route: str, body: bytes, **options: bool) -> Call:
    """JSON, or what is said to be JSON."""
    return Call(name=name, method="POST", path=f"{API}/{route}", headers=[JSON], body=body, **options)  # type: ignore[arg-type]
