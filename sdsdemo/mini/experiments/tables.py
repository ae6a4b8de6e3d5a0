"""The experiment's figures as tables, for the documents, the page and the shell. Computes nothing.

For sentences, see `verdict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sdsdemo.core.number_format import points_words, share_words, signed
from sdsdemo.core.wording import count_of

Grid = Sequence[Sequence[str]]
TEN = "ten-bases"
"""Stored name of the study of ten bases: `bases` is the file of the bases' own lines."""

CLEAN = "mini-clip-clean"
"""The base with another recipe."""
TITLES = {
    "control": "Positive control: trained on which caption is true",
    "screen": "Screen: choices for L_SDS, on the validation set",
    "confirm": "Confirmation: declared objectives on the benchmark",
    "return": "WiSE-FT: weights interpolated with the base, declared after the confirmation",
    "tower": "The text tower alone, about ten times faster per step, declared after the confirmation",
    "dealt": "Preference controls: what the teacher's judgement is worth, declared after the confirmation",
    "mislabelled": "Half of the labels wrong, declared after the confirmation",
    "better": "A more accurate teacher, declared after the confirmation",
    "channel": "The channel of L_SDS: variants on the validation set, declared after the confirmation",
    "weights": "Weights of hard negatives, on the validation set, declared after the confirmation",
    "sources": "Other sources of preferences and shares of wrong labels, declared after the confirmation",
}
CELL_HEAD = ("cell", "text", "image", "group", "zero-shot", "retrieval", "cosine of captions", "cosine of images")
CONTRAST_HEAD = ("cell", "against", "text score", "95 % interval", "by base", "p, Holm")
BASE_HEAD = ("base", "text", "image", "group", "zero-shot", "retrieval", "attribute", "relation", "order")
CONTROLS_HEAD = (
    "L_SDS with true captions, with shuffled captions", "student, before", "student, after", "true latents, after",
    "another image's latents, after", "cosine of the two gradients, before, after", "R2 of h_w",
)  # fmt: skip
COST_HEAD = (
    "objective", "text score", "change from L_CLIP alone", "s per step", "s per run",
    "denoiser passes, forward only", "forward and backward",
)  # fmt: skip
SKILLS = {"zero_shot": "zero-shot", "retrieval": "retrieval"}
"""A study's skills and their names."""
BASE_SETS = ("mini-zero-shot", "mini-retrieval", "mini-attribute", "mini-relation", "mini-order")


CELL_NAMES = {"sides by lot": "random sign", "permuted": "shuffled across pairs"}
"""Parts of stored cell names -> what readers see."""


def cell_name(stored: str) -> str:
    """A cell's name as readers see it. Stored files keep the old name."""
    return ", ".join(CELL_NAMES.get(part, part) for part in stored.split(", "))


PLAIN_NAMES = {
    "clip": "L_CLIP alone",
    "sds": "the paper's L_SDS",
    "sds at 10": "the paper's L_SDS, lambda 10",
    "shuffled": "other images' captions",
    "negatives": "swaps as hard negatives",
    "preference": "teacher's preference",
    "permuted": "shuffled",
    "sides by lot": "random sign",
    "labels": "true labels",
}
"""Parts of stored cell names -> what a newcomer can read."""


LEAST_P = 0.001


def plain_name(stored: str) -> str:
    """A cell's name without the study's shorthand."""
    return ", ".join(PLAIN_NAMES.get(part, part) for part in stored.split(", "))


def made_words(study: Mapping[str, Any]) -> str:
    """How much of a study has been run, in a sentence."""
    declared = study["declared"]
    planned = [count_of(declared["bases"], "base"), count_of(declared["seeds"], "seed")]
    if not study["seeds"]:
        return unfinished_words(study)
    bases, seeds = len(study["bases"]), len(study["seeds"])
    of = f"n = {study['n']} of {study['benchmark']}, {_skills_words(study)}"
    if _is_uneven(study):
        alone = "with one seed, intervals resample examples only"
        return f"{count_of(bases, 'base')}, up to {count_of(seeds, 'seed')}, {of}. Exploratory: {alone}."
    words = f"{count_of(bases, 'base')}, {count_of(seeds, 'seed')}, {of}"
    if (bases, seeds) == (declared["bases"], declared["seeds"]):
        return f"{words}. Exploratory." if study["exploratory"] else f"{words}."
    return f"{words}. In progress: {' and '.join(planned)} are declared."


def unfinished_words(study: Mapping[str, Any]) -> str:
    """How far a study is that has no base with every cell yet."""
    declared, made = study["declared"], study.get("made", 0)
    planned = f"{count_of(declared['bases'], 'base')} with {count_of(declared['seeds'], 'seed')} are declared"
    if not made:
        return f"Not run yet: {planned}."
    return f"In progress: {made} of {declared['runs']} runs are made, too few for an effect; {planned}."


