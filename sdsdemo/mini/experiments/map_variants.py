"""The maps that are compared: signed maps, alone and weighted by attention, and their rivals. Scores nothing.

    signed               | d |, d = mean of e_b - e_a, where d passes at a false discovery rate of 5 %; zero elsewhere
    winner's side        | d | where d passes at 10 % and has the sign of its mean: where the winning caption wins
    error                mean of e_a, the error given the true caption
    another swap         the same maps of two captions that say nothing of the touched things
    attention            to the words in which A and B differ
    x attention          the map times attention
    edges, area, things  the picture's gradient; uniform; uniform on the cells of all four things

"All places" leaves out the mask. `things` is what a perfect detector of things would give; it is shown, not a rival.
"""

from __future__ import annotations

import numpy as np

from sdsdemo.core.maps import SignedMap, signed_map, winning_side
from sdsdemo.mini.experiments.map_scenes import MapScene, edge_cells, owner_cells
from sdsdemo.mini.experiments.map_scoring import Read

SIDE, ALL, TIMES = ", winner's side", ", all places", " x attention"
SIGNED, WINNER, WEIGHTED = "signed", f"signed{SIDE}", f"signed{SIDE}{TIMES}"
CANDIDATES = (SIGNED, WINNER, WEIGHTED)
"""The maps that may be shipped, the simplest first."""
DISTRACTORS, ABSENT = "distractors' swap", "absent swap"
PAIRS = {SIGNED: 0, DISTRACTORS: 2, ABSENT: 4}
"""Signed map -> the first of its two captions in `Read.error_CTNHW`."""
OTHER_SWAPS = tuple(f"{swap}{form}" for swap in (DISTRACTORS, ABSENT) for form in ("", SIDE, ALL))
UNWEIGHTED = ("error", *OTHER_SWAPS, "area", "edges", "attention")
"""What every candidate must beat, on both tests."""
TIMES_ATTENTION = ("error", f"{DISTRACTORS}{SIDE}", f"{ABSENT}{SIDE}", "edges", WINNER, f"{SIGNED}{ALL}")
"""Maps that are weighted too."""
WEIGHTED_RIVALS = tuple(f"{name}{TIMES}" for name in TIMES_ATTENTION[:4])
RIVALS = {SIGNED: UNWEIGHTED, WINNER: UNWEIGHTED, WEIGHTED: (*UNWEIGHTED, *WEIGHTED_RIVALS)}
"""Candidate -> what it must beat: a weighted one, what is weighted in the same way as well."""
SHOWN = (f"{SIGNED}{ALL}", f"{SIGNED}{ALL}{TIMES}", "things")
"""Neither candidates nor rivals."""
VARIANTS = (*CANDIDATES, *RIVALS[WEIGHTED], *SHOWN)


def maps_of(one: MapScene, read: Read, level: float, side_level: float) -> dict[str, np.ndarray]:
    """map_HW of every variant, at least 0. side_level: the false discovery rate of the winner's side."""
    side = read.attention_HW.shape[-1]
    found = {
        "error": read.error_CTNHW[0].mean(axis=(0, 1), dtype=np.float64),
        "attention": read.attention_HW,
        "edges": edge_cells(one.scene, side),
        "area": np.ones((side, side)),
        "things": (owner_cells(one.scene, side) >= 0).astype(float),
    }
    for name, first in PAIRS.items():
        strict, loose = (
            signed_map(read.error_CTNHW[first], read.error_CTNHW[first + 1], rate) for rate in (level, side_level)
        )
        found |= {f"{name}{ALL}": np.abs(strict.mean_HW), name: _shown(strict), f"{name}{SIDE}": winning_side(loose)}
    found |= {f"{name}{TIMES}": found[name] * read.attention_HW for name in TIMES_ATTENTION}
    return {name: found[name] for name in VARIANTS}


def _shown(signed: SignedMap) -> np.ndarray:
    shown_HW: np.ndarray = np.abs(signed.mean_HW) * signed.found_HW
    return shown_HW
