"""Checks a checkout before it becomes a Space: what the Hub would refuse, or what would fail while it is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sdsdemo.app.space_files import (
    BUILDER_EXTRAS,
    FREE,
    asked_for,
    files_of,
    front_matter,
    requirements_of,
    tested_versions,
)
from sdsdemo.errors import UserError
from sdsdemo.models.preload import ENTRY
from sdsdemo.runtime.lfs import POINTER, START, is_pointer

TEXTS = (
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "base_path", "header",
    "short_description", "license", "thumbnail", "suggested_hardware", "suggested_storage", "startup_duration_timeout",
)  # fmt: skip
KEYS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(TEXTS, str),
    **dict.fromkeys(("models", "datasets", "tags", "hf_oauth_scopes", "preload_from_hub"), list),
    **dict.fromkeys(("pinned", "hf_oauth", "fullWidth", "disable_embedding"), bool),
    "hf_oauth_expiration_minutes": int,
    "hf_oauth_authorized_org": (str, list),
    "custom_headers": dict,
}
"""Keys of the front matter of a Gradio Space, and what they hold."""
REQUIRED = ("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license")
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
MOST_WORDS = 60
"""Characters of a short description."""
LARGE_FILE_MB, LARGE_REPOSITORY_MB = 20, 500
FONTS = (".woff", ".woff2", ".ttf", ".otf")
TOKENIZERS = {"open_clip_config.json": "tokenizer.json", "model_index.json": "tokenizer/tokenizer.json"}
"""By the file that makes a folder a model, the tokenizer that a model of ours has there."""
LICENCE = re.compile(r"licen[cs]e|ofl|copying", re.IGNORECASE)
RANGE_WORDS = "{name} should be a range of versions: {why}."
NOT_BUILT = (
    "A Space would ask for {name}{own}, and the Hub builds it with {builder}, which asks for {name}{theirs}: test a "
    "version that fits both."
)

Level = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong, and what to do."""

    level: Level
    text: str


def check_space(root: Path) -> dict[str, Any]:
    """What `space check` prints. Raises `UserError` outside a checkout."""
    files = files_of(root)
    parts: list[Callable[[Mapping[str, Path]], Iterator[Finding]]] = [
        _front_matter, _requirements, _builder, _sizes, _licences, _models,
    ]  # fmt: skip
    found = [finding for part in parts for finding in part(files)]
    return {
        "files": len(files),
        "megabytes": round(sum(path.stat().st_size for path in files.values()) / 1e6, 1),
        "errors": [finding.text for finding in found if finding.level == "error"],
        "warnings": [finding.text for finding in found if finding.level == "warning"],
    }


def as_text(found: Mapping[str, Any]) -> str:
    """The findings, a line each."""
    said = [*(f"error: {text}" for text in found["errors"]), *(f"warning: {text}" for text in found["warnings"])]
    verdict = "This is not a Space yet." if found["errors"] else "This can be a Space."
    return "\n".join([f"{found['files']} files, {found['megabytes']} MB.", *said, verdict])


def _error(text: str) -> Finding:
    return Finding(level="error", text=text)


def _front_matter(files: Mapping[str, Path]) -> Iterator[Finding]:
    try:
        facts = front_matter(files["README.md"].read_text(encoding="utf-8"))
    except UserError as error:
        yield _error(str(error))
        return
    yield from (_error(f"The front matter lacks {key}.") for key in REQUIRED if key not in facts)
    for key, value in facts.items():
        if key not in KEYS:
            yield _error(f"The front matter has {key}, which no Gradio Space knows: check its spelling.")
        elif not isinstance(value, KEYS[key]):
            yield _error(f"{key} in the front matter is {value!r}: put a text in quotes, so that it stays as written.")
    yield from _values(facts, files)
    yield from _versions(facts, files)


def _values(facts: Mapping[str, Any], files: Mapping[str, Path]) -> Iterator[Finding]:
    if facts.get("sdk") != "gradio":
        yield _error("sdk in the front matter must be gradio.")
    if facts.get("app_file") not in files:
        yield _error(f"app_file names {facts.get('app_file')}, which is not there.")
    for key in ("colorFrom", "colorTo"):
        if key in facts and facts[key] not in COLOURS:
            yield _error(f"{key} must be one of {', '.join(COLOURS)}.")
    if len(str(facts.get("short_description", ""))) > MOST_WORDS:
        yield _error(f"short_description must have at most {MOST_WORDS} characters.")
    for entry in facts.get("preload_from_hub") or ():
        if not ENTRY.fullmatch(str(entry)):
            yield _error(f"preload_from_hub has {str(entry)!r}: write REPO, REPO FILE,FILE or REPO FILE,FILE COMMIT.")


