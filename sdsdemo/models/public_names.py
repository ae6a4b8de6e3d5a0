"""Which specs and sources of data name a path here, and what others may see of it: its last name. Reads no file.

open_clip:local-dir:/home/ada/models/my-clip    open_clip:local-dir:my-clip
folder:/home/ada/unreleased-set                 folder:unreleased-set
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.models import cards, sources
from sdsdemo.settings import expanded

COMMAND = "command"
"""The key of a record whose text is a command line."""
SOURCE = re.compile(r"([a-z][a-z0-9+_-]+):(?!//)(\S.*)", re.DOTALL)
"""A benchmark or data in a folder, KIND:PATH."""
ON_THE_HUB = "hub"
DATA_SET = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
"""What the Hub takes for a data set: NAME or ORG/NAME."""


def public_name(text: str) -> str:
    """The text with any path of a spec, of a source of data, or on its own, as its last name."""
    try:
        family, rest = sources.split_spec(text)
    except UserError:
        return _of_source(text)
    kind, begin, path = text.partition(":")[0], "", rest
    if family == "clip" and rest.startswith(sources.LOCAL_DIR):
        begin, path = sources.LOCAL_DIR, rest.removeprefix(sources.LOCAL_DIR)
    elif family == "clip":
        architecture, _, path = rest.partition("/")
        begin = f"{architecture}/"
    is_ours = path.startswith(sources.OUR_FOLDERS) and ".." not in PurePath(path).parts
    return text if is_ours or not names_a_file(text) else f"{kind}:{begin}{PurePath(path).name}"


def names_a_file(spec: str) -> bool:
    """Whether a text is a spec of a file or a folder on this machine."""
    try:
        is_delta = sources.split_spec(spec)[0] == "sds-clip"
        return is_delta or sources.folder_named_by(spec) is not None or sources.checkpoint_named_by(spec) is not None
    except UserError:
        return False


def is_own_file(spec: str) -> bool:
    """Whether a spec names a file or a folder on this machine that is not a card's, so that no other machine has it."""
    return names_a_file(spec) and spec.strip() not in {card.spec for card in cards.all_cards().values()}


def path_of_source(source: str) -> tuple[str, str, str]:
    """KIND:PATH of data or a benchmark in three parts: `KIND:`, the path as written, and `@SPLIT` after `hub:PATH`.

    All are "" where it names no path here, as `mini` and `hub:ORG/NAME`, unless that is a folder here.
    """
    kind, _, path = source.partition(":")
    split = ""
    if kind == ON_THE_HUB:
        path, split = name_and_split(path)
        if DATA_SET.fullmatch(path) and not expanded(path).is_dir():
            path = ""
    return (f"{kind}:", path, split) if path else ("", "", "")


def name_and_split(written: str) -> tuple[str, str]:
    """NAME[@SPLIT] or PATH[@SPLIT] of `hub:` in two parts; the second is "" or begins with the @."""
    head, at, split = written.rpartition("@")
    return (head, f"@{split}") if at and head and "/" not in split else (written, "")


def public(value: Any, key: str = "") -> Any:
    """Plain data with a public name in place of every text, in a command line of every word."""
    if isinstance(value, Mapping):
        return {public_name(name): public(entry, name) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [public(entry) for entry in value]
    if not isinstance(value, str):
        return value
    return public_command(value) if key == COMMAND else public_name(value)


def public_command(line: str) -> str:
    """A command line with a public name in place of every word."""
    try:
        words = shlex.split(line)
    except ValueError:  # no command line of ours
        return line
    return shlex.join(map(public_name, words))


def _of_source(text: str) -> str:
    if SOURCE.fullmatch(text) is None:
        return PurePath(text).name if PurePath(text).is_absolute() else text
    kind, path, split = path_of_source(text)
    return f"{kind}{PurePath(path).name}{split}" if path else text
