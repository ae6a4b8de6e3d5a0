"""Kills and full disks at a dozen moments: nothing that was said to be saved is lost, and the same command goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import forks
from tests.faults import places


@pytest.mark.slow
def test_what_was_saved_survives_kills_and_full_disks(tmp_path: Path) -> None:
    """`python -m tests.faults` makes a hundred and more, of the page's server too."""
    command = ("tests.faults", "--kills", "12", "--seed", "5", "--place", *places.PLACES)
    printed = forks.ran(forks.run_module, *command, out=tmp_path / "printed")
    assert printed.splitlines()[-1].split() == ["all", "18", "0", "0"], printed
