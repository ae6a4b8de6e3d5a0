"""Hostile requests at the edges of HTTP: headers, uploads that are none, and bytes that are no request."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.wire import Call

SCRIPT = '"><script>hostile()</script>'
JSON = ("Content-Type", "application/json")
API = "/gradio_api"


def headers() -> Iterator[Call]:
    for name, value in {
        "Host": "hostile.example/" + SCRIPT,
        "X-Forwarded-Host": SCRIPT,
        "X-Forwarded-Proto": "javascript",
        "X-Forwarded-For": "1.2.3.4, " * 500,
        "X-Forwarded-Prefix": "/../..",
        "Cookie": "access-token-x=" + "a" * 8_000,
        "Accept-Language": "../../etc/passwd",
        "Referer": SCRIPT,
        "User-Agent": "\x7f" * 100,
        "Expect": "100-continue",
        "If-None-Match": "*",
        "If-Modified-Since": "never",
        "Upgrade": "websocket",
        "X-Gradio-User": "root",
        "Origin": "http://hostile.example",
        "Authorization": "Bearer " + "a" * 5_000,
        "Accept-Encoding": "gzip;q=x, \xff",
    }.items():
        yield Call(name=f"header {name}", headers=[(name, value.encode("latin-1"))], may_be_cut=name == "Upgrade")
    yield Call(name="90 headers", headers=[(f"X-{n}", "a") for n in range(90)], may_be_cut=True)
    yield Call(name="a header of 60 kB", headers=[("X-A", "a" * 60_000)], may_be_cut=True)
    yield Call(name="a header of 1 MB", headers=[("X-A", "a" * 1_000_000)], may_be_cut=True)


def uploads() -> Iterator[Call]:
    """Bodies of uploads that are no upload."""
    path, edge = f"{API}/upload", "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    for said, (kind, body) in {
        "nothing": (edge, b""),
        "no boundary": ("multipart/form-data", part),
        "no parts": (edge, b"--x--\r\n"),
        "no end": (edge, part + b"abc"),
        "no file": (edge, b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nabc\r\n--x--\r\n'),
        "no name": (edge, b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n"),
        "no head": (edge, b"--x\r\n\r\nabc\r\n--x--\r\n"),
        "JSON": ("application/json", b"{}"),
        "zeros": (edge, bytes(10_000)),
        "no kind": ("", part),
        "1,500 files": (edge, (part + b"a\r\n") * 1_500 + b"--x--\r\n"),
        "a head of 90 kB": (edge, b"--x\r\nX: " + b"a" * 90_000 + b"\r\n\r\na\r\n--x--\r\n"),
        "9 MB": (edge, part + bytes(9_000_000)),
        "another encoding": (edge + "; charset=utf-7", part + b"abc\r\n--x--\r\n"),
    }.items():
        yield Call(
            name=f"upload: {said}",
            method="POST",
            path=path,
            headers=[("Content-Type", kind)],
            body=body,
            may_be_cut=said == "9 MB",
        )
    endless = [part, *[bytes(1_000_000)] * 12]
    yield Call(
        name="upload: chunks without end",
        method="POST",
        path=path,
        headers=[("Content-Type", edge)],
        body=endless,
        may_be_cut=True,
        patience=5,
    )
    yield Call(
        name="join: chunks without end",
        method="POST",
        path=f"{API}/queue/join",
        headers=[JSON],
        body=[b'{"data": ["', *[b"a" * 1_000_000] * 4],
        may_be_cut=True,
        patience=5,
    )
    for claimed in ("99999999999", "-1", "abc", "1" * 5_000):
        yield Call(
            name=f"a length of {claimed[:12]}",
            method="POST",
            path=path,
            headers=[("Content-Type", edge), ("Content-Length", claimed)],
            body=b"a",
            may_be_cut=True,
            patience=2,
        )


def raw() -> Iterator[Call]:
    """Bytes that are no request, or two."""
    top = b"GET / HTTP/1.1\r\nHost: a\r\n"
    sent = top.replace(b"GET", b"POST")
    for said, raw in {
        "nothing but a line end": b"\r\n\r\n",
        "a start": b"GET / HT",
        "no version": b"GET /\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500),
        "noise": bytes(range(256)) * 20,
        "a line end in a path": b"GET /\nX: 1 HTTP/1.1\r\n\r\n",
        "a NUL in a path": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "no host": b"GET / HTTP/1.1\r\n\r\n",
        "two lengths": top + b"Content-Length: 1\r\nContent-Length: 50\r\n\r\na",
        "length and chunks": top + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a wrong chunk": sent + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "a chunk of 2**64": sent + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "a head without end": top + b"X: ",
        "an address as a path": b"GET http://hostile.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "a folded header": top + b"X: a\r\n b\r\n\r\n",
        "a socket": top
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    }.items():
        yield Call(name=f"raw: {said}", raw=raw, may_be_cut=True, patience=1)
