"""The declared studies of the Mini experiment, their cells, and which cell is compared with which.

Declared before the benchmark was scored; every choice was made on the validation set. The cells of a study differ only
in what their names say: pictures, captions, swaps, steps, batches and seeds are shared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sdsdemo.errors import UserError
from sdsdemo.mini.experiments.cells import EVERYTHING, GENTLY, NORMS, PREFERENCE_LAMBDA, SDS_LAMBDA, SHARPNESS
from sdsdemo.mini.experiments.channel import CHANNEL, CHANNEL_CONTRASTS
from sdsdemo.mini.experiments.preference_sources import (
    NEGATIVE_WEIGHT_CONTRASTS,
    NEGATIVE_WEIGHTS,
    SOURCE_CONTRASTS,
    SOURCES,
)
from sdsdemo.mini.experiments.study import BASES, BENCHMARK, Study
from sdsdemo.mini.experiments.tables import TEN
from sdsdemo.mini.models.clip import FURTHER

CONTROL = Study(
    cells={
        "clip": NORMS,
        "labels": replace(NORMS, objective="labels", lam=3.0),
        "clip, text frozen": replace(NORMS, towers="image"),
        "labels, text frozen": replace(NORMS, objective="labels", lam=3.0, towers="image"),
        "clip, all": EVERYTHING,
        "labels, all": replace(EVERYTHING, objective="labels", lam=3.0),
    },
)
"""The positive control: can training these parameters on true labels move this base at all?"""
LEAST_GAIN = 0.06
"""Minimum gain from true labels for L_SDS to be judged on a base."""
CONTROLS = {
    "labels": "clip",
    "labels, text frozen": "clip, text frozen",
    "labels, all": "clip, all",
}
"""Cell -> its control."""

SCREEN = Study(
    cells={
        "clip": NORMS,
        **{f"sds {lam:g}": replace(NORMS, objective="sds", lam=lam) for lam in (0.1, 1.0, 10.0, 100.0)},
        "negatives": replace(NORMS, objective="negatives"),
        **{
            f"preference {lam:g}, sharpness {sharpness:g}": replace(
                NORMS, objective="preference", lam=lam, sharpness=sharpness
            )
            for lam, sharpness in ((3.0, 4.0), (3.0, 1.0), (10.0, 4.0))
        },
        "preference 3, permuted": replace(NORMS, objective="preference", lam=3.0, sharpness=4.0, permuted=True),
        "sds 10, shuffled": replace(NORMS, objective="sds", lam=10.0, shuffled=True),
        "sds 10, no Jacobian": replace(NORMS, objective="sds", lam=10.0, jacobian=False),
        "sds 10, h_w at random": replace(NORMS, objective="sds", lam=10.0, h_w="default"),
        "sds 10, h_w of unit variance": replace(NORMS, objective="sds", lam=10.0, h_w_unit=True),
        "sds 10, 3,000 steps": replace(NORMS, objective="sds", lam=10.0, steps=3_000, measure_every=3_000),
        "clip, 3,000 steps": replace(NORMS, steps=3_000, measure_every=3_000),
        "clip, all": EVERYTHING,
        "sds 10, all": replace(EVERYTHING, objective="sds", lam=10.0),
        "preference 3, all": replace(EVERYTHING, objective="preference", lam=3.0, sharpness=4.0),
        "clip, all at 3e-4": GENTLY,
        "preference 3, all at 3e-4": replace(GENTLY, objective="preference", lam=3.0, sharpness=4.0),
        "clip, image frozen": replace(NORMS, towers="text"),
        "preference 3, image frozen": replace(NORMS, objective="preference", lam=3.0, sharpness=4.0, towers="text"),
        "features 1": replace(NORMS, objective="features", lam=1.0),
    },
    exploratory=True,
)
"""Hyperparameters of L_SDS and `preference`, screened on the validation set with one base."""
SCREENED = {
    "sds 10, 3,000 steps": "clip, 3,000 steps",
    "sds 10, all": "clip, all",
    "preference 3, all": "clip, all",
    "preference 3, all at 3e-4": "clip, all at 3e-4",
    "preference 3, image frozen": "clip, image frozen",
}
"""Cell -> its control, where that is not `clip`."""

CONFIRM = Study(
    cells={
        "clip": NORMS,
        "sds": replace(NORMS, objective="sds", lam=SDS_LAMBDA),
        "sds, shuffled": replace(NORMS, objective="sds", lam=SDS_LAMBDA, shuffled=True),
        "negatives": replace(NORMS, objective="negatives"),
        "preference": replace(NORMS, objective="preference", lam=PREFERENCE_LAMBDA, sharpness=SHARPNESS),
        "clip, every parameter": GENTLY,
        "preference, every parameter": replace(
            GENTLY, objective="preference", lam=PREFERENCE_LAMBDA, sharpness=SHARPNESS
        ),
    },
    bases=BASES,
    seeds=(0, 1, 2, 3, 4),
    measure=BENCHMARK,
    larger=True,
)
"""Five objectives that train LayerNorms; the control and the most helpful one again with every parameter. The benchmark
is scored once for each final model."""
CONTRASTS = (
    ("sds", "clip"),
    ("sds", "sds, shuffled"),
    ("negatives", "clip"),
    ("preference", "clip"),
    ("preference", "negatives"),
    ("preference, every parameter", "clip, every parameter"),
)
"""(treated, control), Holm-corrected for multiple comparisons."""
WISE_FT = 0.7
"""Chosen from 0.5, 0.6, 0.7 and 0.8 on the validation set: less costs text score, more costs retrieval on one base."""
RETURN = Study(
    cells={
        f"{cell}, WiSE-FT": replace(CONFIRM.cells[cell], wise_ft=WISE_FT)
        for cell in ("clip, every parameter", "preference, every parameter")
    },
    bases=BASES,
    seeds=CONFIRM.seeds,
    measure=BENCHMARK,
    larger=True,
)
"""Declared after the confirmation, where training every parameter gained most but retrieval was not shown to be
non-inferior: the same two cells, with their weights interpolated with the base's."""
WISE_FT_CONTRASTS = (("preference, every parameter, WiSE-FT", "clip, every parameter, WiSE-FT"),)
ALONE = ("text tower alone", "text tower alone, every parameter")
TOWER = Study(
    cells={
        f"{objective}, {what}": replace(CONFIRM.cells[f"{objective}{every}"], towers="text")
        for what, every in zip(ALONE, ("", ", every parameter"), strict=True)
        for objective in ("clip", "preference")
    },
    bases=BASES,
    measure=BENCHMARK,
    larger=True,
)
"""Declared after the confirmation: its settings with the image tower frozen. Image features are computed once, so a
step costs about a tenth of a step of L_SDS. No setting was tuned for it."""
TOWER_CONTRASTS = tuple((f"preference, {what}", f"clip, {what}") for what in ALONE)
PREFERENCE_CONTROLS = Study(
    cells={
        "labels": replace(CONFIRM.cells["preference"], objective="labels"),
        "preference, permuted": replace(CONFIRM.cells["preference"], permuted=True),
        "preference, sides by lot": replace(CONFIRM.cells["preference"], unordered=True),
    },
    bases=BASES,
    measure=BENCHMARK,
)
"""Declared after the first permuted run of the screen gained nearly as much as `preference`. How much is due to the
teacher's judgement of each pair, how much to preferring the true caption at all, and how much to the loss? Stored as
`dealt`."""
CONTROL_CONTRASTS = (
    ("preference", "preference, permuted"),
    ("preference", "labels"),
    ("preference, permuted", "clip"),
    ("preference, sides by lot", "clip"),
)
HALF = "half mislabelled"
MISLABELLED = Study(
    cells={
        f"{cell}, {HALF}": replace(recipe, mislabelled=0.5)
        for cell, recipe in {
            "clip": CONFIRM.cells["clip"],
            "labels": PREFERENCE_CONTROLS.cells["labels"],
            "preference": CONFIRM.cells["preference"],
            "preference, permuted": PREFERENCE_CONTROLS.cells["preference, permuted"],
        }.items()
    },
    bases=BASES,
    measure=BENCHMARK,
)
"""Declared after `PREFERENCE_CONTROLS`, where every label was true and the teacher's judgement of each pair added
nothing. Here half of the labels are false, for L_CLIP too, and no objective knows which."""
MISLABELLED_CONTRASTS = (
    *((f"preference, {HALF}", f"{control}, {HALF}") for control in ("clip", "labels", "preference, permuted")),
    (f"preference, {HALF}", "preference"),
)
BETTER_TEACHER = "mini-diffusion"
BETTER = Study(
    cells={
        f"{cell}, better teacher": replace(recipe, teacher=BETTER_TEACHER)
        for cell, recipe in {
            "sds": CONFIRM.cells["sds"],
            "preference": CONFIRM.cells["preference"],
            f"preference, {HALF}": MISLABELLED.cells[f"preference, {HALF}"],
        }.items()
    },
    bases=BASES,
    measure=BENCHMARK,
)
"""Declared after longer training produced a better teacher and `mini-sds-clip` was trained with it: does that teacher
change the effect of the paper's term, or of the preferences?"""
BETTER_CONTRASTS = (
    ("sds, better teacher", "clip"),
    ("preference, better teacher", "preference"),
    (f"preference, {HALF}, better teacher", f"preference, {HALF}"),
)
TEN_BASES = Study(
    cells={
        "clip": CONFIRM.cells["clip"],
        "sds": CONFIRM.cells["sds"],
        "sds, shuffled": CONFIRM.cells["sds, shuffled"],
        "sds at 10": replace(CONFIRM.cells["sds"], lam=10.0),
        "sds at 10, shuffled": replace(CONFIRM.cells["sds, shuffled"], lam=10.0),
        "preference": CONFIRM.cells["preference"],
        "labels": PREFERENCE_CONTROLS.cells["labels"],
        "clip, image tower alone": replace(CONFIRM.cells["clip"], towers="image"),
        "labels, image tower alone": replace(PREFERENCE_CONTROLS.cells["labels"], towers="image"),
        **RETURN.cells,
    },
    bases=(*BASES, *FURTHER),
    seeds=(0, 1),
    measure=BENCHMARK,
    larger=True,
    beside=("confirm", "return"),
)
"""Declared after the confirmation, whose three bases are no sample of bases. Three of the ten are those, on which
settings were chosen; seven were never trained before. The unit is the base: an effect is the mean over bases of a
base's mean over seeds and examples. The cells of `RETURN`, which gained most there, were added before the first run.

The primary interval is Student's t on the base means with `bases - 1` degrees of freedom: for bases in general. Beside
it stands the interval within these bases, which resamples seeds and examples. An objective gains if its effect is at
least ASKED_GAIN and its primary interval is above zero; it preserves a skill if the primary interval of the change
relative to its control is above minus the non-inferiority margin."""
ASKED_GAIN = 0.08
"""Gain in text score over ten bases that is asked of an objective."""
TEN_CONTRASTS = (
    ("sds", "clip"),
    ("sds", "sds, shuffled"),
    ("sds at 10", "clip"),
    ("sds at 10", "sds at 10, shuffled"),
    ("preference", "clip"),
    ("preference", "labels"),
    ("labels", "clip"),
    ("labels, image tower alone", "clip, image tower alone"),
    *WISE_FT_CONTRASTS,
)
GATES = {"both": ("labels", "clip"), "image": ("labels, image tower alone", "clip, image tower alone")}
"""Towers -> the contrast that must gain LEAST_GAIN on a base before L_SDS is judged there; that reaches the image tower
alone."""
STUDY_ALIASES = {
    "bases": TEN,
    "preference-controls": "dealt",
    "preference_controls": "dealt",
    "preference-controls-2": "sources",
    "wise-ft": "return",
}
"""Name on the command line -> stored name."""
STUDIES = {
    "control": CONTROL,
    "screen": SCREEN,
    "confirm": CONFIRM,
    "return": RETURN,
    "tower": TOWER,
    "dealt": PREFERENCE_CONTROLS,
    "mislabelled": MISLABELLED,
    "better": BETTER,
    "channel": CHANNEL,
    "weights": NEGATIVE_WEIGHTS,
    "sources": SOURCES,
    TEN: TEN_BASES,
}
BESIDE = {
    "dealt": ("confirm",),
    "mislabelled": ("confirm",),
    "better": ("confirm", "mislabelled"),
    "sources": ("confirm", "dealt", "mislabelled"),
    TEN: TEN_BASES.beside,
}
"""Study -> other studies whose cells its contrasts use, at the same bases and seeds."""
DECLARED = {
    "confirm": CONTRASTS,
    "return": WISE_FT_CONTRASTS,
    "tower": TOWER_CONTRASTS,
    "dealt": CONTROL_CONTRASTS,
    "mislabelled": MISLABELLED_CONTRASTS,
    "better": BETTER_CONTRASTS,
    "channel": CHANNEL_CONTRASTS,
    "weights": NEGATIVE_WEIGHT_CONTRASTS,
    "sources": SOURCE_CONTRASTS,
    TEN: TEN_CONTRASTS,
}
"""Contrasts of the studies other than `control` and `screen`."""


def check_studies(names: Sequence[str]) -> None:
    """Raises `UserError` for a name that no study is stored under."""
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        also = [name for name in STUDY_ALIASES if "_" not in name]
        known = ", ".join((*STUDIES, *also))
        raise UserError(f"There is no study called '{unknown[0]}'. Choose from: {known}; or all.")


def study_commands(name: str) -> dict[str, str]:
    """By cell of a study: the `finetune` command that makes its run of the first base with seed 0.

    Raises `UserError` for an unknown study.
    """
    check_studies([name])
    study = STUDIES[name]
    ours = {cell: replace(recipe, base=study.bases[0], seed=0) for cell, recipe in study.cells.items()}
    return {cell: recipe.command(f"runs/{_as_folder(name, cell)}") for cell, recipe in ours.items()}


def _as_folder(*words: str) -> str:
    """A name of a folder that needs no quotes in a shell."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
