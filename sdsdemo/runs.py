"""A run as a folder: what was asked, and a line for each example and model as soon as it is scored. Computes nothing.

    run.json        format, benchmark with its hash, settings, models with their fingerprints, versions, machine
    examples.jsonl  {"id", "tags", "images", "captions"}: numbers and tags only, so that a report needs no benchmark,
                    and a run of a gated one may be shown to others
    scores.jsonl    {"model", "example", "kind", "score" [image][caption], "stderr", "seconds", and for a denoising
                    model "evidence": {"timesteps", "loss" [image][caption][timestep][noise], "loss_empty", "space",
                    "seed", "micro_batch", ...}}; "what": "blind" marks means over unrelated images

A run that was killed goes on where it stopped: lines are appended and flushed one by one, and a last line that was cut
is dropped. Another benchmark, other settings or other weights in the same folder are refused. Several processes write
a file each, scores.K.jsonl, and the main one puts them together in the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.errors import UserError
from sdsdemo.processes import Processes
from sdsdemo.types import Budget, Evidence, Example, Scores

FORMAT = 2
HEADER, EXAMPLES, SCORES = "run.json", "examples.jsonl", "scores.jsonl"
PARTS = "scores.*.jsonl"
LIBRARIES = ("torch", "open_clip_torch", "diffusers", "transformers", "numpy")
MUST_AGREE = {"format": "another format", "benchmark_hash": "another benchmark", "settings": "other settings"}
"""What a run that goes on must share with what is stored, and what is said where it does not."""
DIGITS = 9
"""Significant digits of a stored loss: they bring a float32 back exactly."""
BLIND = "blind"
FINE_TUNED = (
    "'{name}' is a fine-tuning run, which has no scores yet: `python -m sdsdemo evaluate mini --model sds-clip:FILE` "
    "scores its model.safetensors."
)
ALONE = Processes()

Key = tuple[str, str, str]
"""Model, example, and "" or `BLIND`."""


@dataclass(frozen=True, kw_only=True)
class StoredExample:
    """What a run keeps of an example: no picture and no caption."""

    id: str
    tags: Mapping[str, str]
    images: int
    captions: int


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run that was read back; it may be unfinished."""

    path: Path
    header: Mapping[str, Any]
    examples: tuple[StoredExample, ...]
    scores: Mapping[Key, Scores]

    @property
    def benchmark(self) -> str:
        return self.header["benchmark"]

    @property
    def models(self) -> list[str]:
        """The models that have scored every example, in the order in which they were added."""
        return [m for m in self.header["models"] if all((m, e.id, "") in self.scores for e in self.examples)]

    def of(self, model: str, what: str = "") -> list[Scores] | None:
        """One model's scores in the order of the examples; None where one is missing."""
        found = [self.scores.get((model, example.id, what)) for example in self.examples]
        known = [scores for scores in found if scores is not None]
        return known if len(known) == len(found) else None


def read_run(path: Path) -> StoredRun:
    """A folder that `evaluate --out` wrote. Raises `UserError` naming file and line."""
    if not (path / HEADER).is_file():
        raise UserError(f"There is no {HEADER} in '{path.name}': name a folder that `evaluate --out` wrote.")
    header = _read_header(path)
    if header.get("format") != FORMAT:
        raise UserError(f"The run in '{path.name}' has another format: evaluate again with a new --out.")
    return StoredRun(path=path, header=header, examples=_read_examples(path), scores=_read_scores(path))


