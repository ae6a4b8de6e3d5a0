"""The members of a zip file by name, and the file opened. Both are kept until the file changes."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from zipfile import ZipFile

from sdsdemo.data.files.image_search import tails
from sdsdemo.data.files.pointers import check_file
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import State

LOCKED_FLAG = 0x1
UTF8_FLAG = 0x800
IMAGES = "images/"
"""The folder that pictures of a benchmark lie in, in a zip file as beside a table."""


@lru_cache(maxsize=8)
def opened(archive: Path, state: State) -> ZipFile:
    """The zip file. Raises `UserError` for one that cannot be read."""
    check_file(archive)
    try:
        return ZipFile(archive)
    except Exception as error:  # BadZipFile, OSError, and for odd headers others
        raise UserError(f"{archive.name} cannot be read: copy it again, it may be truncated.") from error


@lru_cache(maxsize=8)
def members_by_tail(archive: Path, state: State) -> dict[str, list[str]]:
    """Members by every trailing part of their names. Those packed on a Mac have their UTF-8 name too."""
    found: dict[str, list[str]] = {}
    for member in opened(archive, state).infolist():
        name = member.filename
        if member.is_dir():
            continue
        names = {name} if member.flag_bits & UTF8_FLAG else {name, _as_utf8(name)}
        for tail in {tail for one in names for tail in tails([with_slashes(one)])}:
            found.setdefault(tail, []).append(name)
    return found


@lru_cache(maxsize=8)
def folders_in(archive: Path, state: State) -> frozenset[str]:
    """The folders of a zip file, also as seen from its folder images."""
    found: set[str] = set()
    for name in map(with_slashes, opened(archive, state).namelist()):
        for own in (name, name.removeprefix(IMAGES)):
            while own := posixpath.dirname(own):
                found.add(own)
    return frozenset(found)


def the_member(names: Sequence[str], way: str) -> str | None:
    """Of members that end this way the one that has no folder before it; else the one in images/; else the only one."""
    deep = way.count("/")
    depths = {name: with_slashes(name).count("/") for name in names}
    whole = [name for name in names if depths[name] == deep]
    below = [name for name in names if depths[name] == deep + 1 and with_slashes(name).startswith(IMAGES)]
    found = whole or below or names
    return found[0] if len(found) == 1 else None


def with_slashes(name: str) -> str:
    """A member's name with slashes: some programs on Windows write backslashes."""
    return name.replace("\\", "/")


def is_locked(archive: Path, state: State, member: str) -> bool:
    """Whether a password is needed to read a member."""
    return bool(opened(archive, state).getinfo(member).flag_bits & LOCKED_FLAG)


def _as_utf8(name: str) -> str:
    """A name whose bytes are UTF-8 although the zip file does not say so."""
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name
