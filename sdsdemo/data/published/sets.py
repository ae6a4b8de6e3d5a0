"""Parts and sizes of the published benchmarks, and how a copy differs from them. Reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sdsdemo.data.files.quoting import listed

SET = "set"
"""The tag that names the set."""
TRUE = "true captions"
"""The tag that says how many captions of an example are true (the first ones); 1 without it."""
RELATION, ATTRIBUTION = "VG-Relation", "VG-Attribution"
COCO_ORDER, FLICKR_ORDER = "COCO-Order", "Flickr30k-Order"
SUGARCREPE, SUGARCREPE_PP, MMVP, WHATSUP = "SugarCrepe", "SugarCrepe++", "MMVP-VLM", "What'sUp"
VALSE, EQBEN, NATURALBENCH = "VALSE", "EqBen", "NaturalBench-Retrieval"

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
    "sugarcrepe++": {
        "tag": {"replace_att": 788, "replace_obj": 1_652, "replace_rel": 1_406, "swap_att": 666, "swap_obj": 245}
    },
    "colorswap": {"": {"": 300}},
    "mmvp-vlm": {"": {"": 135}},
    "whatsup": {
        "collapsed_tag": {
            "Controlled A": 412,
            "Controlled B": 408,
            "COCO one object": 2_247,
            "COCO two objects": 440,
            "GQA one object": 1_160,
            "GQA two objects": 291,
        }
    },
    "valse": {
        "tag": {
            "existence": 505,
            "plurals": 851,
            "counting-hard": 868,
            "counting-small-quant": 900,
            "counting-adversarial": 691,
            "relations": 535,
            "action-replacement": 648,
            "actant-swap": 949,
            "coreference-standard": 708,
            "coreference-hard": 104,
            "foil-it": 943,
        }
    },
    "eqben": {
        "tag": {
            "eqbenag": 195_872,
            "eqbenyoucook2": 45_849,
            "eqbengebc": 1_814,
            "eqbenkubric_loc": 2_000,
            "eqbenkubric_attr": 2_000,
            "eqbenkubric_cnt": 2_000,
            "eqbensd": 1_513,
        }
    },
}
"""Benchmark -> kind of tag -> number of examples in the published set by tag; "" is all of them.

Counted in the published files: SugarCrepe, SugarCrepe++, VALSE (valid cases). From the authors' own text: EqBen,
MMVP-VLM, ColorSwap. What'sUp: the controlled parts are from a public count, the others from memory; the six add up to
the 4,958 images given by GSR-Bench (2406.13246).
"""
PARTS = {
    "aro": "collapsed_tag", "sugarcrepe": "tag", "sugarcrepe++": "tag", "whatsup": "collapsed_tag",
    "valse": "tag", "eqben": "tag",
}  # fmt: skip
"""The kind of tag that names exactly the parts of a set."""
NAMES_SAID = 5


def set_of(tags: Mapping[str, str]) -> str:
    """The published set that an example belongs to; ARO's parts count as sets of their own."""
    part = tags.get("collapsed_tag", "")
    return part if part in (RELATION, ATTRIBUTION, COCO_ORDER, FLICKR_ORDER) else tags.get(SET, "")


def differences(benchmark: str, tags: Sequence[Mapping[str, str]]) -> list[str]:
    """Differences from the published set, one sentence each: counts, missing parts, unknown parts.

    A tag may list several, separated by commas. benchmark: the prefix before the colon.
    """
    sentences: list[str] = []
    for kind, wanted in SIZES.get(benchmark, {}).items():
        parts = [part.strip() for own in tags for part in own.get(kind, "").split(",")]
        here = Counter(parts if kind else [""] * len(tags))
        sentences += [
            f"This copy has {_examples(here[tag])}{f' of {tag}' if tag else ''}; the published set has {n:,}."
            for tag, n in wanted.items()
            if here[tag] and here[tag] != n
        ]
        if kind == PARTS.get(benchmark):
            sentences += _parts_that_differ(wanted, [tag for tag in here if tag])
    return sentences


def _examples(count: int) -> str:
    return f"{count:,} example{'s' if count != 1 else ''}"


def _parts_that_differ(wanted: Mapping[str, int], here: Sequence[str]) -> Iterator[str]:
    lacking = [tag for tag in wanted if tag not in here]
    foreign = [tag for tag in here if tag not in wanted]
    if lacking:
        yield f"This copy lacks {listed(lacking, NAMES_SAID)}: the results cover only part of the published set."
    if foreign:
        yield f"The published set has no part called {listed(foreign, NAMES_SAID)}."
