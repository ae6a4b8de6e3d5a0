"""The Results tab as HTML: tables with intervals and n, pairs of models, cost, published numbers apart. Pure strings.

A result is the dict of `evaluate --json`; everything foreign is escaped here.
"""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from sdsdemo import data
from sdsdemo.core.number_format import NO_SCORE, is_of_nothing, level_words
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.tables import as_csv, counted, p_words, warnings
from sdsdemo.mini.experiments import tables as study_tables
from sdsdemo.mini.experiments import verdict as study_verdict
from sdsdemo.mini.experiments.shapes import Costs, Findings
from sdsdemo.runtime.files import finite, to_json
from sdsdemo.runtime.shipped import shipped

Result = Mapping[str, Any]
EXPERIMENT = "mini/results/experiment.json"
COSTS = "mini/results/experiment/costs.json"
PUBLISHED = Path(data.__file__).parent / "published" / "published.toml"
KINDS = {"png": "image/png", "svg": "image/svg+xml"}
READINGS = {
    "by_timesteps": "By number of timesteps",
    "by_range": "By range of timesteps",
    "normalisations": "By the score that is made of the losses",
}

FURTHER = "Zero-shot, retrieval, swaps never trained, every cell"
"""What is folded of a study."""


def result_html(result: Result, figures: Mapping[str, bytes]) -> str:
    """One result in full. figures: its figure as bytes by kind, `png` and `svg`."""
    skipped = result.get("skipped", ())
    sampled = f" of {result['of']:,}, an even share of each tag" if result["n"] + len(skipped) < result["of"] else ""
    settings = result["settings"]
    return (
        f'<section class="results"><p class="hint">{escape(result["benchmark"])}: n = {result["n"]:,}{sampled}. '
        f"Percent right with the 95 % interval (Wilson). Denoising models: {settings['timesteps']} timesteps, "
        f"{settings['noises']} noise draws, seed {settings['seed']}.</p>{_notes(result)}{_skipped(skipped)}"
        f"{_shares(result)}{_lesson(result['models'])}{_downloads(result, figures)}{_figure(figures)}"
        f"{_by_tag(result)}{_paired(result)}{_readings(result)}{_cost(result)}</section>"
    )


def _notes(result: Result) -> str:
    """What is left out of a stored run since it no longer fits."""
    return "".join(f'<p class="hint">{escape(note)}</p>' for note in result.get("notes", ()))


def _skipped(skipped: Sequence[Mapping[str, str]]) -> str:
    """What is in no share, by name."""
    if not skipped:
        return ""
    names = "".join(f"<li>{escape(one['example'])}: {escape(one['reason'])}</li>" for one in skipped)
    return (
        f"<details><summary>Left out: {len(skipped)} examples, whose pictures cannot be opened</summary>"
        f"<ul>{names}</ul></details>"
    )


def overview_html(results: Mapping[str, Result]) -> str:
    """Models against benchmarks: the first score of each, with interval and n."""
    models = dict.fromkeys(model for result in results.values() for model in result["models"])
    head = ["", *(f"{escape(name)}<br><small>{_first(result)}</small>" for name, result in results.items())]
    rows = [
        [
            f"<code>{escape(model)}</code>",
            *(
                _share(result["models"][model][_metrics(result)[0]]) if model in result["models"] else ""
                for result in results.values()
            ),
        ]
        for model in models
    ]
    chance = ["chance", *(f"{100 * result['chance'][_metrics(result)[0]]:.1f}" for result in results.values())]
    return (
        '<section class="results"><p class="hint">Percent right by the first score of each benchmark, with the 95 % '
        f"interval (Wilson).</p>{_table(head, [*rows, chance])}{_lesson(models)}</section>"
    )


def _lesson(models: Iterable[str]) -> str:
    """What the lead of Mini diffusion rests on, where it shows."""
    said = lesson_words(list(models))
    return f'<p class="hint">{escape(said)}</p>' if said else ""


def _first(result: Result) -> str:
    return f"{_called(_metrics(result)[0])}, n = {result['n']:,}"


