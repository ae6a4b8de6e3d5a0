"""What the experiment's figures do not cover, in sentences for the documents and the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sdsdemo.core.bases import over_bases
from sdsdemo.core.intervals import Change, change_of
from sdsdemo.core.number_format import points_words, signed
from sdsdemo.core.wording import and_list
from sdsdemo.evaluation.result_schema import Pair
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import ASSETS

LESSON = (
    "Much of the diffusion score's lead over CLIP comes from its text encoder, which was pretrained on text alone to "
    "tell which object has which position and colour (“the lesson”). With the same pictures and sentences (3 seeds, "
    "n = 400), the lesson raises the text score of diffusion models by +34.7 [+27.9, +42.0] points. Relative to a CLIP "
    "with the same lesson, they score +10.5 [+6.3, +14.6] points on text and -6.2 [-11.0, -1.6] on image; when neither "
    "has had the lesson, +38.5 [+30.5, +46.1] and +11.6 [+6.5, +16.2]."
)
"""Shown wherever the scores of Mini CLIP and Mini diffusion appear together."""
WITHOUT_LABELS = (
    "Pretrained on captioned pictures instead, without labels, one diffusion model reached a text score of 85.0 "
    "[81, 88] where the lesson gives 87.8 [84, 91], and an image score lower by 8.0 points [4.7, 11.2]."
)
"""What can be had instead of the lesson; said where there is room."""
TAUGHT_CLIP = (
    "mini-clip-lesson took the lesson of the diffusion model's text encoder, a parse of the sentence that no real CLIP "
    "is given; its text tower is also larger than those of the other CLIPs."
)
"""Shown where that model is held against the other CLIPs."""
STUDENT, STUDENT_CONTROL = "mini-sds-clip", "mini-clip-control"
RESULTS = ASSETS / "mini" / "results"
MAP_WINS = "Where A explains the picture better than B (blue), or B better than A (orange)."
MAP_ERRS = "Where the model errs less given A (blue) or given B (orange), not why."
MAP_LEGEND = MAP_ERRS
"""Shown beside the signed map. No map that was tried passed both tests of docs/mini.md, section 7."""
CHOSEN_ON = 500
"""Retrieval examples used to choose settings: the first of the larger set, whose others are reported."""
GENERAL = (
    ("confirm", "sds", "clip", "the paper's L_SDS against L_CLIP alone"),
    ("confirm", "preference", "clip", "preference against L_CLIP alone"),
    ("confirm", "preference, every parameter", "clip, every parameter", "preference with every parameter"),
    ("return", "preference, every parameter, WiSE-FT", "clip, every parameter, WiSE-FT", "that with WiSE-FT"),
)
"""Study, cell, control and name of the effects that are generalised to other bases."""
TEN_BASES = (
    ("sds", "clip", "the paper's L_SDS", "the paper's L_SDS"),
    ("sds", "sds, shuffled", "that term relative to other images' captions", ""),
    ("sds at 10", "clip", "L_SDS with lambda 10", "L_SDS with lambda 10"),
    ("preference", "clip", "the teacher's preference", "the teacher's preference"),
    (
        "preference, every parameter, WiSE-FT",
        "clip, every parameter, WiSE-FT",
        "that preference with every parameter (WiSE-FT, relative to L_CLIP with the same)",
        "the teacher's preference with every parameter (WiSE-FT)",
    ),
    ("labels", "clip", "true labels", "true labels"),
)
"""Cell, control, name in a list, and name on its own (empty if it is no objective against its control) of the effects
over ten bases that are put into words."""
TOWERS = ("both", "image")
"""The gate's towers, as stored."""
NAMED = 3
"""Bases that a sentence names; of more, it says how many."""


def limits(experiment: Mapping[str, Any]) -> list[str]:
    """What the intervals do not cover, one sentence or two each."""
    gate = {} if has_all_bases(experiment.get("ten-bases", {})) else experiment.get("gate", {})
    said = [bases_words(experiment), _gate_words(gate), _chosen_words(experiment)]
    return [part for part in (*said, shipped_student_words()) if part]


class _Compared(TypedDict):
    """A stored result, as far as two of its models are compared."""

    paired: list[Pair]


