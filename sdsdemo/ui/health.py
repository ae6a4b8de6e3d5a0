"""`/health`: whether the server answers, for whoever restarts it when it does not. Says nothing of any visitor."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Receive, Scope, Send

from sdsdemo import __version__


class Health:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != f"{scope.get('root_path', '')}/health":
            await self.app(scope, receive, send)
            return
        queue = getattr(getattr(scope.get("app"), "blocks", None), "_queue", None)
        said = {"status": "ok", "version": __version__, "waiting": len(queue) if queue is not None else 0}
        body = json.dumps(said).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
