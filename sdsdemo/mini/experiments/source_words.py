"""What the study `sources` shows, in sentences: whose preferences teach, and what they are worth beside wrong labels.

Empty until the study has been run. Computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.core.number_format import points_words
from sdsdemo.core.wording import and_list, count_of
from sdsdemo.mini.experiments.effects import effects, side
from sdsdemo.mini.experiments.source_cells import HALF, NONE, RATES, SHARES, SIBLING, right_at


def teacher_words(experiment: Mapping[str, Any]) -> str:
    """What is the diffusion teacher's own, and what hard negatives with a tuned weight do."""
    found, weights = effects(experiment, ("sources",)), experiment.get("weights", {}).get("cells")
    if not found or not weights:
        return ""
    tuned = max(weights, key=lambda cell: weights[cell]["text"])
    return (
        f"With a CLIP that was trained on full sentences (mini-clip-clean) as the teacher, preference changes it by "
        f"{points_words(found[SIBLING, 'clip'])} relative to L_CLIP alone. The diffusion model as the teacher changes "
        f"it by {points_words(found['preference', SIBLING])} relative to that. Preference changes it by "
        f"{points_words(found['preference', tuned])} relative to hard negatives with {tuned.split(', ')[1]}, the "
        f"best on the validation set (LayerNorms, declared afterwards; {_made(experiment)})."
    )


def wrong_label_words(experiment: Mapping[str, Any]) -> str:
    """What preference is worth by the share of wrong labels, and by how often the teacher is right."""
    found = effects(experiment, ("mislabelled", "sources"))
    if not effects(experiment, ("sources",)):
        return ""
    wrong = {name: f"{100 * share:.0f}" for name, share in SHARES.items() if share}
    labels = [points_words(found[f"preference{name}", f"labels{name}"]) for name in wrong]
    plain, half = (
        [points_words(found[f"{right_at(rate)}{name}", f"clip{name}"]) for rate in RATES] for name in (NONE, HALF)
    )
    seeds, others = (count_of(len(experiment[name]["seeds"]), "seed") for name in ("sources", "mislabelled"))
    also = "" if seeds == others else f", those relative to half wrong labels {others}"
    return (
        f"When {and_list([*wrong.values()])} % of the labels are wrong, the teacher's preference changes it by "
        f"{and_list(labels)} relative to the labels. If answers of the teacher are reversed until it is right about "
        f"{and_list([str(rate) for rate in RATES])} % of the swaps, preference changes it by {and_list(plain)} "
        f"relative to L_CLIP alone, and by {and_list(half)} when half of the labels are wrong (LayerNorms, declared "
        f"afterwards; {_made(experiment)}{also})."
    )


def sibling_in_short(experiment: Mapping[str, Any]) -> str:
    """Whether the gain is the diffusion teacher's own, for the study's first screen."""
    found = effects(experiment, ("sources",))
    if not found:
        return ""
    beside = found["preference", SIBLING]
    than = {"up": "teaches more than", "down": "teaches less than", "neither": "is not measurably better than"}
    return (
        f"**A diffusion teacher {than[side(beside)]} a CLIP** that was trained on full sentences: "
        f"{points_words(beside)} ({_made(experiment)})."
    )


def _made(experiment: Mapping[str, Any]) -> str:
    study = experiment["sources"]
    return f"{count_of(len(study['bases']), 'base')}, {count_of(len(study['seeds']), 'seed')}"