def _skills_words(study: Mapping[str, Any]) -> str:
    """Such as "4,000 for zero-shot and 3,500 for retrieval"."""
    sizes = {name: sorted({cell[name]["n"] for cell in study["cells"].values()}) for name in SKILLS}
    words = {name: " or ".join(f"{n:,}" for n in of) for name, of in sizes.items()}
    if len(set(words.values())) == 1:
        return f"{words['retrieval']} for each skill"
    return " and ".join(f"{of} for {SKILLS[name]}" for name, of in words.items())


def cells_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per cell: means over its runs in percent; zero-shot and retrieval as changes."""
    rows = [[CELL_HEAD[0], *_seeds_head(study), *CELL_HEAD[1:]]]
    for cell, found in study.get("cells", {}).items():
        levels = [f"{100 * found[metric]:.1f}" for metric in ("text", "image", "group")]
        cosines = [f"{found['cosine'][side]:.3f}" for side in ("captions", "images")]
        rows.append(
            [
                cell_name(cell),
                *_seeds(study, found),
                *levels,
                _skill_change(found["zero_shot"]),
                _skill_change(found["retrieval"]),
                *cosines,
            ]
        )
    return rows


def p_cell(p: float) -> str:
    """A p value in a table: `0.024`, or `< 0.001`."""
    return f"{p:.3f}" if p >= LEAST_P else f"< {LEAST_P}"


def contrasts_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per contrast: points of text score."""
    rows = [[*CONTRAST_HEAD[:2], *_seeds_head(study), *CONTRAST_HEAD[2:]]]
    for found in study.get("contrasts", []):
        by_base = ", ".join(signed(value) for value in found["by_base"])
        interval = f"{signed(found['low'])} to {signed(found['high'])}"
        measured = [signed(found["value"]), interval, by_base, p_cell(found["holm"])]
        rows.append([cell_name(found["cell"]), cell_name(found["control"]), *_seeds(study, found), *measured])
    return rows


def withheld_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per contrast: points of text score on swaps withheld from training, and on the rest."""
    first = study["contrasts"][0].get("withheld", {}) if study.get("contrasts") else {}
    if not first:
        return []
    titles = {"kind": "{of} swaps, never trained", "words": "captions with '{of}', never trained", "rest": "the rest"}
    head = [f"{titles[what].format(of=found['of'])} (n = {found['n']})" for what, found in first.items()]
    rows = [["cell", "against", *_seeds_head(study), *head]]
    for contrast in study["contrasts"]:
        points = [points_words(one) for one in contrast["withheld"].values()]
        rows.append([cell_name(contrast["cell"]), cell_name(contrast["control"]), *_seeds(study, contrast), *points])
    return rows


def bases_grid(bases: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per base: percent with the 95 % interval. Seeds of one recipe first."""
    rows, counts = [], [""] * (len(BASE_HEAD) - 1)
    for base, found in sorted(bases.items(), key=lambda item: item[0] == CLEAN):
        own = [found["mini"][metric] for metric in ("text", "image", "group")]
        own += [_largest(found, name)["accuracy"] for name in BASE_SETS]
        rows.append([base, *map(share_words, own)])
        counts = [f" (n = {share['n']:,})" for share in own]
    head = [BASE_HEAD[0], *(f"{called}{count}" for called, count in zip(BASE_HEAD[1:], counts, strict=True))]
    return [head, *rows]


