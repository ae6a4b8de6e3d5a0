"""How much a request may send, and an address upload: counted while it arrives, whatever its header claims.

A body beyond its limit is answered with 413, uploads beyond an address's share with 429, each with a sentence. Gradio
checks each file of an upload, but not how many there are. An upload has its part of the share from its start on, so
that as many at once as one likes are no more than as many one by one.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdsdemo.settings import LIMITS
from sdsdemo.ui.client_address import address_of_scope
from sdsdemo.ui.refusals import refusal

log = logging.getLogger(__name__)

MULTIPART = 100_000
"""Bytes around one file of an upload."""
TOO_LARGE = (
    "This request is larger than the page ever sends: send one picture of up to "
    f"{LIMITS.image_bytes // 1_000_000} MB at a time."
)
TOO_MANY = "Many pictures have come from your network just now: wait a few minutes, then upload this one again."
NO_ROOM = "The server cannot store your picture now; its disk may be full. Try again in a few minutes."
WINDOW = 600.0
"""Seconds over which an address's uploads are counted."""
ADDRESSES = 2_048
"""Addresses that are remembered."""


class TooLargeError(Exception):
    """More has arrived than a request may send."""


@dataclass
class Upload:
    """A request that uploads, counted from its first byte on."""

    size: int
    """Bytes that arrived; while it is going, those that it may have if they are more."""
    ended: float | None = None
    """When; None while it is going."""


class BodyLimits:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self._clock = clock
        self._uploads: OrderedDict[str, list[Upload]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/").endswith("/upload")
        if is_upload and not self._has_room(address_of_scope(scope)):
            await refusal(429, TOO_MANY, plainly=True)(scope, receive, send)
            return
        most = LIMITS.image_bytes + MULTIPART if is_upload else LIMITS.request_bytes
        if _claimed(scope) > most:
            await refusal(413, TOO_LARGE, plainly=is_upload)(scope, receive, send)
            return
        upload = self._begun(address_of_scope(scope), _claimed(scope) or most) if is_upload else None
        await self._counted(scope, receive, send, most, upload)

    async def _counted(self, scope: Scope, receive: Receive, send: Send, most: int, upload: Upload | None) -> None:
        arrived, has_answered, is_upload = 0, False, upload is not None

        async def take() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if upload is not None:
                upload.size = max(upload.size, arrived)
            if arrived > most:
                raise TooLargeError
            return message

        async def answer(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            await send(message)

        try:
            await self.app(scope, take, answer)
        except TooLargeError:
            if not has_answered:
                await refusal(413, TOO_LARGE, plainly=is_upload)(scope, receive, send)
        except OSError as error:
            if has_answered or not is_upload:
                raise
            log.error("an upload could not be stored: %s", error.strerror)
            await refusal(507, NO_ROOM, plainly=True)(scope, receive, send)
        finally:
            if upload is not None:
                upload.size, upload.ended = arrived, self._clock()

    def _has_room(self, address: str) -> bool:
        """Whether an address may upload now. What is still going counts, however long ago it began."""
        since = self._clock() - WINDOW
        uploads = [one for one in self._uploads.get(address, ()) if one.ended is None or one.ended >= since]
        if address in self._uploads:
            self._uploads[address] = uploads
        return len(uploads) < LIMITS.uploads_of_address and sum(one.size for one in uploads) < LIMITS.uploaded_bytes

    def _begun(self, address: str, size: int) -> Upload:
        upload = Upload(size)
        self._uploads.setdefault(address, []).append(upload)
        self._uploads.move_to_end(address)
        while len(self._uploads) > ADDRESSES:
            self._uploads.popitem(last=False)
        return upload


def _claimed(scope: Scope) -> int:
    """The length that the request names; 0 if none."""
    named = dict(scope["headers"]).get(b"content-length", b"0")
    return int(named) if named.isdigit() else 0
