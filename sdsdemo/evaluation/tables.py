"""Results for readers: tables as text, CSV. Computes nothing, reads no file.

A result is the dict of `evaluate --json`. Shares are in percent, with the 95 % interval in brackets.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sdsdemo.core.number_format import is_of_nothing, level_words, share_words
from sdsdemo.data.files.quoting import MOST
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.evaluation.text_only import text_only_table, text_only_warnings
from sdsdemo.types import Card

READINGS = {
    "by_timesteps": "timesteps used",
    "by_range": "timesteps from ... to ...",
    "normalisations": "score from the losses by",
}
ACCURACY, MATCH = "accuracy", "group_match"
TURNED = "Are the captions the right way round?"
ONE_WINS = (
    "One caption wins for both images, or one image for both captions, more often than chance would have it "
    "(see the failure modes); group-match, which cancels this, is not below chance."
)
APART = {
    "not_finite": (
        "examples has a score that is not a finite number; shares and comparisons exclude it",
        "examples have a score that is not a finite number; shares and comparisons exclude them",
    ),
    "truncated": (
        "examples has a caption that this model truncates",
        "examples have a caption that this model truncates",
    ),
    "equal_captions": (
        "examples has captions that this model reads as identical",
        "examples have captions that this model reads as identical",
    ),
    "unknown_words": (
        "examples has a word that this model's tokenizer does not know",
        "examples have a word that this model's tokenizer does not know",
    ),
}
"""What is counted apart, said of one and of several."""
CSV_COLUMNS = ("benchmark", "model", "group", "tag", "metric", "value", "low", "high", "n")


def as_table(result: Result) -> str:
    """Everything for people: a line a model, then official averages, tags, pairs of models, modes, losses, cost."""
    metrics = list(result["chance"])
    sections = [
        _skipped_rows(result),
        _shares_grid(result),
        [said] if (said := lesson_words(result["models"])) else [],
        warnings(result),
        _official_rows(result),
        _text_only_rows(result),
        *(_tag_rows(result, kind, metrics[0]) for kind in _tag_kinds(result)),
        _paired_rows(result),
        _mode_rows(result),
        *(_reading_rows(result, reading) for reading in READINGS),
        _cost_rows(result),
    ]
    return "\n\n".join([_title(result), *("\n".join(section) for section in sections if section)])


def as_csv(results: Sequence[Result]) -> str:
    """A line for every share of every model: overall, by tag, and by score variant.

    A share of nothing has empty cells.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        for name, entry in result["models"].items():
            for group, tag, metric, share in _all_shares(entry, list(result["chance"])):
                own = {"benchmark": result["benchmark"], "model": name, "group": group, "tag": tag, "metric": metric}
                numbers = ("n",) if is_of_nothing(share) else ("value", "low", "high", "n")
                writer.writerow({**own, **{key: share[key] for key in numbers}})
    return stream.getvalue()


def expected_lines(result: Result, card_of: Callable[[str], Card]) -> list[str]:
    """Expected and measured figures for models with a published result that was *read*.

    Only on the whole benchmark, and never for numbers quoted from memory.
    """
    if result["n"] != result["of"]:
        return []
    lines = []
    for name, entry in result["models"].items():
        for published in card_of(name).published:
            same = str(published["benchmark"]).lower() == result["benchmark"].partition(":")[0]
            metrics = [metric for metric in result["chance"] if metric in published]
            if same and published.get("sure") == "read" and metrics:
                expected, got = (
                    " / ".join(_fraction(v) for v in values) for values in _both(published, entry, metrics)
                )
                lines.append(f"{name}: {' / '.join(metrics)} expected {expected}, got {got} ({published['source']})")
    return lines


def warnings(result: Result) -> list[str]:
    """Caveats on the shares, one sentence each: below chance by the whole interval, non-finite scores, ties, captions
    that a model misreads."""
    found = [_below_chance(name, entry, result["chance"]) for name, entry in result["models"].items()]
    found += [f"{name}: {line}" for name, entry in result["models"].items() for line in _apart(entry.get("apart"))]
    return [line for line in (*found, *text_only_warnings(result)) if line]


