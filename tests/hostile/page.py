"""The page as a program meets it: its fields and events, uploads, and answers of its line."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from sdsdemo.settings import ASSETS
from tests.hostile.files import File, png
from tests.hostile.wire import Answer, Call, Wire, multipart

PATIENCE = 60.0
"""Seconds to wait for the answer of an event."""
DONE = b'"msg":"process_completed"'
QUESTION = {"captions": ["a red cross is left of an orange arrow", "an orange arrow is left of a red cross"]}
PICTURE = ASSETS / "mini" / "examples" / "a-red-cross-is-left-of-an-orange-arrow.png"

SOUND = File(name="a sound picture", filename=b"sound.png", make=png)


class Page:
    """A running page."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        config = wire.send(Call(name="config", path="/config")).json()
        if not config:
            raise SystemExit(f"No page answers at {wire.host}:{wire.port}.")
        self.events: list[dict[str, Any]] = config["dependencies"]
        self._fields = {field["id"]: field["props"] for field in config["components"]}

    def event(self, name: str) -> dict[str, Any]:
        """An event by the name of its handler."""
        return next(event for event in self.events if event["api_name"] == name)

    def usual(self, event: dict[str, Any], **given: Any) -> list[Any]:
        """What the page sends at first; given: other values, by the first word of a field's label."""
        sent = []
        for identity in event["inputs"]:
            props = self._fields.get(identity, {})
            word = str(props.get("label") or "").split(":")[0].lower()
            sent.append(given.get(word, props.get("value")))
        return sent

    def upload(self, file: File, data: bytes) -> Answer:
        kind, body = multipart(file.filename, data, file.kind)
        path = "/gradio_api/upload"
        return self.wire.send(
            Call(name=file.name, method="POST", path=path, headers=[("Content-Type", kind)], body=body)
        )

    def ask(self, event: dict[str, Any], data: Sequence[Any], **options: Any) -> Answer:
        """What an event answers, through the line where it waits there."""
        session = secrets.token_hex(6)
        body = {"data": data, "fn_index": event["id"], "session_hash": session, **options}
        if not event["queue"]:
            return self.wire.post("/gradio_api/run/predict", body, patience=PATIENCE)
        joined = self.wire.post("/gradio_api/queue/join", body)
        return joined if joined.status != 200 else self.listen(str(body["session_hash"]))

    def listen(self, session: str) -> Answer:
        """The answer that comes to a session."""
        path = f"/gradio_api/queue/data?session_hash={quote(session)}"
        return self.wire.send(Call(name="answer", path=path, until=DONE, patience=PATIENCE))

    def compare(self) -> str:
        """Asks a sound question; empty where it was answered, else what came."""
        uploaded = self.upload(File(name="sound", filename=b"sound.png", make=bytes), PICTURE.read_bytes()).json()
        if not uploaded:
            return "a sound picture is not taken"
        answer = self.ask(
            self.event("score"), self.usual(self.event("score"), image=file_data(uploaded[0]), **QUESTION)
        )
        rows = output_of(answer).get("data", [{}])[0]
        scored = [row for row in (rows.get("models", []) if isinstance(rows, dict) else []) if row.get("scores")]
        return "" if scored else f"no scores: {answer.text[-300:]}"


def file_data(path: str) -> dict[str, Any]:
    """How a field holds an uploaded file."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def path_in(answer: Answer) -> str:
    """The path that an upload got; empty where it was not taken."""
    paths = answer.json()
    return str(paths[0]) if isinstance(paths, list) and paths else ""


def output_of(answer: Answer) -> dict[str, Any]:
    """What an event gave: of a direct call its JSON, else the output of the last message."""
    whole = answer.json()
    if isinstance(whole, dict):
        return whole
    messages = [message for message in answer.messages() if message.get("msg") == "process_completed"]
    return messages[-1].get("output") or {} if messages else {}
