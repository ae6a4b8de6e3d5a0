"""What was found, in three claims: a conclusion in a sentence, a figure, and all numbers behind a fold.

Everything is made from the stored results when the page is built, once for each state of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdsdemo.evaluation.limits import TAUGHT_CLIP, bases_in_general, bases_words, has_all_bases
from sdsdemo.evaluation.report import read_result
from sdsdemo.evaluation.result_schema import Result
from sdsdemo.mini.experiments import tables as study_tables
from sdsdemo.mini.experiments import ten_words
from sdsdemo.mini.experiments import verdict as study_verdict
from sdsdemo.mini.experiments.shapes import Costs, Findings
from sdsdemo.mini.experiments.tables import TEN
from sdsdemo.models.cards import all_cards
from sdsdemo.runtime.files import State, state_of
from sdsdemo.runtime.shipped import shipped
from sdsdemo.ui.results_claims import cost_claim, gap_claim
from sdsdemo.ui.results_figures import cost_html, effects_html, gap_html
from sdsdemo.ui.results_html import after_gap, grid_of
from sdsdemo.ui.templates import render

MEASURED = "mini/results/mini.json"
EXPERIMENT = "mini/results/experiment.json"
COSTS = "mini/results/experiment/costs.json"
TEACHER, BETTER_TEACHER = "mini-diffusion-short", "mini-diffusion"
"""Teacher of every study in the forest plot, and of the one called `better`."""
PANELS = {
    TEN: "Ten bases: intervals for bases in general",
    "confirm": "Declared objectives",
    "dealt": "Controls of the preference",
    "mislabelled": "Half of the labels wrong",
    "better": "A more accurate teacher",
    "tower": "The text tower alone",
    "return": "Weights interpolated with the base's (WiSE-FT)",
}
"""Studies in the forest plot, and their titles."""
FURTHER = "Zero-shot, retrieval, withheld swaps, every cell"
"""Title of the collapsed part of a study."""


def gap_part(assets: Path) -> str:
    """The first claim: how far the models are apart. Empty if no result is stored."""
    result = _measured(assets)
    claim = gap_claim(result) if result else ""
    if result is None or not claim:
        return ""
    return render(
        "results_story.gap",
        claim=claim,
        n=result["n"],
        figure=gap_html(result, claim),
        after=after_gap(result),
    )


def shows(assets: Path, result: Result) -> bool:
    """Whether the first claim's figure is that of this result."""
    measured = _measured(assets)
    if (
        measured is None
        or measured["chance"] != result["chance"]
        or measured["models"].keys() != result["models"].keys()
    ):
        return False
    return all(
        measured["models"][name][metric] == entry[metric]
        for name, entry in result["models"].items()
        for metric in result["chance"]
    )


def effects_part(assets: Path) -> str:
    """The second claim: what each objective changes. Empty if the study is not stored; only its numbers before the
    confirmation."""
    found = _findings(assets)
    if found is None:
        return ""
    claim = study_verdict.claim(found)
    numbers = render(
        "results_story.numbers_of_study",
        findings=study_verdict.verdict(found),
        studies=[
            *([_ten_bases(found[TEN])] if TEN in found else []),
            *(_study(found[name], title) for name, title in study_tables.TITLES.items() if name in found),
        ],
    )
    return render(
        "results_story.effects",
        claim=claim,
        made=_made(found) if claim else "",
        teacher=all_cards()[TEACHER].title,
        better=all_cards()[BETTER_TEACHER].title if found.get("better", {}).get("contrasts") else "",
        figure=effects_html(_contrasts(found), claim, study_tables.plain_name) if claim else "",
        after=[one for one in (study_verdict.labels_claim(found), _populations(found)) if one] if claim else [],
        numbers=numbers,
    )


def cost_part(assets: Path) -> str:
    """The third claim: what a better score costs. Empty if no costs are stored."""
    result, costs = _measured(assets), _costs(assets)
    claim = cost_claim(result) if result else ""
    if not claim and costs is None:
        return ""
    return render(
        "results_story.cost",
        claim=claim,
        n=result["n"] if result else 0,
        figure=cost_html(result, claim) if result and claim else "",
        after=TAUGHT_CLIP if claim and "mini-clip-lesson" in claim else "",
        training=costs,
    )


def _contrasts(found: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The contrasts of the studies in the forest plot, by title; of the ten bases once all are done."""
    return {
        title: found.get(name, {}).get("contrasts", [])
        for name, title in PANELS.items()
        if name != TEN or has_all_bases(found.get(TEN, {}))
    }


def _populations(found: Mapping[str, Any]) -> str:
    """Which bases the intervals are about."""
    if not has_all_bases(found.get(TEN, {})):
        return bases_words(found)
    return f"{bases_in_general(found)} The other studies' intervals are about their own bases only."


def _made(found: Mapping[str, Any]) -> str:
    """How the study that the claim quotes was run."""
    is_ten = has_all_bases(found.get(TEN, {}))
    return ten_words.ten_made_words(found[TEN]) if is_ten else study_tables.made_words(found["confirm"])


def _ten_bases(study: Mapping[str, Any]) -> dict[str, Any]:
    """As `_study`, for the ten bases, whose intervals are for bases in general."""
    values: dict[str, Any] = {"title": PANELS[TEN], "made": ten_words.ten_made_words(study), "effects": None}
    if study["seeds"]:
        notes = [study_tables.shared_words(study, mark=""), ten_words.GATE_CAUTION]
        values |= {"effects": grid_of(ten_words.effects_grid(study)), "notes": notes}
        values |= _further(ten_words.further_grids(study))
    return values


def _study(study: Mapping[str, Any], title: str) -> dict[str, Any]:
    """How the study was run; if it has begun, its effects and, collapsed, its other tables."""
    values: dict[str, Any] = {"title": title, "made": study_tables.made_words(study), "effects": None}
    if study["seeds"]:
        effects = grid_of(study_tables.contrasts_grid(study))
        notes = [study_tables.shared_words(study, mark="")]
        values |= {"effects": effects, "notes": notes, **_further(study_tables.further_grids(study), FURTHER)}
    return values


def _further(grids: Mapping[str, list[list[str]]], title: str = "By base, and the gate") -> dict[str, Any]:
    """A study's collapsed tables."""
    return {"further_title": title, "further": [{"title": of, "grid": grid_of(rows)} for of, rows in grids.items()]}


def _costs(assets: Path) -> dict[str, Any] | None:
    """What training costs, as words and a table."""
    found = _findings(assets)
    if found is None or not (assets / COSTS).is_file():
        return None
    read: Mapping[str, Any] = shipped(assets / COSTS, Costs)
    return {"words": study_verdict.costs_words(read), "grid": grid_of(study_tables.costs_grid(found, read))}


def _measured(assets: Path) -> Result | None:
    path = assets / MEASURED
    return _read_result(path, state_of(path)) if path.is_file() else None


def _findings(assets: Path) -> Mapping[str, Any] | None:
    path = assets / EXPERIMENT
    return _read_findings(path, state_of(path)) if path.is_file() else None


@lru_cache(maxsize=4)
def _read_result(path: Path, state: State) -> Result:
    """state: of the file, so that a changed one is read again."""
    return read_result(path)


@lru_cache(maxsize=4)
def _read_findings(path: Path, state: State) -> Mapping[str, Any]:
    found: Mapping[str, Any] = shipped(path, Findings)
    return found