def _below_chance(name: str, entry: Mapping[str, Any], chance: Mapping[str, float]) -> str:
    below = entry.get("below_chance", [])
    if not below:
        return ""
    shares = ", ".join(f"{_label(m)} {percent(entry[m])} (chance {100 * chance[m]:.1f})" for m in below)
    why = TURNED if ACCURACY in below or MATCH in below else ONE_WINS
    return f"{name} is below chance, interval included: {shares}. {why}"


def _apart(counts: Mapping[str, Any] | None) -> Iterator[str]:
    if counts is None:
        return
    n = counts["n"]
    for key, (one, several) in APART.items():
        if counts[key]:
            yield f"{counts[key]} of {n} {one if counts[key] == 1 else several}."
    of = n - counts["not_finite"]
    ties = [f"{_label(metric)} {count} of {of}" for metric, count in counts["ties"].items() if count]
    if ties:
        yield f"ties within rounding, which count as failures: {', '.join(ties)}."


def _label(metric: str) -> str:
    return metric.replace("_", "-")


def percent(share: Mapping[str, Any]) -> str:
    """`96.8 [95, 98]`, the format of every table."""
    return share_words(share)


def p_words(p: float) -> str:
    """A p value as papers write it."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text in aligned columns: the first flush left, the others flush right."""
    wide = [max(len(row[k]) for row in grid) for k in range(len(grid[0]))]
    return [
        "  ".join([row[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(row[1:], wide[1:], strict=True))])
        for row in grid
    ]


def _title(result: Result) -> str:
    part = ", which differs from the published set" if result.get("differs") else ""
    return f"{result['benchmark']}{part}: n = {n_words(result)}; percent right, 95 % interval in brackets"


def n_words(result: Result) -> str:
    """The number of examples that count; of how many, if more than the skipped ones are missing; and why."""
    n, of, skipped = result["n"], result["of"], len(result.get("skipped", ()))
    if n + skipped >= of:
        return f"{n:,}"
    is_sample = result.get("asked", n + skipped) < of
    return f"{n:,} of {of:,}{', an even share of each tag' if is_sample else ''}"


def _skipped_rows(result: Result) -> list[str]:
    """How many examples were left out, and the first of them by name."""
    skipped = result.get("skipped", ())
    rows = [f"left out: {len(skipped):,} examples, whose pictures cannot be opened"] if skipped else []
    rows += [f"  {one['example']}: {one['reason']}" for one in skipped[:MOST]]
    rows += [f"  and {len(skipped) - MOST:,} more: --json names all"] if len(skipped) > MOST else []
    return [*rows, *result.get("notes", ())]


def _shares_grid(result: Result) -> list[str]:
    metrics = list(result["chance"])
    grid = [["", *(metric.replace("_", "-") for metric in metrics)]]
    for name, entry in result["models"].items():
        grid.append([name, *(percent(entry[metric]) for metric in metrics)])
        if "blind" in entry:
            grid.append([f"{name}, blind", *(percent(entry["blind"][metric]) for metric in metrics)])
    grid.append(["chance", *(f"{100 * result['chance'][metric]:.1f}" for metric in metrics)])
    blind = any("blind" in entry for entry in result["models"].values())
    note = "blind: each caption's mean score over up to 32 unrelated images"
    return aligned(grid) + ([note] if blind else [])


def _official_rows(result: Result) -> list[str]:
    rows = [
        f"  {name}  {part}: {level_words(found)} ({found['rule']}; {counted(found)})"
        for name, entry in result["models"].items()
        for part, found in entry.get("official", {}).items()
    ]
    return ["averages reported by the set's authors", *rows] if rows else []


