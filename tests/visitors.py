"""Many visitors at once, measured: `python -m tests.visitors http://127.0.0.1:7860 --visitors 60`.

One real browser visits the page and what it asks the server is recorded: opening, scoring, browsing, results. The
recording is then played back by many visitors, each with a session of its own, and every answer is timed, from the
request to its last message. With `--flood N`, a client first sends N requests and listens for none. Judges nothing.
With `--soak MINUTES`, a few visitors come again and again, and the server's memory before and after is compared; this
ends with 1 where it has grown by more than a tenth.

    python app.py --port 7860                                    in another terminal; then
    python -m tests.visitors http://127.0.0.1:7860 --visitors 60 --flood 200
    python -m tests.visitors http://127.0.0.1:7860 --soak 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Page, Request, sync_playwright

from tests.server_process import ServerProcess

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET = 1.5
"""Seconds without a request after which an action is over."""
TOGETHER = 10.0
"""Seconds over which visitors arrive."""
ACTIONS = ("open", "compare", "browse", "results")
FEW, ROUNDS_FIRST = 4, 3
"""Visitors of a soak at once, and how often each has come before memory is first looked at."""
LOOK_EVERY, GROWS = 5.0, 0.1
"""Seconds between two looks at the memory, and the share by which it may grow."""


@dataclass
class Recording:
    """What the page asks for, by action."""

    joins: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Bodies of `queue/join`."""
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Bodies of `run/predict`, which do not wait in the line."""


@dataclass
class Found:
    """What visitors met with."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By action, until its last answer is whole."""
    errors: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def record(address: str) -> Recording:
    """A real visit. Playwright's own errors where the page does not work."""
    found = Recording()
    doing = "open"
    last = time.monotonic()

    def note(asked: Request) -> None:
        nonlocal last
        last = time.monotonic()
        if asked.method == "POST" and asked.post_data and "/queue/join" in asked.url:
            found.joins[doing].append(json.loads(asked.post_data))
        if asked.method == "POST" and asked.post_data and "/run/predict" in asked.url:
            found.runs[doing].append(json.loads(asked.post_data))

    def settle(page: Page) -> None:
        while time.monotonic() - last < QUIET:
            page.wait_for_timeout(100)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("request", note)
        page.goto(address)
        page.locator("#tabs").wait_for()
        settle(page)
        for action, click in (
            ("compare", lambda: page.get_by_role("button", name="Score", exact=True).click()),
            ("browse", lambda: page.get_by_role("tab", name="Browse").click()),
            ("results", lambda: page.get_by_role("tab", name="Results").click()),
        ):
            doing = action
            click()
            page.wait_for_timeout(500)
            settle(page)
        browser.close()
    return found


async def visit(client: httpx.AsyncClient, recording: Recording, found: Found, hold: float) -> None:
    """One visitor, who does everything once. hold: seconds before they come."""
    await asyncio.sleep(hold)
    session = secrets.token_hex(6)
    start = time.monotonic()
    await _get(client, "/", found)
    found.seconds["first page"].append(time.monotonic() - start)
    for action in ACTIONS:
        start = time.monotonic()
        asked = [_queued(client, {**body, "session_hash": session}, found) for body in recording.joins[action]]
        asked += [_direct(client, {**body, "session_hash": session}, found) for body in recording.runs[action]]
        await asyncio.gather(*asked)
        if asked:
            found.seconds[action].append(time.monotonic() - start)
        await asyncio.sleep(random.uniform(0.2, 1.0))


async def _get(client: httpx.AsyncClient, path: str, found: Found) -> None:
    with _noted(found, path):
        answer = await client.get(path)
        if answer.status_code >= 400:
            found.errors.append(f"{path}: {answer.status_code}")


