"""What a request may send is counted while it arrives; an address has a share of the uploads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sdsdemo.settings import LIMITS
from sdsdemo.ui.body_limits import MULTIPART, WINDOW, BodyLimits
from sdsdemo.ui.page import launch_options
from tests.ui.asgi import finished

MOST = LIMITS.image_bytes + MULTIPART


class Served:
    """An app behind the limits that reads all of a body, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.breaks: OSError | None = None
        self.taken: list[int] = []
        self.limits = BodyLimits(self._app, clock=lambda: self.now)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        count, more = 0, True
        while more:
            message = await receive()
            count, more = count + len(message.get("body", b"")), message.get("more_body", False)
        if self.breaks:
            raise self.breaks
        self.taken.append(count)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def post(
        self,
        path: str,
        parts: list[bytes],
        *,
        claimed: int | None = None,
        address: str = "1.1.1.1",
        method: str = "POST",
    ) -> tuple[int, str]:
        """Status and sentence. claimed: the length in the header; None: no header.

        Gradio's page shows the whole answer to a refused upload, so that is the sentence alone.
        """
        sent: list[Any] = []
        left = list(parts)

        async def receive() -> Any:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [] if claimed is None else [(b"content-length", str(claimed).encode())]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": (address, 1)}
        finished(self.limits(scope, receive, send))
        assert [message["type"] for message in sent].count("http.response.start") == 1
        status, body = sent[0]["status"], sent[-1]["body"].decode()
        if path.endswith("/upload") and status != 200:
            assert body[0].isupper(), body
            return status, body
        return status, json.loads(body).get("detail", "")


def test_an_ordinary_upload_and_question_pass_whole() -> None:
    served = Served()
    assert served.post("/gradio_api/upload", [bytes(MOST)], claimed=MOST) == (200, "")
    assert served.post("/gradio_api/queue/join", [b"{}", b"{}"]) == (200, "")
    assert served.taken == [MOST, 4]


@pytest.mark.parametrize("claimed", [None, 10, MOST + 1])
def test_an_upload_ends_where_its_limit_is_whatever_it_claims(claimed: int | None) -> None:
    served = Served()
    status, sentence = served.post("/gradio_api/upload", [bytes(MOST), b"1", bytes(10)], claimed=claimed)
    assert status == 413
    assert "one picture of up to 8 MB" in sentence
    assert served.taken == []


def test_what_claims_too_much_is_refused_before_it_is_read() -> None:
    assert Served().post("/gradio_api/upload", [b"1"], claimed=MOST + 1)[0] == 413


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/component_server", "/gradio_api/call/score"])
def test_other_requests_have_a_smaller_limit(path: str) -> None:
    assert Served().post(path, [bytes(LIMITS.request_bytes + 1)])[0] == 413
    assert Served().post(path, [bytes(LIMITS.request_bytes)])[0] == 200


def test_an_address_has_a_share_of_uploads_by_count() -> None:
    served = Served()
    for _ in range(LIMITS.uploads_of_address):
        assert served.post("/gradio_api/upload", [b"1"])[0] == 200
    status, sentence = served.post("/gradio_api/upload", [b"1"])
    assert (status, "wait a few minutes" in sentence) == (429, True)
    assert served.post("/gradio_api/upload", [b"1"], address="2.2.2.2")[0] == 200
    assert served.post("/gradio_api/queue/join", [b"1"])[0] == 200
    served.now = WINDOW + 1
    assert served.post("/gradio_api/upload", [b"1"])[0] == 200


def test_an_address_has_a_share_of_uploads_by_bytes_refused_ones_too() -> None:
    served = Served()
    for _ in range(LIMITS.uploaded_bytes // (MOST + 1) + 1):
        assert served.post("/gradio_api/upload", [bytes(MOST), b"1"])[0] == 413
    assert served.post("/gradio_api/upload", [b"1"])[0] == 429


class Slow:
    """An app behind the limits that has all uploads under way at once, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.statuses: list[int] = []
        self.limits = BodyLimits(self._app, clock=lambda: self.now)
        self._go = asyncio.Event()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self._go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def begin(self, count: int, size: int, *, claims: bool = True) -> list[asyncio.Task[None]]:
        """So many uploads begin, and end with `end`."""
        headers = [(b"content-length", str(size).encode())] if claims else []
        scope = {"type": "http", "method": "POST", "path": "/upload", "headers": headers, "client": ("1.1.1.1", 1)}

        async def receive() -> Any:
            return {"type": "http.request", "body": bytes(size)}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        begun = [asyncio.ensure_future(self.limits(scope, receive, send)) for _ in range(count)]
        await asyncio.sleep(0)
        return begun

    async def end(self, *uploads: asyncio.Task[None]) -> int:
        """How many passed."""
        self._go.set()
        await asyncio.gather(*uploads)
        self._go.clear()
        return self.statuses.count(200)


def test_as_many_uploads_pass_at_once_as_one_by_one() -> None:
    async def at_once(size: int) -> int:
        slow = Slow()
        return await slow.end(*await slow.begin(3 * LIMITS.uploads_of_address, size))

    passed: list[int] = []

    async def look() -> None:
        passed.extend([await at_once(1), await at_once(LIMITS.image_bytes)])

    finished(look())
    assert passed == [LIMITS.uploads_of_address, LIMITS.uploaded_bytes // LIMITS.image_bytes]


def test_an_upload_that_claims_no_length_holds_the_most_until_it_ends() -> None:
    async def look() -> None:
        slow = Slow()
        first = await slow.begin(LIMITS.uploaded_bytes // MOST + 1, 1, claims=False)
        refused = await slow.begin(1, 1, claims=False)
        assert await slow.end(*first, *refused) == len(first)
        assert await slow.end(*await slow.begin(1, 1, claims=False)) == len(first) + 1

    finished(look())


def test_an_upload_that_never_ends_keeps_its_part_of_the_share() -> None:
    async def look() -> None:
        slow = Slow()
        endless = await slow.begin(LIMITS.uploads_of_address, 1)
        slow.now = 10 * WINDOW
        refused = await slow.begin(1, 1)
        assert await slow.end(*endless, *refused) == LIMITS.uploads_of_address

    finished(look())


def test_a_full_disk_is_a_sentence_and_no_share_of_anyones() -> None:
    served = Served()
    served.breaks = OSError(28, "No space left on device", "/srv/secret/path")
    status, sentence = served.post("/gradio_api/upload", [b"1"])
    assert status == 507
    assert "Try again in a few minutes" in sentence
    assert "secret" not in sentence
    with pytest.raises(OSError, match="No space"):
        served.post("/gradio_api/queue/join", [b"1"])


def test_what_asks_for_a_page_is_not_touched() -> None:
    assert Served().post("/anything", [bytes(LIMITS.request_bytes + 1)], method="GET")[0] == 200


def test_the_page_is_served_with_them() -> None:
    kinds = [kind for kind, *_ in launch_options("127.0.0.1", 7860)["app_kwargs"]["middleware"]]
    assert BodyLimits in kinds
