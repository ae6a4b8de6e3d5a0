"""The project's documents, where they are here: in a checkout, not in an installed package."""

from __future__ import annotations

import re

from sdsdemo.settings import ROOT

DOCS = ROOT / "docs"
NAME = r"(?:mini/)?[a-z0-9-]+\.(?:md|png)"


def is_document(name: str) -> bool:
    """Whether a document can be linked to. name: such as `mini.md`."""
    return bool(re.fullmatch(NAME, name)) and (DOCS / name).is_file()