@cache
def shipped_student_words(results: Path = RESULTS) -> str:
    """How the shipped student differs from its control, by a folder's stored results; empty without fresh benchmarks.

    Image score on all benchmarks fresh-SEED.json together, retrieval by mini-retrieval.json. Raises `UserError` for a
    damaged file.
    """
    fresh = sorted(results.glob("fresh-*.json"))
    if not fresh:
        return ""
    image = _stored_change("image", fresh)
    retrieval = _stored_change("accuracy", [results / "mini-retrieval.json"])
    seeds = and_list([path.stem.removeprefix("fresh-") for path in fresh])
    return (
        f"The shipped {STUDENT} is not a run of the study: its lambda is 10, the study's is 1. Relative to "
        f"{STUDENT_CONTROL}, its image score changes by {points_words(asdict(image))} points on {image.n:,} fresh "
        f"pairs of pairs (seeds {seeds}), and its retrieval by {points_words(asdict(retrieval))} on {retrieval.n:,} "
        f"examples."
    )


def _stored_change(metric: str, files: Sequence[Path]) -> Change:
    """From the control to the student, over the examples of all these results."""
    gained = lost = n = 0
    for path in files:
        compared: _Compared = shipped(path, _Compared)
        for pair in compared["paired"]:
            if pair["metric"] == metric and {pair["a"], pair["b"]} == {STUDENT, STUDENT_CONTROL}:
                alone = {pair["a"]: pair["only_a"], pair["b"]: pair["only_b"]}
                gained, lost = gained + alone[STUDENT], lost + alone[STUDENT_CONTROL]
                n += pair["both"] + pair["only_a"] + pair["only_b"] + pair["neither"]
    return change_of(gained, lost, n)


def has_all_bases(study: Mapping[str, Any]) -> bool:
    """Whether every declared base is done with a seed or more: the unit of its intervals is the base."""
    return bool(study.get("seeds")) and len(study["bases"]) == study["declared"]["bases"]


def seeds_each(study: Mapping[str, Any]) -> str:
    """`one seed each of 2 declared`."""
    seeds, declared = len(study["seeds"]), study["declared"]["seeds"]
    each = "one seed each" if seeds == 1 else f"{seeds} seeds each"
    return each if seeds == declared else f"{each} of {declared} declared"


def map_legend(passed: Collection[str]) -> str:
    """What may be said of the signed map. passed: the maps that passed the study in `mini.experiments.maps`."""
    return MAP_WINS if passed else MAP_ERRS


def lesson_words(models: Collection[str]) -> str:
    """The sentence that belongs beside the scores of these models; empty where they do not show the lead."""
    return LESSON if {"mini-clip", "mini-diffusion"} <= set(models) else ""


def bases_words(experiment: Mapping[str, Any]) -> str:
    """What the intervals resample, and how wide they are for bases in general."""
    bases = len(experiment["confirm"]["bases"])
    said, general = "The intervals resample bases, seeds and examples", bases_in_general(experiment)
    return f"{said}, and are about these {bases} bases only. {general}" if general else f"{said}."


def bases_in_general(experiment: Mapping[str, Any]) -> str:
    """The intervals for bases in general: those over ten bases once all are done; empty for a single base."""
    if has_all_bases(ten := experiment.get("ten-bases", {})):
        return _ten_words(ten)
    bases = len(experiment["confirm"]["bases"])
    ranges = []
    for study, cell, control, called in GENERAL:
        for row in experiment.get(study, {}).get("contrasts", []):
            if (row["cell"], row["control"]) == (cell, control) and len(row["by_base"]) > 1:
                low, high = over_bases(row["by_base"])
                ranges.append(f"{signed(low)} to {signed(high)} for {called}")
    if not ranges:
        return ""
    return (
        f"For bases in general, by Student's t on the means of {bases} bases ({bases - 1} degrees of freedom), the "
        f"intervals are {', '.join(ranges)}."
    )


def one_recipe_words(study: Mapping[str, Any]) -> str:
    """What ten bases leave open: they are alike, and some are hard to move."""
    bases = len(study["bases"])
    return (
        f"The {bases} bases differ only in their seed, not in network or training data. "
        f"{_ten_gate_words(study['gate'], bases)}"
    )