def _largest(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The levels on a set, from its version with the most examples: `mini-retrieval-4000` of `mini-retrieval`."""
    versions = [of for of in found if of == name or of.removeprefix(f"{name}-").isdigit()]
    largest: Mapping[str, Any] = max((found[of] for of in versions), key=lambda levels: levels["accuracy"]["n"])
    return largest


def controls_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per cell with L_SDS: the same loss on other latents, and with other images' captions.

    Means over runs on one batch, before the first step and after the last one. Empty if no cell has them.
    """
    rows = []
    for cell, found in study.get("cells", {}).items():
        if "controls" not in found:
            continue
        before, after = found["controls"]["before"], found["controls"]["after"]
        losses = [f"{one['student']:.3f}, {one['student shuffled']:.3f}" for one in (before, after)]
        others = [f"{after['true']:.3f}, {after['true shuffled']:.3f}", f"{after['other']:.3f}"]
        cosines = f"{before['cosine with shuffled']:.2f}, {after['cosine with shuffled']:.2f}"
        r2 = found.get("h_w_r2")
        fitted = f"{r2:.2f}" if r2 is not None else "unknown" if "h_w_r2" in found else "at random"
        rows.append([cell_name(cell), *losses, *others, cosines, fitted])
    return [list(CONTROLS_HEAD), *rows] if rows else []


def confirm_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per contrast: its effects on the text score, zero-shot and retrieval, in points."""
    effects, skills = contrasts_grid(study), skills_grid(study)
    if not skills:
        return effects
    return [[*row, *skill[-2:]] for row, skill in zip(effects, skills, strict=True)]


FOLLOW_UPS = {
    "dealt": "preference controls",
    "mislabelled": "half of the labels wrong",
    "better": "a more accurate teacher",
    "sources": "other sources of preferences",
    "return": "WiSE-FT",
    "tower": "text tower alone",
}
"""Studies declared after the confirmation, in reporting order."""


def follow_ups_grid(experiment: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per contrast of the studies declared after the confirmation."""
    rows = [["study", "runs per cell", *CONTRAST_HEAD]]
    for name, title in FOLLOW_UPS.items():
        study = experiment.get(name, {})
        grid = contrasts_grid(study)[1:]
        made = f"{count_of(len(study['bases']), 'base')} x {count_of(len(study['seeds']), 'seed')}" if grid else ""
        rows += [[title, made, *row] for row in grid]
    return rows


def skills_grid(study: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per contrast: points of zero-shot and retrieval, relative to the control."""
    contrasts = study.get("contrasts", [])
    if not contrasts:
        return []
    head = [f"{called} (n = {contrasts[0]['skills'][name]['n']:,})" for name, called in SKILLS.items()]
    rows = [["cell", "against", *_seeds_head(study), *head]]
    for found in contrasts:
        points = [points_words(found["skills"][name]) for name in SKILLS]
        rows.append([cell_name(found["cell"]), cell_name(found["control"]), *_seeds(study, found), *points])
    return rows


FURTHER = {
    "Zero-shot and retrieval, against the same control": skills_grid,
    "Text score on swaps withheld from training": withheld_grid,
    "Every cell": cells_grid,
    "L_SDS itself, on one batch": controls_grid,
}
"""A study's tables after the table of effects, in reading order."""


def further_grids(study: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """A study's further tables, by title."""
    return {title: rows for title, grid in FURTHER.items() if (rows := grid(study))}


def costs_grid(experiment: Mapping[str, Any], costs: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row per objective: its gain on the benchmark, and its cost."""
    studies = [experiment.get(name, {}) for name in ("tower", "confirm")]
    contrasts = [row for study in studies for row in study.get("contrasts", [])]
    gains = {row["cell"]: row for row in contrasts if row["control"].startswith("clip")}
    cells = {cell: found for study in studies for cell, found in study.get("cells", {}).items()}
    rows = [list(COST_HEAD)]
    for cell, cost in costs["cells"].items():
        found = cells.get(cell)
        level = f"{100 * found['text']:.1f}" if found else ""
        gain = points_words(gains[cell]) if cell in gains else ""
        spent = [f"{cost['step_seconds']:.3f}", f"{cost['run_seconds']:.0f}"]
        rows.append([cell, level, gain, *spent, f"{cost['forward']:,}", f"{cost['forward_and_back']:,}"])
    return rows


def as_markdown(grid: Grid) -> str:
    """The grid as a Markdown table, its first row the header."""
    head, *rows = grid
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def study_markdown(study: Mapping[str, Any]) -> str:
    """How much of a study has been run, and its tables."""
    if not study["seeds"]:
        return made_words(study)
    further = [f"{title}:\n\n{as_markdown(rows)}" for title, rows in further_grids(study).items()]
    effects = [as_markdown(contrasts_grid(study)), *([shared] if (shared := shared_words(study)) else [])]
    return "\n\n".join([made_words(study), *effects, *further])


def shared_words(study: Mapping[str, Any], mark: str = "*") -> str:
    """Which contrasts are not independent, as they read the same runs; empty if each has cells of its own.

    mark: stands on both sides of a cell's name.
    """
    cells = Counter(cell_name(row[side]) for row in study["contrasts"] for side in ("control", "cell"))
    shared = [f"{mark}{cell}{mark} ({times})" for cell, times in cells.items() if times > 1]
    if not shared:
        return ""
    return f"Contrasts that share a cell read the same runs, so they are not independent: {'; '.join(shared)}."


def _seeds_head(study: Mapping[str, Any]) -> list[str]:
    """The header of the seeds column, present if rows differ in their seeds."""
    return ["seeds"] if _is_uneven(study) else []


def _seeds(study: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [str(found["seeds"])] if _is_uneven(study) else []


def _is_uneven(study: Mapping[str, Any]) -> bool:
    """Whether some cells of an exploratory study have fewer seeds than others."""
    if not study.get("exploratory"):
        return False
    return any(cell["seeds"] != len(study["seeds"]) for cell in study["cells"].values())


def _skill_change(found: Mapping[str, Any]) -> str:
    """`-0.4 [-1.2, +0.4], non-inferior`."""
    said = {True: ", non-inferior", False: "", None: ", not assessed"}[found["kept"]]
    return points_words(found) + said
