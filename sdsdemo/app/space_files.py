"""What of a checkout makes a Space: its files, its front matter, its requirements. Uploads nothing.

Only named folders and files go, so that no run, cache, environment or token can be among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sdsdemo.errors import UserError

FILES = ("app.py", "README.md", "requirements.txt", "constraints.txt", "LICENSE", "CITATION.cff", "CHANGELOG.md")
FOLDERS = ("sdsdemo", "assets", "checkpoints", "docs", "results")
LEFT_OUT = re.compile(r"(^|/)(\.|__pycache__/|[^/]*\.(pyc|pyi|tmp|part|lock|log|env)$|[^/]*token\.(txt|json)$)")
"""Within those folders: what is hidden, made by running, or a token. A model's `tokenizer.json` goes."""
BUILDER_EXTRAS = ("oauth", "mcp")
"""The Hub builds every Gradio Space with `gradio[oauth,mcp]==<sdk_version>`, whatever extras the Space names."""
_BY_PLATFORM = "a platform with shared GPUs offers only some, and changes which"
FREE: Mapping[str, str] = {
    "torch": _BY_PLATFORM,
    "torchvision": _BY_PLATFORM,
    "pydantic": "the Hub adds gradio[mcp], which allows none of the newest",
}
"""Packages that stay ranges in a Space, and why: the tested version may be one that cannot be installed there."""
NO_CHECKOUT = "There is no app.py in '{root}': run it in a clone of the repository."
NO_FRONT_MATTER = "README.md does not begin with front matter between two lines of ---: put it back."


def files_of(root: Path) -> dict[str, Path]:
    """The files of a Space by their paths in its repository. Raises `UserError` outside a checkout."""
    if not (root / "app.py").is_file():
        raise UserError(NO_CHECKOUT.format(root=root))
    inside = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.is_file()]
    named = {path.relative_to(root).as_posix(): path for path in [*(root / name for name in FILES), *inside]}
    return {name: path for name, path in named.items() if path.is_file() and not LEFT_OUT.search(name)}


def front_matter(text: str) -> dict[str, Any]:
    """The facts that README.md begins with. Raises `UserError`."""
    return _split(text)[0]


def with_facts(text: str, facts: Mapping[str, Any]) -> str:
    """README.md with further facts in its front matter."""
    import yaml

    own, rest = _split(text)
    block = yaml.safe_dump({**own, **facts}, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{block}---\n{rest}"


def requirements_of(text: str) -> tuple[list[Requirement], list[str]]:
    """The requirements in a file, and its lines that name something other than a package of an index."""
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    found: list[Requirement] = []
    strange: list[str] = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            strange.append(line)
            continue
        if requirement.url:
            strange.append(line)
        else:
            found.append(requirement)
    return found, strange


def tested_versions(constraints: str) -> dict[str, str]:
    """By package, the version that was tested."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", constraints, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def pinned(requirements: Sequence[Requirement], tested: Mapping[str, str]) -> str:
    """requirements.txt of a Space: each package in the version that was tested, and those in `FREE` as ranges."""
    lines = [
        f"# Written by `python -m sdsdemo space push`: the versions that were tested, except of {', '.join(FREE)}."
    ]
    for requirement in requirements:
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        lines.append(f"{requirement.name}{extras}{asked_for(requirement, tested)}")
    return "\n".join(lines) + "\n"


def asked_for(requirement: Requirement, tested: Mapping[str, str]) -> SpecifierSet:
    """The versions of a package that a Space asks for: the tested one, or the range of requirements.txt."""
    version = tested.get(canonicalize_name(requirement.name))
    is_free = requirement.name in FREE or version is None
    return requirement.specifier if is_free else SpecifierSet(f"=={version}")


def _split(text: str) -> tuple[dict[str, Any], str]:
    import yaml

    parts = text.split("---\n", 2)
    try:
        facts = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError as error:
        raise UserError(f"The front matter of README.md is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(facts, dict):
        raise UserError(NO_FRONT_MATTER)
    return facts, parts[2]