def _text_only_rows(result: Result) -> list[str]:
    table = text_only_table(result)
    return [] if table is None else [table.title, *aligned(table.rows), *table.notes]


def counted(average: Mapping[str, Any]) -> str:
    """How many groups an official average covers."""
    most = f" of {average['of']:,}" if average["groups"] != average["of"] else ""
    return f"{average['groups']:,}{most} {average['unit']}"


def _tag_kinds(result: Result) -> list[str]:
    kinds = dict.fromkeys(kind for entry in result["models"].values() for kind, tags in entry["by_tag"].items() if tags)
    return list(kinds)


def _tag_rows(result: Result, kind: str, metric: str) -> list[str]:
    models = result["models"].values()
    tags = next(iter(models))["by_tag"][kind]
    grid = [[f"{metric} by {kind.replace('_', ' ')}", "n", *result["models"]]]
    for tag, shares in tags.items():
        row = [percent(entry["by_tag"][kind][tag][metric]) for entry in models]
        grid.append([tag, str(shares[metric]["n"]), *row])
    return aligned(grid)


def _paired_rows(result: Result) -> list[str]:
    metric = next(iter(result["chance"]))
    grid = [[f"{metric}, from / to", "fixed", "broken", "still wrong", "always right", "exact McNemar"]]
    grid += [
        [f"{p['a']} / {p['b']}", *(str(p[key]) for key in ("only_b", "only_a", "neither", "both")), p_words(p["p"])]
        for p in result["paired"]
        if p["metric"] == metric
    ]
    return aligned(grid) if len(grid) > 1 else []


def _mode_rows(result: Result) -> list[str]:
    entries = [entry.get("modes", {}) for entry in result["models"].values()]
    modes = dict.fromkeys(mode for entry in entries for mode in entry)
    grid = [["examples by mode", *result["models"]]]
    grid += [[mode, *(str(entry.get(mode, 0)) for entry in entries)] for mode in modes]
    return aligned(grid) if modes else []


def _reading_rows(result: Result, reading: str) -> list[str]:
    metrics = list(result["chance"])
    rows = []
    for name, entry in result["models"].items():
        found = entry.get("losses", {}).get(reading, {})
        grid = [[f"{name}: {READINGS[reading]}", *(metric.replace("_", "-") for metric in metrics)]]
        grid += [[f"  {label}", *(percent(shares[metric]) for metric in metrics)] for label, shares in found.items()]
        rows += aligned(grid) if found else []
    return rows


def _cost_rows(result: Result) -> list[str]:
    grid = [["cost per example", "seconds", "denoiser calls"]]
    for name, entry in result["models"].items():
        calls = entry.get("evaluations_per_example")
        grid.append([name, f"{entry['seconds_per_example']:.3f}", "" if calls is None else f"{calls:g}"])
    return aligned(grid)


def _all_shares(entry: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(group, tag, metric, share) for every share in one model's entry."""
    groups: list[tuple[str, str, Mapping[str, Any]]] = [("all", "", entry)]
    groups += [("blind", "", entry["blind"])] if "blind" in entry else []
    groups += [(kind, tag, shares) for kind, tags in entry["by_tag"].items() for tag, shares in tags.items()]
    alone = entry.get("text_only", {})
    groups += [("text-only", "", alone)] if "accuracy" in alone else []
    groups += [("text-only", tag, shares) for tag, shares in alone.get("by_tag", {}).items()]
    groups += [(kind, tag, shares) for kind, tags in entry.get("losses", {}).items() for tag, shares in tags.items()]
    for group, tag, shares in groups:
        yield from ((group, tag, metric, shares[metric]) for metric in metrics)


def _both(
    published: Mapping[str, Any], entry: Mapping[str, Any], metrics: Sequence[str]
) -> tuple[list[float], list[float]]:
    return [published[metric] / 100 for metric in metrics], [entry[metric]["value"] for metric in metrics]


def _fraction(value: float) -> str:
    return f"{value:.4f}".lstrip("0")
