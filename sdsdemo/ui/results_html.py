"""One result as HTML: its figure, who is right where another is wrong, all tables; published numbers kept separate.

A result is the dict of `evaluate --json`. The layout is in `templates/results.html`; this module makes heads and rows.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sdsdemo import data
from sdsdemo.core.number_format import NO_SCORE, is_of_nothing, level_words
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.evaluation.tables import counted, n_words, p_words, warnings
from sdsdemo.evaluation.text_only import text_only_table
from sdsdemo.ui.results_claims import below_chance_words, gap_claim
from sdsdemo.ui.results_figures import gap_html
from sdsdemo.ui.results_matrix import matrices
from sdsdemo.ui.templates import render

Cell = str | dict[str, str]
"""A text, or a dict for `parts.cell`: a name in `code`, a share with its interval."""
PUBLISHED = Path(data.__file__).parent / "published" / "published.toml"
READINGS = {
    "by_timesteps": "By number of timesteps",
    "by_range": "By range of timesteps",
    "normalisations": "By the score computed from the losses",
}

PUBLISHED_HEAD = (
    "system", "backbone", "text", "image", "group", "ARO relation", "ARO attribution", "protocol", "source", "checked",
)  # fmt: skip
PAIRED_HEAD = ("from, to", "score", "fixed", "broken", "still wrong", "always right", "exact McNemar")
BLIND = "Blind: each caption's mean score over up to 32 unrelated images."


def result_html(result: Result, files: Mapping[str, str] | None = None, run: str = "", is_above: bool = False) -> str:
    """One result in full.

    files: address of each download by its label; run: the run that Browse opens, if any; is_above: whether the page
    has shown the figure and the conclusion already.
    """
    claim = gap_claim(result)
    return render(
        "results.result",
        heading=_heading(result),
        skipped=result.get("skipped", ()),
        notes=result.get("notes", ()),
        gap=None if is_above else {"claim": claim, "figure": gap_html(result, claim), "after": after_gap(result)},
        matrices=matrices(result, run),
        is_linked=bool(run),
        downloads=_downloads(result, files or {}),
        shares=_shares(result),
        text_only=_text_only(result),
        by_tag=_by_tag(result),
        paired=_paired(result),
        readings=_readings(result),
        cost=_cost(result),
    )


def after_gap(result: Result) -> list[str]:
    """What belongs below the figure of a result: scores below chance, and what the lead rests on."""
    return [said for said in (below_chance_words(result), lesson_words(list(result["models"]))) if said]


def _heading(result: Result) -> str:
    """Benchmark, n, and the denoising models' budget."""
    settings = result["settings"]
    return (
        f"{result['benchmark']}: n = {n_words(result)}. Percent right with the 95 % interval (Wilson). "
        f"Denoising models: {settings['timesteps']} timesteps, {_draws(settings)}, seed {settings['seed']}."
    )


def _draws(settings: Mapping[str, object]) -> str:
    """The noise draws, with what is special about them."""
    if settings.get("adaptive"):
        return f"{settings['noises']} noise draws at most, in pairs"
    return f"{settings['noises']} noise draws{' in pairs' if settings.get('antithetic') else ''}"


def overview_html(results: Mapping[str, Result]) -> str:
    """Models against benchmarks: the first score of each, with interval and n."""
    models = dict.fromkeys(model for result in results.values() for model in result["models"])
    head: list[Cell] = ["model", *({"text": name, "below": _first(result)} for name, result in results.items())]
    rows: list[list[Cell]] = [
        [
            {"code": model},
            *(
                share_cell(result["models"][model][_metrics(result)[0]]) if model in result["models"] else ""
                for result in results.values()
            ),
        ]
        for model in models
    ]
    rows.append(["chance", *(f"{100 * result['chance'][_metrics(result)[0]]:.1f}" for result in results.values())])
    return render("results.overview", grid={"head": head, "rows": rows}, lesson=lesson_words(list(models)))


def _first(result: Result) -> str:
    return f"{_called(_metrics(result)[0])}, n = {result['n']:,}"


