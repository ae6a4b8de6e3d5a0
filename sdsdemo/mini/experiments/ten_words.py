"""Figures over ten bases, coverage of intervals and noise of seeds, as tables and sentences. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdsdemo.core.number_format import points_words, signed
from sdsdemo.core.wording import count_of
from sdsdemo.mini.experiments.tables import (
    SKILLS,
    TEN,
    as_markdown,
    cell_name,
    p_cell,
    shared_words,
    unfinished_words,
)

Grid = list[list[str]]
GROUPS = {"both": "passing, both towers", "image": "passing, image tower too", "new": "new"}
"""Stored name of a group of bases -> its column."""
INTERVALS = {"t": "t", "within": "within bases", "resampled": "resampled"}
DESIGNS = {"three": "3 bases x 5 seeds", "ten": "10 bases x 2 seeds"}
SPREADS = {
    "base": "bases",
    "seed": "seeds",
    "example": "examples",
    "both": "bases x examples",
    "rest": "rest",
}
NOISE_HEAD = ("what is trained", "shipped", "trainings")


def ten_markdown(study: Mapping[str, Any]) -> str:
    """The study of ten bases: how much of it there is, and its tables."""
    if not study["seeds"]:
        return ten_made_words(study)
    further = [f"{title}:\n\n{as_markdown(grid)}" for title, grid in further_grids(study).items()]
    return "\n\n".join([ten_main(study), shared_words(study), *further, GATE_CAUTION])


def further_grids(study: Mapping[str, Any]) -> dict[str, Grid]:
    """The study's tables besides the effects, by title."""
    return {
        "Among some of the bases (Student's t; in brackets the number of bases)": groups_grid(study),
        "The gate, each base's gain from true labels over L_CLIP alone": gate_grid(study),
        "Effect on each base": by_base_grid(study),
    }


def ten_main(study: Mapping[str, Any]) -> str:
    """How much of the study there is, and its effects alone."""
    made = ten_made_words(study)
    return f"{made}\n\n{as_markdown(effects_grid(study))}" if study["seeds"] else made


GATE_CAUTION = (
    "The gate reads runs of L_CLIP alone and of true labels that some of these effects read too. So among bases that "
    "pass it, effects relative to L_CLIP alone lean upwards, and those relative to true labels downwards: the interval "
    "over all bases is the one to read."
)


def ten_made_words(study: Mapping[str, Any]) -> str:
    """How much of the study has been run, in a sentence."""
    declared = study["declared"]
    if not study["seeds"]:
        return unfinished_words(study)
    planned = f"{count_of(declared['bases'], 'base')} with {count_of(declared['seeds'], 'seed')}"
    made = f"{count_of(len(study['bases']), 'base')}, {count_of(len(study['seeds']), 'seed')}, n = {study['n']} of mini"
    whole = (len(study["bases"]), len(study["seeds"])) == (declared["bases"], declared["seeds"])
    return f"{made}." if whole else f"{made}. In progress: {planned} are declared."


def effects_grid(study: Mapping[str, Any]) -> Grid:
    """A header and a row per contrast: the effect on bases in general and within these, and on the skills."""
    first = study["contrasts"][0]
    skills = [f"{called} (n = {first['skills'][name]['n']:,})" for name, called in SKILLS.items()]
    intervals = [f"bases in general (t, {first['dof']} df)", f"these {first['bases']} bases"]
    rows = [["cell", "against", "text score", *intervals, "p, Holm", "answers that differ, %", *skills]]
    for found in study["contrasts"]:
        rows.append(
            [
                cell_name(found["cell"]),
                cell_name(found["control"]),
                signed(found["value"]),
                *(f"{signed(of['low'])} to {signed(of['high'])}" for of in (found, found["within"])),
                p_cell(found["holm"]),
                f"{100 * found['differing']:.1f}",
                *(_skill_words(found["skills"][name]) for name in SKILLS),
            ]
        )
    return rows


def _skill_words(found: Mapping[str, Any]) -> str:
    """`+0.2 [-0.5, +0.9], non-inferior`."""
    return points_words(found) + {True: ", non-inferior", False: "", None: ", not assessed"}[found["kept"]]


