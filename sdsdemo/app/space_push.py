"""Makes or updates a Space under the token's account, in one commit. What goes there is in `space_files`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdsdemo.app.hub_upload import MESSAGE, additions, client_of, refusals, repo_of
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
from sdsdemo.models import cards, sources
from sdsdemo.models.preload import preload_entries, with_base
from sdsdemo.models.public_names import public_name
from sdsdemo.runtime.files import finite, from_json, to_json, whole_lines
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import LIMITS, Settings
from sdsdemo.types import Card

REFUSED = (
    "The Hub refused the Space: check that your token may write repositories, that the name is not taken by another "
    "kind of repository, and that your account may create Spaces on this hardware."
)
NOT_READY = "This is not a Space yet: {why} `python -m sdsdemo space check` lists all of it."
ONLY_HERE = (
    "A Space cannot load '{name}', which is only on this machine: publish it and name its repository, as in "
    "{instead}; or put it below checkpoints/ and name it by that path."
)
INSTEAD = {
    "clip": "`python -m sdsdemo export '{name}' --push my-clip` and then `--model open_clip:hf-hub:YOU/my-clip`",
    "diffusion": "`--model diffusers:YOU/NAME`",
    "transformers": "`--model transformers:YOU/NAME`",
    "vlm": "`--model vlm:YOU/NAME`",
}
"""By family, how a model of one's own is named once it is on the Hub."""
SAME_NAME = "Two folders of results are called '{name}', and a Space shows results by that name: rename one of them."
README = "README.md"
SCORE_FILES = "scores*.jsonl"

Contents = Mapping[str, Path | bytes]


def contents_of(root: Path, models: Sequence[str], runs: Sequence[Path]) -> dict[str, Path | bytes]:
    """What a Space holds, by its paths there: the checkout's files, with tested versions, preloads and results.

    models: cards to fetch while it is built. runs: folders of `evaluate --out` to show in Browse and Results.
    Raises `UserError` for a checkout that is not ready, a model that is unknown or that a Space cannot have, a run that
    cannot be read, and two of the same name.
    """
    shown_models(models)
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
        results = _results(run)
        if results.keys() & found.keys():
            raise UserError(SAME_NAME.format(name=run.resolve().name))
        found |= results
    return found


def push_space(
    root: Path, name: str, token: str, *, models: Sequence[str] = (), runs: Sequence[Path] = (), hardware: str = ""
) -> str:
    """Creates or updates the Space USER/name and returns its URL.

    hardware: as the Hub names it; empty for the Hub's choice, or for what a Space has. Without models, a Space keeps
    those that it has. Raises `UserError` as `contents_of`, for a name that is not allowed and for a refusal by the Hub.
    """
    contents, repo = contents_of(root, models, runs), repo_of(name, token, "Space")
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
    from huggingface_hub import CommitOperationDelete

    return [*additions(contents), *(CommitOperationDelete(path_in_repo=path) for path in outdated(there, contents))]


def outdated(there: Iterable[str], contents: Contents) -> list[str]:
    """Files of an earlier version in a Space: those in our folders that have gone since.

    Its results stay, but for the files of a run that is pushed again.
    """
    runs = {path.rpartition("/")[0] for path in contents if path.startswith("results/")}
    ours = set(FOLDERS) - {"results"}
    mine = [path for path in there if "/" in path and path.partition("/")[0] in ours]
    again = [path for path in there if path.rpartition("/")[0] in runs]
    return [path for path in (*mine, *again) if path not in contents]


def shown_models(models: Sequence[str]) -> list[str]:
    """The rows of the page, each once: Mini's models, and those that are added.

    Raises `UserError` for an unknown one, for one that a Space cannot have, and for more than a page shows.
    """
    added = [cards.resolve(name) for name in models]
    for card in added:
        if not all(map(_goes_along, with_base(card))):
            raise UserError(ONLY_HERE.format(name=card.name, instead=_instead(card)))
    rows = list(dict.fromkeys([*Settings.from_environment({}).models, *(card.name for card in added)]))
    if len(rows) > LIMITS.models:
        raise UserError(f"A page shows at most {LIMITS.models} models, Mini's included; these would be {len(rows)}.")
    return rows


def _goes_along(card: Card) -> bool:
    """Whether a Space can load a model: from the Hub, or from the checkout, by a path that is right there too."""
    if card.download:
        return True
    rest = sources.split_spec(card.spec)[1].removeprefix(sources.LOCAL_DIR)
    place = Path(os.path.normpath(rest))
    return place.parts[:1] == ("checkpoints",) and sources.local_path(rest).exists()


def _instead(card: Card) -> str:
    family = "clip" if card.family == "sds-clip" else card.family
    return INSTEAD[family].format(name=card.name)


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
    """The files of a stored run, which hold neither pictures nor captions, without the paths of its set and models."""
    stored, folder = read_run(run), f"results/{run.resolve().name}"
    names = _public_names(stored.header["models"])
    header: dict[str, Any] = {**stored.header, "benchmark": public_name(stored.benchmark)}
    for key in ("models", "model_facts"):
        if key in header:
            header[key] = {names.get(name, name): facts for name, facts in header[key].items()}
    found: dict[str, Path | bytes] = {f"{folder}/{HEADER}": (to_json(header) + "\n").encode()}
    found[f"{folder}/{EXAMPLES}"] = run / EXAMPLES
    for file in sorted(run.glob(SCORE_FILES)):
        is_public = all(name == shown for name, shown in names.items())
        found[f"{folder}/{file.name}"] = file if is_public else _renamed(file, names)
    return found


def _public_names(models: Iterable[str]) -> dict[str, str]:
    """By model of a run, its name without your folders; a number tells apart those that would be called the same."""
    names: dict[str, str] = {}
    for model in models:
        name = public_name(model)
        same = sum(public_name(other) == name for other in names)
        names[model] = f"{name}-{same + 1}" if same else name
    return names


def _renamed(file: Path, names: Mapping[str, str]) -> bytes:
    """Stored scores under the public names of their models."""
    rows = [shaped(from_json(line, allow_nan=True), dict[str, Any]) for line in whole_lines(file)]
    lines = [to_json(finite({**row, "model": names.get(row["model"], row["model"])})) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()
