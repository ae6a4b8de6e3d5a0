"""Writes the experiment's tables into `docs/mini.md`, between its markers. Computes and trains nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdsdemo.mini.verify import FINDINGS
from sdsdemo.settings import ROOT
from sdsdemo.study_tables import TITLES, as_markdown, bases_grid, study_markdown

DOCUMENT = ROOT / "docs" / "mini.md"


def blocks(found: Mapping[str, Any]) -> dict[str, str]:
    """What stands between the markers of each name."""
    return {"bases": as_markdown(bases_grid(found["bases"])), **{name: study_markdown(found[name]) for name in TITLES}}


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with every part between its own `<!-- name -->` and `<!-- /name -->`."""
    for name, part in parts.items():
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = between.sub(part.replace("\\", r"\\") + "\n", text)
    return text


def write(path: Path = DOCUMENT) -> Path:
    """The document with today's findings."""
    found = json.loads(FINDINGS.read_text())
    path.write_text(filled(path.read_text(encoding="utf-8"), blocks(found)), encoding="utf-8")
    return path
