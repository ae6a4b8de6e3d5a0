"""Which Parquet files make up one split of one set. Opens none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sdsdemo.data.files.folders import SPLITS
from sdsdemo.data.files.quoting import listed
from sdsdemo.errors import UserError

OF = re.compile(r"(?P<set>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>.*)")
"""A file's name as `datasets` writes it: test-00000-of-00002, perhaps with a digest."""


def one_split(files: Sequence[Path], folder: Path) -> list[Path]:
    """The files of one split below a benchmark's folder: of several splits, the preferred one for evaluation.

    Raises `UserError` if one of its files is missing, and if it has those of several sets.
    """
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(_split_of(path), []).append(path)
    chosen = next((by_split[split] for split in (*SPLITS, "") if split in by_split), [])
    _check_one_folder(chosen, folder)
    _check_whole(chosen, folder)
    return chosen


def _split_of(path: Path) -> str:
    first = path.stem.partition("-")[0].lower()
    return next((split for split in (first, path.parent.name.lower()) if split in SPLITS), "")


def _check_one_folder(files: Sequence[Path], folder: Path) -> None:
    homes = list(dict.fromkeys(path.parent.relative_to(folder) for path in files))
    if len(homes) > 1:
        names = [(home.parent if home.name.lower() in SPLITS else home).as_posix() for home in homes]
        raise UserError(
            f"'{folder.name}' has Parquet files of several sets, in the folders {listed(names)}: name one of these."
        )


def _check_whole(files: Sequence[Path], folder: Path) -> None:
    """Of files that are numbered, all must be there, and of one set."""
    found = [(path, match) for path in files if (match := OF.fullmatch(path.stem))]
    names = list(dict.fromkeys(match["set"] for _, match in found))
    if len(names) > 1:
        raise UserError(
            f"'{folder.name}' has Parquet files of several sets, {listed(names)}: leave those of one in the folder."
        )
    for path, match in found:
        same = {int(other["number"]) for _, other in found if other["count"] == match["count"]}
        missing = sorted(set(range(int(match["count"]))) - same)
        if missing:
            name = f"{match['set']}-{missing[0]:05}-of-{match['count']}{path.suffix}"
            raise UserError(f"{name} is missing beside {path.name}: finish the download.")
