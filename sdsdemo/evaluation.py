"""Scores a whole benchmark and says how often each model is right, with its doubt. Knows no file format and no page.

Pair of pairs (two images, two captions): text, image, group and group-match of `sdsdemo.metrics`, by tag too, and the
exact McNemar test between any two models. One image and k captions, the first of them true: accuracy.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.metrics import CHANCE, METRICS, Proportion, benchmark_scores, mcnemar_exact, proportion, verdict
from sdsdemo.models import cards
from sdsdemo.runs import RunFolder
from sdsdemo.types import Budget, Example, Scorer, Scores

TAGS = ("collapsed_tag", "tag")
REPORTED_EVERY = 20


class Models(Protocol):
    """Where the scorers come from: the workbench."""

    def scorer(self, name_or_spec: str) -> Scorer: ...


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One model's scores on every example, as score_IC each."""

    score_E: list[np.ndarray]
    seconds: float
    """Of the models alone, in this run and in the ones that it goes on from."""


def evaluate(
    benchmark: str,
    models: Sequence[str],
    *,
    workbench: Models,
    budget: Budget,
    limit: int | None = None,
    out: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The dict of `evaluate --json`: by model the share of examples that it gets right, and every two models compared.

    limit: score only so many examples, an even share of each tag.
    out: a folder that keeps every score as it is made; a run that was stopped goes on from it.

    Raises `UserError` for a benchmark that is unknown or cannot be read, a model that cannot run here, and a folder
    that holds another run.
    """
    every = read_benchmark(benchmark)
    examples = every if limit is None else stratified(every, limit)
    if not examples:
        raise UserError("There is nothing to score: give --limit a number of at least 1.")
    run = None if out is None else RunFolder(out, benchmark, examples, budget)
    scored = {name: _score_all(name, examples, workbench, budget, run, progress) for name in models}
    pairs = len(examples[0].images) == 2
    summarise, right_of = (_pair_summary, _pair_right) if pairs else (_choice_summary, _choice_right)
    return {
        "benchmark": benchmark,
        "n": len(examples),
        "of": len(every),
        "settings": {"timesteps": budget.timesteps, "noises": budget.noises, "seed": budget.seed},
        "chance": dict(CHANCE) if pairs else {"accuracy": 1 / len(examples[0].captions)},
        "models": {name: summarise(examples, s) for name, s in scored.items()},
        "paired": list(_paired({name: right_of(s.score_E) for name, s in scored.items()})),
    }


def stratified(examples: Sequence[Example], limit: int) -> list[Example]:
    """`limit` examples, in their order, each tag with the share that it has in all of them as near as can be.

    Every example has a rank within its tag; the ones whose rank is smallest for the size of their tag are taken.
    """
    tag_of = [example.tags.get("tag", "") for example in examples]
    seen: defaultdict[str, int] = defaultdict(int)
    depth = []
    for tag in tag_of:
        depth.append((seen[tag] + 0.5) / tag_of.count(tag))
        seen[tag] += 1
    taken = sorted(sorted(range(len(examples)), key=lambda e: depth[e])[: max(0, limit)])
    return [examples[e] for e in taken]


def as_table(result: Mapping[str, Any]) -> str:
    """The result for people: a line a model, in percent with 95 % intervals, then by tag, then the comparisons."""
    sampled = f" of {result['of']}, an even share of each tag" if result["n"] < result["of"] else ""
    metrics = list(result["chance"])
    title = f"{result['benchmark']}: n = {result['n']}{sampled}; percent right, 95 % interval in brackets"
    grid = [
        ["", *(metric.replace("_", "-") for metric in metrics)],
        *([name, *(_percent(entry[metric]) for metric in metrics)] for name, entry in result["models"].items()),
        ["chance", *(f"{100 * result['chance'][metric]:.1f}" for metric in metrics)],
    ]
    return "\n".join([title, "", *_aligned(grid), *_tag_rows(result, metrics[0]), *_paired_rows(result)])


def as_markdown(result: Mapping[str, Any]) -> str:
    """The shares as a table for the README: models by metrics, in percent with 95 % intervals."""
    metrics = list(result["chance"])
    rows = [
        f"| {result['benchmark']}, n = {result['n']} | " + " | ".join(m.replace("_", "-") for m in metrics) + " |",
        "|---" * (1 + len(metrics)) + "|",
        *(
            f"| `{name}` | " + " | ".join(_percent(entry[metric]) for metric in metrics) + " |"
            for name, entry in result["models"].items()
        ),
        "| chance | " + " | ".join(f"{100 * result['chance'][metric]:.1f}" for metric in metrics) + " |",
    ]
    return "\n".join(rows)


def _score_all(
    name: str,
    examples: Sequence[Example],
    workbench: Models,
    budget: Budget,
    run: RunFolder | None,
    progress: Callable[[str], None],
) -> Scored:
    """Every example by one model: from the run's folder where it is there, else computed and added to it."""
    kept = {e.id: run.scores(name, e.id) for e in examples} if run else {}
    todo = [example for example in examples if kept.get(example.id) is None]
    if kept and len(todo) < len(examples):
        progress(f"{name}  {len(examples) - len(todo)} of {len(examples)} were scored before")
    fresh = _score_fresh(name, todo, workbench, budget, run, progress) if todo else {}
    scores = [fresh[e.id] if e.id in fresh else kept[e.id] for e in examples]
    known = [found for found in scores if found is not None]
    return Scored(score_E=[found.score_IC for found in known], seconds=sum(found.seconds for found in known))


def _score_fresh(
    name: str,
    examples: Sequence[Example],
    workbench: Models,
    budget: Budget,
    run: RunFolder | None,
    progress: Callable[[str], None],
) -> dict[str, Scores]:
    scorer, began, found = workbench.scorer(name), time.perf_counter(), {}
    if run:
        run.enter(name, cards.fingerprint(scorer.card))
    for done, example in enumerate(examples, start=1):
        found[example.id] = scorer.score([picture.open() for picture in example.images], example.captions, budget)
        if run:
            run.add(name, example.id, found[example.id])
        if done % REPORTED_EVERY == 0 or done == len(examples):
            rate = (time.perf_counter() - began) / done
            progress(f"{name}  {done} of {len(examples)}  {rate * (len(examples) - done):.0f} s left")
    return found


def _pair_summary(examples: Sequence[Example], scored: Scored) -> dict[str, Any]:
    score_EIC = np.stack(scored.score_E)
    by_tag = {
        kind: {
            tag: _as_dicts(benchmark_scores(score_EIC[[e.tags.get(kind) == tag for e in examples]]))
            for tag in sorted({e.tags[kind] for e in examples if kind in e.tags})
        }
        for kind in TAGS
    }
    modes = [verdict(score_IC).mode for score_IC in score_EIC]
    return {
        **_as_dicts(benchmark_scores(score_EIC)),
        "by_tag": by_tag,
        "modes": {mode: modes.count(mode) for mode in sorted(set(modes))},
        "seconds_per_example": round(scored.seconds / len(examples), 4),
    }


def _choice_summary(examples: Sequence[Example], scored: Scored) -> dict[str, Any]:
    right_E = _choice_right(scored.score_E)["accuracy"]
    by_tag = {
        kind: {
            tag: {"accuracy": asdict(_share(right_E[[e.tags.get(kind) == tag for e in examples]]))}
            for tag in sorted({e.tags[kind] for e in examples if kind in e.tags})
        }
        for kind in TAGS
    }
    return {
        "accuracy": asdict(_share(right_E)),
        "by_tag": by_tag,
        "seconds_per_example": round(scored.seconds / len(examples), 4),
    }


def _pair_right(score_E: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """By metric, which examples are right."""
    verdicts = [verdict(score_IC) for score_IC in score_E]
    return {metric: np.array([getattr(v, metric) for v in verdicts]) for metric in METRICS}


def _choice_right(score_E: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Right where the first caption beats all others; a tie is a failure, and so is a score that is not a number."""
    return {"accuracy": np.array([bool((score_IC[0, :1] > score_IC[0, 1:]).all()) for score_IC in score_E])}


def _paired(right: Mapping[str, Mapping[str, np.ndarray]]) -> Any:
    """Every two models by every metric, on the same examples."""
    for a, b in itertools.combinations(right, 2):
        for metric in right[a]:
            a_E, b_E = right[a][metric], right[b][metric]
            only_a, only_b = int((a_E & ~b_E).sum()), int((b_E & ~a_E).sum())
            yield {
                "a": a,
                "b": b,
                "metric": metric,
                "both": int((a_E & b_E).sum()),
                "only_a": only_a,
                "only_b": only_b,
                "neither": int((~a_E & ~b_E).sum()),
                "p": mcnemar_exact(only_a, only_b),
            }


def _share(right_E: np.ndarray) -> Proportion:
    return proportion(int(right_E.sum()), len(right_E))


def _as_dicts(shares: Mapping[str, Proportion]) -> dict[str, dict[str, float]]:
    return {metric: asdict(share) for metric, share in shares.items()}


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.1f} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text with columns as wide as they need: the first flush left, the others flush right."""
    wide = [max(len(row[k]) for row in grid) for k in range(len(grid[0]))]
    return [
        "  ".join([row[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(row[1:], wide[1:], strict=True))])
        for row in grid
    ]


def _tag_rows(result: Mapping[str, Any], metric: str) -> list[str]:
    models = result["models"]
    tags = sorted({tag for entry in models.values() for tag in entry["by_tag"]["tag"]})
    if not tags:
        return []
    grid = [[f"{metric} by tag", "n", *models]]
    for tag in tags:
        shares = [entry["by_tag"]["tag"][tag][metric] for entry in models.values()]
        grid.append([tag, str(shares[0]["n"]), *(_percent(share) for share in shares)])
    return ["", *_aligned(grid)]


def _paired_rows(result: Mapping[str, Any]) -> list[str]:
    metric = next(iter(result["chance"]))
    rows = [
        f"  {p['a']} / {p['b']}: only the first {p['only_a']}, only the second {p['only_b']}, both {p['both']}, "
        f"neither {p['neither']}; p = {p['p']:.2g}"
        for p in result["paired"]
        if p["metric"] == metric
    ]
    return ["", f"{metric}, right on the same examples (exact McNemar)", *rows] if rows else []
