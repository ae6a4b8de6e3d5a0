"""Cutting a stream into parts that are worked on at once. Knows nothing of what is in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def parts_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter; no more is taken from `items` than is handed on."""
    source = iter(items)
    while part := list(itertools.islice(source, size)):
        yield part
