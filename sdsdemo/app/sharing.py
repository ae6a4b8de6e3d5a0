"""Names that are made of a run's id and do not tell it: for links, and for the tabs that use the run's model.

A run's id lets its owner stop, resume and publish the run, so it never leaves the owner's browser. The names are
digests of the id, 128 bits that cannot be guessed. Whoever has the shared name can watch the run and use its model;
whoever has the download name can download its files. Neither name tells the other.
"""

from __future__ import annotations

import base64
import hashlib

TUNED = "tuned:"
"""Prefix of a shared name."""
WHY_GONE = "the model that its owner tuned here is no longer on this server"
"""Said after a colon, of a link; `GONE` is the sentence."""
GONE = f"T{WHY_GONE[1:]}."


def shared_name(id_: str) -> str:
    """The shared name of the run with this id."""
    return TUNED + _digest(f"shared {id_}")


def download_name(id_: str) -> str:
    """The name under which the page links to the files of the run with this id."""
    return _digest(f"files {id_}")


def is_shared(name: str) -> bool:
    """Whether this is a shared name, of a run that may or may not be here."""
    return name.startswith(TUNED)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
