"""Damaged and reshaped files, from a seed: what a disk, an editor, another program or another version makes of one."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 10**30, 1e308, -0.5, "", "x", "0", "NaN", "../..", "\ud800", "\u2028", [],
    {}, [[]], [None], ["a", 1], [[1.0, 2.0]], {"a": {}}, {"id": "0"}, float("nan"), float("inf"),
)  # fmt: skip
"""What may stand where something else should."""
RAW = (
    b"\xff\xfe",
    b"\x00",
    b"\n",
    b"\r\n",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"{",
    b"]",
    b'"',
    "\u2028".encode(),
    b"\xef\xbb\xbf",
)


def damaged(content: bytes, seed: int, *, lines: bool = False) -> bytes:
    """The content of a JSON file, or of one of JSON lines, changed in one to three places."""
    draw = random.Random(seed)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        content = _reshaped(content, draw, lines) if draw.random() < 0.7 else _broken(content, draw)
    return content


def _broken(content: bytes, draw: random.Random) -> bytes:
    at, kind = draw.randrange(len(content) + 1), draw.randrange(5)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + draw.choice(RAW) + content[at:]
    if kind == 2:
        return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
    if kind == 3:
        return content[:at] + content[at + draw.randrange(60) :]
    rows = content.split(b"\n")
    return b"\n".join(draw.choice([rows[::-1], rows * 2, rows[1:], draw.sample(rows, len(rows)), [b"", *rows]]))


def _reshaped(content: bytes, draw: random.Random, lines: bool) -> bytes:
    """Sound JSON of another shape; the content as it is where it is no JSON any more."""
    rows = content.decode("utf-8", errors="surrogateescape").split("\n") if lines else []
    number = draw.randrange(len(rows)) if rows else 0
    try:
        value = json.loads(rows[number] if lines else content)
    except (ValueError, RecursionError):
        return content
    text = json.dumps(_changed(value, draw), indent=None if lines else 1)
    if not lines:
        return text.encode("utf-8", errors="surrogateescape")
    return "\n".join([*rows[:number], text, *rows[number + 1 :]]).encode("utf-8", errors="surrogateescape")


def _changed(value: Any, draw: random.Random) -> Any:
    changed = copy.deepcopy(value)
    places = list(_places(changed))
    if not places or draw.random() < 0.05:
        return draw.choice(VALUES)
    holder, key = draw.choice(places)
    kind = draw.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, where = draw.choice(places)
        holder[key] = copy.deepcopy(other[where])
    elif kind == 2 and isinstance(holder, dict):
        holder[draw.choice(["id", "model", "x", "kind", ""])] = holder.pop(key)
    elif kind == 3 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 4:
        holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(draw.choice(VALUES))
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place inside a JSON value, as its holder and the key there."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
