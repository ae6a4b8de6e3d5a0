"""What a fine-tuned file says of itself, read without its tensors. Loads no library of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sdsdemo.errors import UserError
from sdsdemo.models import sources
from sdsdemo.models.weights import check_file, header_of
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

FORMAT = 1
KEY = "sdsdemo"
"""Name of the JSON string in the file's metadata."""
REQUIRED = ("format", "base", "base_hash")
NO_DELTA = "{name!r} is not a fine-tuned file of this app ({why}): name one that it wrote, or train it again."
BASE_IS_GONE = "Put that {what} beside the fine-tuned file, under the same name, or back to where it was."
OTHER_FORMAT = "{name!r} was written by another version of this app: use that version, or train it again."


class Architecture(TypedDict):
    """What the hash of the base's weights does not see."""

    activation: str
    preprocess: dict[str, Any]


class Header(TypedDict):
    """What loading needs; the file's story stands beside it."""

    format: int
    base: str
    base_hash: str
    architecture: NotRequired[Architecture]


def read_header(path: Path) -> dict[str, Any]:
    """The JSON string in the header of a delta, with its base where it lies now.

    Raises `UserError` for a file that is not one of our deltas.
    """
    name = path.name
    if not path.is_file():
        raise UserError(f"There is no fine-tuned file called {name!r}: check the name, or train it first.")
    check_file(path, name)
    try:
        text = shaped(header_of(path, name).get("__metadata__", {}), dict[str, str]).get(KEY)
        if text is None:
            raise ValueError("its header does not name a base")
        header: dict[str, Any] = shaped(from_json(text), Header)
        if sources.split_spec(header["base"])[0] != "clip":
            raise ValueError("its base is not a CLIP")
    except ValueError as error:
        raise UserError(NO_DELTA.format(name=name, why=error)) from error
    if header["format"] != FORMAT:
        raise UserError(OTHER_FORMAT.format(name=name))
    return header | {"base": _base_here(header["base"], path)}


def cure_for_base(base: str) -> str:
    """What to do about a base in a folder or a file that is gone; "" for any other. base: a card's name or a spec."""
    place, what = _place_of(base) if ":" in base else (None, "")
    return "" if place is None or place.exists() else BASE_IS_GONE.format(what=what)


def _base_here(spec: str, file: Path) -> str:
    """The base's spec; if it names a folder or a file that is gone, that of one of the same name beside the delta.

    The hash of the weights decides whether it is the base.
    """
    place, what = _place_of(spec)
    beside = None if place is None else file.resolve().parent / place.name
    is_there = beside is not None and (beside.is_file() if what == "file" else beside.is_dir())
    if place is None or place.exists() or not is_there:
        return spec
    kind, _, rest = spec.partition(":")
    begin = sources.LOCAL_DIR if rest.strip().startswith(sources.LOCAL_DIR) else rest.partition("/")[0] + "/"
    return f"{kind}:{begin}{beside}"


def _place_of(spec: str) -> tuple[Path | None, str]:
    """The file of weights, or else the folder, that a base's spec names, and which of them it is."""
    file = sources.checkpoint_named_by(spec)
    return (sources.folder_named_by(spec), "folder") if file is None else (file, "file")


def with_header(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """The content of a delta with another JSON string in its header; the file itself stays. Raises `UserError`."""
    whole = header_of(path, path.name)
    text = json.dumps(change(read_header(path)), sort_keys=True, allow_nan=False)
    told = json.dumps({**whole, "__metadata__": {**whole["__metadata__"], KEY: text}}).encode()
    told += b" " * (-len(told) % 8)  # so that the tensors stay aligned
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    return len(told).to_bytes(8, "little") + told + content[begin:]
