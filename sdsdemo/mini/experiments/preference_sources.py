"""Two studies of `preference`: what is the diffusion teacher's, and where a preference is worth more than a label.

    weights                 hard negatives that count as 1, 3, 10 or 30 captions each. On the validation set: the weight
                            with the highest mean text score is the tuned one
    preference-controls-2   on the benchmark, stored as `sources`:
      better sibling        the preferences of `mini-clip-clean` in place of the diffusion model's
      weight W              the same runs as in `weights`; the tuned weight is chosen there, not here
      P % mislabelled       that share of the captions exchanged with their swaps, in L_CLIP too
      right R %             the diffusion model's preferences with answers reversed at random, drawn from the run's
                            seed, until they are right for R % of the swaps. As it answers it is right for 94 %, so for
                            95 % some wrong answers are reversed

Three bases, three seeds, LayerNorms. Without wrong labels, and with half of them wrong, `clip`, `labels` and
`preference` are those of earlier studies. Declared before their first runs.
"""

from __future__ import annotations

from dataclasses import replace

from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments.cells import LABELS, NORMS, PREFERENCE
from sdsdemo.mini.experiments.source_cells import HALF, NONE, QUARTER, RATES, SHARES, SIBLING, TENTH, right_at
from sdsdemo.mini.experiments.study import BASES, BENCHMARK, Study

TEACHING_CLIP = "mini-clip-clean"
WEIGHTS = (1, 3, 10, 30)
NEGATIVES = {f"negatives, weight {w}": replace(NORMS, objective="negatives", negative_weight=float(w)) for w in WEIGHTS}
NEGATIVE_WEIGHTS = Study(cells=NEGATIVES, bases=BASES, exploratory=True)
NEGATIVE_WEIGHT_CONTRASTS = tuple((cell, "negatives, weight 1") for cell in [*NEGATIVES][1:])

RIGHT = {right_at(rate): replace(PREFERENCE, teacher_right=rate / 100) for rate in RATES}
BETTER_SIBLING = {SIBLING: replace(PREFERENCE, teacher=TEACHING_CLIP)}
PLAIN = {"clip": NORMS, "labels": LABELS, "preference": PREFERENCE}
ADDED: dict[str, dict[str, Recipe]] = {
    NONE: BETTER_SIBLING | RIGHT | {cell: NEGATIVES[cell] for cell in [*NEGATIVES][1:]},
    TENTH: PLAIN,
    QUARTER: PLAIN | RIGHT,
    HALF: BETTER_SIBLING | RIGHT,
}
"""Share -> what no earlier study has trained with it. Cells of one share are neighbours: they share their pictures."""
SOURCES = Study(
    cells={
        f"{cell}{share}": replace(recipe, mislabelled=SHARES[share])
        for share, cells in ADDED.items()
        for cell, recipe in cells.items()
    },
    bases=BASES,
    measure=BENCHMARK,
)
SOURCE_CONTRASTS = (
    *((f"{SIBLING}{share}", f"clip{share}") for share in (NONE, HALF)),
    *((f"preference{share}", f"{SIBLING}{share}") for share in (NONE, HALF)),
    *(("preference", cell) for cell in [*NEGATIVES][1:]),
    *((f"preference{share}", f"{control}{share}") for share in (TENTH, QUARTER) for control in ("clip", "labels")),
    *(
        (f"{cell}{share}", f"{control}{share}")
        for share in (NONE, QUARTER, HALF)
        for cell in RIGHT
        for control in ("clip", "labels")
    ),
)
