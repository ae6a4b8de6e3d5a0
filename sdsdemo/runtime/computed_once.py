"""What many visitors ask for alike is computed for the first and kept for the others."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakSet

Value = TypeVar("Value")


class _Kept(NamedTuple, Generic[Value]):
    value: Value
    size: int
    since: float


class ComputedOnce(Generic[Value]):
    """Values by key, the least recently asked for forgotten first. Safe to share between threads.

    Whoever asks while a value is being computed waits for it. A failure is raised to everyone who waits, and not kept.
    """

    def __init__(
        self, most: int, size: Callable[[Value], int] = lambda value: 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """most: what the sizes of all kept values may add up to. By default, each value counts as one.

        A value larger than that is given to those who wait for it, and not kept.
        """
        self._most, self._size, self._clock = most, size, clock
        self._values: OrderedDict[Hashable, _Kept[Value]] = OrderedDict()
        self._total = 0
        """The sizes of all values, added up."""
        self._making: dict[Hashable, tuple[Lock, list[Value], list[Exception]]] = {}
        self._table = Lock()
        _all.add(self)

    def find(self, key: Hashable) -> Value | None:
        """The value of a key, if it is here."""
        with self._table:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key].value

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not here. Raises what `make` raises."""
        with self._table:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key].value
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

    def forget(self, older: float) -> None:
        """Forgets what was computed longer than so many seconds ago."""
        since = self._clock() - older
        with self._table:
            for key in [key for key, kept in self._values.items() if kept.since < since]:
                self._total -= self._values.pop(key).size

    def _settle(self, key: Hashable, made: list[Value]) -> None:
        with self._table:
            del self._making[key]
            for value in made:
                self._keep(key, _Kept(value, self._size(value), self._clock()))

    def _keep(self, key: Hashable, kept: _Kept[Value]) -> None:
        if kept.size > self._most:
            return
        self._values[key] = kept
        self._total += kept.size
        while self._total > self._most:
            self._total -= self._values.popitem(last=False)[1].size


_all: WeakSet[ComputedOnce[Any]] = WeakSet()


def forget(older: float) -> None:
    """Whatever was computed longer than so many seconds ago is forgotten everywhere: it may hold visitors' pictures."""
    for once in list(_all):
        once.forget(older)