def grid_of(grid: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A header and rows, as `parts.table` takes them."""
    head, *rows = grid
    return {"head": head, "rows": rows}


def published_html() -> str:
    """Published results of others, never mixed with ours: with source, and marked if from memory."""
    rows = [
        [
            one["system"], one.get("backbone", ""), *_numbers(one.get("winoground", ("", "", ""))),
            *_numbers(one.get("aro", ("", ""))), one.get("protocol", ""), one["source"],
            "read at the source" if one["sure"] == "read" else "from memory, not re-read",
        ]
        for one in published()
    ]  # fmt: skip
    return render("results.published", grid={"head": PUBLISHED_HEAD, "rows": rows})


@cache
def published() -> tuple[dict[str, Any], ...]:
    """The entries of `data/published/published.toml`."""
    return tuple(tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["result"])


def _numbers(values: Sequence[Any]) -> list[str]:
    return [f"{value:g}" if value != "" else "" for value in values]


def _metrics(result: Result) -> list[str]:
    return list(result["chance"])


def share_cell(share: Mapping[str, Any], interval: str = "{} to {}") -> Cell:
    """A share in percent with its interval; a word if n is 0. interval: the format of its ends."""
    if is_of_nothing(share):
        return NO_SCORE
    ends = interval.format(f"{100 * share['low']:.0f}", f"{100 * share['high']:.0f}")
    return {"share": f"{100 * share['value']:.1f}", "interval": ends}


def _called(metric: str) -> str:
    return metric.replace("_", "-")


def _shares(result: Result) -> dict[str, Any]:
    """Every model's shares, with notes."""
    metrics, models = _metrics(result), result["models"]
    rows: list[list[Cell]] = []
    for name, entry in models.items():
        rows.append([{"code": name}, *(share_cell(entry[metric]) for metric in metrics)])
        if "blind" in entry:
            rows.append([f"{name}, blind", *(share_cell(entry["blind"][metric]) for metric in metrics)])
    rows.append(["chance", *(f"{100 * result['chance'][metric]:.1f}" for metric in metrics)])
    official = [
        {"model": name, "words": f"{part}: {level_words(found)} ({found['rule']}; {counted(found)})"}
        for name, entry in models.items()
        for part, found in entry.get("official", {}).items()
    ]
    return {
        "grid": {"head": ["model", *map(_called, metrics)], "rows": rows},
        "warnings": warnings(result),
        "blind": BLIND if any("blind" in entry for entry in models.values()) else "",
        "official": official,
    }


def _paired(result: Result) -> dict[str, Any]:
    rows = [
        [
            {"code": pair["a"], "to": pair["b"]}, _called(pair["metric"]),
            *(str(pair[key]) for key in ("only_b", "only_a", "neither", "both")), p_words(pair["p"]),
        ]
        for pair in result["paired"]
        if pair["metric"] in _metrics(result)[:3]
    ]  # fmt: skip
    return {"head": PAIRED_HEAD, "rows": rows}


def _text_only(result: Result) -> dict[str, Any] | None:
    """Title, table and notes; None for a benchmark without the task."""
    table = text_only_table(result)
    return None if table is None else {"title": table.title, "grid": grid_of(table.rows), "notes": table.notes}


def _by_tag(result: Result) -> dict[str, Any]:
    """Title, and a table for each kind of tag that occurs."""
    metric, models = _metrics(result)[0], result["models"]
    tables = []
    for kind, tags in next(iter(models.values()))["by_tag"].items():
        rows = [
            [tag, str(shares[metric]["n"]), *(share_cell(m["by_tag"][kind][tag][metric]) for m in models.values())]
            for tag, shares in tags.items()
        ]
        head = [kind.replace("_", " "), "n", *({"code": name} for name in models)]
        tables += [{"head": head, "rows": rows}] if rows else []
    return {"title": f"{_called(metric).capitalize()} by tag", "tables": tables}


def _readings(result: Result) -> dict[str, Any] | None:
    """Other readings of the losses, for the first model that has them; None if none does."""
    metrics = _metrics(result)
    for name, entry in result["models"].items():
        tables = []
        for reading, title in READINGS.items():
            found = entry.get("losses", {}).get(reading, {})
            rows = [[label, *(share_cell(shares[m]) for m in metrics)] for label, shares in found.items()]
            tables += [{"head": [title, *map(_called, metrics)], "rows": rows}] if rows else []
        if tables:
            return {"model": name, "tables": tables}
    return None


def _cost(result: Result) -> dict[str, Any]:
    rows = [
        [
            {"code": name},
            f"{entry['seconds_per_example']:.3f}",
            f"{entry.get('evaluations_per_example', 0):g}",
            share_cell(entry[_metrics(result)[0]]),
        ]
        for name, entry in result["models"].items()
    ]
    return {
        "head": ["model", "seconds per example", "denoiser calls per example", _called(_metrics(result)[0])],
        "rows": rows,
    }


def _downloads(result: Result, files: Mapping[str, str]) -> list[dict[str, str]]:
    """The links to a result's files, which the server writes when one is asked for."""
    stem = file_stem(result)
    return [{"name": f"{stem}.{ending}", "label": ending.upper(), "address": at} for ending, at in files.items()]


def file_stem(result: Result) -> str:
    """The name of a result's files, without the ending."""
    name = "".join(c if c.isalnum() else "-" for c in result["benchmark"].rpartition("/")[2]).strip("-")
    return f"sdsdemo-{name}"
