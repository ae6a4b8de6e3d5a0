"""What a disk refuses is a sentence that names the place, and asks for space only where space is what is missing."""

from __future__ import annotations

import errno

import pytest

from sdsdemo.runtime.disk_errors import disk_words


@pytest.mark.parametrize(
    ("error", "says", "asks_for_space"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "written to '/tmp/x' (No space left", True),
        (OSError(errno.ENOSPC, "No space left on device"), "could be written (No space left", True),
        (OSError(errno.EROFS, "Read-only file system", "/ro/x"), "'/ro/x' cannot be read or written", False),
        (OSError(errno.EROFS, "Read-only file system"), "name another folder", False),
        (OSError(errno.EACCES, "Permission denied", "/no/x"), "'/no/x' cannot be read or written", False),
    ],
)
def test_only_a_full_disk_asks_for_space(error: OSError, says: str, asks_for_space: bool) -> None:
    assert says in disk_words(error)
    assert ("free disk space" in disk_words(error)) == asks_for_space


def test_an_error_of_no_disk_has_no_words() -> None:
    assert disk_words(OSError(errno.EACCES, "Permission denied")) == ""  # a network says this, of no name
    assert disk_words(ValueError()) == ""
