"""Model against model: for each two, on how many examples only one is right. A count opens those in Browse."""

from __future__ import annotations

from typing import Any

from sdsdemo.evaluation.model_marks import marks_of
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.evaluation.tables import p_words
from sdsdemo.ui import address
from sdsdemo.ui.results_claims import DIFFERENT, score_name
from sdsdemo.ui.results_figures import METRICS_SHOWN

ONLY_FIRST = "broken"
"""Browse's outcome for examples that the first model has right and the second one wrong."""


def matrices(result: Result, run: str = "") -> list[dict[str, Any]]:
    """A matrix for each of the first three metrics; none for fewer than two models.

    run: the run whose examples Browse opens; without one, counts are no links.
    """
    found = [matrix(result, metric, run) for metric in list(result["chance"])[:METRICS_SHOWN]]
    return [one for one in found if one is not None]


def matrix(result: Result, metric: str, run: str = "") -> dict[str, Any] | None:
    """Rows: the model that is right by the metric; columns: the one that is wrong. None for fewer than two models."""
    pairs = [pair for pair in result["paired"] if pair["metric"] == metric]
    if not pairs:
        return None
    only = {(pair["a"], pair["b"]): (pair["only_a"], pair["p"]) for pair in pairs}
    only |= {(pair["b"], pair["a"]): (pair["only_b"], pair["p"]) for pair in pairs}
    names, most = list(result["models"]), max(count for count, _ in only.values())
    marks = marks_of(names)
    return {
        "metric": score_name(metric),
        "models": [{"name": name, "mark": marks[name]} for name in names],
        "rows": [
            [_cell(only, row, column, most, link_of(run, row, column, metric)) for column in names] for row in names
        ],
    }


def _cell(
    only: dict[tuple[str, str], tuple[int, float]], row: str, column: str, most: int, link: str
) -> dict[str, Any] | None:
    """One count, with its share of the largest one; None for a model against itself or a pair that was not compared."""
    if (row, column) not in only:
        return None
    count, p = only[row, column]
    return {
        "count": count,
        "strength": f"{count / max(most, 1):.2f}",
        "is_clear": p < DIFFERENT,
        "words": f"{count}: {row} right, {column} wrong; exact McNemar, {p_words(p)}",
        "link": link if count else "",
    }


def link_of(run: str, right: str, wrong: str, metric: str) -> str:
    """The address of Browse with the examples that one model has right and the other one wrong; empty without a run."""
    if not run:
        return ""
    wanted = {"run": run, "model": right, "against": wrong, "metric": metric, "outcome": ONLY_FIRST}
    return address.link("browse", address.write("browse", wanted))
