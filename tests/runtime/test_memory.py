"""Freed memory goes back to the system, where the C library keeps it."""

from __future__ import annotations

import sys

import psutil
import pytest

from sdsdemo.runtime import memory

BLOCK, COUNT = 100_000, 2_000


@pytest.mark.skipif(sys.platform != "linux" or memory._trim() is None, reason="only glibc keeps it so")
def test_freed_memory_goes_back() -> None:
    """Every second block is freed: none of them lies at the end of the heap, which goes back by itself."""
    process = psutil.Process()
    blocks = [bytearray(b"x" * BLOCK) for _ in range(COUNT)]
    del blocks[::2]
    before = process.memory_info().rss
    memory.give_back()
    assert before - process.memory_info().rss > BLOCK * COUNT / 4


def test_where_the_c_library_keeps_nothing_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.give_back()
