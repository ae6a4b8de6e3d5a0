"""A result as a file to download: CSV, JSON, or its bar chart as PNG or SVG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from sdsdemo.evaluation.result_schema import Result
from sdsdemo.evaluation.tables import as_csv
from sdsdemo.runtime.files import finite, to_json
from sdsdemo.ui.results_html import file_stem

KINDS: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8", "json": "application/json", "png": "image/png", "svg": "image/svg+xml",
}  # fmt: skip
"""By ending, the media type."""


class File(NamedTuple):
    """What the server sends."""

    kind: str
    body: bytes
    name: str = ""
    """Under which a browser saves it; empty for what it shows."""


def addresses(name: str) -> dict[str, str]:
    """Where the page finds the files of a result, by ending."""
    return {ending: f"results/{quote(name)}.{ending}" for ending in KINDS}


def result_file(result: Result, ending: str) -> File:
    """A result as a file. ending: one of `KINDS`."""
    if ending == "csv":
        body = as_csv([result]).encode()
    elif ending == "json":
        body = to_json(finite(result), indent=1).encode()
    else:
        body = _drawn(json.dumps(result), ending)
    return File(kind=KINDS[ending], body=body, name=f"{file_stem(result)}.{ending}")


@lru_cache(maxsize=32)
def _drawn(stored: str, ending: str) -> bytes:
    """The figure of a result as JSON: drawn once, since most visitors ask for the same results."""
    from sdsdemo.evaluation.figures import save_shares

    result: Result = json.loads(stored)
    return save_shares(result, ending)
