"""A page of one's own answers its own machine: a request that comes from elsewhere is refused in a sentence.

Such a page takes whoever asks for the machine's user, who may name any folder. Behind a proxy or a tunnel others ask
too, and from an address of this machine; but their requests have a header of forwarding, or name the page otherwise
(Host). So does a page of another site that sends requests here (Origin).
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sdsdemo.ui.refusals import refusal

FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP")
FROM_ELSEWHERE = (
    "This page is set up for the user of the machine that it runs on, and your request came from elsewhere. "
    "If others may use it, start it with SDSDEMO_SHARED=on; if it is yours alone, with SDSDEMO_SHARED=off."
)


class OwnPage:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_from_elsewhere(Headers(scope=scope)):
            await refusal(403, FROM_ELSEWHERE, plainly=True)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_from_elsewhere(headers: Headers) -> bool:
    """Whether a request was forwarded, or was sent to or from an address that is not this machine's."""
    addresses = [headers[name] for name in ("Host", "Origin") if name in headers]
    return any(name in headers for name in FORWARDING) or not all(map(_is_here, addresses))


def _is_here(address: str) -> bool:
    try:
        name = urlsplit(address if "//" in address else f"//{address}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False
