"""One line of `scores.jsonl`: a model's scores on one example, to JSON and back. Opens no file.

    {"model", "example", "made_of", "kind", "score" [image][caption], "stderr", "seconds", and for a denoising model
     "evidence": {"timesteps", "loss" [image][caption][timestep][noise], "loss_empty", "space", "seed", ...}}

"what": "blind" marks means over unrelated images; "text-only" similarities between every two of three captions, without
a picture: "score" is [[s(0, 1), s(0, 2), s(1, 2)]]. "made_of" is the digest of the scored captions and pictures; lines
of older versions have none. "precision" is given if it was not float32, "unread" if the model misread the captions
(`types.Scores`). A non-finite number is null; older files say NaN.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict

from sdsdemo.core.number_format import LOSS_DIGITS, as_lists
from sdsdemo.runtime.files import finite, from_json, to_json
from sdsdemo.runtime.shapes import shaped
from sdsdemo.types import Evidence, Kind, Precision, Scores

LARGEST_INT = 2**62
BLIND, TEXT_ONLY = "blind", "text-only"

Number = float | None
"""None if not finite."""
Key = tuple[str, str, str]
"""Model, example, and "", "blind" or "text-only"."""


class EvidenceRow(TypedDict):
    """The losses behind a denoising score."""

    timesteps: list[int]
    loss: list[list[list[list[Number]]]]
    loss_empty: NotRequired[list[list[list[Number]]] | None]
    space: Literal["eps", "velocity"]
    steps: NotRequired[int]
    clean_factor: NotRequired[list[float] | None]
    seed: int
    micro_batch: int
    evaluations: int
    antithetic: NotRequired[bool]
    rounds: NotRequired[list[list[int]]]


class Row(TypedDict):
    """One line."""

    model: str
    example: str
    made_of: NotRequired[str]
    what: NotRequired[str]
    kind: Kind
    score: list[list[Number]]
    stderr: NotRequired[list[list[Number]] | None]
    seconds: NotRequired[float]
    precision: NotRequired[Precision]
    unread: NotRequired[list[str]]
    evidence: NotRequired[EvidenceRow | None]


def row_of(model: str, example: str, scores: Scores, what: str = "", made_of: str = "") -> Row:
    """Everything that `scores_of` needs."""
    row: Row = {
        "model": model,
        "example": example,
        "what": what,
        "made_of": made_of,
        "kind": scores.kind,
        "score": as_lists(scores.score_IC),
        "stderr": None if scores.stderr_IC is None else as_lists(scores.stderr_IC),
        "seconds": round(scores.seconds, 4),
        "precision": scores.precision,
        "unread": list(scores.unread),
        "evidence": None if scores.evidence is None else _evidence_row(scores.evidence),
    }
    return _without_defaults(row)


def _without_defaults(row: Row) -> Row:
    """The row without keys that hold their defaults."""
    if not row["what"]:
        del row["what"]
    if not row["made_of"]:
        del row["made_of"]
    if row["precision"] == "float32":
        del row["precision"]
    if not row["unread"]:
        del row["unread"]
    if row["evidence"] is None:
        del row["evidence"]
    return row


def _evidence_row(found: Evidence) -> EvidenceRow:
    row: EvidenceRow = {
        "timesteps": found.timestep_T.tolist(),
        "loss": as_lists(found.loss_ICTN, LOSS_DIGITS),
        "loss_empty": None if found.loss_empty_ITN is None else as_lists(found.loss_empty_ITN, LOSS_DIGITS),
        "space": found.space,
        "steps": found.steps,
        "clean_factor": None if found.clean_factor_T is None else found.clean_factor_T.tolist(),
        "seed": found.seed,
        "micro_batch": found.micro_batch,
        "evaluations": found.evaluations,
    }
    if found.antithetic:
        row["antithetic"] = True
    if found.rounds_IC is not None:
        row["rounds"] = found.rounds_IC.tolist()
    if row["loss_empty"] is None:
        del row["loss_empty"]
    if row["clean_factor"] is None:
        del row["clean_factor"]
    return row


def line_of(row: Row) -> str:
    """A row as strict JSON."""
    return to_json(row)


def strict(line: str) -> str:
    """The line as strict JSON: older versions wrote NaN. Raises `ValueError` for invalid JSON."""
    return line_of(finite(from_json(line, allow_nan=True))) if "NaN" in line or "Infinity" in line else line


def parsed(line: str) -> Row:
    """A line's row. Raises `ValueError` for invalid JSON, or JSON of another shape."""
    row: Row = shaped(from_json(line, allow_nan=True), Row)
    return row


