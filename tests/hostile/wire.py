"""Sends bytes to a server as they are: no library puts a hostile request right on its way."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 20.0
"""Seconds to wait for an answer."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request."""

    name: str
    method: str = "GET"
    path: str | bytes = "/"
    headers: Sequence[tuple[str | bytes, str | bytes]] = ()
    body: bytes | Sequence[bytes] = b""
    """Several parts are sent one by one, each as a chunk."""
    raw: bytes = b""
    """Sent in place of all the above."""
    until: bytes = b""
    """The answer is whole where it holds this."""
    patience: float = PATIENCE
    may_be_cut: bool = False
    """Whether the server may hang up without a word, or go on listening."""

    def parts(self, host: str) -> list[bytes]:
        """What is sent."""
        if self.raw:
            return [self.raw]
        body = [self.body] if isinstance(self.body, bytes) else list(self.body)
        is_chunked = not isinstance(self.body, bytes)
        usual: list[tuple[str | bytes, str | bytes]] = [("Host", host), ("Connection", "close")]
        if is_chunked:
            usual.append(("Transfer-Encoding", "chunked"))
        elif self.body or self.method in ("POST", "PUT", "PATCH"):
            usual.append(("Content-Length", str(len(self.body))))
        given = {_bytes(name).lower() for name, _ in self.headers}
        lines = [_bytes(self.method) + b" " + _bytes(self.path) + b" HTTP/1.1"]
        lines += [_bytes(n) + b": " + _bytes(v) for n, v in usual if _bytes(n).lower() not in given]
        lines += [_bytes(name) + b": " + _bytes(value) for name, value in self.headers]
        head = b"\r\n".join([*lines, b"", b""])
        return [head, *(b"%x\r\n%s\r\n" % (len(part), part) for part in body)] if is_chunked else [head, *body]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; status 0: nothing."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def messages(self) -> list[dict[str, Any]]:
        """Of a stream of events."""
        lines = [line[6:] for line in self.body.splitlines() if line.startswith(b"data: ")]
        return [message for line in lines if isinstance(message := _loaded(line), dict)]


class Wire:
    """Connections to one server, from addresses that we choose where it is on this machine."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.source = ""
        """The address that requests come from; empty: as the system does it."""

    def come_from(self, number: int) -> None:
        """From now on as another visitor of the same machine."""
        self.source = f"127.0.{number // 250}.{number % 250 + 1}" if self.host.startswith(("127.", "localhost")) else ""

    def send(self, call: Call) -> Answer:
        """The answer, as far as it came within the call's patience."""
        source = (self.source, 0) if self.source else None
        try:
            link = socket.create_connection((self.host, self.port), timeout=call.patience, source_address=source)
        except OSError:
            return Answer()
        with link:
            try:
                for part in call.parts(f"{self.host}:{self.port}"):
                    link.sendall(part)
            except OSError:  # the server has heard enough; its answer may be there
                pass
            return _answered(link, call)

    def post(self, path: str, body: Any, **options: Any) -> Answer:
        """JSON."""
        data = json.dumps(body).encode()
        kind = ("Content-Type", "application/json")
        return self.send(Call(name=path, method="POST", path=path, headers=[kind], body=data, **options))


def multipart(filename: bytes, data: bytes, kind: str = "image/png", name: str = "files") -> tuple[str, bytes]:
    """The content type and body of an upload of one file."""
    edge = secrets.token_hex(8)
    head = f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="'.encode()
    head += filename + f'"\r\nContent-Type: {kind}\r\n\r\n'.encode()
    return f"multipart/form-data; boundary={edge}", head + data + f"\r\n--{edge}--\r\n".encode()


def chunks(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _answered(link: socket.socket, call: Call) -> Answer:
    deadline = time.monotonic() + call.patience
    response = http.client.HTTPResponse(link, method=call.method if call.method == "HEAD" else "GET")
    body = b""
    try:
        response.begin()
        while time.monotonic() < deadline and not (call.until and call.until in body):
            link.settimeout(max(0.05, deadline - time.monotonic()))
            part = response.read1(1 << 20)
            if not part:
                break
            body += part
    except (OSError, http.client.HTTPException, ValueError):
        if not getattr(response, "status", None) or not isinstance(response.status, int):
            return Answer()
    headers = dict(response.getheaders()) if response.headers else {}
    return Answer(status=response.status, headers=headers, body=body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogateescape")


def _loaded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
