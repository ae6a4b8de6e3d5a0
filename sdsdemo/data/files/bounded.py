"""Files are read up to a size, so that none takes all memory, whatever it claims to be."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from sdsdemo.errors import UserError

TABLE_BYTES = 1_000_000_000
"""Of a table or JSON file, which is read as a whole. The captions of COCO's training pictures take 92 MB."""
GROUP_BYTES = 4_000_000_000
"""Of a row group of a Parquet file, unpacked."""


def read_table(path: Path, name: str) -> bytes:
    """A table's or JSON file's bytes. name: how to call it in messages. Raises `UserError` for too many, `OSError`."""
    with path.open("rb") as file:
        content = file.read(TABLE_BYTES + 1)
    if len(content) > TABLE_BYTES:
        raise UserError(f"{name} has more than {TABLE_BYTES // 1_000_000:,} MB: split it into several sets.")
    return content


def at_most(file: IO[bytes], most: int) -> bytes:
    """The bytes of a file; of a larger one `most` and one more, which is enough to see that it is too large."""
    with file:
        return file.read(most + 1)


def check_group(bytes_unpacked: int, name: str) -> None:
    """Raises `UserError` for a row group that would take all memory."""
    if bytes_unpacked > GROUP_BYTES:
        raise UserError(
            f"{name} holds {bytes_unpacked / 1e9:.1f} GB in one row group, and at most {GROUP_BYTES / 1e9:.0f} GB are "
            "read: write it with smaller row groups."
        )
