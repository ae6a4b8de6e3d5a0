"""Writes a CLIP, fine-tuned or not, as a whole model with its card: `python -m sdsdemo export`. Handles no tensor."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdsdemo.app import hub_upload
from sdsdemo.app.model_card import CardFacts, Format, figures, model_card, shares_lines
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.report import report
from sdsdemo.models import cards, sources
from sdsdemo.models.delta_header import read_header
from sdsdemo.models.domain import FILE as KNOWS
from sdsdemo.models.public_names import public_command
from sdsdemo.runtime.files import write_whole
from sdsdemo.types import Card

README = "README.md"
WORD = re.compile(r"[a-z][a-z-]*")
NO_CLIP = "{title} is not an open_clip CLIP, so it cannot be exported: name one, or a fine-tuned file, sds-clip:FILE."
THERE = "The folder {name!r} is not empty: name another with --out."
WORKING_FOLDER = "The model cannot take the place of the folder that you are in: name another with --out."
NOT_WRITTEN = "The folder {name!r} cannot be written ({why}): name another with --out."
NOT_MOVED = (
    "The model is whole in {aside!r}, and published if you asked for that. Only its place {name!r} cannot be taken "
    "({why}): move the folder yourself."
)
NO_RESULTS = (
    "The stored runs hold no scores of {name}: make them with `python -m sdsdemo evaluate BENCHMARK --model {name} "
    "--out DIR`, or leave --results out."
)


def export(
    workbench: Workbench,
    name: str,
    out: Path,
    *,
    format: Format,
    runs: Sequence[Path] = (),
    repo: str = "",
    publish: Callable[[Path], str] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes the model and its card to `out`, whole or not at all; gives what `export --json` prints.

    runs: folders of `evaluate --out` whose results the card quotes. repo: where the folder will lie on the Hub.
    publish: uploads the folder and gives its address; where it raises, no folder is left and all can be repeated.
    Raises `UserError` for a model that is no CLIP or that the format cannot express, and for a folder with files.
    """
    card = workbench.card(name)
    if card.family not in ("clip", "sds-clip"):
        raise UserError(NO_CLIP.format(title=card.title))
    record: dict[str, Any] = {}
    base = card
    if card.family == "sds-clip":
        header = read_header(_file(card))
        record = _told(header, hub_upload.record_beside(_file(card)) or {})
        base = cards.resolve(header["base"])
    facts = _facts(card, base, record, format, repo, _measured(card, runs, note))
    with _whole_folder(out) as aside:
        _write(workbench, card, aside, format, repo)
        _copy_domain(base, aside)
        write_whole(aside / README, model_card(facts))
        address = {"address": publish(aside)} if publish is not None else {}
    files = sorted(path.name for path in out.iterdir())
    return {"model": card.name, "format": format, "folder": str(out), "files": files, **address}


def as_text(done: Mapping[str, Any]) -> str:
    """What was written, and how it is used."""
    kind = "open_clip:local-dir:" if done["format"] == "open_clip" else "transformers:"
    lines = [f"{done['model']} is in {done['folder']}: {', '.join(done['files'])}."]
    lines.append(f"Use it here as {kind}{done['folder']}; the model card says how the library loads it.")
    return "\n".join([*lines, *([f"Published: {done['address']}"] if "address" in done else [])])


def _file(card: Card) -> Path:
    return sources.local_path(sources.split_spec(card.spec)[1])


def _write(workbench: Workbench, card: Card, folder: Path, format: Format, repo: str) -> None:
    from sdsdemo.models.clip import ClipModel, ClipScorer
    from sdsdemo.models.clip_export import write_open_clip, write_transformers

    scorer = workbench.scorer(card.name)
    if not isinstance(scorer, ClipScorer) or not isinstance(scorer.model, ClipModel):
        raise UserError(NO_CLIP.format(title=card.title))
    if format == "open_clip":
        write_open_clip(scorer.model, folder, repo)
    else:
        write_transformers(scorer.model, folder)


