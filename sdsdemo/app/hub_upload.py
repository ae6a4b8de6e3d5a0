"""Uploads a fine-tuned model to the Hub, under the token's account: weights, record and model card. Trains nothing.

The card repeats the record: base, objective, data, before and after with their uncertainty, the command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sdsdemo.core.number_format import level_words
from sdsdemo.errors import UserError
from sdsdemo.finetuning.phrases import SHOWN, change_words, not_finite_words
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
FILES = ("model.safetensors", "run.json")
REFUSED = (
    "The Hub refused the model: sign in again and allow the app to create repositories, or choose a name that is not "
    "taken."
)


BROKEN = "The record of this run cannot be read ({why}): choose another run."


class QuotedRecord(TypedDict):
    """What the model card quotes from a run's record."""

    objective: str
    base_card: str
    steps_done: int
    seed: int
    command: str
    trained: NotRequired[str]
    measured: NotRequired[dict[str, Any]]


def push(folder: Path, name: str, token: str) -> str:
    """Creates the repository USER/name, uploads a run's files and returns the repository's URL.

    Raises `UserError` for a name that the Hub does not allow, a run without a model, and a refusal by the Hub.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not NAME.fullmatch(name.strip()):
        raise UserError("Name the model with letters, digits, dots, dashes and underscores only, 96 at most.")
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise UserError("This run has no model yet: wait until it ends, or stop it.")
    record = _read_record(folder / "run.json")
    api = HfApi(token=token)
    try:
        repo = f"{api.whoami()['name']}/{name.strip()}"
        api.create_repo(repo, exist_ok=False)
        for file in FILES:
            api.upload_file(path_or_fileobj=folder / file, path_in_repo=file, repo_id=repo)
        api.upload_file(path_or_fileobj=card(record, repo).encode(), path_in_repo="README.md", repo_id=repo)
    except (HfHubHTTPError, OSError, ValueError, KeyError) as error:
        raise UserError(REFUSED) from error
    return f"https://huggingface.co/{repo}"


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = shaped(from_json(path.read_bytes()), QuotedRecord)
        return record
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(BROKEN.format(why=why)) from error


def card(record: Mapping[str, Any], repo: str) -> str:
    """The model card, in Markdown."""
    measured = record.get("measured", {"sets": {}})
    lines = [
        f"- {name}, {metric}: {level_words(row['before'])} -> {level_words(row['after'])} %; "
        f"{change_words(row['change'])}"
        for name, found in measured["sets"].items()
        for metric, row in found["metrics"].items()
        if metric in SHOWN
    ]
    lines += [f"- {name}, {words}" for name, found in measured["sets"].items() if (words := not_finite_words(found))]
    figures = "\n".join(lines) or "Nothing was measured."
    return f"""---
library_name: sdsdemo
tags: [clip, compositionality, {record["objective"]}]
---

# {repo.partition("/")[2]}

{record["base_card"]} fine-tuned with the objective `{record["objective"]}`: {record["steps_done"]} steps, seed
{record["seed"]}. Trained: {record.get("trained", "nothing")}. The file holds only what training changed; load it
onto the base that it names, as `sds-clip:model.safetensors`.

## Before and after

{figures}

## To reproduce

    {record["command"]}
"""