class RunFolder:
    """The stored scores of one benchmark at one setting, of any number of models, open for more."""

    def __init__(
        self,
        path: Path,
        benchmark: str,
        examples: Sequence[Example],
        budget: Budget,
        processes: Processes = ALONE,
        *,
        of: int | None = None,
    ) -> None:
        """Opens the folder, or makes it. of: how many examples the benchmark has, where these are a sample of it.

        Raises `UserError` where it holds another run, or cannot be written.
        """
        self.path, self._processes = path, processes
        self._order = {example.id: number for number, example in enumerate(examples)}
        self._file = path / (SCORES if processes.count == 1 else PARTS.replace("*", str(processes.index)))
        header = _header(benchmark, examples, budget) | {"of": of or len(examples)}
        if processes.is_main:
            if (path / HEADER).is_file():
                _check_agreement(_read_header(path), header, path)
            else:
                _write(path, EXAMPLES, "".join(json.dumps(_stored(example)) + "\n" for example in examples))
                _write(path, HEADER, json.dumps(header, indent=1) + "\n")
            for file in _score_files(path):
                _mend(file)
        processes.wait()
        self._header = _read_header(path)
        self._scores = _read_scores(path)
        processes.wait()  # nobody writes before everybody has read

    def scores(self, model: str, example: str, what: str = "") -> Scores | None:
        """What is stored, or None where that is still to do."""
        return self._scores.get((model, example, what))

    def enter(self, model: str, fingerprint: str) -> None:
        """Name a model before its scores are added. Raises `UserError` where scores of other weights are stored."""
        models = self._header["models"]
        if models.get(model, fingerprint) != fingerprint:
            raise UserError(
                f"The folder '{self.path.name}' holds scores of {model} with other weights: name another folder."
            )
        if model not in models:
            models[model] = fingerprint
            if self._processes.is_main:
                _write(self.path, HEADER, json.dumps(self._header, indent=1) + "\n")

    def add(self, model: str, example: str, scores: Scores, what: str = "") -> None:
        """Append one line, on the disk before this returns. Raises `UserError` where the disk does not take it."""
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row_of(model, example, scores, what)) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"'{self.path.name}' takes no more scores ({error.strerror}): make room on the disk, and run again."
            ) from error
        self._scores[model, example, what] = scores

    def finish(self, rows: Iterable[Mapping[str, Any]] = (), shares: Sequence[int] = ()) -> None:
        """Put the scores of all processes into one file, model by model in the order of the examples.

        rows: of the other processes, which may have written to another machine's disk. shares: how many rows each
        process computed; kept in the header.
        """
        if not self._processes.is_main:
            return
        for row in rows:
            self._scores.setdefault(key_of(row), scores_of(row))
        models = list(self._header["models"])
        order = sorted(self._scores, key=lambda key: (models.index(key[0]), key[2], self._order.get(key[1], 0)))
        text = "".join(json.dumps(row_of(*key[:2], self._scores[key], key[2])) + "\n" for key in order)
        if not (self.path / SCORES).is_file() or (self.path / SCORES).read_text(encoding="utf-8") != text:
            _write(self.path, SCORES, text)
        for part in self.path.glob(PARTS):
            part.unlink()
        if shares:
            self._header["shares"] = list(shares)
            _write(self.path, HEADER, json.dumps(self._header, indent=1) + "\n")


def _stored(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "tags": dict(example.tags),
        "images": len(example.images),
        "captions": len(example.captions),
    }


def _read_examples(path: Path) -> tuple[StoredExample, ...]:
    try:
        lines = (path / EXAMPLES).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{EXAMPLES} is missing in '{path.name}': evaluate again with a new --out.") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(StoredExample(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(f"Line {number} of {EXAMPLES} in '{path.name}' cannot be read.") from error
    return tuple(found)


