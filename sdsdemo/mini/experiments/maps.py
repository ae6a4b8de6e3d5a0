"""Does the signed map point at the things that a swap touches, and does it predict what repainting them does?

Two tests on scenes of `map_scenes`, with the measures of `map_measures` and the maps of `map_variants`:

    place         the share of a map's mass on the two touched things
    intervention  each of the four things is repainted and scored again under the same noise: the rank correlation, over
                  the things of a scene, of the map's mass on a thing with the mean | change of loss(B) - loss(A) |

The correlation is taken within each scene, then averaged: scenes differ in the size of everything, ranks within a scene
do not, and every scene counts once, so that scenes are what is resampled. Declared before any test scene was scored:

    three candidates: the signed map of the page; its winner's side; the winner's side times attention
    a candidate passes if its mean is above that of every rival on both tests: its p is the largest of all these paired
    comparisons (bootstrap over scenes), 1 for one that it loses, and is Holm-corrected for three candidates
    the first that passes is shipped as "where A explains the picture better than B"; the weighted one only if it passes
    and beats the unweighted one on both tests; if none passes, the legend says "where the model errs, not why"

The scenes' own make, mask levels, layers and power of attention, and which maps to try besides the page's, were chosen
on scenes of another seed and split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.core.bootstrap import holm, nested_effect
from sdsdemo.core.maps import LEVEL
from sdsdemo.core.number_format import as_lists
from sdsdemo.data.mini.scenes import Split
from sdsdemo.mini.experiments.map_measures import mass_on_things, order_of_two, place, prediction
from sdsdemo.mini.experiments.map_scenes import THINGS, TOUCHED, MapScene, map_scene, owner_cells
from sdsdemo.mini.experiments.map_scoring import MapReader, Read
from sdsdemo.mini.experiments.map_variants import CANDIDATES, RIVALS, SIGNED, VARIANTS, WEIGHTED, WINNER, maps_of
from sdsdemo.mini.experiments.shapes import MapLine
from sdsdemo.mini.experiments.study_store import Lines
from sdsdemo.models import open_scorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.runtime.files import write_json
from sdsdemo.runtime.shipped import shipped_lines
from sdsdemo.settings import NOISES, TIMESTEPS, budget


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What was fixed before the test scenes were scored."""

    model: str = "mini-diffusion"
    split: Split = "benchmark"
    seed: int = 41_001
    """Of the scenes; used nowhere else."""
    noise_seed: int = 42_001
    """Of the noise of scene 0; each scene has the next."""
    scenes: int = 400
    timesteps: int = TIMESTEPS.default
    noises: int = NOISES.default
    level: float = LEVEL
    """False discovery rate of the page's mask."""
    side_level: float = 0.1
    """That of the winner's side; chosen from 5, 10, 20, 30 and 50 %."""


TEST = Declared()
VALIDATION = replace(TEST, split="validation", seed=771_001, noise_seed=772_000, scenes=200)
"""Where everything that could be chosen was chosen."""
MEASURES = ("place", "prediction")
DIGITS = 5


# ----------------------------------------------------------------------------------------------------- running


def run_maps(
    path: Path,
    progress: Callable[[str], None],
    workbench: Any,
    part: tuple[int, int] = (0, 1),
    declared: Declared = TEST,
) -> None:
    """Add a line for every scene that has none in `path`. part: (k, n) takes every n-th scene from the k-th on."""
    lines = Lines(path)
    reader = reader_of(declared, workbench)
    for number in range(part[0], declared.scenes, part[1]):
        if lines.has("scene", number):
            continue
        lines.add(scene_line(reader, declared, number))
        progress(f"maps: scene {number + 1} of {declared.scenes}")


def reader_of(declared: Declared, workbench: Any) -> MapReader:
    """The study's model on the CPU, so that its figures are the same everywhere."""
    scorer = open_scorer(workbench.card(declared.model), device="cpu")
    assert isinstance(scorer, DiffusionScorer)
    return MapReader(scorer.model, scorer.card.timestep_range)


def scene_line(reader: MapReader, declared: Declared, number: int) -> dict[str, Any]:
    """Everything that is stored about a scene."""
    one = map_scene(declared.seed, declared.split, number)
    spend = budget(declared.timesteps, declared.noises, declared.noise_seed + number, antithetic=False)
    return {
        "scene": number,
        "kind": f"{one.scene.family}, {one.kind}",
        **measured(one, reader.read(one, spend), declared),
    }


