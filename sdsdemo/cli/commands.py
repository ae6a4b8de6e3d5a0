"""Questions from Python or the command line, and their answers as text. Knows no page; prints nothing."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from sdsdemo import models as adapters
from sdsdemo.app.calls import named, spend_of
from sdsdemo.app.kept import kept_workbench
from sdsdemo.app.many import compare_many
from sdsdemo.app.workbench import Workbench
from sdsdemo.captions.cleaning import cleaning_notes
from sdsdemo.captions.validation import check_captions
from sdsdemo.cli.wrapping import wrapped
from sdsdemo.core.decision import verdict_words
from sdsdemo.data.readers import winoground
from sdsdemo.errors import UserError, quoted
from sdsdemo.evaluation.answers import AnswersRecord, answers_as_dict
from sdsdemo.models import cards
from sdsdemo.models.images import Opened, open_picture
from sdsdemo.types import Answer, Budget, Example, Picture, Preference

DECIMALS = {"similarity": 2, "log-odds": 2, "denoising": 4}
DIRECTION = {
    "similarity": "similarity, higher is better",
    "log-odds": 'log-odds of "yes", higher is better',
    "denoising": "denoising loss, lower is better",
}
RUNS = {True: "runs here", False: "does not run here yet"}
IN_HALF = (
    "The {parts} came in half precision, as they run here; with SDSDEMO_PRECISION=float32, a fetch takes the full one."
)
PAIRS = "Give the questions as a list of (picture, [caption, caption]) for each picture: {}."
HANGING = ("    ", "    ")
"""Indents of the lines about a name."""


def ask(
    image: str | Path | Image,
    captions: Sequence[str],
    models: Sequence[str] = (),
    *,
    timesteps: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
    timestep_range: Sequence[float] | None = None,
    region: str = "crop",
    antithetic: bool | None = None,
    adaptive: bool = False,
) -> AnswersRecord:
    """The dict of `score --json`. Raises `UserError` for an invalid image, caption, model or budget."""
    noise: dict[str, Any] = {"antithetic": antithetic, "adaptive": adaptive}
    spend = spend_of(timesteps, noises, seed, timestep_range=timestep_range, region=region, **noise)
    asked = _read(image, captions)
    workbench = kept_workbench()
    found = workbench.compare(asked.picture.open(), asked.captions, named(models) or workbench.settings.models, spend)
    return asked.record(list(found), spend)


def ask_many(
    questions: Sequence[tuple[str | Path | Image, Sequence[str]]],
    models: Sequence[str] = (),
    *,
    timesteps: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
    timestep_range: Sequence[float] | None = None,
    region: str = "crop",
    antithetic: bool | None = None,
    adaptive: bool = False,
) -> list[AnswersRecord]:
    """The dicts of `ask`, for many pictures at once. Raises `UserError` before anything is scored."""
    noise: dict[str, Any] = {"antithetic": antithetic, "adaptive": adaptive}
    spend = spend_of(timesteps, noises, seed, timestep_range=timestep_range, region=region, **noise)
    asked = [_read(*question) for question in _pairs(questions)]
    workbench = kept_workbench()
    examples = [Example(id=a.picture.name, images=(a.picture,), captions=tuple(a.captions), tags={}) for a in asked]
    found = compare_many(workbench, examples, named(models) or workbench.settings.models, spend)
    return [one.record(answers, spend) for one, answers in zip(asked, found, strict=True)]


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A question as it was read."""

    picture: Picture
    captions: list[str]
    notes: list[str]

    def record(self, answers: Sequence[Answer], spend: Budget) -> AnswersRecord:
        """The question and its answers."""
        return answers_as_dict(
            self.picture.name, self.captions, answers, self.notes, spend.region, spend.timestep_range
        )


