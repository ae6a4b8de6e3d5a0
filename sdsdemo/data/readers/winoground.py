"""Winoground: from the Hub with the user's own token, or from a copy; with the labels of Diwan et al. if available.

The dataset is gated and its images are never redistributed: downloads stay in the user's own Hub cache on this machine.
Diwan et al. 2022 (2211.00768), "Why is Winoground Hard?", published labels of the examples as {id: [label, ...]}; they
are read from `new_tag_assignments.json` beside the copy, or from the download of `fetch winoground-labels`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sdsdemo.data.files.image_files import Note, silent
from sdsdemo.data.files.pointers import check_file
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.errors import UserError
from sdsdemo.models.hub_errors import NOT_FOUND, answer_of, disk_error, hub_errors, why
from sdsdemo.runtime.files import from_json, write_whole
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import Settings
from sdsdemo.types import Example

REPO = "facebook/winoground"
FILES = ("data/examples.jsonl", "data/images.zip")
PARQUET = "data/test-*.parquet"
"""What the Hub's copy may hold instead, as sets are converted."""
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
BROKE_OFF = (
    "The download of Winoground broke off: check the network, then run the same command again; it resumes where it "
    "stopped."
)
ANSWERED = (
    "The Hub answered {status} instead of sending Winoground: run the same command again later; it resumes where it "
    "stopped."
)
OTHER_FILES = (
    f"The Hub's copy of Winoground has neither {' and '.join(FILES)} nor {PARQUET}: download it from {TERMS} and name "
    "your copy, as in winoground:PATH."
)


def read_winoground(folder: Path, note: Note = silent) -> list[Example]:
    """A local copy: `data/examples.jsonl` with `data/images.zip` or unpacked images, or Parquet. Raises `UserError`."""
    places = (folder / "data" / LABELS, folder / LABELS, Settings.of_the_shell().cache / LABELS)
    labels = next((path for path in places if path.is_file()), None)
    examples = read_pairs(folder, note)
    return examples if labels is None else with_labels(examples, labels)


def read_from_hub() -> list[Example]:
    """The download of `fetch winoground`; never uses the network. Raises `UserError` if it is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for wanted in (FILES, (PARQUET,)):
        try:
            found = snapshot_download(REPO, repo_type="dataset", local_files_only=True, allow_patterns=list(wanted))
        except LocalEntryNotFoundError:
            continue
        if all(any(Path(found).glob(name)) for name in wanted):
            return read_winoground(Path(found) / "data")
    raise UserError(NOT_HERE)


def fetch(note: Callable[[str], None]) -> str:
    """Downloads Winoground with the user's token, all files of one commit, resuming an earlier download.

    Raises `UserError`, and the `OSError` of a disk that is full or cannot be written.
    """
    from huggingface_hub import get_token, list_repo_files, snapshot_download

    if get_token() is None:
        raise UserError(NO_TOKEN)
    note(f"Winoground: {SIZE_MB} MB. Its terms: research only, no redistribution.")
    try:
        there = list_repo_files(REPO, repo_type="dataset")
        wanted = list(FILES) if set(FILES) <= set(there) else fnmatch.filter(there, PARQUET)
        if not wanted:
            raise UserError(OTHER_FILES)
        snapshot_download(REPO, repo_type="dataset", allow_patterns=wanted)
    except hub_errors() as error:
        if (full := disk_error(error)) is not None:
            raise full from None
        raise UserError(_why_not_fetched(error)) from error
    return "Winoground is here now: python -m sdsdemo evaluate winoground"


def _why_not_fetched(error: Exception) -> str:
    status = answer_of(error)
    if (reason := why(error)) == "access":
        return NO_ACCESS
    if reason == "network":
        return NO_NETWORK
    if status == NOT_FOUND:
        return OTHER_FILES
    return BROKE_OFF if status is None else ANSWERED.format(status=status)


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