async def _queued(client: httpx.AsyncClient, body: dict[str, Any], found: Found) -> None:
    """Joins the line and listens until the answer is whole. Each request has a session of its own stream."""
    body = {**body, "session_hash": f"{body['session_hash']}{secrets.token_hex(2)}"}
    with _noted(found, "queue"):
        joined = await client.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            said = joined.json().get("detail", "") if "json" in joined.headers.get("content-type", "") else ""
            (found.refusals if said else found.errors).append(said or f"join: {joined.status_code}")
            return
        stream = client.stream("GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]})
        async with stream as answer:
            async for line in answer.aiter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        found.errors.append(str(message["output"])[:200])
                    return


async def _direct(client: httpx.AsyncClient, body: dict[str, Any], found: Found) -> None:
    with _noted(found, "run"):
        try:
            answer = await client.post("/gradio_api/run/predict", json=body)
        except (httpx.ReadError, httpx.RemoteProtocolError):  # the server closed an idle connection: browsers ask again
            answer = await client.post("/gradio_api/run/predict", json=body)
        if answer.status_code >= 400:
            found.errors.append(f"run: {answer.status_code}")


async def flood(address: str, recording: Recording, count: int) -> None:
    """Requests that nobody listens for, of what costs most."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        for _ in range(count):
            body = {**recording.joins["compare"][-1], "session_hash": secrets.token_hex(6)}
            await client.post("/gradio_api/queue/join", json=body)


async def come(address: str, recording: Recording, visitors: int) -> Found:
    """All of them."""
    found = Found()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        holds = [random.uniform(0, TOGETHER) for _ in range(visitors)]
        await asyncio.gather(*(visit(client, recording, found, hold) for hold in holds))
    return found


@dataclass
class Soak:
    """Resident memory of the server while visitors come again and again."""

    found: Found
    resident_mb: list[float]
    """From when every visitor had come a few times, every few seconds."""

    @property
    def growth(self) -> float:
        """Of the last tenth of the looks over the first, by their medians, as a share."""
        return growth_of(self.resident_mb)


def growth_of(looks: Sequence[float]) -> float:
    """The median of the last tenth over that of the first, less one."""
    few = max(1, len(looks) // 10)
    return float(np.median(looks[-few:]) / np.median(looks[:few]) - 1)


async def soak(address: str, recording: Recording, minutes: float, server: ServerProcess) -> Soak:
    """A few visitors, each of whom comes back as a new one."""
    result = Soak(Found(), [])
    rounds = [0] * FEW
    end = time.monotonic() + 60 * minutes

    async def come_again(number: int, client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            await visit(client, recording, result.found, 0.0)
            rounds[number] += 1

    async def look() -> None:
        while True:
            if min(rounds) >= ROUNDS_FIRST:
                result.resident_mb.append(server.resident_mb())
            await asyncio.sleep(LOOK_EVERY)

    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        looking = asyncio.ensure_future(look())
        await asyncio.gather(*(come_again(number, client) for number in range(FEW)))
        looking.cancel()
    if not result.resident_mb:
        raise SystemExit(f"No visitor came {ROUNDS_FIRST} times: soak for longer than {minutes:g} minutes.")
    return result


def soak_text(result: Soak) -> str:
    """The result for people."""
    looks = result.resident_mb
    said = f"resident memory: before {looks[0]:.0f} MB, after {looks[-1]:.0f} MB, most {max(looks):.0f} MB"
    return f"{as_text(result.found)}\n{said}, growth {100 * result.growth:+.1f} % (asked: {100 * GROWS:.0f} % at most)"


@contextmanager
def _noted(found: Found, what: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        found.errors.append(f"{what}: {type(error).__name__}")


def as_text(found: Found) -> str:
    """The result for people."""
    lines = [f"{'':12} {'n':>4} {'median':>8} {'p95':>8} {'most':>8}   seconds"]
    for action, values in found.seconds.items():
        middle, high = np.percentile(values, [50, 95])
        lines.append(f"{action:12} {len(values):4} {middle:8.2f} {high:8.2f} {max(values):8.2f}")
    lines.append(f"errors {len(found.errors)}, refusals with a sentence {len(found.refusals)}")
    lines += sorted(set(found.errors))[:5] + sorted(set(found.refusals))[:5]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Play a visit back by many visitors at once.")
    parser.add_argument("address")
    parser.add_argument("--visitors", type=int, default=60)
    parser.add_argument("--flood", type=int, default=0, help="requests that nobody listens for, sent first")
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES", help="a few visitors, for so long")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random.seed(asked.seed)
    recording = record(asked.address)
    counts = {action: len(recording.joins[action]) + len(recording.runs[action]) for action in ACTIONS}
    print("requests of one visit:", counts, flush=True)
    if asked.flood:
        asyncio.run(flood(asked.address, recording, asked.flood))
    if asked.soak:
        result = asyncio.run(soak(asked.address, recording, asked.soak, ServerProcess.at(asked.address)))
        print(soak_text(result))
        return int(result.growth > GROWS)
    print(as_text(asyncio.run(come(asked.address, recording, asked.visitors))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
