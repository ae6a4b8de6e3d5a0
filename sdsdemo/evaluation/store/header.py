"""run.json: a run's benchmark, settings and models, and whether another run agrees with them. Knows no scores."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn, NotRequired

from typing_extensions import TypedDict

from sdsdemo.data.benchmarks import absolute, from_here
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import pairs_by_default, typed_range
from sdsdemo.types import Budget, Example

FORMAT = 2
HEADER = "run.json"
LIBRARIES = ("torch", "open_clip_torch", "diffusers", "transformers", "numpy")
FINE_TUNED = (
    "'{name}' is a fine-tuning run, which has no scores yet: `python -m sdsdemo evaluate mini --model sds-clip:FILE` "
    "scores its model.safetensors."
)
OTHER_COUNT = (
    "The folder '{path}' holds scores of {count:,} examples of {benchmark}, and this run has {now:,}: {new:,} are new, "
    "{gone:,} are gone. {advice}."
)
OTHER_SAMPLE = (
    "The folder '{path}' holds scores of {count} other examples of {benchmark}: the set has changed, or an older "
    "version chose them. Name another folder with --out."
)
OLD_SETTINGS: Mapping[str, object] = {"empty_prompt": False, "region": "own"}
"""Values of settings that older runs do not name."""


class Settings(TypedDict):
    """What scores depend on besides model and example; newer keys may be missing."""

    timesteps: int
    noises: int
    seed: int
    empty_prompt: NotRequired[bool]
    region: NotRequired[str]
    timestep_range: NotRequired[list[float]]
    antithetic: NotRequired[bool]
    adaptive: NotRequired[bool]


class Header(TypedDict):
    """run.json."""

    format: int
    benchmark: str
    benchmark_hash: str
    examples: int
    settings: Settings
    models: dict[str, str]
    model_facts: NotRequired[dict[str, dict[str, str]]]
    of: NotRequired[int]
    shares: NotRequired[list[int]]
    skipped: NotRequired[dict[str, str]]
    versions: NotRequired[dict[str, str | None]]
    machine: NotRequired[str]


def settings_of(budget: Budget) -> Settings:
    """The settings that runs with the same scores must share."""
    settings: Settings = {
        "timesteps": budget.timesteps,
        "noises": budget.noises,
        "seed": budget.seed,
        "empty_prompt": budget.empty_prompt,
        "region": budget.region,
    }
    if budget.antithetic:
        settings["antithetic"] = True
    if budget.adaptive:
        settings["adaptive"] = True
    if budget.timestep_range is not None:
        settings["timestep_range"] = list(budget.timestep_range)
    return settings


def hash_of(examples: Sequence[Example]) -> str:
    """Hash of ids, picture names and captions, without opening pictures."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.id, [p.name for p in example.images], example.captions]).encode())
    return digest.hexdigest()


def header_of(benchmark: str, examples: Sequence[Example], budget: Budget, of: int) -> Header:
    """The header of a new run. of: number of examples in the benchmark."""
    return {
        "format": FORMAT,
        "benchmark": benchmark,
        "benchmark_hash": hash_of(examples),
        "examples": len(examples),
        "settings": settings_of(budget),
        "models": {},
        "versions": {name: _version(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "of": of,
    }


@cache  # reading it takes milliseconds, and a library's version does not change while it runs
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_header(path: Path) -> Header:
    """Reads run.json. Raises `UserError` if it is unreadable, malformed, or from a fine-tuning run."""
    try:
        content = from_json((path / HEADER).read_bytes())
        if isinstance(content, dict) and content.get("kind") == "fine-tune":
            raise UserError(FINE_TUNED.format(name=path))
        header: Header = shaped(content, Header)
    except OSError as error:
        raise UserError(f"{HEADER} in '{path}' cannot be read: name another folder.") from error
    except ValueError as error:
        raise UserError(f"{HEADER} in '{path}' cannot be read ({error}): name another folder.") from error
    return header


def check_agreement(stored: Header, asked: Header, path: Path) -> None:
    """Raises `UserError` if the format or the settings differ."""
    if stored["format"] != asked["format"]:
        refuse("a different format", stored, path)
    if {**OLD_SETTINGS, **stored["settings"]} != {**OLD_SETTINGS, **asked["settings"]}:
        refuse("different settings", stored, path)


def check_ids(stored: Sequence[str], asked: Sequence[str], before: Header, now: Header, path: Path) -> None:
    """Raises `UserError` if a run lacks examples of the stored one, or is of another benchmark and adds some.

    stored, asked: the ids of both. before, now: their headers.
    """
    count, benchmark = before["examples"], now["benchmark"]
    if set(stored) == set(asked) and count == len(asked):
        return
    if absolute(before["benchmark"]) != benchmark:
        refuse("a different benchmark", before, path)
    if set(stored) <= set(asked):
        return
    if count == len(asked) != before.get("of", count):
        raise UserError(OTHER_SAMPLE.format(path=path, count=count, benchmark=from_here(benchmark)))
    new, gone = len(set(asked) - set(stored)), len(set(stored) - set(asked))
    is_sample = len(asked) < now.get("of", len(asked))
    advice = "Leave out --limit, or name another folder with --out" if is_sample else "Name another folder with --out"
    numbers = {"count": count, "now": len(asked), "new": new, "gone": gone, "advice": advice}
    raise UserError(OTHER_COUNT.format(path=path, benchmark=from_here(benchmark), **numbers))


def refuse(other: str, stored: Header, path: Path) -> NoReturn:
    raise UserError(
        f"The folder '{path}' holds a run with {other}: name another folder, or match the stored run: {held(stored)}."
    )


def held(header: Header) -> str:
    """A stored run's benchmark and settings, as command-line arguments."""
    settings, count = header["settings"], header["examples"]
    sample = f" --limit {count}" if count != header.get("of", count) else ""
    flags = f"--timesteps {settings['timesteps']} --noises {settings['noises']} --seed {settings['seed']}"
    flags += " --empty-prompt" if settings.get("empty_prompt") else ""
    flags += " --adaptive" if settings.get("adaptive") else _pairs_flag(settings)
    if settings.get("region", "own") != "crop":
        flags += f" --region {settings.get('region', 'own')}"
    if "timestep_range" in settings:
        flags += f" --timestep-range {typed_range(settings['timestep_range'])}"
    return f"{header['benchmark']}{sample} {flags}".strip()


def _pairs_flag(settings: Settings) -> str:
    """The flag that says whether noise was drawn in pairs, if that is not the default."""
    in_pairs = settings.get("antithetic", False)
    if in_pairs == pairs_by_default(settings["noises"]):
        return ""
    return " --antithetic" if in_pairs else " --no-antithetic"
