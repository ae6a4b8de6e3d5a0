"""What axe-core finds wrong with a page, in words."""

from __future__ import annotations

import pytest

pytest.importorskip("axe_playwright_python", reason="the checks of accessibility need requirements-dev.txt")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

OURS = {"exclude": [["footer"]]}
"""Gradio's footer says the name of each icon twice."""


def faults(page: Page, rules: list[str] | None = None) -> list[str]:
    """One line for each element that breaks a rule of axe-core. rules: only these."""
    options = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    found = Axe().run(page, context=OURS, options=options).response["violations"]
    return [f"{fault['id']}: {node['target']} {node['html'][:120]}" for fault in found for node in fault["nodes"]]