def experiment_html(assets: Path) -> str:
    """The studies of the experiment: effects on the text score with their doubt; empty where none is stored."""
    path = assets / EXPERIMENT
    if not path.is_file():
        return ""
    found: Result = shipped(path, Findings)
    parts = [
        '<p class="hint">Points of text score against the cell that differs in its treatment alone, at the same base '
        "and seed. The interval draws bases, seeds and examples again; p is corrected after Holm. "
        "<code>docs/mini.md</code> tells the rest.</p>"
    ]
    parts.append(
        f'<ul class="findings">{"".join(f"<li>{escape(said)}</li>" for said in study_verdict.verdict(found))}</ul>'
    )
    for name, title in study_tables.TITLES.items():
        if name in found:
            parts.append(f"<h3>{title}</h3>{_study(found[name])}")
    if (assets / COSTS).is_file():
        costs = shipped(assets / COSTS, Costs)
        parts.append(f"<h3>What they gain, and what they cost</h3><p>{escape(study_verdict.costs_words(costs))}</p>")
        parts.append(_grid(study_tables.costs_grid(found, costs)))
    return "".join(parts)


def _study(study: Mapping[str, Any]) -> str:
    """Its effects, and folded what else it says."""
    made = f"<p>{escape(study_tables.made_words(study))}</p>"
    if not study["seeds"]:
        return made
    further = study_tables.further_grids(study)
    tables = "".join(f"<h4>{title}</h4>{_grid(rows)}" for title, rows in further.items())
    return made + _grid(study_tables.contrasts_grid(study)) + _folded(FURTHER, tables)


def _grid(grid: Sequence[Sequence[str]]) -> str:
    head, *rows = ([escape(text) for text in row] for row in grid)
    return _table(head, rows)


def published_html() -> str:
    """What others published, never mixed with ours: with source, and marked where it was only remembered."""
    rows = [
        [
            escape(one["system"]), escape(one.get("backbone", "")), *_numbers(one.get("winoground", ("", "", ""))),
            *_numbers(one.get("aro", ("", ""))), escape(one.get("protocol", "")), escape(one["source"]),
            "read" if one["sure"] == "read" else "recalled, not re-read",
        ]
        for one in published()
    ]  # fmt: skip
    head = [
        "",
        "backbone",
        "text",
        "image",
        "group",
        "ARO relation",
        "ARO attribution",
        "protocol",
        "source",
        "how sure",
    ]
    return (
        "<h2>Published by others</h2>"
        '<p class="hint">Winoground and ARO with real models, in percent. Nothing here was measured by us, and nothing '
        "that we measured on Mini may be compared with it.</p>" + _table(head, rows)
    )


@cache
def published() -> tuple[dict[str, Any], ...]:
    """The entries of `data/published/published.toml`."""
    return tuple(tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["result"])


def _numbers(values: Sequence[Any]) -> list[str]:
    return [f"{value:g}" if value != "" else "" for value in values]


def _metrics(result: Result) -> list[str]:
    return list(result["chance"])


def _share(share: Mapping[str, Any]) -> str:
    if is_of_nothing(share):
        return NO_SCORE
    return f"{100 * share['value']:.1f} <small>{100 * share['low']:.0f} to {100 * share['high']:.0f}</small>"


def _called(metric: str) -> str:
    return metric.replace("_", "-")


def _shares(result: Result) -> str:
    metrics = _metrics(result)
    rows = []
    for name, entry in result["models"].items():
        rows.append([f"<code>{escape(name)}</code>", *(_share(entry[metric]) for metric in metrics)])
        if "blind" in entry:
            rows.append([f"{escape(name)}, blind", *(_share(entry["blind"][metric]) for metric in metrics)])
    rows.append(["chance", *(f"{100 * result['chance'][metric]:.1f}" for metric in metrics)])
    note = "Blind: each caption's mean score over 32 images that have nothing to do with it."
    blind = any("blind" in entry for entry in result["models"].values())
    official = "".join(
        f"<li><code>{escape(name)}</code>, {escape(part)}: {level_words(found)} ({escape(found['rule'])};"
        f" {escape(counted(found))})</li>"
        for name, entry in result["models"].items()
        for part, found in entry.get("official", {}).items()
    )
    told = "".join(f"<li>{escape(line)}</li>" for line in warnings(result))
    return (
        _table(["", *map(_called, metrics)], rows)
        + (f"<ul>{told}</ul>" if told else "")
        + (f'<p class="hint">{note}</p>' if blind else "")
        + (f"<p>Averages that the authors of the set report:</p><ul>{official}</ul>" if official else "")
    )