def _header(benchmark: str, examples: Sequence[Example], budget: Budget) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "benchmark": benchmark,
        "benchmark_hash": hash_of(examples),
        "examples": len(examples),
        "settings": settings_of(budget),
        "models": {},
        "versions": {name: _version(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }


def settings_of(budget: Budget) -> dict[str, Any]:
    """What a run with the same scores must share."""
    return {
        "timesteps": budget.timesteps,
        "noises": budget.noises,
        "seed": budget.seed,
        "empty_prompt": budget.empty_prompt,
    }


def hash_of(examples: Sequence[Example]) -> str:
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
        if header.get("kind") == "fine-tune":
            raise UserError(FINE_TUNED.format(name=path.name))
        return {**header, "models": dict(header["models"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{HEADER} in '{path.name}' cannot be read: name another folder.") from error


def _check_agreement(stored: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    other = [called for key, called in MUST_AGREE.items() if stored.get(key) != asked[key]]
    if other:
        raise UserError(
            f"The folder '{path.name}' holds a run with {' and '.join(other)}: name another folder, or ask for "
            f"what it holds: {_held(stored)}."
        )


def _held(header: Mapping[str, Any]) -> str:
    """What a stored run is of, in the words of the command line."""
    settings, count = header.get("settings", {}), header.get("examples")
    sample = f" --limit {count}" if count != header.get("of", count) else ""
    flags = " ".join(f"--{name} {settings[name]}" for name in ("timesteps", "noises", "seed") if name in settings)
    empty = " --empty-prompt" if settings.get("empty_prompt") else ""
    return f"{header.get('benchmark')}{sample} {flags}{empty}".strip()


def _write(path: Path, name: str, text: str) -> None:
    """A whole file, written aside and then renamed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        aside = path / f"{name}.part"
        aside.write_text(text, encoding="utf-8")
        aside.replace(path / name)
    except OSError as error:
        raise UserError(f"The folder '{path.name}' cannot be written: name another one with --out.") from error


def _score_files(path: Path) -> list[Path]:
    return [file for file in (path / SCORES, *sorted(path.glob(PARTS))) if file.is_file()]


def _mend(file: Path) -> None:
    """Cut a last line that is not whole, so that the next one starts afresh."""
    with file.open("r+b") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)


def _read_scores(path: Path) -> dict[Key, Scores]:
    """Every whole line of every file; of a last one that was cut nothing is taken."""
    found = {}
    for file in _score_files(path):
        content = file.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines()
        rows = [_parsed(line, number, file) for number, line in enumerate(lines, start=1)]
        found.update({key_of(row): scores_of(row) for row in rows})
    return found


def _parsed(line: str, number: int, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
        return row if {"model", "example", "kind", "score"} <= set(row) else _refuse(number, file)
    except ValueError:
        return _refuse(number, file)


def _refuse(number: int, file: Path) -> Any:
    raise UserError(
        f"Line {number} of {file.name} in '{file.parent.name}' cannot be read: delete that line, and run again."
    )


def key_of(row: Mapping[str, Any]) -> Key:
    return row["model"], row["example"], row.get("what", "")


def row_of(model: str, example: str, scores: Scores, what: str = "") -> dict[str, Any]:
    """One line of the file: everything that `scores_of` needs."""
    row: dict[str, Any] = {
        "model": model,
        "example": example,
        **({"what": what} if what else {}),
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
            **({} if found.loss_empty_ITN is None else {"loss_empty": _rounded(found.loss_empty_ITN)}),
            "space": found.space,
            "steps": found.steps,
            **({} if found.clean_factor_T is None else {"clean_factor": found.clean_factor_T.tolist()}),
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


def scores_of(row: Mapping[str, Any]) -> Scores:
    """The scores of one line."""
    stderr, found = row.get("stderr"), row.get("evidence")
    return Scores(
        kind=row["kind"],
        score_IC=np.array(row["score"], dtype=np.float64),
        stderr_IC=None if stderr is None else np.array(stderr, dtype=np.float64),
        evidence=None if found is None else _evidence(found),
        seconds=row.get("seconds", 0.0),
    )


def _evidence(found: Mapping[str, Any]) -> Evidence:
    empty, factor = found.get("loss_empty"), found.get("clean_factor")
    return Evidence(
        timestep_T=np.array(found["timesteps"], dtype=np.int64),
        loss_ICTN=np.array(found["loss"], dtype=np.float32),
        loss_empty_ITN=None if empty is None else np.array(empty, dtype=np.float32),
        space=found["space"],
        steps=found.get("steps", 0),
        clean_factor_T=None if factor is None else np.array(factor, dtype=np.float64),
        seed=found["seed"],
        micro_batch=found["micro_batch"],
        evaluations=found["evaluations"],
    )
