"""Lists and counts as sentences hold them."""

from __future__ import annotations

from collections.abc import Sequence


def and_list(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; empty for none."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def count_of(count: int, what: str, several: str = "") -> str:
    """`1 base`, `1,200 bases`. several: the plural, if it is not `what` with an s."""
    return f"{count:,} {what if count == 1 else several or f'{what}s'}"