def measured(one: MapScene, read: Read, declared: Declared) -> dict[str, Any]:
    """Each map's mass on each thing, what each repaint changed, and the difference of the losses of B and A."""
    maps = maps_of(one, read, declared.level, declared.side_level)
    owner_HW = owner_cells(one.scene, read.attention_HW.shape[-1])
    loss_C = read.error_CTNHW.mean(axis=(1, 2, 3, 4), dtype=np.float64)
    return {
        "difference": float(f"{loss_C[1] - loss_C[0]:.{DIGITS}g}"),
        "change": as_lists(read.change_KR, DIGITS),
        "mass": {name: as_lists(mass_on_things(map_HW, owner_HW, THINGS), DIGITS) for name, map_HW in maps.items()},
        "empty": [name for name, map_HW in maps.items() if not map_HW.any()],
    }


# ---------------------------------------------------------------------------------------------------- findings


def write_findings(lines: Path) -> Path:
    """Write the figures computed from a file of lines beside it, as `.json`."""
    path = lines.with_suffix(".json")
    write_json(path, findings(read_lines(lines)))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines, by scene. Raises `UserError` for a damaged line."""
    return sorted(shipped_lines(path, MapLine), key=lambda row: row["scene"])


def findings(rows: Sequence[Mapping[str, Any]], declared: Declared = TEST) -> dict[str, Any]:
    """Every figure that is shown, ready for JSON: levels, differences from the rivals, and what passes."""
    value = {measure: _values(rows, measure) for measure in (*MEASURES, "order")}
    contrasts = {name: _against(value, name, rivals) for name, rivals in RIVALS.items()}
    p = holm({name: max(_p(row[test]) for row in rows for test in MEASURES) for name, rows in contrasts.items()})
    return {
        "declared": asdict(declared),
        "n": len(rows),
        "right": float(np.mean([row["difference"] > 0 for row in rows])),
        "change": _changes(rows),
        "empty": {name: sum(name in row["empty"] for row in rows) for name in VARIANTS},
        "levels": {name: {m: _level(by[name]) for m, by in value.items()} for name in VARIANTS},
        "kinds": _kinds(rows, value),
        "contrasts": [row for rows in contrasts.values() for row in rows],
        "weighted": _against(value, WEIGHTED, [WINNER, SIGNED]),
        "p": {name: round(value, 4) for name, value in p.items()},
        "passed": [name for name in CANDIDATES if p[name] < 0.05],
    }


def _against(value: Mapping[str, Mapping[str, np.ndarray]], name: str, rivals: Sequence[str]) -> list[dict[str, Any]]:
    """A map's paired difference from each rival, on each test."""
    return [
        {"map": name, "rival": rival, **{test: _effect(value[test][name] - value[test][rival]) for test in MEASURES}}
        for rival in rivals
    ]


def _p(effect: Mapping[str, float]) -> float:
    """Of a difference that has to be above zero."""
    return effect["p"] if effect["value"] > 0 else 1.0


def _values(rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, np.ndarray]:
    """value_E of each map: one number per scene."""
    return {name: np.array([_value(row, name, measure) for row in rows]) for name in VARIANTS}


def _value(row: Mapping[str, Any], name: str, measure: str) -> float:
    mass_K, change_K = np.array(row["mass"][name]), np.abs(row["change"]).mean(axis=1)
    if measure == "place":
        return place(mass_K, TOUCHED)
    if measure == "order":
        return order_of_two(mass_K[:TOUCHED], change_K[:TOUCHED])
    return prediction(mass_K, change_K)


def _effect(value_E: np.ndarray) -> dict[str, float]:
    """Mean over scenes with its 95 % interval, and the p of "it is zero", by bootstrap over scenes."""
    effect = nested_effect(value_E[None, None])
    return {key: round(getattr(effect, key), 4) for key in ("value", "low", "high", "p")}


def _level(value_E: np.ndarray) -> dict[str, float]:
    """The same without p: a level need not be compared with zero."""
    return {key: value for key, value in _effect(value_E).items() if key != "p"}


def _changes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean | change | by a repaint of a touched thing, and of a distractor."""
    change_EK = np.abs([row["change"] for row in rows]).mean(axis=2)
    parts = {"touched": change_EK[:, :TOUCHED], "distractors": change_EK[:, TOUCHED:]}
    return {name: float(f"{part.mean():.3g}") for name, part in parts.items()}


def _kinds(
    rows: Sequence[Mapping[str, Any]], value: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, Any]]:
    """Levels of the candidates by kind of scene and swap."""
    kind_E = np.array([row["kind"] for row in rows])
    return {
        str(kind): {"n": int((kind_E == kind).sum())}
        | {name: {m: _level(value[m][name][kind_E == kind]) for m in MEASURES} for name in CANDIDATES}
        for kind in dict.fromkeys(kind_E)
    }
