"""Answers as plain dicts: what `score --json`, the page's `/score` and `sdsdemo.score` return.

A non-finite number becomes None, since JSON cannot hold it. Computes nothing and prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NotRequired

from typing_extensions import TypedDict

from sdsdemo.core.adaptive import by_timestep
from sdsdemo.types import Answer, Evidence, Kind, Preference, Region, Scores


class EvidenceRecord(TypedDict):
    """What a diffusion model computed."""

    timesteps: list[int]
    loss: list[list[float | None]]
    """[caption][timestep], a mean over the noise draws; their mean is minus the score."""
    noises: int
    unet_evaluations: int
    seed: int
    space: str
    antithetic: NotRequired[bool]
    rounds: NotRequired[list[int]]
    """Of adaptive scoring: the draws a timestep that each caption got."""
    losses: NotRequired[Any]
    """[caption][timestep][noise], in the page's download."""


class AnswerRecord(TypedDict):
    """What one model says: a `problem`, or scores and a verdict."""

    model: str
    problem: NotRequired[str]
    fault: NotRequired[bool]
    """True if the problem is a bug of ours, else absent."""
    kind: NotRequired[Kind]
    scores: NotRequired[list[float | None]]
    """A number per caption, higher is better."""
    preferred: NotRequired[int | None]
    """Index of the best, even if `decided` is false; None if undefined."""
    difference: NotRequired[float | None]
    """Best minus second."""
    stderr: NotRequired[float | None]
    decided: NotRequired[bool]
    tie: NotRequired[bool]
    """True if the difference may be rounding, else absent."""
    seconds: NotRequired[float]
    evidence: NotRequired[EvidenceRecord]
    notes: NotRequired[list[str]]


class AnswersRecord(TypedDict):
    """One question and each model's answer."""

    image: str
    captions: list[str]
    """As they were read."""
    region: Region
    """The part of the picture shown to every model."""
    timestep_range: list[float] | None
    """The requested part of the noise schedule: None for each model's own."""
    notes: NotRequired[list[str]]
    """Where there is something to explain."""
    models: list[AnswerRecord]


def answers_as_dict(
    image_name: str,
    captions: Sequence[str],
    answers: Sequence[Answer],
    notes: Sequence[str] = (),
    region: Region = "crop",
    timestep_range: tuple[float, float] | None = None,
) -> AnswersRecord:
    """One question, with the captions as read, and each model's answer."""
    record: AnswersRecord = {
        "image": image_name,
        "captions": list(captions),
        "region": region,
        "timestep_range": None if timestep_range is None else list(timestep_range),
        "notes": list(notes),
        "models": [_answer(answer) for answer in answers],
    }
    if not notes:
        del record["notes"]
    return record


def _answer(answer: Answer) -> AnswerRecord:
    notes = list(answer.notes)
    if answer.scores is None or answer.preference is None:
        record: AnswerRecord = {"model": answer.card.name, "problem": answer.problem}
        if answer.fault:
            record["fault"] = True
    else:
        record = _verdict(answer.card.name, answer.scores, answer.preference)
        if answer.scores.evidence:
            record["evidence"] = _evidence(answer.scores.evidence)
        if answer.preference.note and answer.preference.note not in notes:
            notes.append(answer.preference.note)
    if notes:
        record["notes"] = notes
    return record


def _verdict(model: str, scores: Scores, preference: Preference) -> AnswerRecord:
    record: AnswerRecord = {
        "model": model,
        "kind": scores.kind,
        "scores": [_number(score) for score in scores.score_IC[0]],
        "preferred": preference.preferred,
        "difference": _number(preference.difference),
        "stderr": _number(preference.stderr),
        "decided": preference.decided,
        "tie": preference.tie,
        "seconds": round(scores.seconds, 4),
    }
    if not preference.tie:
        del record["tie"]
    return record


def _evidence(evidence: Evidence) -> EvidenceRecord:
    mean_CT = by_timestep(evidence.loss_ICTN, evidence.rounds_IC)[0]
    record: EvidenceRecord = {
        "timesteps": [int(timestep) for timestep in evidence.timestep_T],
        "loss": [[_number(loss) for loss in loss_T] for loss_T in mean_CT],
        "noises": evidence.loss_ICTN.shape[3],
        "unet_evaluations": evidence.evaluations,
        "seed": evidence.seed,
        "space": evidence.space,
    }
    if evidence.rounds_IC is not None:
        record["rounds"] = evidence.rounds_IC[0].tolist()
    if evidence.antithetic:
        record["antithetic"] = True
    return record


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
