"""What a server on this machine costs: seconds of processor time and memory of its process and their children."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

MB = 1_000_000
LOOK_EVERY = 0.01
"""Seconds between two looks at the memory."""


@dataclass
class Cost:
    """Of something that was asked of a server."""

    seconds: float = 0.0
    """Of processor time."""
    peak_mb: float = 0.0
    """Most memory, less what it held before."""


class ServerProcess:
    """The process that listens at an address of this machine, with its children."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self._family = [process]

    @classmethod
    def at(cls, address: str) -> ServerProcess:
        """Raises `SystemExit` with a sentence where no process of this machine listens there."""
        port = urlsplit(address).port or 80
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
                return cls(psutil.Process(one.pid))
        raise SystemExit(f"No server of this machine listens at {address}: start one, python app.py --port {port}.")

    def is_alive(self) -> bool:
        return bool(self.process.is_running()) and self.process.status() != psutil.STATUS_ZOMBIE

    def seconds(self) -> float:
        """Of processor time, until now."""
        return sum(sum(times[:4]) for times in self._each("cpu_times"))

    def resident_mb(self) -> float:
        return float(sum(memory.rss for memory in self._each("memory_info")) / MB)

    def proportional_mb(self) -> float:
        """PSS: pages that processes share are counted once. Only on Linux."""
        return float(sum(memory.pss for memory in self._each("memory_full_info")) / MB)

    @contextmanager
    def watched(self) -> Iterator[Cost]:
        """What is asked of the server inside this context."""
        with suppress(psutil.Error):
            self._family = [self.process, *self.process.children(recursive=True)]
        cost, before, began, is_over = Cost(), self.resident_mb(), self.seconds(), threading.Event()

        def look() -> None:
            while not is_over.wait(LOOK_EVERY):
                cost.peak_mb = max(cost.peak_mb, self.resident_mb() - before)

        watch = threading.Thread(target=look)
        watch.start()
        try:
            yield cost
        finally:
            is_over.set()
            watch.join()
            cost.seconds = self.seconds() - began

    def _each(self, what: str) -> Iterator[tuple[float, ...]]:
        for one in self._family:
            with suppress(psutil.Error):
                yield getattr(one, what)()
