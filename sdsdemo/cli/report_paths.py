"""Takes the user's folders out of what `doctor` found, so that it can be shown to others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sdsdemo.models.public_names import names_a_file
from sdsdemo.settings import ROOT

HIDDEN = "..."
"""In place of a path."""
PATH = re.compile(r"(?<![\w.~/])(?:/(?!/)|[A-Za-z]:\\)[^\s,;()'\"]+")
"""An absolute path in a text, up to a space."""


def without_folders(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same values. In texts, the project's folder is `.`, the user's `~`, and any other path `...`.

    A spec that names a folder or a file keeps its first word alone, as in `transformers:...`.
    """
    hidden: dict[str, Any] = _in_texts(found, list(_replacements(found)))
    return hidden


def _in_texts(found: Any, pairs: list[tuple[str, str]]) -> Any:
    if isinstance(found, Mapping):
        return {name: _in_texts(value, pairs) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_in_texts(value, pairs) for value in found]
    if not isinstance(found, str):
        return found
    for written, shown in pairs:
        found = re.sub(rf"{re.escape(written)}(?![\w-])", shown, found)
    return PATH.sub(HIDDEN, found)


def _replacements(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is written and what is shown instead; specs go first, as they hold paths."""
    values = [variable["value"] for variable in found["variables"]]
    specs = {spec for text in (*values, *(card["model"] for card in found["models"])) for spec in text.split(",")}
    for spec in sorted(filter(names_a_file, map(str.strip, specs)), key=len, reverse=True):
        yield spec, f"{spec.partition(':')[0]}:{HIDDEN}"
        name = os.path.basename(spec.rstrip("/"))
        yield from ((f"'{own}'", f"'{HIDDEN}'") for own in (name, os.path.splitext(name)[0]))
    for place, shown in ((str(ROOT), "."), (os.path.expanduser("~"), "~")):
        if len(place) > 1:
            yield place, shown
    places = {*values, *(folder["path"] for folder in found["folders"].values())}
    yield from ((place, HIDDEN) for place in sorted(places, key=len, reverse=True) if _is_elsewhere(place))


def _is_elsewhere(place: str) -> bool:
    """Whether a text is an absolute path, with spaces or without, that is not in the home or the project."""
    homes = (str(ROOT), os.path.expanduser("~"))
    return os.path.isabs(place) and not any(len(home) > 1 and place.startswith(home + os.sep) for home in homes)
