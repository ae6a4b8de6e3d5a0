"""Where the weights of a spec lie: a folder here, or a repository of the Hugging Face Hub. The only place that fetches.

    open_clip:NAME/TAG   open_clip:NAME/CHECKPOINT.pt   open_clip:hf-hub:ORG/NAME[@REVISION]   open_clip:local-dir:PATH
    transformers:REPO_OR_PATH[@REVISION]             transformers:ORG/NAME/FOLDER[@REVISION]
    vlm:REPO_OR_PATH[@REVISION]                      diffusers:REPO_OR_PATH[@REVISION]
    sds-clip:PATH

Relative paths are looked for in the repository, then where the process runs. Nothing here reads a weight.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from sdsdemo.errors import UserError
from sdsdemo.models.hub_errors import hub_errors, why
from sdsdemo.settings import ROOT, expanded
from sdsdemo.types import Family

FAMILIES: dict[str, Family] = {
    "open_clip": "clip",
    "transformers": "transformers",
    "vlm": "vlm",
    "diffusers": "diffusion",
    "sds-clip": "sds-clip",
}
LOCAL_DIR, HF_HUB = "local-dir:", "hf-hub:"
SPECS = (
    "open_clip:NAME/TAG, open_clip:NAME/CHECKPOINT.pt, open_clip:hf-hub:ORG/NAME, open_clip:local-dir:FOLDER, "
    "transformers:REPOSITORY_OR_FOLDER, vlm:REPOSITORY_OR_FOLDER, diffusers:REPOSITORY_OR_FOLDER or sds-clip:FILE"
)
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
REPO = re.compile(r"\b[\w.-]+\b/\b[\w.-]{1,96}\b(?<!\.git)", re.ASCII)
"""What the Hub takes for ORG/NAME, but for `--` and `..`."""
FOLDER = re.compile(r"[\w.-]*\w[\w.-]*")
"""A part of a path that leads no way up."""
NO_REPO = (
    "{spec!r} names no repository of the Hugging Face Hub: write open_clip:hf-hub:ORG/NAME, or with a revision "
    "open_clip:hf-hub:ORG/NAME@REVISION."
)
OUR_FOLDERS = ("checkpoints/", "runs/")
"""Paths of ours that look like the name of a repository."""
NOT_HERE = (
    "The weights of {repo} are not on this machine, and downloads are off: allow them (SDSDEMO_ALLOW_DOWNLOAD=on), "
    "or fetch them with `python -m sdsdemo fetch`."
)
NOT_FETCHED = (
    "The weights of {repo} could not be downloaded: check the name, the network and the free space. If the repository "
    "asks for its terms to be accepted, do so on its page and set HF_TOKEN."
)

NOT_REACHED = (
    "The weights of {repo} could not be downloaded, because the Hugging Face Hub was not reached: check the network, "
    "and HTTPS_PROXY or HF_ENDPOINT if yours needs them."
)


def split_spec(spec: str) -> tuple[Family, str]:
    """Family and the rest of a spec. Raises `UserError` for a text that is not a spec."""
    kind, _, rest = spec.partition(":")
    if kind not in FAMILIES or not rest.strip():
        raise UserError(f"{spec!r} does not name a model. Write {SPECS}.")
    if FAMILIES[kind] == "clip" and rest.strip().startswith(HF_HUB):
        split_hub(rest.strip())
    return FAMILIES[kind], rest.strip()


def split_hub(rest: str) -> tuple[str, str | None]:
    """`hf-hub:ORG/NAME@REVISION` to its repository and its revision. Raises `UserError` for no such name."""
    repo, at, revision = rest.removeprefix(HF_HUB).partition("@")
    if not _is_name(repo) or bool(at) != bool(revision):
        raise UserError(NO_REPO.format(spec=rest))
    return repo, revision or None


def _is_name(text: str) -> bool:
    """Whether the Hub takes a text for ORG/NAME."""
    return bool(REPO.fullmatch(text)) and "--" not in text and ".." not in text


def split_revision(rest: str) -> tuple[str, str | None]:
    """`REPO@REVISION` to its two parts; a folder may have an @ in its name."""
    name, at, revision = rest.rpartition("@")
    return (name, revision) if at and not local_path(rest).exists() else (rest, None)


def local_path(text: str) -> Path:
    """The path that a text means: absolute, or relative to the repository, or to the current folder."""
    path = expanded(text)
    here = ROOT / path
    return here if here.exists() or not path.exists() else path.resolve()


def called(text: str) -> str:
    """What a folder is called in a sentence: its own name, or what was given where there is none."""
    place = local_path(text)
    return place.name if place.is_dir() else text


def is_repo(text: str) -> bool:
    """Whether a text names a repository of the Hub rather than a folder here."""
    return _is_name(text) and not text.startswith(OUR_FOLDERS) and not local_path(text).exists()


def repo_and_folder(text: str) -> tuple[str, str] | None:
    """`ORG/NAME` and the folder in that repository, "" for its root; None for a text that names a folder here.

    Some repositories hold several models: `msj9817/GenHancer/OpenAICLIP/clip-vit-large-patch14`.
    """
    org, _, rest = text.partition("/")
    name, _, folder = rest.partition("/")
    parts = folder.split("/") if folder else []
    names_one = is_repo(f"{org}/{name}") and all(FOLDER.fullmatch(part) for part in parts)
    return (f"{org}/{name}", folder) if names_one and not local_path(text).exists() else None


def folder_named_by(spec: str) -> Path | None:
    """The local folder that a CLIP or a pipeline lies in; None where the spec names no folder."""
    family, rest = split_spec(spec)
    if family == "clip":
        place = local_path(rest.removeprefix(LOCAL_DIR))
        return (place.parent if place.is_file() else place) if rest.startswith(LOCAL_DIR) else None
    name, _ = split_revision(rest)
    if family in ("transformers", "vlm"):
        return local_path(name) if repo_and_folder(name) is None else None
    return local_path(name) if family == "diffusion" and not is_repo(name) else None


def checkpoint_named_by(spec: str) -> Path | None:
    """The file of weights that a CLIP's spec names, NAME/FILE or local-dir:FILE; None for any other spec."""
    family, rest = split_spec(spec)
    if family != "clip" or rest.startswith(HF_HUB):
        return None
    if rest.startswith(LOCAL_DIR):
        place = local_path(rest.removeprefix(LOCAL_DIR))
        return place if place.suffix in WEIGHT_SUFFIXES and not place.is_dir() else None
    file = rest.partition("/")[2]
    return local_path(file) if Path(file).suffix in WEIGHT_SUFFIXES else None