def _copy_domain(base: Card, folder: Path) -> None:
    """What a small model knows goes with it, so that it speaks up about foreign pictures elsewhere too."""
    own = sources.folder_named_by(base.spec)
    if own is not None and (own / KNOWS).is_file():
        shutil.copyfile(own / KNOWS, folder / KNOWS)


def _facts(
    card: Card, base: Card, record: Mapping[str, Any], format: Format, repo: str, measured: tuple[str, ...]
) -> CardFacts:
    """What the card says. record: a fine-tuned file's own story, and that of the run that it lies in."""
    base_title = base.title if base.is_known else _name_of(base)
    own = card.title if card.is_known else base_title if card is base else f"{base_title}, fine-tuned"
    objective = str(record.get("objective", ""))
    return CardFacts(
        title=repo.partition("/")[2] or own,
        format=format,
        base=base_title,
        base_repo=_repo_of(base),
        licence=base.licence,
        repo=repo,
        story="" if card is base else _story(base_title, record),
        objective="" if card is base else objective if WORD.fullmatch(objective) else "fine-tuned",
        results=measured or tuple(figures(record)),
    )


def _told(header: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    """A fine-tuned file's story. beside: the record of its run, which may have trained on since."""
    if "steps_done" not in header:  # a file of an earlier version, which tells less
        return {**header, **beside}
    return {**header, **{key: value for key, value in beside.items() if key == "command"}}


def _story(base: str, record: Mapping[str, Any]) -> str:
    """How a fine-tuned model was made, as far as its file says."""
    steps = record.get("steps_done", record.get("steps"))
    told = {
        "with the objective `{}`": record.get("objective"),
        "for {} steps": steps,
        "with seed {}": record.get("seed"),
    }
    words = ", ".join(how.format(value) for how, value in told.items() if isinstance(value, str | int))
    trained = f" Trained: {record['trained']}." if isinstance(record.get("trained"), str) else ""
    command = record.get("command")
    again = f"\n\nTo train it again:\n\n    {public_command(command)}" if isinstance(command, str) else ""
    return f"{base} fine-tuned {words or 'with sdsdemo'}, as a whole model.{trained}{again}"


def _measured(card: Card, runs: Sequence[Path], note: Callable[[str], None]) -> tuple[str, ...]:
    """The table of the stored runs. Raises `UserError` where they hold no scores of this model."""
    if not runs:
        return ()
    lines = shares_lines([dict(result) for result in report(runs, None, note)], card.name)
    if not lines:
        raise UserError(NO_RESULTS.format(name=card.name))
    return lines


def _repo_of(base: Card) -> str:
    """The Hub's repository of a CLIP; "" for a folder or a file of the user's own."""
    from sdsdemo.models.clip_hub import weights_on_hub

    if sources.folder_named_by(base.spec) is not None or sources.checkpoint_named_by(base.spec) is not None:
        return ""
    found = weights_on_hub(base.spec)
    return found.repo if found is not None else ""


def _name_of(base: Card) -> str:
    """A spec without the path of a folder here."""
    return base.title if base.download is False else base.spec.partition(":")[2].removeprefix(sources.HF_HUB)


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, and goes away where the block fails.

    A link goes on pointing to the folder, which is replaced where it lies. Where only the place cannot be taken, the
    folder is kept: it may be published. Raises `UserError`.
    """
    name = Path(os.path.abspath(out)).name  # "." and ".." have none
    out = Path(os.path.realpath(out))
    if out == Path.cwd():
        raise UserError(WORKING_FOLDER)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(THERE.format(name=name))
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        yield aside
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(NOT_WRITTEN.format(name=name, why=error.strerror)) from error
        raise
    try:
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        raise UserError(NOT_MOVED.format(aside=str(aside), name=name, why=error.strerror)) from error
