"""Turns stored runs back into results, merging those of one benchmark. Scores nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from sdsdemo.data.benchmarks import differs, from_here
from sdsdemo.errors import UserError
from sdsdemo.evaluation.freshness import current, read_once
from sdsdemo.evaluation.progress import Digests, Progress, silent
from sdsdemo.evaluation.result_schema import (
    Apart,
    Average,
    Pair,
    Result,
    Settings,
    Share,
    Shares,
    Skipped,
    TextOnly,
)
from sdsdemo.evaluation.store import BLIND, TEXT_ONLY, StoredRun, fits, read_run
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.evaluation.tables import as_csv, warnings
from sdsdemo.runtime.files import finite, from_json, write_json, write_whole
from sdsdemo.runtime.shapes import shaped

FIGURE_FORMATS = ("png", "svg")
OTHER_PICTURES = (
    "'{run}' has the captions of '{first}', but other pictures in {count:,} examples: they are not compared."
)


class _Entry(TypedDict):
    """A model of it. Its shares by metric are checked apart."""

    by_tag: dict[str, dict[str, Shares]]
    seconds_per_example: float
    evaluations_per_example: NotRequired[float | None]
    blind: NotRequired[Shares]
    modes: NotRequired[dict[str, int]]
    losses: NotRequired[dict[str, dict[str, Shares]]]
    text_only: NotRequired[TextOnly]
    apart: NotRequired[Apart]
    below_chance: NotRequired[list[str]]
    official: NotRequired[dict[str, Average]]


class _Stored(TypedDict):
    """A stored result, as far as it is shown."""

    benchmark: str
    n: int
    of: int
    asked: NotRequired[int]
    settings: Settings
    chance: dict[str, float]
    models: dict[str, _Entry]
    paired: list[Pair]
    differs: NotRequired[list[str]]
    skipped: NotRequired[list[Skipped]]
    notes: NotRequired[list[str]]


def read_result(path: Path) -> Result:
    """Reads a result that `evaluate --json` printed. Raises `UserError` if it is not one."""
    try:
        result: Result = shaped(from_json(path.read_bytes()), _Stored)
        _check_shares(result)
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} is not a result of `evaluate --json` ({error}): write it again.") from error
    return result


def _check_shares(result: Result) -> None:
    """Raises `ValueError` where a model lacks a share that another one has."""
    models, metrics = result["models"], list(result["chance"])
    if not models or not metrics:
        raise ValueError("it holds no model, or no score")
    tags = {kind: set(tags) for kind, tags in next(iter(models.values()))["by_tag"].items()}
    for name, entry in models.items():
        groups = [entry, *([entry["blind"]] if "blind" in entry else [])]
        for part in (entry["by_tag"], entry.get("losses", {})):
            groups += [shares for found in part.values() for shares in found.values()]
        for shares in groups:
            for metric in metrics:
                share = shaped(shares.get(metric), Share)
                if not 0 <= share["low"] <= share["value"] <= share["high"] <= 1:
                    raise ValueError(f"{name}, {metric}: a share must lie from 0 to 1, within its interval")
        if not {*entry.get("below_chance", ())} <= {*metrics}:
            raise ValueError(f"{name} is below chance by a metric that it does not have")
        if {kind: set(found) for kind, found in entry["by_tag"].items()} != tags:
            raise ValueError(f"{name} has different tags from the first model")


def report(paths: Sequence[Path], out: Path | None, note: Progress, progress: Progress = silent) -> list[Result]:
    """A result, as `evaluate --json` prints it, for each benchmark of some runs; written to files if `out` is given.

    Runs of the same examples become one result, so that their models are compared; where settings differ, the model's
    name says which. Raises `UserError` for a folder that is not a run, or that has no model that scored every example.
    """
    reader, digests = read_once(), Digests(progress)  # all runs of a benchmark share what is read of it
    runs = [current(read_run(path), reader, digests.of) for path in paths]
    results = results_of(runs, note, called=lambda run: str(run.path))
    if out is not None:
        write_report(results, out, note)
    return results


def results_of(
    runs: Sequence[StoredRun],
    note: Callable[[str], None] = lambda line: None,
    called: Callable[[StoredRun], str] = lambda run: run.path.name,
) -> list[Result]:
    """One result for all runs of the same examples. called: a run's name in messages; never its path on the page."""
    groups: list[list[StoredRun]] = []
    for run in runs:
        for line in run.notes:
            note(f"'{called(run)}': {line}")
        if not run.models:
            raise UserError(f"No model in '{called(run)}' has scored every example yet: run evaluate again first.")
        unfinished = [model for model in run.header["models"] if model not in run.models]
        if unfinished:
            note(f"Unfinished, so left out of '{called(run)}': {', '.join(unfinished)}.")
        same = next((group for group in groups if _same_examples(group[0], run)), None)
        if same is not None:
            same.append(run)
            continue
        for first, *_ in groups:
            if other := _other_pictures(first, run):
                note(OTHER_PICTURES.format(run=called(run), first=called(first), count=other))
        groups.append([run])
    return [_result(_in_common(group, called)) for group in groups]