def _ten_words(study: Mapping[str, Any]) -> str:
    """The effects on bases in general, which objectives gain, and which bases fail the gate."""
    found = {(row["cell"], row["control"]): row for row in study["contrasts"]}
    bases = len(study["bases"])
    effects = and_list([f"{points_words(found[cell, of])} for {called}" for cell, of, called, _ in TEN_BASES])
    return (
        f"For bases in general, {bases} bases were fine-tuned with {seeds_each(study)}. They differ only in their "
        f"seed, not in network or training data. By Student's t on their means ({bases - 1} degrees of freedom), and "
        f"relative to L_CLIP alone unless said otherwise, the text score changes by {effects}. {_gains_words(found)} "
        f"{_ten_gate_words(study['gate'], bases)}"
    )


def _gains_words(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Which objectives gain as much as is asked, and which of these are shown to keep the skills."""
    alone = {(cell, of): name for cell, of, _, name in TEN_BASES if name}
    gained = [pair for pair in alone if found[pair]["gains"]]
    if not gained:
        return "No objective gains 8 points or more with its interval above zero."
    kept = [alone[pair] for pair in gained if all(skill["kept"] for skill in found[pair]["skills"].values())]
    if len(kept) == len(gained) > 1:
        also = "all of these are"
    elif kept:
        also = f"of these, {and_list(kept)} {'is' if len(kept) == 1 and kept != ['true labels'] else 'are'}"
    else:
        also = "of these, none is"
    return (
        f"A gain of 8 points or more, with its interval above zero, is reached by "
        f"{and_list([alone[pair] for pair in gained])}; {also} also shown to keep zero-shot and retrieval "
        f"(non-inferior by the same interval)."
    )


def _ten_gate_words(gate: Mapping[str, Any], bases: int) -> str:
    """On how many bases true labels gain too little, and what that leaves open."""
    failed = {towers: [b for b, gain in gate[towers].items() if gain["value"] < gate["least"]] for towers in TOWERS}
    both, image = (_counted_bases(failed[towers], bases) for towers in TOWERS)
    least = f"{100 * gate['least']:.0f}"
    said = (
        f"True labels gain less than {least} points with both towers on {both}, with the image tower alone on {image}"
    )
    if not any(failed.values()):
        return f"{said}."
    return f"{said}: there, the absence of a gain from L_SDS may only mean that the base is hard to move."


def _counted_bases(names: Sequence[str], bases: int) -> str:
    """The names, or how many they are."""
    if not names:
        return "none"
    return and_list(names) if len(names) <= NAMED else f"{'all' if len(names) == bases else len(names)} of the {bases}"


def _gate_words(gate: Mapping[str, Any]) -> str:
    """How far true labels move each base, and which moves too little; empty before that was run."""
    if not gate:
        return ""
    least, by_base = gate["least"], gate["by_base"]
    moved = ", ".join(f"{points_words(found)} for {base}" for base, found in by_base.items())
    failed = [base for base, found in by_base.items() if found["value"] < least]
    asked = (
        f"Before the paper's term is judged on a base, training on which caption is true must gain "
        f"{100 * least:.0f} points there. Against L_CLIP alone the gain is {moved}"
    )
    if not failed:
        return f"{asked}: all pass."
    return (
        f"{asked}: {' and '.join(failed)} failed, so the absence of a gain there may only mean that it is hard to move."
    )


def _chosen_words(experiment: Mapping[str, Any]) -> str:
    """On which retrieval examples settings were chosen, and which studies report these; empty before the study."""
    sizes: dict[str, set[int]] = {}
    for name, study in experiment.items():
        if isinstance(study, Mapping) and study.get("benchmark", "mini") == "mini":
            sizes[name] = {row["skills"]["retrieval"]["n"] for row in study.get("contrasts", ()) if row["skills"]}
    confirmed = sizes.get("confirm", set())
    if len(confirmed) != 1 or min(confirmed) < CHOSEN_ON:
        return ""
    chosen = f"The learning rate and the WiSE-FT weight were also chosen on {CHOSEN_ON} retrieval examples"
    (size,) = confirmed
    if size == CHOSEN_ON:
        return f"{chosen}, which are those reported."
    others = f"{chosen}; retrieval is reported on {size:,} others"
    same = any(CHOSEN_ON in of for of in sizes.values())
    return f"{others}; where n = {CHOSEN_ON}, it is reported on those {CHOSEN_ON} themselves." if same else f"{others}."