def _pairs(questions: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Each picture and its captions. Raises `UserError` for anything else."""
    if isinstance(questions, str | Mapping) or not isinstance(questions, Iterable):
        raise UserError(PAIRS.format(f"the questions were {quoted(questions)}"))
    found: list[tuple[Any, Any]] = []
    for k, question in enumerate(questions, start=1):
        if not isinstance(question, tuple | list) or len(question) != 2:
            raise UserError(PAIRS.format(f"question {k} was {quoted(question)}"))
        found.append((question[0], question[1]))
    return found


def _read(image: str | Path | Image, captions: Sequence[str]) -> _Question:
    """Raises `UserError`. A picture of a file is opened again when its turn comes, so that memory stays flat."""
    if not isinstance(captions, Iterable):
        raise UserError(f"Give the captions as a list of two or more texts; they were {quoted(captions)}.")
    captions = captions if isinstance(captions, str) else list(captions)
    opened, read = _opened(image), check_captions(captions)
    notes = [*opened.notes, *cleaning_notes(captions, read)]
    if isinstance(image, str | Path):
        picture = Picture(name=Path(image).name, open=lambda: _opened(image).image)
    else:
        picture = Picture(name="picture", open=lambda: opened.image)
    return _Question(picture=picture, captions=read, notes=notes)


def as_text(answer: Mapping[str, Any]) -> str:
    """An answer as a table: one row per model; losses where the score is a loss."""
    labels = string.ascii_uppercase[: len(answer["captions"])]
    rows = [["", *labels, "difference", "says"]]
    rows += [_row(entry, labels) for entry in answer["models"]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    table = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]
    captions = [f"{label}  {caption}" for label, caption in zip(labels, answer["captions"], strict=True)]
    notes = [*answer.get("notes", ())]
    notes += [f"{entry['model']}: {note}" for entry in answer["models"] for note in entry.get("notes", ())]
    notes += [_spent(entry) for entry in answer["models"] if "rounds" in entry.get("evidence", ())]
    return "\n".join([*captions, "", *table, *([""] if notes else []), *notes])


def _spent(entry: Mapping[str, Any]) -> str:
    """What adaptive scoring took, and what it might have taken."""
    found = entry["evidence"]
    most = found["noises"] * len(found["timesteps"]) * len(found["rounds"])
    return f"{entry['model']}: {found['unet_evaluations']} of at most {most} evaluations of its denoiser."


def list_models(workbench: Workbench) -> list[dict[str, Any]]:
    """Every card: whether it can run here now; if not, why, and what to do."""
    rows = []
    for card in workbench.cards():
        state = workbench.availability(card)
        rows.append(
            {
                "model": card.name,
                "title": card.title,
                "family": card.family,
                "size_mb": card.size_mb,
                "licence": card.licence,
                "can_run": state.can_run,
                "reason": state.reason,
                "next_step": state.next_step,
            }
        )
    return rows


def models_as_text(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """One line per model, followed by why it cannot run and what to do; wrapped to `width`."""
    wide = max(len(row["model"]) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row['model']:{wide}}  {row['size_mb']:>8,.1f} MB  {RUNS[row['can_run']]}")
        lines += [wrapped(f"{row['reason']} {row['next_step']}".strip(), width, *HANGING)] if row["reason"] else []
    return "\n".join(lines)


def fetch_benchmark(name: str, note: Callable[[str], None]) -> dict[str, Any] | None:
    """Downloads a benchmark that the user may access; None for an unknown name. Raises `UserError`."""
    fetchers = {"winoground": winoground.fetch, "winoground-labels": winoground.fetch_labels}
    return {"benchmark": name, "message": fetchers[name](note)} if name in fetchers else None


def benchmarks_as_text(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    """One line per benchmark, followed by what to do where its data is missing; wrapped to `width`."""
    wide = max(len(row["benchmark"]) for row in rows)
    lines = []
    for row in rows:
        size = f"{row['n']:,} examples" if row["n"] else ""
        first = f"{row['benchmark']:{wide}}  {size:>12}  "
        lines.append(wrapped(row["meaning"], width, first, " " * len(first)))
        lines += [wrapped(row["next_step"], width, *HANGING)] if row["next_step"] else []
    return "\n".join(lines)


def fetch_model(workbench: Workbench, name: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Downloads a model's files. Raises `UserError` for an unknown model, a full disk or a failed download."""
    card = workbench.card(name)
    needed = [cards.resolve(card.base), card] if card.base else [card]
    missing = [part for part in needed if part.download and not cards.is_downloaded(part)]
    use = workbench.settings
    for part in missing:
        megabytes = adapters.download_mb(part, device=use.device, precision=use.precision)
        size = "of a size that the Hub does not say" if megabytes is None else f"{megabytes / 1000:.1f} GB"
        progress(f"{part.title}: {size}; an interrupted download resumes where it stopped.")
    half = adapters.fetch(card, device=use.device, precision=use.precision)
    what = "is here now" if missing else "needs no download: its weights are here"
    said = IN_HALF.format(parts=" and ".join(half)) if half else ""
    message = f"{card.title} {what}. {said}".strip()
    return {"model": card.name, "downloaded": [part.name for part in missing], "message": message}


def _opened(image: str | Path | Image) -> Opened:
    """The opened picture. Errors name its path as the user typed it. Raises `UserError`."""
    try:
        return open_picture(image)
    except UserError as error:
        if isinstance(image, str | Path):
            raise UserError(f"'{image}': {error}") from error
        raise


def _row(entry: Mapping[str, Any], labels: str) -> list[str]:
    if "scores" not in entry:
        return [entry["model"], *[""] * (len(labels) + 1), entry["problem"]]
    sign, digits = -1 if entry["kind"] == "denoising" else 1, DECIMALS[entry["kind"]]
    scores = [f"{sign * score:.{digits}f}" if score is not None else "not a number" for score in entry["scores"]]
    preference = Preference(
        preferred=entry["preferred"],
        difference=entry["difference"],
        stderr=entry["stderr"],
        decided=entry["decided"],
        tie=entry.get("tie", False),
    )
    said = f"{verdict_words(preference, labels)}  ({DIRECTION[entry['kind']]})"
    return [entry["model"], *scores, _difference(entry), said]


def _difference(entry: Mapping[str, Any]) -> str:
    if entry["difference"] is None:
        return ""
    digits = DECIMALS[entry["kind"]]
    error = "" if entry["stderr"] is None else f" ± {entry['stderr']:.{digits}f}"
    return f"{entry['difference']:.{digits}f}{error}"
