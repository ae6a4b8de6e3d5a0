"""Winoground: from the Hub with the user's own token, or from a copy; with the labels of Diwan et al. if available.

The dataset is gated and its images are never redistributed: downloads stay in the user's own Hub cache on this machine.
Diwan et al. 2022 (2211.00768), "Why is Winoground Hard?", published labels of the examples as {id: [label, ...]}; they
are read from `new_tag_assignments.json` beside the copy, or from the download of `fetch winoground-labels`.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sdsdemo.data.files.image_files import Note, silent
from sdsdemo.data.files.pointers import check_file
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.errors import UserError
from sdsdemo.models.hub_errors import disk_error, hub_errors, why
from sdsdemo.runtime.files import from_json, write_whole
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import Settings
from sdsdemo.types import Example

REPO = "facebook/winoground"
FILES = ("data/examples.jsonl", "data/images.zip")
TERMS = f"https://huggingface.co/datasets/{REPO}"
SIZE_MB = 370
LABELS = "new_tag_assignments.json"
LABELS_ADDRESS = f"https://raw.githubusercontent.com/ajd12342/why-winoground-hard/main/{LABELS}"
LABELS_BYTES = 1_000_000
NOT_HERE = (
    f"Winoground is not on this machine. It is gated: accept its terms at {TERMS}, log in with `hf auth login`, and "
    "run `python -m sdsdemo fetch winoground`; or name your copy, as in winoground:PATH."
)
NO_TOKEN = f"Winoground is gated and there is no token: accept its terms at {TERMS}, then log in with `hf auth login`."
NO_ACCESS = (
    f"Your token has no access to Winoground: accept its terms at {TERMS} with the same account, and try again. If you "
    "have, the token may have expired, or lack access to public gated repositories."
)
NO_NETWORK = (
    "The Hub cannot be reached: check the network, and HTTPS_PROXY or HF_ENDPOINT if yours needs them, then run the "
    "same command again; it resumes where it stopped."
)


def read_winoground(folder: Path, note: Note = silent) -> list[Example]:
    """A local copy: `data/examples.jsonl` with `data/images.zip` or unpacked images, or Parquet. Raises `UserError`."""
    places = (folder / "data" / LABELS, folder / LABELS, Settings.of_the_shell().cache / LABELS)
    labels = next((path for path in places if path.is_file()), None)
    examples = read_pairs(folder, note)
    return examples if labels is None else with_labels(examples, labels)


def read_from_hub() -> list[Example]:
    """The download of `fetch winoground`; never uses the network. Raises `UserError` if it is missing."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(REPO, name, repo_type="dataset") for name in FILES]
    if not all(isinstance(path, str) for path in found):
        raise UserError(NOT_HERE)
    return read_winoground(Path(str(found[0])).parent)


def fetch(note: Callable[[str], None]) -> str:
    """Downloads Winoground with the user's token, resuming an earlier download.

    Raises `UserError`, and the `OSError` of a disk that is full or cannot be written.
    """
    from huggingface_hub import get_token, hf_hub_download

    if get_token() is None:
        raise UserError(NO_TOKEN)
    note(f"Winoground: {SIZE_MB} MB. Its terms: research only, no redistribution.")
    try:
        for name in FILES:
            hf_hub_download(REPO, name, repo_type="dataset")
    except hub_errors() as error:
        if (full := disk_error(error)) is not None:
            raise full from None
        raise UserError(NO_ACCESS if why(error) == "access" else NO_NETWORK) from error
    return "Winoground is here now: python -m sdsdemo evaluate winoground"


def fetch_labels(note: Callable[[str], None]) -> str:
    """Downloads the labels of Diwan et al. (MIT licence) and shows their checksum. Raises `UserError`."""
    note(f"From {LABELS_ADDRESS}")
    try:
        with urllib.request.urlopen(LABELS_ADDRESS, timeout=30) as answer:
            content = answer.read(LABELS_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The labels cannot be fetched: check the network, or put {LABELS} beside your copy of Winoground."
        ) from error
    target = Settings.of_the_shell().cache / LABELS
    read_labels_text(content.decode("utf-8", errors="replace"))
    write_whole(target, content)
    return f"The labels are here now; SHA-256 {hashlib.sha256(content).hexdigest()}"


def with_labels(examples: list[Example], path: Path) -> list[Example]:
    """The examples with their labels in the tag `category`, separated by commas. Raises `UserError`."""
    check_file(path)
    labels = read_labels_text(path.read_text(encoding="utf-8-sig", errors="replace"))
    return [
        replace(example, tags={**example.tags, **({"category": ", ".join(found)} if found else {})})
        for example in examples
        for found in [labels.get(example.id, [])]
    ]


def read_labels_text(text: str) -> dict[str, list[str]]:
    """{id: labels}. Raises `UserError` for anything else."""
    try:
        found: dict[str, list[str]] = shaped(from_json(text), dict[str, list[str]])
        return found
    except ValueError as error:
        raise UserError(f"{LABELS} is not an object from ids to lists of labels: fetch it again.") from error
