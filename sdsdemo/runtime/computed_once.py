"""What many visitors ask for alike is computed for the first and kept for the others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ComputedOnce(Generic[Value]):
    """Values by key, the least recently asked for forgotten first. Safe to share between threads.

    Whoever asks while a value is being computed waits for it. A failure is raised to everyone who waits, and not kept.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, tuple[Lock, list[Value], list[Exception]]] = {}
        self._table = Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not here. Raises what `make` raises."""
        with self._table:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            lock, made, failed = self._making.setdefault(key, (Lock(), [], []))
        with lock:
            if failed:
                raise failed[0]
            if not made:
                try:
                    made.append(make())
                except Exception as error:
                    failed.append(error)
                    raise
                finally:
                    self._settle(key, made)
        return made[0]

    def _settle(self, key: Hashable, made: list[Value]) -> None:
        with self._table:
            del self._making[key]
            if made:
                self._values[key] = made[0]
                while len(self._values) > self._kept:
                    self._values.popitem(last=False)