def _paired(result: Result) -> str:
    rows = [
        [
            f"<code>{escape(pair['a'])}</code> to <code>{escape(pair['b'])}</code>", _called(pair["metric"]),
            *(str(pair[key]) for key in ("only_b", "only_a", "neither", "both")), p_words(pair["p"]),
        ]
        for pair in result["paired"]
        if pair["metric"] in _metrics(result)[:3]
    ]  # fmt: skip
    if not rows:
        return ""
    head = ["from, to", "score", "fixed", "broken", "still wrong", "always right", "exact McNemar"]
    return _folded("On the same examples, model against model", _table(head, rows))


def _by_tag(result: Result) -> str:
    metric, models = _metrics(result)[0], result["models"]
    blocks = []
    for kind, tags in next(iter(models.values()))["by_tag"].items():
        rows = [
            [escape(tag), str(shares[metric]["n"]), *(_share(m["by_tag"][kind][tag][metric]) for m in models.values())]
            for tag, shares in tags.items()
        ]
        head = [kind.replace("_", " "), "n", *(f"<code>{escape(name)}</code>" for name in models)]
        blocks += [_table(head, rows)] if rows else []
    return f"<h3>{_called(metric).capitalize()} by tag</h3>{''.join(blocks)}" if blocks else ""


def _readings(result: Result) -> str:
    metrics = _metrics(result)
    blocks = []
    for name, entry in result["models"].items():
        for reading, title in READINGS.items():
            found = entry.get("losses", {}).get(reading, {})
            rows = [[escape(label), *(_share(shares[m]) for m in metrics)] for label, shares in found.items()]
            blocks += [_table([title, *map(_called, metrics)], rows)] if rows else []
        if blocks:
            hint = '<p class="hint">Computed from the stored losses, without another denoiser call.</p>'
            return _folded(f"The same losses of <code>{escape(name)}</code>, read otherwise", hint + "".join(blocks))
    return ""


def _cost(result: Result) -> str:
    rows = [
        [
            f"<code>{escape(name)}</code>",
            f"{entry['seconds_per_example']:.3f}",
            f"{entry.get('evaluations_per_example', 0):g}",
            _share(entry[_metrics(result)[0]]),
        ]
        for name, entry in result["models"].items()
    ]
    head = ["", "seconds an example", "denoiser calls an example", _called(_metrics(result)[0])]
    return _folded("What it costs", _table(head, rows))


def _folded(title: str, content: str) -> str:
    """A part that opens on a click. title, content: HTML."""
    return f"<details><summary>{title}</summary>{content}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(figures: Mapping[str, bytes]) -> str:
    if "svg" not in figures:
        return ""
    source = _address(KINDS["svg"], figures["svg"])
    return f'<div class="wide"><img class="figure" alt="The table above as a bar chart" src="{source}"></div>'


def _downloads(result: Result, figures: Mapping[str, bytes]) -> str:
    name = "".join(c if c.isalnum() else "-" for c in result["benchmark"].rpartition("/")[2]).strip("-")
    files = {
        "CSV": ("csv", "text/csv", as_csv([result]).encode()),
        "JSON": ("json", "application/json", to_json(finite(result), indent=1).encode()),
        **{kind.upper(): (kind, KINDS[kind], content) for kind, content in figures.items()},
    }
    links = "".join(
        f'<a download="sdsdemo-{name}.{ending}" href="{_address(kind, content)}">{label}</a>'
        for label, (ending, kind, content) in files.items()
    )
    return f'<p class="tools">Download: {links}</p>'


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
