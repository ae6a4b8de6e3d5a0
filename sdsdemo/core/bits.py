"""Booleans as hexadecimal digits, as stored runs keep them: one bit an example."""

from __future__ import annotations

import numpy as np


def packed(right_E: np.ndarray) -> str:
    """Booleans as the hexadecimal digits that a line stores."""
    return np.packbits(right_E.astype(bool)).tobytes().hex()


def unpacked(bits: str, n: int) -> np.ndarray:
    """The first n booleans that a line stores as hexadecimal digits. Raises `ValueError` if it stores fewer."""
    found = np.unpackbits(np.frombuffer(bytes.fromhex(bits), dtype=np.uint8))[:n].astype(bool)
    if len(found) < n:
        raise ValueError(f"{len(found)} bits are stored, and {n} are wanted")
    return found
