"""Stored runs as results again, several of one benchmark as one. Scores nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sdsdemo.data.benchmarks import differs
from sdsdemo.errors import UserError
from sdsdemo.reports import as_csv
from sdsdemo.runs import BLIND, StoredRun, read_run
from sdsdemo.summaries import Scored, summarise

FIGURE_FORMATS = ("png", "svg")


def report(paths: Sequence[Path], out: Path | None, note: Callable[[str], None]) -> list[dict[str, Any]]:
    """A result, as `evaluate --json` prints it, for each benchmark of some runs; written as files where `out` is given.

    Runs of the same examples become one result, so that their models are compared; where settings differ, the model's
    name says which. Raises `UserError` for a folder that is no run, or that has no model that scored every example.
    """
    results = results_of([read_run(path) for path in paths], note)
    if out is not None:
        write_report(results, out, note)
    return results


def results_of(runs: Sequence[StoredRun], note: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """One result for all runs of the same examples."""
    groups: dict[str, list[StoredRun]] = {}
    for run in runs:
        if not run.models:
            raise UserError(f"No model in '{run.path.name}' has scored every example yet: run evaluate again first.")
        unfinished = [model for model in run.header["models"] if model not in run.models]
        if unfinished:
            note(f"Left out of '{run.path.name}', since unfinished: {', '.join(unfinished)}.")
        groups.setdefault(run.header["benchmark_hash"], []).append(run)
    return [_result(group) for group in groups.values()]


def scored_of(run: StoredRun) -> dict[str, Scored]:
    """Every model of a run that has scored all of its examples."""
    found = {}
    for model in run.models:
        scores_E = run.of(model)
        if scores_E is not None:
            found[model] = Scored(scores_E=scores_E, blind_E=run.of(model, BLIND))
    return found


def write_report(results: Sequence[dict[str, Any]], out: Path, note: Callable[[str], None]) -> None:
    """results.json, results.csv, and a figure a benchmark as PNG and SVG. Raises `UserError` for a full disk."""
    from sdsdemo.figures import save_shares

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (out / "results.csv").write_text(as_csv(results), encoding="utf-8")
        for number, result in enumerate(results):
            name = "".join(c if c.isalnum() else "-" for c in result["benchmark"].rpartition("/")[2]).strip("-")
            for kind in FIGURE_FORMATS:
                (out / f"{number}-{name}.{kind}").write_bytes(save_shares(result, kind))
    except OSError as error:
        raise UserError(f"The folder '{out.name}' cannot be written: name another one with --out.") from error
    note(f"Written to {out}: results.json, results.csv and a figure a benchmark.")


def _result(group: Sequence[StoredRun]) -> dict[str, Any]:
    first = group[0]
    scored: dict[str, Scored] = {}
    for run in group:
        for model, found in scored_of(run).items():
            scored[model if model not in scored else f"{model} ({_settings(run)})"] = found
    of = first.header.get("of", len(first.every))
    return {
        "benchmark": first.benchmark,
        "n": len(first.examples),
        "of": of,
        "differs": differs(first.benchmark, [e.tags for e in first.every]) if len(first.every) == of else [],
        "skipped": [{"example": example, "reason": reason} for example, reason in first.skipped.items()],
        "settings": first.header["settings"],
        **summarise(first.examples, scored),
    }


def _settings(run: StoredRun) -> str:
    settings = run.header["settings"]
    return f"{settings['timesteps']} x {settings['noises']}, seed {settings['seed']}"
