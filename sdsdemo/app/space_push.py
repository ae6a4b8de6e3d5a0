"""Makes or updates a Space under the token's account, in one commit. What goes there is in `space_files`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdsdemo.app.hub_upload import client_of, refusals, repo_of
from sdsdemo.app.space_check import check_space
from sdsdemo.app.space_files import (
    FOLDERS,
    files_of,
    front_matter,
    pinned,
    requirements_of,
    tested_versions,
    with_facts,
)
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import EXAMPLES, HEADER, read_run
from sdsdemo.models import cards
from sdsdemo.models.preload import preload_entries
from sdsdemo.runtime.files import to_json
from sdsdemo.settings import Settings

REFUSED = (
    "The Hub refused the Space: check that your token may write repositories, that the name is not taken by another "
    "kind of repository, and that your account may create Spaces on this hardware."
)
NOT_READY = "This is no Space yet: {why} `python -m sdsdemo space check` lists all of it."
MESSAGE = "sdsdemo"
README = "README.md"
SCORE_FILES = "scores*.jsonl"

Contents = Mapping[str, Path | bytes]


def contents_of(root: Path, models: Sequence[str], runs: Sequence[Path]) -> dict[str, Path | bytes]:
    """What a Space holds, by its paths there: the checkout's files, with tested versions, preloads and results.

    models: cards to fetch while it is built. runs: folders of `evaluate --out` to show in Browse and Results.
    Raises `UserError` for a checkout that is not ready, an unknown model, and a run that cannot be read.
    """
    if errors := check_space(root)["errors"]:
        raise UserError(NOT_READY.format(why=errors[0]))
    found: dict[str, Path | bytes] = dict(files_of(root))
    readme = (root / README).read_text(encoding="utf-8")
    if models:
        preload = [*front_matter(readme).get("preload_from_hub", []), *preload_entries(models)]
        found[README] = with_facts(readme, {"preload_from_hub": list(dict.fromkeys(preload))}).encode()
    requirements, _ = requirements_of((root / "requirements.txt").read_text(encoding="utf-8"))
    tested = tested_versions((root / "constraints.txt").read_text(encoding="utf-8"))
    found["requirements.txt"] = pinned(requirements, tested).encode()
    for run in runs:
        found |= _results(run)
    return found


def push_space(
    root: Path, name: str, token: str, *, models: Sequence[str] = (), runs: Sequence[Path] = (), hardware: str = ""
) -> str:
    """Creates or updates the Space USER/name and returns its URL.

    hardware: as the Hub names it; empty for the Hub's choice, or for what a Space has. Without models, a Space keeps
    those that it has. Raises `UserError` as `contents_of`, for a name that is not allowed and for a refusal by the Hub.
    """
    contents, repo = contents_of(root, models, runs), repo_of(name, token)
    api = client_of(token)
    with refusals(REFUSED):
        _make(api, repo, hardware)
        there = api.list_repo_files(repo, repo_type="space")
        if models:
            api.add_space_variable(repo, "SDSDEMO_MODELS", ",".join(shown_models(models)))
        elif README in there:
            contents[README] = _with_its_preloads(api, repo, contents[README])
        api.create_commit(repo, _operations(there, contents), commit_message=MESSAGE, repo_type="space")
    return f"https://huggingface.co/spaces/{repo}"


def _make(api: Any, repo: str, hardware: str) -> None:
    """The Space, on this hardware. The Hub looks at the hardware only of a Space that it creates."""
    if api.repo_exists(repo, repo_type="space"):
        if hardware:
            api.request_space_hardware(repo, hardware)
        return
    options = {"space_hardware": hardware} if hardware else {}
    api.create_repo(repo, repo_type="space", space_sdk="gradio", **options)


def _with_its_preloads(api: Any, repo: str, readme: Path | bytes) -> bytes:
    """README.md with the weights that a Space fetches already, for the models that its variable goes on naming."""
    own = readme if isinstance(readme, bytes) else readme.read_bytes()
    text = Path(api.hf_hub_download(repo, README, repo_type="space")).read_text(encoding="utf-8")
    with suppress(UserError):  # a front matter that was broken there
        if kept := front_matter(text).get("preload_from_hub"):
            return with_facts(own.decode(), {"preload_from_hub": kept}).encode()
    return own


def _operations(there: Iterable[str], contents: Contents) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=content if isinstance(content, bytes) else str(content))
        for path, content in contents.items()
    ]
    return [*added, *(CommitOperationDelete(path_in_repo=path) for path in outdated(there, contents))]


def outdated(there: Iterable[str], contents: Contents) -> list[str]:
    """Files of an earlier version in a Space: those in our folders that have gone since. Its results stay."""
    ours = set(FOLDERS) - {"results"}
    return [path for path in there if path.partition("/")[0] in ours and "/" in path and path not in contents]


def shown_models(models: Sequence[str]) -> list[str]:
    """The rows of the page: Mini's models, and those that are added. Raises `UserError` for an unknown one."""
    return [*Settings.from_environment({}).models, *(cards.resolve(name).name for name in models)]


def summary(contents: Contents) -> dict[str, Any]:
    """What would be uploaded, for --dry-run."""
    sizes = {
        path: len(content) if isinstance(content, bytes) else content.stat().st_size
        for path, content in contents.items()
    }
    return {"files": sizes, "megabytes": round(sum(sizes.values()) / 1e6, 1)}


def as_text(found: Mapping[str, Any]) -> str:
    """The files with their sizes, a line each."""
    lines = [f"{size:>11,}  {path}" for path, size in found["files"].items()]
    return "\n".join([*lines, f"{len(lines)} files, {found['megabytes']} MB. Nothing was uploaded."])


def _results(run: Path) -> dict[str, Path | bytes]:
    """The files of a stored run, which hold neither pictures nor captions, without the path of your copy of its set."""
    stored, folder = read_run(run), f"results/{run.resolve().name}"
    source, _, path = stored.benchmark.partition(":")
    header = {**stored.header, "benchmark": f"{source}:{Path(path).name}" if path else source}
    lines = {f"{folder}/{file.name}": file for file in (run / EXAMPLES, *sorted(run.glob(SCORE_FILES)))}
    return {f"{folder}/{HEADER}": (to_json(header) + "\n").encode(), **lines}