def check_disk(title: str, megabytes: float) -> None:
    """Raises `UserError` when the disk of the Hub's cache cannot take a download of this size with a tenth to spare."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    existing = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e6
    if free < 1.1 * megabytes:
        raise UserError(
            f"{title} takes {megabytes / 1000:.1f} GB, and the disk has {free / 1000:.1f} GB left: free some space, or "
            "set HF_HOME to a folder on another disk."
        )


def cached_file(repo: str, names: Sequence[str], revision: str | None = None) -> Path | None:
    """The first of these files of a repository that has been downloaded before. Never reaches the network.

    None too for a name that no repository has, as a config may hold one.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = (try_to_load_from_cache(repo, name, revision=revision) for name in names)
        return next((Path(file) for file in found if isinstance(file, str)), None)
    except HFValidationError:
        return None


def pipeline_file(spec: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a diffusion model's folder or repository; None where it is not on this machine."""
    name, asked = split_revision(split_spec(spec)[1])
    found = cached_file(name, [file], asked or revision) if is_repo(name) else local_path(name) / file
    return found if found is not None and found.is_file() else None


def repo_file(repo: str, names: Sequence[str], *, allow_download: bool, revision: str | None = None) -> Path:
    """The first of these files of a repository, downloaded where that is allowed and needed. Raises `UserError`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found = cached_file(repo, names, revision)
    if found is not None:
        return found
    if not allow_download:
        raise UserError(NOT_HERE.format(repo=repo))
    for name in names:
        try:
            with _without_its_warnings():
                return Path(hf_hub_download(repo, name, revision=revision))
        except LocalEntryNotFoundError as error:  # an EntryNotFoundError, but nobody knows what the repository holds
            raise _refusal(repo, error) from error
        except EntryNotFoundError:
            continue
        except hub_errors() as error:
            raise _refusal(repo, error) from error
    raise UserError(f"{repo} holds none of the files {', '.join(names)}: choose another repository.")


def _refusal(repo: str, error: Exception) -> UserError:
    return UserError((NOT_REACHED if why(error) == "network" else NOT_FETCHED).format(repo=repo))


@contextmanager
def _without_its_warnings() -> Iterator[None]:
    """The Hub's client warns of each of its many attempts; what came of them is said once, by us."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def repo_listing(repo: str, revision: str | None = None) -> list[str]:
    """Names of a repository's files; none where the Hub does not say. Reaches the network."""
    from huggingface_hub import list_repo_files

    try:
        with _without_its_warnings():
            return list(list_repo_files(repo, revision=revision))
    except hub_errors():
        return []


def repo_sizes(repo: str, revision: str | None = None) -> dict[str, int]:
    """Bytes of a repository's files by their names; none where the Hub does not say. Reaches the network."""
    from huggingface_hub import list_repo_tree
    from huggingface_hub.hf_api import RepoFile

    try:
        with _without_its_warnings():
            found = list(list_repo_tree(repo, recursive=True, revision=revision))
    except hub_errors():
        return {}
    return {file.path: file.size for file in found if isinstance(file, RepoFile)}


def missing_mb(repo: str, revision: str | None, size_of: Mapping[str, int], patterns: Sequence[str]) -> float | None:
    """Megabytes of the files that match and are not here yet; None if no file matches. size_of: bytes by file."""
    files = [file for file in size_of if any(fnmatch(file, one) for one in patterns)]
    return sum(size_of[f] for f in files if cached_file(repo, [f], revision) is None) / 1e6 if files else None


def repo_folder(repo: str, patterns: Sequence[str], *, allow_download: bool, revision: str | None = None) -> Path:
    """A folder with the files of a repository that match, downloaded where allowed. Raises `UserError`.

    Without downloads it holds what an earlier download left; whoever reads it must check that nothing is missing.
    """
    from huggingface_hub import snapshot_download

    try:
        with _without_its_warnings():
            return Path(
                snapshot_download(
                    repo, revision=revision, allow_patterns=list(patterns), local_files_only=not allow_download
                )
            )
    except hub_errors() as error:
        raise _refusal(repo, error) if allow_download else UserError(NOT_HERE.format(repo=repo)) from error
