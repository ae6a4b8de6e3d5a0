"""Digests of files: read once, and never taken from before where the content may be another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sdsdemo.runtime import digests, files
from sdsdemo.runtime.digests import Digests

LONG_AGO = 1_600_000_000


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files of any size are kept, and each whole reading is noted."""
    found: list[Path] = []
    whole = digests.digest_of
    monkeypatch.setattr(digests, "SMALL", 0)
    monkeypatch.setattr(digests, "digest_of", lambda paths: found.extend(paths) or whole(found[-1:]))
    return found


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been there for a while."""
    monkeypatch.setattr(files, "YOUNG", -1e18)


def test_a_file_that_stays_is_read_once_and_by_no_later_process(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    path, kept = tmp_path / "a.bin", tmp_path / "cache" / "kept.jsonl"
    path.write_bytes(b"weights")
    for known in (Digests(kept), Digests(kept)):
        assert known.of(path) == known.of(path) == hashlib.sha256(b"weights").hexdigest()
    assert reads == [path]


def test_a_change_with_the_old_time_and_size_is_seen(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    path, known = tmp_path / "a.bin", Digests()
    path.write_bytes(b"one")
    os.utime(path, (LONG_AGO, LONG_AGO))
    first = known.of(path)
    path.write_bytes(b"two")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert known.of(path) != first


def test_a_file_of_this_moment_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path, known = tmp_path / "a.bin", Digests()
    path.write_bytes(b"one")
    known.of(path)
    known.of(path)
    assert len(reads) == 2


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\n", b"[1]\n", b'["a", 1, 2, 3, 4]\n{"a": 1}\n', b'["a", "b", 2, 3, 4, "d"]\n']
)
def test_a_damaged_cache_costs_only_time(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kept.jsonl").write_bytes(content)
    (tmp_path / "a.bin").write_bytes(b"x" * (digests.SMALL + 1))
    assert Digests(tmp_path / "kept.jsonl").of(tmp_path / "a.bin") == digests.digest_of([tmp_path / "a.bin"])


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "a.bin").write_bytes(b"one")
    assert Digests(tmp_path / "file" / "kept.jsonl").of(tmp_path / "a.bin")
