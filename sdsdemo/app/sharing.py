"""The name by which a visitor shares a fine-tuned model: in links, and in Compare, Browse and Results.

A run's id lets its owner stop, resume and publish the run, so it never leaves the owner's browser. The name is a digest
of the id: whoever has it can watch the run and use its model, and can do nothing else.
"""

from __future__ import annotations

import base64
import hashlib

TUNED = "tuned:"
"""Prefix of a shared name."""
GONE = "It was a model that its owner tuned here, and it is no longer on this server."


def shared_name(id_: str) -> str:
    """The shared name of the run with this id; 128 bits that cannot be guessed and do not tell the id."""
    digest = hashlib.sha256(f"shared {id_}".encode()).digest()[:16]
    return TUNED + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_shared(name: str) -> bool:
    """Whether this is a shared name, of a run that may or may not be here."""
    return name.startswith(TUNED)
