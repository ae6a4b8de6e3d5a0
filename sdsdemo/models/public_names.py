"""What others may see of a model's spec or a source of data: the last name of its path alone. Reads no file.

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

COMMAND = "command"
"""The key of a record whose text is a command line."""
SOURCE = re.compile(r"([a-z][a-z0-9+_-]+):(?!//)(\S.*)", re.DOTALL)
"""A benchmark or data in a folder, KIND:PATH."""
ON_THE_HUB = "hub"


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
    found = SOURCE.fullmatch(text)
    if found is not None and found[1] != ON_THE_HUB:
        return f"{found[1]}:{PurePath(found[2]).name}"
    return PurePath(text).name if PurePath(text).is_absolute() else text