def scored_of(run: StoredRun) -> dict[str, Scored]:
    """Every model of a run that has scored all of its examples."""
    found = {}
    for model in run.models:
        scores_E = run.of(model)
        if scores_E is not None:
            found[model] = Scored(scores_E=scores_E, blind_E=run.of(model, BLIND), text_E=run.of(model, TEXT_ONLY))
    return found


def write_report(results: Sequence[Result], out: Path, note: Callable[[str], None]) -> None:
    """Writes results.json, results.csv, and a figure per benchmark as PNG and SVG. Raises `UserError` if the disk is
    full."""
    from sdsdemo.evaluation.figures import save_shares

    try:
        write_json(out / "results.json", finite(list(results)))
        write_whole(out / "results.csv", as_csv(results))
        for number, result in enumerate(results):
            name = "".join(c if c.isalnum() else "-" for c in result["benchmark"].rpartition("/")[2]).strip("-")
            for kind in FIGURE_FORMATS:
                write_whole(out / f"{number}-{name}.{kind}", save_shares(result, kind))
    except OSError as error:
        raise UserError(f"The folder '{out}' cannot be written: name another one with --out.") from error
    note(f"Written to {out}: results.json, results.csv and a figure per benchmark.")


def _same_examples(one: StoredRun, other: StoredRun) -> bool:
    """Whether two runs scored the same captions and pictures, as far as both recorded them."""
    theirs = {example.id: example for example in other.every}
    if {example.id for example in one.every} != theirs.keys():
        return False
    has_digests = all(example.made_of for example in (*one.every, *other.every))
    same = has_digests or one.header["benchmark_hash"] == other.header["benchmark_hash"]
    return same and all(fits(example.made_of, theirs[example.id].made_of) for example in one.every)


def _other_pictures(one: StoredRun, other: StoredRun) -> int:
    """How many examples have other pictures, of two runs with the same ids and captions; 0 for any other two."""
    theirs = {example.id: example.made_of for example in other.every}
    mine = {example.id: example.made_of for example in one.every}
    if mine.keys() != theirs.keys() or not all(fits(mine[id_], theirs[id_], captions_only=True) for id_ in mine):
        return 0
    return sum(not fits(mine[id_], theirs[id_]) for id_ in mine)


def _in_common(group: Sequence[StoredRun], called: Callable[[StoredRun], str]) -> list[StoredRun]:
    """The runs, limited to the examples that count in all, in the first one's order."""
    common = set.intersection(*({example.id for example in run.examples} for run in group))
    if not common:
        raise UserError(f"'{called(group[0])}' and '{called(group[1])}' have no examples in common.")
    kept = tuple(example for example in group[0].examples if example.id in common)
    return [replace(run, examples=kept) for run in group]


def _scored_by_name(group: Sequence[StoredRun]) -> dict[str, Scored]:
    """The models of all runs; one that several runs have is named with what tells these apart."""
    found = [scored_of(run) for run in group]
    times = Counter(model for scored in found for model in scored)
    return {
        f"{model} ({label})" if times[model] > 1 else model: scored[model]
        for label, scored in zip(_told_apart(group), found, strict=True)
        for model in scored
    }


def _told_apart(group: Sequence[StoredRun]) -> list[str]:
    """For each run its settings, its folder if the settings are those of all, or both; a number if these repeat."""
    settings = [_settings(run) for run in group]
    paths = [run.path.absolute().parts for run in group]
    length = next((n for n in range(1, max(map(len, paths))) if len({p[-n:] for p in paths}) == len({*paths})), 1)
    folders = ["/".join(path[-length:]) for path in paths]
    is_folder_enough = len({*settings}) == 1
    labels = [
        one if settings.count(one) == 1 else folder if is_folder_enough else f"{one}, {folder}"
        for one, folder in zip(settings, folders, strict=True)
    ]
    counts = [labels[:number].count(label) for number, label in enumerate(labels)]
    return [f"{label}, {count + 1}" if count else label for label, count in zip(labels, counts, strict=True)]


def _result(group: Sequence[StoredRun]) -> Result:
    first, scored = group[0], _scored_by_name(group)
    of = first.header.get("of", len(first.every))
    why = {id_: reason for run in group[::-1] for id_, reason in run.skipped.items()}
    summary = summarise(first.examples, scored)
    result: Result = {
        "benchmark": from_here(first.benchmark),
        "n": len(first.examples),
        "of": of,
        "asked": len(first.every),
        "differs": differs(first.benchmark, [e.tags for e in first.every]) if len(first.every) == of else [],
        "skipped": [{"example": e.id, "reason": why[e.id]} for e in first.every if e.id in why],
        "notes": [line for run in group for line in run.notes],
        "settings": first.header["settings"],
        "chance": summary["chance"],
        "models": summary["models"],
        "paired": summary["paired"],
    }
    if not result["notes"]:
        del result["notes"]
    result["warnings"] = warnings(result)
    return result


def _settings(run: StoredRun) -> str:
    """Such as "8 x 4, seed 0", plus other settings."""
    settings = run.header["settings"]
    rest = {name: value for name, value in settings.items() if value and name not in Settings.__annotations__}
    words = [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}" for name, value in rest.items()
    ]
    return ", ".join([f"{settings['timesteps']} x {settings['noises']}", f"seed {settings['seed']}", *words])
