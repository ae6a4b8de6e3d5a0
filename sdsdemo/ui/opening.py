"""The stored answer that the page opens with, so that it opens at once and without loading a model. Knows no Gradio.

A record as of `answer_file`, and beside it the arrays behind the pictures of the denoising.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.models.cards import fingerprint
from sdsdemo.models.images import open_image
from sdsdemo.runtime.files import from_json, write_whole
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import ASSETS, budget
from sdsdemo.types import Answer, Denoised
from sdsdemo.ui.answer_file import Entry, answer_record, answers_from, as_json
from sdsdemo.ui.examples import ShownExample, read_examples

log = logging.getLogger(__name__)

OPENING_FILE = "mini/opening.json"
PICTURES_FILE = "mini/opening.npz"
SHOW_ALL = 1e9
"""No limit on what showing the denoising may cost."""
LOSS_ROUNDING = 1e-4
"""Between losses and the stored ones, which are rounded."""
PARTS = tuple(part.name for part in fields(Denoised) if part.name != "seconds")


class Record(TypedDict):
    """The stored opening answer: the fields that are read."""

    image: str
    captions: list[str]
    models: list[Entry]
    made_of: NotRequired[dict[str, str]]
    """By model name, the fingerprint of the model that answered."""


def write_opening(workbench: Workbench, assets: Path = ASSETS) -> dict[str, Any]:
    """Computes the answer that the page opens with: the first example, the models shown first, the default budget.

    Writes the record, which it returns, and the arrays of what denoisers made of the picture.
    """
    record, answers = opening_answer(workbench, assets)
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        **{
            f"{answer.card.name}.{part}": getattr(answer.denoised, part)
            for answer in answers
            if answer.denoised
            for part in PARTS
        },
    )
    write_whole(assets / PICTURES_FILE, stream.getvalue())
    write_whole(assets / OPENING_FILE, as_json(record) + "\n")
    return record


def opening_answer(workbench: Workbench, assets: Path = ASSETS) -> tuple[dict[str, Any], list[Answer]]:
    """The record of the answer that the page opens with, and the answers in it.

    Scores twice and returns the second answer, so that its timings do not include loading the models.
    """
    examples = read_examples(assets)
    if not examples:
        raise ValueError("assets must hold mini/examples.json with at least one example")
    example = examples[0]
    for _ in range(2):
        picture = open_image(example.path)
        answers = list(workbench.compare(picture, example.captions, workbench.settings.models, budget(), show=SHOW_ALL))
    record = answer_record(example.path.name, example.captions, answers)
    return record | {"made_of": {answer.card.name: fingerprint(answer.card) for answer in answers}}, answers


def read_opening(workbench: Workbench, assets: Path = ASSETS) -> tuple[ShownExample, list[Answer]] | None:
    """The stored opening answer; None if there is none, or if its models are not those shown first.

    None also, with a warning in the log, if it cannot be read or its models have changed since.
    """
    path = assets / OPENING_FILE
    if not path.is_file():
        return None
    try:
        record = shaped(from_json(path.read_bytes()), Record)
        models = tuple(entry["model"] for entry in record["models"])
        if models != workbench.settings.models:
            return None
        answers = answers_from(record, workbench)
        _check(record, answers)
    except (OSError, ValueError, KeyError, OverflowError, UserError) as error:
        log.warning("%s cannot be used (%s): `python -m sdsdemo mini opening` writes it again.", path.name, error)
        return None
    example = next((e for e in read_examples(assets) if e.path.name == record["image"]), None)
    if example is None or tuple(record["captions"]) != example.captions:
        return None
    return example, _with_pictures(answers, assets / PICTURES_FILE)


def _with_pictures(answers: Sequence[Answer], path: Path) -> list[Answer]:
    """The answers with what denoisers made of the picture; without, and a warning in the log, if it cannot be read."""
    if not path.is_file():
        return list(answers)
    try:
        with np.load(path) as stored:
            return [_with_picture(answer, stored) for answer in answers]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s cannot be used (%s): `python -m sdsdemo mini opening` writes it again.", path.name, error)
        return list(answers)


def _with_picture(answer: Answer, stored: Mapping[str, np.ndarray]) -> Answer:
    """Raises `KeyError` or `ValueError` for arrays that are not of this answer."""
    if not (answer.scores and answer.scores.evidence):
        return answer
    parts: dict[str, Any] = {part: stored[f"{answer.card.name}.{part}"] for part in PARTS}
    denoised = Denoised(**parts)
    loss_CTN = answer.scores.evidence.loss_ICTN[0]
    shown, sides = len(denoised.timestep_S), denoised.clean.shape
    whole = {
        "error_CTNHW": denoised.error_CTNHW.ndim == 5
        and np.allclose(denoised.error_CTNHW.mean(axis=(3, 4)), loss_CTN, atol=LOSS_ROUNDING),
        "noised_S": denoised.noised_S.shape == (shown, *sides),
        "guess_CS": denoised.guess_CS.shape == (len(loss_CTN), shown, *sides),
        "guess_empty_S": denoised.guess_empty_S.shape == (shown, *sides),
    }
    for part, is_whole in whole.items():
        if not is_whole:
            raise ValueError(f"{part} does not belong to the stored losses of {answer.card.name}")
    return replace(answer, denoised=denoised)


def _check(record: Mapping[str, Any], answers: Sequence[Answer]) -> None:
    """Raises `ValueError` if numbers are missing, or a model has changed since."""
    count = len(record["captions"])
    for answer in answers:
        if answer.scores is None:
            continue
        if answer.scores.score_IC.shape != (1, count):
            raise ValueError(f"{answer.card.name}: it must have a score for each of {count} captions")
        if record.get("made_of", {}).get(answer.card.name, "") not in ("", fingerprint(answer.card)):
            raise ValueError(f"{answer.card.name} has changed since")
