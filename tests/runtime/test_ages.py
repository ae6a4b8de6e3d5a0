"""Ages of files hold though the computer's clock is set."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from sdsdemo.runtime import homes
from sdsdemo.runtime.ages import Ages

YEAR = 365 * 86_400.0
FILE = Path("file")


class Clocks:
    """A clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall, self.steady = 1e9, 50.0
        self.ages = Ages(lambda: self.wall, lambda: self.steady)

    def pass_by(self, seconds: float, *, set_by: float = 0.0) -> None:
        self.wall += seconds + set_by
        self.steady += seconds

    def age(self, changed: float) -> float:
        return self.ages.of({FILE: changed})[FILE]


@pytest.mark.parametrize("set_by", [-YEAR, -3600.0, 0.0, 3600.0, YEAR])
def test_an_age_grows_as_time_does_wherever_the_clock_is_set(set_by: float) -> None:
    clocks = Clocks()
    changed = clocks.wall - 100
    assert clocks.age(changed) == 100
    clocks.pass_by(60, set_by=set_by)
    assert clocks.age(changed) == 160


@pytest.mark.parametrize("set_by", [-YEAR, YEAR])
def test_a_file_is_no_older_than_the_round_that_did_not_see_it(set_by: float) -> None:
    clocks = Clocks()
    clocks.ages.of({})
    clocks.pass_by(10)
    changed = clocks.wall
    clocks.pass_by(50, set_by=set_by)
    assert 0 <= clocks.age(changed) <= 60


def test_a_file_from_the_future_ages_from_when_it_is_seen() -> None:
    clocks = Clocks()
    changed = clocks.wall + YEAR
    assert clocks.age(changed) == 0
    clocks.pass_by(90)
    assert clocks.age(changed) == 90


def test_a_file_that_is_changed_is_young_again() -> None:
    clocks = Clocks()
    clocks.age(clocks.wall - YEAR)
    clocks.pass_by(30)
    assert clocks.age(clocks.wall - 5) == 5


def test_an_upload_outlives_jumps_of_the_clock_and_not_its_age(tmp_path: Path) -> None:
    clocks = Clocks()
    clocks.wall = time.time()
    trim = partial(homes.trim, tmp_path, seconds=1_000, most_bytes=10**9, spared=60, ages=clocks.ages)
    trim()
    (tmp_path / "upload").write_bytes(b"1")
    clocks.pass_by(50, set_by=YEAR)
    trim()
    assert (tmp_path / "upload").exists()
    clocks.pass_by(1_000, set_by=-2 * YEAR)
    trim()
    assert not (tmp_path / "upload").exists()


def test_a_server_keeps_ages_between_its_rounds(tmp_path: Path) -> None:
    """A file whose time says the future goes in the end: see `janitor_of`, which hands on the same ages."""
    clocks = Clocks()
    (tmp_path / "upload").write_bytes(b"1")
    os.utime(tmp_path / "upload", (clocks.wall + YEAR,) * 2)
    for left in (True, False):
        homes.trim(tmp_path, seconds=100, most_bytes=10**9, spared=60, ages=clocks.ages)
        assert (tmp_path / "upload").exists() == left
        clocks.pass_by(150)
