"""Uploads to the Hub, under the token's account: a run's file with its record and card, or a whole exported model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sdsdemo.app.model_card import run_card
from sdsdemo.errors import UserError
from sdsdemo.models.delta_header import read_header, with_header
from sdsdemo.models.hub_errors import hub_errors
from sdsdemo.models.public_names import is_own_file, public
from sdsdemo.runtime.files import from_json, to_json
from sdsdemo.runtime.shapes import shaped

NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?(?<!\.git)")
"""What `huggingface_hub.utils.validate_repo_id` allows, without an owner."""
NAME_WORDS = (
    "Name the {what} with letters, digits, dots, dashes and underscores only, 96 at most, without '--' or '..' in it "
    "or '.', '-' or '.git' at an end. It goes under your own account, so write no ORGANISATION/ before it."
)
FAULT = "The Hub failed ({status}): try again later."
BUSY = "The Hub takes no more requests from you for now (429): wait some minutes, then try again."
SAID = " It said: {message}"
FILES = MODEL, RECORD = ("model.safetensors", "run.json")
REFUSED = "The Hub refused the model: sign in again and allow the app to create repositories, then try again."
TAKEN = "You have a model called {name} already: choose another name."
MADE_BY_THE_HUB = {".gitattributes"}
"""What a repository holds that nothing was uploaded to."""
MESSAGE = "sdsdemo"
NOT_REACHED = (
    "The Hugging Face Hub was not reached, or the connection broke off: check the network, and HTTPS_PROXY or "
    "HF_ENDPOINT if yours needs them, then try again."
)
TRAINED_ON = (
    "This run has trained to step {now}, but its model is that of step {then}: resume the run, or stop it, so that its "
    "model is written again."
)
BASE_IS_HERE = (
    "The base of this model is a folder or a file on this machine, so nobody else could load it: publish a whole model "
    "with `python -m sdsdemo export sds-clip:FILE --out DIR --push NAME`."
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
    """Creates the repository USER/name, uploads a run's files without your folders' paths, and returns its URL.

    Raises `UserError` for a name that is taken or not allowed, a run without a model, and a refusal by the Hub.
    """
    _check_name(name, "model")
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise UserError("This run has no model yet: wait until it ends, or stop it.")
    own = _read_record(folder / RECORD)
    _check_same_steps(folder / MODEL, own)
    record = public(own)
    api = client_of(token)
    repo = _repo_of(api, name)
    files: dict[str, Path | bytes] = {file: folder / file for file in FILES}
    if record != own:
        files = {MODEL: with_header(folder / MODEL, public), RECORD: (to_json(record, indent=1) + "\n").encode()}
    return _upload(api, repo, files | {"README.md": run_card(record, repo).encode()})


def _check_same_steps(model: Path, record: Mapping[str, Any]) -> None:
    """Raises `UserError` for weights that the record does not describe, and for a base that nobody else could load."""
    header = read_header(model)
    if header.get("steps_done", record["steps_done"]) != record["steps_done"]:
        raise UserError(TRAINED_ON.format(now=record["steps_done"], then=header["steps_done"]))
    if is_own_file(header["base"]):
        raise UserError(BASE_IS_HERE)


def push_model(folder: Path, repo: str, token: str) -> str:
    """Creates the repository that `repo_of` named, uploads every file of an exported model and returns its URL.

    Raises `UserError` for a name that is taken and for a refusal by the Hub.
    """
    return _upload(client_of(token), repo, {path.name: path for path in sorted(folder.iterdir())})


def repo_of(name: str, token: str, what: str = "model") -> str:
    """USER/name of the token's account. Raises `UserError` for a name that is not allowed, and for a refusal.

    what: what the name is of, in words.
    """
    _check_name(name, what)
    return _repo_of(client_of(token), name)


def own_token() -> str:
    """The token that this machine's user has signed in with. Raises `UserError` where there is none."""
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise UserError("Sign in to the Hugging Face Hub first: `hf auth login`, or set HF_TOKEN.")
    return token


def record_beside(model: Path) -> dict[str, Any] | None:
    """The record of the run that a fine-tuned file lies in; None for a file on its own."""
    path = model.parent / "run.json"
    return _read_record(path) if path.is_file() else None


def _check_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name.strip()):
        raise UserError(NAME_WORDS.format(what=what))


def client_of(token: str) -> Any:
    """The Hub's client, under this token."""
    from huggingface_hub import HfApi

    return HfApi(token=token)


def _repo_of(api: Any, name: str) -> str:
    with refusals(REFUSED):
        return f"{api.whoami()['name']}/{name.strip()}"


def _upload(api: Any, repo: str, files: Mapping[str, Path | bytes]) -> str:
    """All files in one commit or none. A repository that an upload left empty when it broke off is taken again."""
    with refusals(REFUSED):
        api.create_repo(repo, exist_ok=True)
        if set(api.list_repo_files(repo)) - MADE_BY_THE_HUB:
            raise UserError(TAKEN.format(name=repo.partition("/")[2]))
        api.create_commit(repo, additions(files), commit_message=MESSAGE)
    return f"https://huggingface.co/{repo}"


def additions(files: Mapping[str, Path | bytes]) -> list[Any]:
    """What a commit on the Hub adds: files, or their content, by their paths there."""
    from huggingface_hub import CommitOperationAdd

    return [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]


@contextmanager
def refusals(sentence: str) -> Iterator[None]:
    """What the Hub's client raises, as a `UserError`: this sentence and the Hub's own reason for a refusal.

    A fault of the Hub, a limit on requests, and a Hub that was not reached have sentences of their own.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise UserError(_why_refused(error, sentence)) from error
    except (ValueError, KeyError) as error:
        raise UserError(sentence) from error
    except hub_errors() as error:
        raise UserError(NOT_REACHED) from error


def _why_refused(error: Any, sentence: str) -> str:
    status = getattr(error.response, "status_code", 0)
    if status == 429:
        return BUSY
    if status >= 500:
        return FAULT.format(status=status)
    message = " ".join(str(error.server_message or "").split())[:300]
    return sentence + (SAID.format(message=message) if message else "")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = shaped(from_json(path.read_bytes()), QuotedRecord)
        return record
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(BROKEN.format(why=why)) from error
