"""An answer outside the page: as JSON, CSV or URL.

The record is the dict of `score --json` plus every single loss, so that the charts can be redrawn from it. Reading one
back recomputes the verdict from those losses. Knows no Gradio.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.decision import decide
from sdsdemo.core.number_format import LOSS_DIGITS, as_lists
from sdsdemo.evaluation.answers import AnswersRecord, answers_as_dict
from sdsdemo.runtime.files import to_json
from sdsdemo.settings import typed_range
from sdsdemo.types import Answer, Budget, Evidence, Kind, Region, Scores
from sdsdemo.ui.address import link
from sdsdemo.ui.compare_form import Form, query_of
from sdsdemo.ui.examples import ShownExample

log = logging.getLogger(__name__)

CSV_COLUMNS = (
    "image", "region", "model", "kind", "caption", "text", "score", "preferred", "difference", "stderr", "decided",
    "seconds", "problem",
)  # fmt: skip


class _Evidence(TypedDict):
    timesteps: list[int]
    losses: list[list[list[float | None]]]
    space: Literal["eps", "velocity"]
    seed: int
    unet_evaluations: int
    antithetic: NotRequired[bool]
    rounds: NotRequired[list[int]]


class Entry(TypedDict):
    model: str
    kind: NotRequired[Kind]
    scores: NotRequired[list[float | None]]
    seconds: NotRequired[float]
    evidence: NotRequired[_Evidence]
    notes: NotRequired[list[str]]
    problem: NotRequired[str]


def answer_record(
    image_name: str,
    captions: Sequence[str],
    answers: Sequence[Answer],
    notes: Sequence[str] = (),
    region: Region = "crop",
    timestep_range: tuple[float, float] | None = None,
) -> AnswersRecord:
    """The dict of `score --json` plus, per model with evidence, `losses` [caption][timestep][noise]."""
    record = answers_as_dict(image_name, captions, answers, notes, region, timestep_range)
    for entry, answer in zip(record["models"], answers, strict=True):
        if answer.scores and answer.scores.evidence:
            entry["evidence"]["losses"] = as_lists(answer.scores.evidence.loss_ICTN[0], LOSS_DIGITS)
    return record


def answers_from(record: Mapping[str, Any], workbench: Workbench) -> list[Answer]:
    """The answers in a record, with recomputed verdicts.

    Raises `UserError` for an unknown model, and `ValueError` for losses of the wrong shape.
    """
    return [_answer(entry, workbench) for entry in record["models"]]


def as_json(record: Mapping[str, Any]) -> str:
    return to_json(record, indent=1, ensure_ascii=False)


def as_csv(record: Mapping[str, Any]) -> str:
    """One line per model and caption. Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in record["models"]:
        for c, text in enumerate(record["captions"]):
            line = {
                **{name: entry.get(name) for name in CSV_COLUMNS if name in entry},
                "image": record["image"],
                "region": record["region"],
                "caption": c,
                "text": text,
                "score": entry["scores"][c] if entry.get("scores") else None,
            }
            writer.writerow({name: _harmless(value) for name, value in line.items()})
    return stream.getvalue()


def address(
    example: ShownExample | None, captions: Sequence[str], models: Sequence[str], spend: Budget, space: str = ""
) -> str:
    """The URL that opens this view for someone else; see `compare_form.query_of`."""
    form = Form(
        image=None,
        captions=captions,
        models=models,
        timesteps=spend.timesteps,
        noises=spend.noises,
        adaptive=spend.adaptive,
        seed=spend.seed,
        region=spend.region,
        timestep_range=typed_range(spend.timestep_range),
    )
    return link("compare", query_of(form, example), space)


def _answer(entry: Mapping[str, Any], workbench: Workbench) -> Answer:
    card, notes = workbench.card(entry["model"]), tuple(entry.get("notes", ()))
    if not entry.get("scores"):
        return Answer(card=card, problem=entry.get("problem", ""), notes=notes)
    scores = Scores(
        kind=entry["kind"],
        score_IC=np.array([entry["scores"]], dtype=np.float64),
        evidence=_evidence(entry["evidence"]) if "evidence" in entry else None,
        seconds=entry["seconds"],
    )
    found = scores.evidence
    if found and found.loss_ICTN.shape[:3] != (*scores.score_IC.shape, len(found.timestep_T)):
        raise ValueError(f"{card.name}: losses must be [caption][timestep][noise]")
    return Answer(card=card, scores=scores, preference=decide(scores), notes=notes)


def _evidence(entry: Mapping[str, Any]) -> Evidence:
    with np.errstate(over="ignore"):  # a loss beyond float32 becomes infinite: no evidence
        loss_ICTN = np.array([entry["losses"]], dtype=np.float64).astype(np.float32)
    return Evidence(
        timestep_T=np.array(entry["timesteps"], dtype=np.int64),
        loss_ICTN=loss_ICTN,
        space=entry["space"],
        seed=entry["seed"],
        evaluations=entry["unet_evaluations"],
        antithetic=entry.get("antithetic", False),
        rounds_IC=np.array([entry["rounds"]], dtype=np.int64) if "rounds" in entry else None,
    )


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@")) else value