def _versions(facts: Mapping[str, Any], files: Mapping[str, Path]) -> Iterator[Finding]:
    own, tested = _required(files).get("gradio"), _tested(files).get("gradio")
    version = str(facts.get("sdk_version", ""))
    if own is not None and not own.specifier.contains(version):
        yield _error(f"sdk_version {version} does not fit requirements.txt ({own}).")
    if tested is not None and version != tested:
        yield _error(f"sdk_version is {version}, and {tested} was tested: set it to that.")
    needs = _needs_python(files)
    python = str(facts.get("python_version", ""))
    if python and not needs.contains(f"{python}.0" if python.count(".") == 1 else python):
        yield _error(f"python_version {python} is not supported (it must be {needs}).")


def _requirements(files: Mapping[str, Path]) -> Iterator[Finding]:
    found, strange = requirements_of(files["requirements.txt"].read_text(encoding="utf-8"))
    for line in strange:
        yield _error(f"requirements.txt has '{line}': name a package of an index, without a URL or a path.")
    tested = _tested(files)
    for requirement in found:
        name, version = requirement.name, tested.get(canonicalize_name(requirement.name))
        is_exact = any(one.operator in ("==", "===") for one in requirement.specifier)
        if name in FREE and is_exact:
            yield Finding(level="warning", text=RANGE_WORDS.format(name=name, why=FREE[name]))
        elif name not in FREE and version is None:
            yield _error(f"constraints.txt has no tested version of {name}.")
        elif version is not None and not requirement.specifier.contains(version):
            yield _error(f"{name} {version} was tested, and requirements.txt asks for {requirement.specifier}.")


def _builder(files: Mapping[str, Path]) -> Iterator[Finding]:
    """Versions that the Hub's builder cannot install beside its own gradio. Unknown for a gradio that is not here."""
    tested = _tested(files)
    builder = f"gradio[{','.join(BUILDER_EXTRAS)}]=={tested.get('gradio')}"
    if tested.get("gradio") != metadata.version("gradio"):
        return
    theirs = _needs_of_gradio()
    for name, requirement in _required(files).items():
        own, bounds = asked_for(requirement, tested), theirs.get(canonicalize_name(name), SpecifierSet())
        if not _meet(own, bounds):
            yield _error(NOT_BUILT.format(name=name, own=own, builder=builder, theirs=bounds))


def _needs_of_gradio() -> dict[str, SpecifierSet]:
    """What gradio and the extras that the builder adds ask for, by package."""
    found: dict[str, SpecifierSet] = {}
    for needed in map(Requirement, metadata.requires("gradio") or ()):
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in BUILDER_EXTRAS):
            name = canonicalize_name(needed.name)
            found[name] = found.get(name, SpecifierSet()) & needed.specifier
    return found


def _meet(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether a version that either of them names fits both; enough for bounds such as >=2.10 and <=2.12.5."""
    both = one & other
    named = [part.version.removesuffix(".*") for part in both]
    return not named or any(both.contains(version, prereleases=True) for version in named)


def _sizes(files: Mapping[str, Path]) -> Iterator[Finding]:
    megabytes = {name: path.stat().st_size / 1e6 for name, path in files.items()}
    for name, size in megabytes.items():
        if size > LARGE_FILE_MB:
            yield _error(f"{name} has {size:.0f} MB: files of more than {LARGE_FILE_MB} MB do not belong here.")
    if (total := sum(megabytes.values())) > LARGE_REPOSITORY_MB:
        yield Finding(level="warning", text=f"All files together have {total:.0f} MB: the Space will start slowly.")


def _licences(files: Mapping[str, Path]) -> Iterator[Finding]:
    if "LICENSE" not in files:
        yield _error("There is no LICENSE.")
    folders = {Path(name).parent for name in files if LICENCE.search(Path(name).name)} - {Path(".")}
    for name in map(Path, files):
        if (name.suffix in FONTS or "icons" in name.parts[:-1]) and not folders & set(name.parents):
            yield _error(f"{name} has no licence beside it: add the text of the one that it came with.")


def _models(files: Mapping[str, Path]) -> Iterator[Finding]:
    here = set(files.values())
    for name, path in files.items():
        folder, file = path.parent, path.name
        if file in TOKENIZERS and folder / TOKENIZERS[file] not in here:
            yield _error(f"{name} has no {TOKENIZERS[file]} beside it: clone the repository again.")
        if path.suffix == ".safetensors" and is_pointer(_start(path)):
            yield _error(f"{POINTER.format(file=name)}.")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(START))


def _required(files: Mapping[str, Path]) -> dict[str, Requirement]:
    found, _ = requirements_of(files["requirements.txt"].read_text(encoding="utf-8"))
    return {requirement.name: requirement for requirement in found}


def _tested(files: Mapping[str, Path]) -> dict[str, str]:
    return tested_versions(files["constraints.txt"].read_text(encoding="utf-8"))


def _needs_python(files: Mapping[str, Path]) -> SpecifierSet:
    project = files["app.py"].parent / "pyproject.toml"
    found = re.search(r'requires-python = "(.+)"', project.read_text(encoding="utf-8")) if project.is_file() else None
    return SpecifierSet(found[1] if found else "")
