"""What other sites show of a link: tags in the page's HTML, without a script, and nothing from another host."""

from __future__ import annotations

import io
import re
from typing import Any

import httpx
import pytest
from PIL import Image

from sdsdemo.ui import preview
from tests.ui.asgi import finished, nothing

TAG = re.compile(r'<meta (?:property|name)="(og:[a-z_:]+|twitter:[a-z:]+|description)"\s+content="([^"]*)"')


def page_of(address: str, query: str = "", **headers: str) -> str:
    answer = httpx.get(address + query, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert int(answer.headers.get("content-length", len(answer.content))) == len(answer.content)
    return answer.text


def tags(address: str, query: str = "", **headers: str) -> dict[str, str]:
    found = TAG.findall(page_of(address, query, **headers))
    assert len(found) == len(dict(found)), "a tag stands there twice"
    return dict(found)


@pytest.mark.parametrize("query", ["", "?tab=browse&example=14", "?tab=nowhere", "?a=one&b=two", "?" + "x=1&" * 900])
def test_a_link_has_a_title_a_text_and_a_picture_of_this_server(served, query: str) -> None:
    found = tags(served.address, query)
    for name in ("title", "description", "image"):
        assert found[f"og:{name}"] == found[f"twitter:{name}"] != ""
    assert found["og:image"] == f"{served.address}preview.png"
    assert "Gradio" not in "".join(found.values())
    assert not re.search(r"(?:raw\.githubusercontent|gradio\.app)", "".join(found.values()))


def test_the_title_says_the_tab_or_the_question(served) -> None:
    titles = {query: tags(served.address, query)["og:title"] for query in ("", "?tab=browse", "?a=one&b=two")}
    assert len(set(titles.values())) == 3
    assert titles["?a=one&b=two"] == "“one” or “two”?"


def test_the_picture_has_the_size_that_is_said(served) -> None:
    answer = httpx.get(f"{served.address}preview.png")
    found = tags(served.address)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (
        int(found["og:image:width"]), int(found["og:image:height"]),
    )  # fmt: skip


def test_behind_a_proxy_the_picture_has_the_address_of_the_proxy(served) -> None:
    found = tags(served.address, **{"x-forwarded-proto": "https", "x-forwarded-host": "demo.example"})
    assert found["og:image"] == "https://demo.example/preview.png"


@pytest.mark.parametrize("path", ["/demo/", "/"])
def test_below_a_folder_the_picture_s_address_has_the_folder(path: str) -> None:
    sent: list[dict[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": preview.AFTER})

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "root_path": "/demo"}
    scope["headers"] = [(b"host", b"example.org")]
    finished(preview.LinkPreview(page, preview.PICTURE)(scope, nothing, send))
    assert dict(TAG.findall(sent[1]["body"].decode()))["og:image"] == "http://example.org/demo/preview.png"


def test_a_page_keeps_all_of_its_headers() -> None:
    sent: list[dict[str, Any]] = []
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]

    async def page(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-length", b"1"), *cookies]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": preview.AFTER})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    finished(preview.LinkPreview(page, preview.PICTURE)(scope, nothing, send))
    assert [header for header in sent[0]["headers"] if header[0] == b"set-cookie"] == cookies
    assert int(dict(sent[0]["headers"])[b"content-length"]) == len(sent[1]["body"])


@pytest.mark.parametrize("nasty", ['"><script>alert(1)</script>', "</title><script>alert(1)</script>", "\\1 \\g<0>"])
def test_a_hostile_link_or_host_stays_text(served, nasty: str) -> None:
    whole = page_of(served.address, str(httpx.URL("", params={"a": nasty, "b": "two"})))
    assert "<script>alert" not in whole
    whole = page_of(served.address, **{"x-forwarded-host": nasty, "x-forwarded-proto": nasty})
    assert "<script>alert" not in whole
