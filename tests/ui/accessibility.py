"""What axe-core finds wrong with a page, in words."""

from __future__ import annotations

import pytest

pytest.importorskip("axe_playwright_python", reason="the checks of accessibility need requirements-dev.txt")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

OURS = {"exclude": [["footer"]]}
"""Gradio's footer says the name of each icon twice."""

ALSO = ("target-size", "label-content-name-mismatch")
"""Rules that axe-core leaves out unless they are asked for."""


def faults(page: Page, rules: list[str] | None = None) -> list[str]:
    """One line for each element that breaks a rule of axe-core. rules: only these."""
    only = {"runOnly": {"type": "rule", "values": rules}}
    options = only if rules else {"rules": {name: {"enabled": True} for name in ALSO}}
    found = Axe().run(page, context=OURS, options=options).response["violations"]
    return [f"{fault['id']}: {node['target']} {node['html'][:120]}" for fault in found for node in fault["nodes"]]
