"""The documents show the stored figures, and only what lies between their markers is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdsdemo.errors import UserError
from sdsdemo.mini.experiments import document, verify


@pytest.mark.slow
def test_the_document_shows_what_the_shipped_lines_say() -> None:
    found = json.loads(verify.FINDINGS.read_text())
    assert json.loads(json.dumps(verify.read_findings(verify.EXPERIMENT))) == found
    texts = [file.read_text() for file in document.DOCUMENTS]
    for text in texts:
        assert document.filled(text, document.blocks(found)) == text
    for name, part in document.blocks(found).items():
        assert part, name
        assert any(part in text for text in texts), name


def test_a_block_is_written_between_its_own_markers_alone() -> None:
    text = "a\n<!-- one -->\nold\n<!-- /one -->\n<!-- two -->\n<!-- /two -->\nb"
    assert document.filled(text, {"one": "x | y"}) == text.replace("old", "x | y")


def test_an_installed_package_without_documents_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no README\.md here .* in a clone"):
        document.write((tmp_path / "README.md",), tmp_path / "docs")
    assert list(tmp_path.iterdir()) == []
