"""What the authors of a benchmark report of it: sizes, and averages that differ from plain accuracy. Reads nothing.

ARO VG-Relation      mean over relations, without the symmetric ones (Yuksekgonul et al. 2023, 2210.01936; the list is
                     that of their published evaluation)
ARO VG-Attribution   mean over pairs of attributes that have at least 25 cases
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RELATION, ATTRIBUTION = "VG-Relation", "VG-Attribution"
COCO_ORDER, FLICKR_ORDER = "COCO-Order", "Flickr30k-Order"
LEAST_CASES = 25
_SYMMETRIC = """
    adjusting; attached to; between; bigger than; biting; boarding; brushing; chewing; cleaning; climbing; close to;
    coming from; coming out of; contain; crossing; dragging; draped over; drinking; drinking from; driving;
    driving down; driving on; eating from; eating in; enclosing; exiting; facing; filled with; floating in;
    floating on; flying; flying above; flying in; flying over; flying through; full of; going down; going into;
    going through; grazing in; growing in; growing on; guiding; hanging from; hanging in; hanging off; hanging over;
    higher than; holding onto; hugging; in between; jumping off; jumping on; jumping over; kept in; larger than;
    leading; leaning over; leaving; licking; longer than; looking in; looking into; looking out; looking over;
    looking through; lying next to; lying on top of; making; mixed with; mounted on; moving; on the back of;
    on the edge of; on the front of; on the other side of; opening; painted on; parked at; parked beside; parked by;
    parked in; parked in front of; parked near; parked next to; perched on; petting; piled on; playing; playing in;
    playing on; playing with; pouring; reaching for; reading; reflected on; riding on; running in; running on;
    running through; seen through; sitting behind; sitting beside; sitting by; sitting in front of; sitting near;
    sitting next to; sitting under; skiing down; skiing on; sleeping in; sleeping on; smiling at; sniffing; splashing;
    sprinkled on; stacked on; standing against; standing around; standing behind; standing beside;
    standing in front of; standing near; standing next to; staring at; stuck in; surrounding; swimming in; swinging;
    talking to; topped with; touching; traveling down; traveling on; tying; typing on; underneath; wading in;
    waiting for; walking across; walking by; walking down; walking next to; walking through; working in; working on;
    worn on; wrapped around; wrapped in; by; of; near; next to; with; beside; on the side of; around
"""
SYMMETRIC = frozenset(" ".join(relation.split()) for relation in _SYMMETRIC.split(";"))

SIZES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "winoground": {
        "": {"": 400},
        "collapsed_tag": {"Relation": 233, "Object": 141, "Both": 26},
        "num_main_preds": {"1": 292, "2": 108},
        "secondary_tag": {"Symbolic": 41, "Series": 31, "Pragmatics": 24, "Morpheme-Level": 21},
        "category": {
            "Complex Reasoning": 78,
            "Unusual Image": 56,
            "Unusual Text": 50,
            "Ambiguously Correct": 46,
            "Visually Difficult": 38,
            "Non Minimal": 30,
        },
    },
    "aro": {"collapsed_tag": {RELATION: 23_937, ATTRIBUTION: 28_748, COCO_ORDER: 25_010, FLICKR_ORDER: 5_000}},
    "sugarcrepe": {
        "tag": {
            "add_att": 692,
            "add_obj": 2_062,
            "replace_att": 788,
            "replace_obj": 1_652,
            "replace_rel": 1_406,
            "swap_att": 666,
            "swap_obj": 245,
        }
    },
    "colorswap": {"": {"": 300}},
}
"""By benchmark and kind of tag, how many examples the published set has; "" is all of them."""


@dataclass(frozen=True, kw_only=True)
class _Rule:
    words: str
    keeps: Callable[[str, int], bool]
    """Whether a group counts, by its name and number of cases."""


RULES = {
    RELATION: _Rule(
        words="mean over relations that are not symmetric", keeps=lambda group, cases: group not in SYMMETRIC
    ),
    ATTRIBUTION: _Rule(
        words=f"mean over pairs of attributes with at least {LEAST_CASES} cases",
        keeps=lambda group, cases: cases >= LEAST_CASES,
    ),
}


def macro_averages(tags: Sequence[Mapping[str, str]], right_E: np.ndarray) -> dict[str, dict[str, Any]]:
    """The official averages of the sets that have one, each with its rule; nothing for other benchmarks."""
    found = {}
    for name, rule in RULES.items():
        cases: defaultdict[str, list[bool]] = defaultdict(list)
        for own, right in zip(tags, right_E, strict=True):
            if own.get("collapsed_tag") == name:
                cases[own.get("tag", "")].append(bool(right))
        kept = [np.mean(values) for group, values in cases.items() if rule.keeps(group, len(values))]
        if kept:
            found[name] = {"value": float(np.mean(kept)), "groups": len(kept), "of": len(cases), "rule": rule.words}
    return found


def size_notes(benchmark: str, tags: Sequence[Mapping[str, str]]) -> list[str]:
    """A sentence for each count that differs from the published one; a tag may be several with commas between."""
    notes = []
    for kind, wanted in SIZES.get(benchmark, {}).items():
        parts = [part.strip() for own in tags for part in own.get(kind, "").split(",")]
        here = Counter(parts if kind else [""] * len(tags))
        notes += [
            f"This copy has {here[tag]:,} examples{f' of {tag}' if tag else ''}; the published set has {n:,}."
            for tag, n in wanted.items()
            if here[tag] and here[tag] != n
        ]
    return notes
