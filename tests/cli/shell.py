"""A command as it is typed in a shell: its exit status, and what it prints."""

from __future__ import annotations

import pytest

from sdsdemo.cli.main import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err