def groups_grid(study: Mapping[str, Any]) -> Grid:
    """A header and a row per contrast: the effect on bases in general from all, from those that pass, from new ones."""
    rows = [["cell", "against", f"all ({len(study['bases'])})"]]
    rows[0] += [f"{called} ({len(study['groups'][name])})" for name, called in GROUPS.items()]
    for found in study["contrasts"]:
        among = [found["among"].get(name) for name in GROUPS]
        words = [points_words(one) if one else "too few" for one in among]
        rows.append([cell_name(found["cell"]), cell_name(found["control"]), points_words(found), *words])
    return rows


def gate_grid(study: Mapping[str, Any]) -> Grid:
    """A header and a row per base: its gain from true labels with both towers and with the image tower alone."""
    gate, least = study["gate"], study["gate"]["least"]
    rows = [["base", "both towers", "image tower alone", f"gains {100 * least:.0f} points"]]
    for base in study["bases"]:
        both, image = gate["both"][base], gate["image"][base]
        passed = ["both towers"] * (both["value"] >= least) + ["image tower alone"] * (image["value"] >= least)
        rows.append([base, points_words(both), points_words(image), " and ".join(passed) or "neither"])
    return rows


def by_base_grid(study: Mapping[str, Any]) -> Grid:
    """A header and a row per contrast: points of text score on each base."""
    rows = [["cell", "against", *study["bases"]]]
    for found in study["contrasts"]:
        own = [signed(value) for value in found["by_base"]]
        rows.append([cell_name(found["cell"]), cell_name(found["control"]), *own])
    return rows


def coverage_markdown(found: Mapping[str, Any]) -> str:
    """What the differences of a study vary with, and what intervals cover in simulated experiments."""
    spread = [["cell", "against", *SPREADS.values()]]
    covered = [["cell", "against", *_coverage_head(found["rows"][0])]]
    for row in found["rows"]:
        names = [cell_name(row["cell"]), cell_name(row["control"])]
        spread.append([*names, *(f"{100 * row['spread'][name]:.1f}" for name in SPREADS)])
        shares = [_coverage_words(name, of) for design in DESIGNS for name, of in row[design].items()]
        covered.append([*names, *shares])
    return "\n\n".join([SOURCES[found["study"]], as_markdown(spread), as_markdown(covered), _coverage_range(found)])


SOURCES = {"confirm": "Components of the confirmation:", TEN: "Components of the study of ten bases:"}


def _coverage_range(found: Mapping[str, Any]) -> str:
    """Between which shares the intervals over ten bases cover, in a sentence."""

    def share(name: str, of: str) -> str:
        shares = [100 * row["ten"][name][of] for row in found["rows"]]
        return f"{min(shares):.1f} to {max(shares):.1f} %"

    return (
        f"With ten bases, Student's t holds the effect on bases and examples in general in {share('t', 'general')} of "
        f"the experiments, and that on bases in general, on these examples, in {share('t', 'these_examples')}. The "
        f"interval within bases holds the effect on these bases in {share('within', 'these_bases')}, and that on bases "
        f"in general in {share('within', 'general')}: it is not an interval for bases in general."
    )


def _coverage_head(row: Mapping[str, Any]) -> list[str]:
    return [f"{called}: {INTERVALS[name]}" for design, called in DESIGNS.items() for name in row[design]]


def _coverage_words(name: str, share: Mapping[str, float]) -> str:
    """`93.4 (95.1)`: of bases and examples in general, and of what else the interval may be read as being of."""
    other = {"t": "these_examples", "within": "these_bases"}.get(name)
    beside = f" ({100 * share[other]:.1f})" if other else ""
    return f"{100 * share['general']:.1f}{beside}"


def noise_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """A header and a row per recipe: standard deviation between seeds, and the standard error over examples."""
    called = {"text": "text", "image": "image", "group": "group", **SKILLS}
    grid = [[*NOISE_HEAD, *called.values()]]
    for row in rows:
        made = f"{row['bases']} x {row['seeds']}" if row["bases"] > 1 else str(row["seeds"])
        cells = [
            f"{100 * row['metrics'][name]['seeds']:.1f} ({100 * row['metrics'][name]['examples']:.1f})"
            for name in called
        ]
        grid.append([cell_name(row["what"]), row["shipped"], made, *cells])
    return grid
