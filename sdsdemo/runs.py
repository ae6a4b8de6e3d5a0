"""A run as a folder: what was asked, and a line for each example and model as soon as it is scored. Computes nothing.

    run.json       format, benchmark with its hash, settings, models with their fingerprints, versions, machine
    scores.jsonl   {"model", "example", "kind", "score" [image][caption], "stderr", "seconds", and for a denoising model
                    "evidence": {"timesteps", "loss" [image][caption][timestep][noise], "space", "seed", "micro_batch"}}

A run that was killed goes on where it stopped: lines are appended and flushed one by one, and a last line that was cut
is dropped. Another benchmark, other settings or other weights in the same folder are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.errors import UserError
from sdsdemo.types import Budget, Evidence, Example, Scores

FORMAT = 1
HEADER, SCORES = "run.json", "scores.jsonl"
LIBRARIES = ("torch", "open_clip_torch", "diffusers", "transformers", "numpy")
MUST_AGREE = {"format": "another format", "benchmark_hash": "another benchmark", "settings": "other settings"}
"""What a run that goes on must share with what is stored, and what is said where it does not."""
DIGITS = 9
"""Significant digits of a stored loss: they bring a float32 back exactly."""


class RunFolder:
    """The stored scores of one benchmark at one setting, of any number of models."""

    def __init__(self, path: Path, benchmark: str, examples: Sequence[Example], budget: Budget) -> None:
        """Opens the folder, or makes it. Raises `UserError` where it holds another run, or cannot be written."""
        self.path = path
        header = _header(benchmark, examples, budget)
        if (path / HEADER).is_file():
            self._header = _read_header(path)
            _check_agreement(self._header, header, path)
        else:
            self._header = header
            _write_header(path, header)
        self._scores = _read_scores(path)

    def scores(self, model: str, example: str) -> Scores | None:
        """What is stored, or None where that is still to do."""
        return self._scores.get((model, example))

    def enter(self, model: str, fingerprint: str) -> None:
        """Name a model before its scores are added. Raises `UserError` where scores of other weights are stored."""
        models = self._header["models"]
        if models.get(model, fingerprint) != fingerprint:
            raise UserError(
                f"The folder '{self.path.name}' holds scores of {model} with other weights: name another folder."
            )
        if model not in models:
            models[model] = fingerprint
            _write_header(self.path, self._header)

    def add(self, model: str, example: str, scores: Scores) -> None:
        """Append one line, on the disk before this returns."""
        with (self.path / SCORES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_row(model, example, scores)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._scores[model, example] = scores


def _header(benchmark: str, examples: Sequence[Example], budget: Budget) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "benchmark": benchmark,
        "benchmark_hash": _hash_of(examples),
        "examples": len(examples),
        "settings": {"timesteps": budget.timesteps, "noises": budget.noises, "seed": budget.seed},
        "models": {},
        "versions": {name: _version(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }


def _hash_of(examples: Sequence[Example]) -> str:
    """Of names and captions: pictures are not opened for it."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.id, [p.name for p in example.images], example.captions]).encode())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
        return {**header, "models": dict(header["models"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{HEADER} in '{path.name}' cannot be read: name another folder.") from error


def _check_agreement(stored: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    other = [called for key, called in MUST_AGREE.items() if stored.get(key) != asked[key]]
    if other:
        raise UserError(
            f"The folder '{path.name}' holds a run with {' and '.join(other)}: name another folder, or ask for "
            f"what it holds ({stored.get('benchmark')}, {stored.get('settings')})."
        )


def _write_header(path: Path, header: Mapping[str, Any]) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        aside = path / f"{HEADER}.part"
        aside.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
        aside.replace(path / HEADER)
    except OSError as error:
        raise UserError(f"The folder '{path.name}' cannot be written: name another one with --out.") from error


def _read_scores(path: Path) -> dict[tuple[str, str], Scores]:
    """Every whole line; one that was cut at the end is removed from the file, so that the next starts afresh."""
    file = path / SCORES
    if not file.is_file():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with file.open("r+b") as stream:
            stream.truncate(len(whole))
    rows = [_parsed(line, number, path) for number, line in enumerate(whole.decode().splitlines(), start=1)]
    return {(row["model"], row["example"]): _scores(row) for row in rows}


def _parsed(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
        return row if {"model", "example", "kind", "score"} <= set(row) else _refuse(number, path)
    except ValueError:
        return _refuse(number, path)


def _refuse(number: int, path: Path) -> Any:
    raise UserError(f"Line {number} of {SCORES} in '{path.name}' cannot be read: delete that line, and run again.")


def _row(model: str, example: str, scores: Scores) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model,
        "example": example,
        "kind": scores.kind,
        "score": scores.score_IC.tolist(),
        "stderr": None if scores.stderr_IC is None else scores.stderr_IC.tolist(),
        "seconds": round(scores.seconds, 4),
    }
    if scores.evidence is not None:
        found = scores.evidence
        row["evidence"] = {
            "timesteps": found.timestep_T.tolist(),
            "loss": _rounded(found.loss_ICTN),
            "space": found.space,
            "seed": found.seed,
            "micro_batch": found.micro_batch,
            "evaluations": found.evaluations,
        }
    return row


def _rounded(loss: np.ndarray) -> Any:
    """Nested lists, as short as a float32 can be written without loss."""
    if loss.ndim:
        return [_rounded(part) for part in loss]
    return float(f"{loss:.{DIGITS}g}")


def _scores(row: Mapping[str, Any]) -> Scores:
    stderr, found = row.get("stderr"), row.get("evidence")
    return Scores(
        kind=row["kind"],
        score_IC=np.array(row["score"], dtype=np.float64),
        stderr_IC=None if stderr is None else np.array(stderr, dtype=np.float64),
        evidence=None if found is None else _evidence(found),
        seconds=row.get("seconds", 0.0),
    )


def _evidence(found: Mapping[str, Any]) -> Evidence:
    return Evidence(
        timestep_T=np.array(found["timesteps"], dtype=np.int64),
        loss_ICTN=np.array(found["loss"], dtype=np.float32),
        space=found["space"],
        seed=found["seed"],
        micro_batch=found["micro_batch"],
        evaluations=found["evaluations"],
    )
