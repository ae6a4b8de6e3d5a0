"""Sends every hostile file and request to a page, judges each answer, and measures the server meanwhile."""

from __future__ import annotations

import random
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from tests.hostile import tables
from tests.hostile.calls import calls
from tests.hostile.files import File, png
from tests.hostile.judging import Judge
from tests.hostile.names import names
from tests.hostile.page import QUESTION, SOUND, Page, file_data, path_in
from tests.hostile.page_calls import Asked, page_calls
from tests.hostile.pictures import pictures
from tests.hostile.wire import Answer, Call, Wire
from tests.server_process import Cost, ServerProcess

MOST_SECONDS, MOST_MB = 2.0, 400.0
"""What an upload of allowed size may cost."""
AT_ONCE, GROWN = 12, 1.1
"""Uploads at once, and how much memory the server may hold afterwards, of before."""
SETTLES = 20.0
"""Seconds within which memory comes back."""
AN_ADDRESS_EACH = 25
"""Files after which another address sends: each has a share."""
T = TypeVar("T")


@dataclass
class Sent:
    """One hostile file or request and what came of it."""

    group: str
    name: str
    faults: list[str] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def __str__(self) -> str:
        said = "; ".join(self.faults) or "well"
        return f"{self.group}, {self.name}: {self.cost.seconds:.2f} s, {self.cost.peak_mb:.0f} MB, {said}"


class Campaign:
    """Everything against one page. measures: whether the server is a process of its own, whose cost is judged."""

    def __init__(self, address: str, seed: int, *, measures: bool = True) -> None:
        self.wire, self.seed, self.measures = Wire(address), seed, measures
        self.page = Page(self.wire)
        self.server = ServerProcess.at(address)
        self._folder = tempfile.TemporaryDirectory()
        secret = secrets.token_hex(12)
        self._secret = Path(self._folder.name) / "secret.txt"
        self._secret.write_text(secret)
        self._uploaded = path_in(self.page.upload(SOUND, png()))
        self.judge = Judge(self._uploaded, secret)
        self._count = 0

    # ------------------------------------------------------------------------------------------------------ files

    def files(self, most: int | None = None) -> Iterator[Sent]:
        """Each file through the ways of a visitor."""
        for group, made in (("pictures", pictures()), ("names", names()), ("tables", tables.tables())):
            for file in _some(made, most, self.seed):
                yield self._file(group, file)

    def shell(self, most: int | None = None) -> Iterator[Sent]:
        """The tables as the shell reads them."""
        for file in _some(tables.tables(), most, self.seed):
            with tempfile.TemporaryDirectory() as folder:
                read = tables.read(file, Path(folder))
            yield Sent("tables, in the shell", file.name, [read.fault] if read.fault else [], read.cost)

    def _file(self, group: str, file: File) -> Sent:
        data, sent = file.make(), Sent(group, file.name)
        self._count += 1
        self.wire.come_from(10 + self._count // AN_ADDRESS_EACH)
        with self._costs(sent):
            answers = self._upload(file, data)
        if path := path_in(answers[0]):
            answers.append(self._score(path))
        held = [file.filename, file.filename.decode("utf-8", "replace").encode()]
        sent.faults += [
            fault for answer in answers for fault in self.judge.faults(answer, held, may_be_cut=len(data) > 8_000_000)
        ]
        if self.measures and sent.cost.seconds > MOST_SECONDS:
            sent.faults.append(f"{sent.cost.seconds:.1f} s of processor time")
        if self.measures and sent.cost.peak_mb > MOST_MB:
            sent.faults.append(f"{sent.cost.peak_mb:.0f} MB more memory")
        return self._still_there(sent)

    def _upload(self, file: File, data: bytes) -> list[Answer]:
        """As the page does it: the picture is sent, looked at, and the form followed."""
        answers = [self.page.upload(file, data)]
        path = path_in(answers[0])
        for name in ("_check_picture", "_follow") if path else ():
            event = self.page.event(name)
            answers.append(self.page.ask(event, self.page.usual(event, picture=file_data(path))))
        return answers

    def _score(self, path: str) -> Answer:
        event = self.page.event("score")
        asked = self.page.usual(event, image=file_data(path), models=["mini-clip"], timesteps=1, **QUESTION)
        return self.page.ask(event, asked)

    # --------------------------------------------------------------------------------------------------- requests

    def requests(self, most: int | None = None) -> Iterator[Sent]:
        """Those by hand, and those to every event."""
        self.wire.come_from(5)
        for call in _some(calls(self._uploaded, self._secret), most, self.seed):
            yield self._request("by hand", call.name, call)
        for asked in _some(list(page_calls(self.page, self.seed)), most, self.seed):
            yield self._request("events", asked.name, asked)

    def count_of_requests(self) -> int:
        return len(calls(self._uploaded, self._secret)) + len(list(page_calls(self.page, self.seed)))

    def _request(self, group: str, name: str, request: Call | Asked) -> Sent:
        sent, began = Sent(group, name), self.server.seconds()
        if isinstance(request, Call):
            answer, held = self.wire.send(request), _held(request)
        else:
            answer, held = self.page.ask(request.event, request.data, **request.options), []
        sent.cost.seconds = self.server.seconds() - began
        sent.faults = self.judge.faults(answer, held, may_be_cut=isinstance(request, Call) and request.may_be_cut)
        return self._still_there(sent)

    def cancels(self) -> Sent:
        """Somebody else cancels every event, while a visitor waits for an answer."""
        self.wire.come_from(6)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.page.compare)
            for event in self.page.events:
                body = {"session_hash": "another", "fn_index": event["id"], "event_id": secrets.token_hex(16)}
                self.wire.post("/gradio_api/cancel", body)
            fault = asked.result()
        return Sent("others", "every event is cancelled by another", [fault] if fault else [])

    # ------------------------------------------------------------------------------------------------- at the end

    def at_once(self) -> Sent:
        """The heaviest sound pictures, twelve at once, twice: memory comes back."""
        heavy = [file for file in pictures() if "megapixels" in file.name][:AT_ONCE]
        data = [(file, file.make()) for file in heavy]
        before = self.server.resident_mb()
        sent = Sent(f"{len(heavy)} at once", f"memory before {before:.0f} MB")
        self.wire.come_from(200)
        with self._costs(sent), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: self._upload(*one), data))
        end = time.monotonic() + SETTLES
        while self.server.resident_mb() > GROWN * before and time.monotonic() < end:
            time.sleep(0.2)
        after = self.server.resident_mb()
        sent.name += f", after {after:.0f} MB"
        sent.faults = ["memory does not come back"] if self.measures and after > GROWN * before else []
        return sent

    def answers_still(self) -> Sent:
        """A sound question."""
        self.wire.come_from(201)
        fault = self.page.compare()
        return Sent("at the end", "Compare answers", [fault] if fault else [])

    def _still_there(self, sent: Sent) -> Sent:
        if not self.server.is_alive():
            raise SystemExit(f"The server died of {sent.group}, {sent.name}.")
        return sent

    @contextmanager
    def _costs(self, sent: Sent) -> Iterator[None]:
        with self.server.watched() as sent.cost:
            yield


