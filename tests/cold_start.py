"""From a cold start to the first page and the first answer, and memory when idle: `python -m tests.cold_start`.

Starts `python app.py` as a user does, asks for the page until it comes whole, asks the default question, which loads
the three Mini models, waits, and looks at the server's memory. Ends with 1 where a figure is beyond what was asked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from sdsdemo.settings import ROOT
from tests.hostile.page import PICTURE, QUESTION, SOUND, Page, file_data, output_of, path_in
from tests.hostile.wire import Call, Wire
from tests.server_process import ServerProcess

PAGE_SECONDS, IDLE_MB = 8.0, 1_100.0
"""Asked: seconds until the page answers, and MB (PSS) with the three Mini models loaded."""
SETTLES = 10.0
"""Seconds after the answer, before memory is looked at."""
PATIENCE = 120.0
MODELS = ["mini-clip", "mini-diffusion", "mini-sds-clip"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start."""

    page: float
    """Seconds from the command to the whole page."""
    answer: float
    """Seconds of the first Compare, which loads its models."""
    again: float
    """Seconds of the next one."""
    resident_mb: float
    proportional_mb: float

    @property
    def faults(self) -> list[str]:
        slow = [f"the page took {self.page:.1f} s"] if self.page > PAGE_SECONDS else []
        return slow + ([f"{self.proportional_mb:.0f} MB when idle"] if self.proportional_mb > IDLE_MB else [])


def start(port: int) -> Start:
    """Starts a server, visits it, and ends it. Raises `SystemExit` where no page or no answer comes."""
    with tempfile.TemporaryFile() as printed:
        began = time.monotonic()
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port)]
        server = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, cwd=ROOT, env=dict(os.environ))
        try:
            return _visited(Wire(f"http://127.0.0.1:{port}"), server, began)
        finally:
            server.terminate()
            server.wait(30)


def _visited(wire: Wire, server: subprocess.Popen[bytes], began: float) -> Start:
    whole = Call(name="page", path="/", patience=5)
    while b"</html>" not in wire.send(whole).body:
        if server.poll() is not None or time.monotonic() > began + PATIENCE:
            raise SystemExit(f"No page came: app.py ended with {server.poll()}.")
        time.sleep(0.05)
    seconds = time.monotonic() - began
    page = Page(wire)
    answer, again = _asked(page), _asked(page)
    time.sleep(SETTLES)
    process = ServerProcess.at(f"http://127.0.0.1:{wire.port}")
    return Start(
        page=seconds,
        answer=answer,
        again=again,
        resident_mb=process.resident_mb(),
        proportional_mb=process.proportional_mb(),
    )


def _asked(page: Page) -> float:
    """Seconds that the three Mini models took for one question."""
    path = path_in(page.upload(SOUND, PICTURE.read_bytes()))
    event, began = page.event("score"), time.monotonic()
    answer = page.ask(event, page.usual(event, image=file_data(path), models=MODELS, **QUESTION))
    if not output_of(answer).get("data"):
        raise SystemExit(f"No answer came: {answer.text[-300:]}")
    return time.monotonic() - began


def as_text(found: Start) -> str:
    """The result for people."""
    lines = (
        f"first page        {found.page:6.1f} s    asked: {PAGE_SECONDS:.0f} s",
        f"first Compare     {found.answer:6.1f} s    loads the three Mini models",
        f"next Compare      {found.again:6.1f} s",
        f"idle, PSS         {found.proportional_mb:6.0f} MB   asked: {IDLE_MB:.0f} MB",
        f"idle, resident    {found.resident_mb:6.0f} MB   with what other processes share",
    )
    return "\n".join([*lines, *found.faults])


def run(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cold_start")
    parser.add_argument("--port", type=int, default=7870)
    found = start(parser.parse_args(arguments).port)
    print(as_text(found))
    return int(bool(found.faults))


if __name__ == "__main__":
    sys.exit(run())