def key_of(row: Row) -> Key:
    """The unique key of a row."""
    return row["model"], row["example"], row.get("what", "")


def scores_of(row: Row) -> Scores:
    """The scores of a row. Raises `ValueError` if its lists differ in length, or a number is too large."""
    score_IC = _array(row["score"], 2, "score")
    stderr, found = row.get("stderr"), row.get("evidence")
    stderr_IC = None if stderr is None else _array(stderr, 2, "stderr")
    if stderr_IC is not None and stderr_IC.shape != score_IC.shape:
        raise ValueError("stderr: it must have as many numbers as score")
    return Scores(
        kind=row["kind"],
        score_IC=score_IC,
        stderr_IC=stderr_IC,
        evidence=None if found is None else _evidence(found, score_IC.shape),
        seconds=_seconds(row.get("seconds", 0.0)),
        precision=row.get("precision", "float32"),
        unread=tuple(row.get("unread", ())),
    )


def _seconds(seconds: float) -> float:
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("seconds: it must be a number of seconds")
    return seconds


def measured_how(scores: Scores) -> tuple[Any, ...]:
    """What all scores of one model must share to be summarised together."""
    found = scores.evidence
    if found is None:
        return (scores.kind,)
    empty, factor = found.loss_empty_ITN is not None, found.clean_factor_T is not None
    draws = found.loss_ICTN.shape[3]
    noise = (draws, found.antithetic, found.rounds_IC is not None, found.seed)
    return scores.kind, found.timestep_T.tolist(), noise, found.space, found.steps, empty, factor


def _evidence(found: EvidenceRow, shape: tuple[int, ...]) -> Evidence:
    """shape: shape of the scores."""
    _check_ints(found)
    empty, factor = found.get("loss_empty"), found.get("clean_factor")
    loss_ICTN = _array(found["loss"], 4, "evidence.loss").astype(np.float32)
    if loss_ICTN.shape[:3] != (*shape, len(found["timesteps"])):
        raise ValueError("evidence.loss: it must be [image][caption][timestep][noise]")
    loss_empty_ITN = None if empty is None else _array(empty, 3, "evidence.loss_empty").astype(np.float32)
    if loss_empty_ITN is not None and loss_empty_ITN.shape != (shape[0], *loss_ICTN.shape[2:]):
        raise ValueError("evidence.loss_empty: it must be [image][timestep][noise]")
    if found.get("antithetic") and loss_ICTN.shape[3] % 2:
        raise ValueError("evidence.antithetic: it needs an even number of draws")
    if factor is not None and len(factor) != loss_ICTN.shape[2]:
        raise ValueError("evidence.clean_factor: it must have one number per timestep")
    return Evidence(
        timestep_T=np.array(found["timesteps"], dtype=np.int64),
        loss_ICTN=loss_ICTN,
        loss_empty_ITN=loss_empty_ITN,
        space=found["space"],
        steps=found.get("steps", 0),
        clean_factor_T=None if factor is None else _array(factor, 1, "evidence.clean_factor"),
        seed=found["seed"],
        micro_batch=found["micro_batch"],
        evaluations=found["evaluations"],
        antithetic=found.get("antithetic", False),
        rounds_IC=None if "rounds" not in found else _rounds(found["rounds"], loss_ICTN.shape),
    )


def _rounds(rounds: Any, shape: tuple[int, ...]) -> np.ndarray:
    """rounds_IC, int64. Raises `ValueError` where they do not fit the losses."""
    rounds_IC = _array(rounds, 2, "evidence.rounds")
    if rounds_IC.shape != shape[:2] or not ((rounds_IC >= 1) & (rounds_IC <= shape[3])).all():
        raise ValueError("evidence.rounds: it must hold the draws of each image and caption")
    return rounds_IC.astype(np.int64)


def _check_ints(found: EvidenceRow) -> None:
    counts = (found["seed"], found["micro_batch"], found["evaluations"], found.get("steps", 0))
    if not all(0 <= number < LARGEST_INT for number in (*found["timesteps"], *counts)):
        raise ValueError("evidence: a count or timestep is negative or too large")


def _array(numbers: Any, dimensions: int, name: str) -> np.ndarray:
    """float64; None becomes NaN. Raises `ValueError` if lists of one level differ in length."""
    try:
        array = np.array(numbers, dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: its lists differ in length, or a number is too large") from error
    if array.ndim != dimensions or not array.size:
        raise ValueError(f"{name}: it must hold numbers in {dimensions} levels of lists")
    if np.abs(array[np.isfinite(array)]).max(initial=0.0) > np.finfo(np.float32).max:
        raise ValueError(f"{name}: a number is too large")
    return array