def _some(found: list[T], most: int | None, seed: int) -> list[T]:
    """All of them, or so many by a seed."""
    return found if most is None or most >= len(found) else random.Random(seed).sample(found, most)


def _held(call: Call) -> list[bytes]:
    """What a request says, as it may be repeated in an answer."""
    path = call.path if isinstance(call.path, bytes) else call.path.encode()
    whole = [path[:10_000], unquote_to_bytes(path)[:10_000]]
    return [*whole, *(one[at.start() :] for one in whole for at in islice(re.finditer(b"[/=]", one), 30))]


def table(sent: list[Sent]) -> str:
    """A line per group, and one per fault."""
    groups: dict[str, list[Sent]] = {}
    for one in sent:
        groups.setdefault(one.group, []).append(one)
    marks = ("a traceback", "a path", "a secret", "status 5", "refused without", "no answer")
    heads = ("tracebacks", "paths", "secrets", "5xx", "no sentence", "no answer")
    lines = [
        f"{'':<22}{'sent':>6}{'faulty':>8}" + "".join(f"{head:>12}" for head in heads) + f"{'most s':>9}{'most MB':>9}"
    ]
    for group, found in [*groups.items(), ("all", sent)]:
        counts = [sum(any(fault.startswith(mark) for fault in one.faults) for one in found) for mark in marks]
        line = f"{group:<22}{len(found):>6}{sum(bool(one.faults) for one in found):>8}"
        line += "".join(f"{count:>12}" for count in counts)
        lines.append(
            line + f"{max(one.cost.seconds for one in found):>9.2f}{max(one.cost.peak_mb for one in found):>9.0f}"
        )
    return "\n".join([*lines, *(str(one) for one in sent if one.faults)])
