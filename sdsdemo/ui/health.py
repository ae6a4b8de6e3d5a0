"""`/health`: whether the server answers, for whoever restarts it when it does not. Says nothing of any visitor.

Status 503 says that the line of requests has stopped: every question would be refused until a restart.
"""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sdsdemo import __version__
from sdsdemo.ui.refusals import path_of


class Health:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) != "/health":
            await self.app(scope, receive, send)
            return
        queue = getattr(getattr(scope.get("app"), "blocks", None), "_queue", None)
        is_well = not getattr(queue, "stopped", False)
        said = {
            "status": "ok" if is_well else "stopped",
            "version": __version__,
            "waiting": len(queue) if queue is not None else 0,
        }
        answer = JSONResponse(said, 200 if is_well else 503, headers={"cache-control": "no-store"})
        await answer(scope, receive, send)
