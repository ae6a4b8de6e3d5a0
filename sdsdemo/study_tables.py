"""The experiment's figures as tables, for the documents, the page and the shell. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Grid = Sequence[Sequence[str]]

TITLES = {
    "control": "Positive control: told which caption is true",
    "screen": "Screen: choices for L_SDS, on the validation set",
    "confirm": "Confirmation: five declared objectives on the benchmark",
}
CELL_HEAD = ("cell", "text", "image", "group", "zero-shot", "retrieval", "cosine of captions", "of images")
CONTRAST_HEAD = ("cell", "against", "text score", "95 % interval", "by base", "p, Holm")
BASE_HEAD = ("base", "text", "image", "group", "zero-shot", "retrieval", "attribute", "relation", "order")
BASE_SETS = ("mini-zero-shot", "mini-retrieval", "mini-attribute", "mini-relation", "mini-order")


def made_words(study: Mapping[str, Any]) -> str:
    """How much of a study there is, in a sentence."""
    declared = study["declared"]
    if not study["seeds"]:
        return f"Not run yet: {_of(declared['bases'], 'base')} with {_of(declared['seeds'], 'seed')} are declared."
    bases, seeds = len(study["bases"]), len(study["seeds"])
    words = f"{_of(bases, 'base')}, {_of(seeds, 'seed')}, n = {study['n']} of {study['benchmark']}"
    if (bases, seeds) == (declared["bases"], declared["seeds"]):
        return words + "."
    return f"{words}, of {_of(declared['bases'], 'base')} and {_of(declared['seeds'], 'seed')} declared: under way."


def cells_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """Head and a row a cell: means over its runs in percent; zero-shot and retrieval as changes, with what was kept."""
    rows = [list(CELL_HEAD)]
    for cell, found in study.get("cells", {}).items():
        levels = [f"{100 * found[metric]:.1f}" for metric in ("text", "image", "group")]
        cosines = [f"{found['cosine'][side]:.3f}" for side in ("captions", "images")]
        rows.append([cell, *levels, _kept(found["zero_shot"]), _kept(found["retrieval"]), *cosines])
    return rows


def contrasts_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """Head and a row a contrast: points of text score."""
    rows = [list(CONTRAST_HEAD)]
    for found in study.get("contrasts", []):
        by_base = ", ".join(f"{100 * value:+.1f}" for value in found["by_base"])
        interval = f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}"
        rows.append(
            [found["cell"], found["control"], f"{100 * found['value']:+.1f}", interval, by_base, f"{found['holm']:.3f}"]
        )
    return rows


def withheld_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """Head and a row a contrast: points of text score on swaps that no run was trained on, and on the rest."""
    first = study["contrasts"][0].get("withheld", {}) if study.get("contrasts") else {}
    if not first:
        return []
    titles = {"kind": "{of} swaps, never trained", "words": "captions with '{of}', never trained", "rest": "the rest"}
    head = [f"{titles[what].format(of=found['of'])} (n = {found['n']})" for what, found in first.items()]
    rows = [["cell", "against", *head]]
    for contrast in study["contrasts"]:
        rows.append([contrast["cell"], contrast["control"], *(_points(one) for one in contrast["withheld"].values())])
    return rows


def bases_grid(bases: Mapping[str, Any], benchmark: str = "mini") -> list[list[str]]:
    """Head and a row a base: percent with its 95 % interval."""
    rows = [list(BASE_HEAD)]
    for base, found in bases.items():
        own = [_share(found[benchmark][metric]) for metric in ("text", "image", "group")]
        rows.append([base, *own, *(_share(found[name]["accuracy"]) for name in BASE_SETS)])
    return rows


def as_markdown(grid: Grid) -> str:
    """A table, its first row the head."""
    head, *rows = grid
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def study_markdown(study: Mapping[str, Any]) -> str:
    """How much there is of it, its contrasts and its cells."""
    if not study["seeds"]:
        return made_words(study)
    grids = [contrasts_grid(study), withheld_grid(study), cells_grid(study)]
    return "\n\n".join([made_words(study), *(as_markdown(grid) for grid in grids if grid)])


def _kept(found: Mapping[str, Any]) -> str:
    """`-0.4 [-1.2, +0.4], kept`."""
    said = {True: ", kept", False: "", None: ", no measure"}[found["kept"]]
    return _points(found) + said


def _points(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def _share(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.1f} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
