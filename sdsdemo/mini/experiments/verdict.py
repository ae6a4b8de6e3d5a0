"""The experiment's results in sentences: the verdict, the headline, and the costs. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.core.number_format import points_words, share_words
from sdsdemo.core.wording import count_of
from sdsdemo.evaluation.limits import has_all_bases, limits, seeds_each
from sdsdemo.mini.experiments.effects import VERBS, label_effects, main_effects, side, still
from sdsdemo.mini.experiments.source_words import teacher_words, wrong_label_words
from sdsdemo.mini.experiments.tables import SKILLS, TEN


def verdict(experiment: Mapping[str, Any]) -> list[str]:
    """What the experiment shows about the paper's term and the teacher's preference; empty before the confirmation."""
    study = experiment["confirm"]
    found = {(row["cell"], row["control"]): row for row in study.get("contrasts", [])}
    if not found:
        return []
    term, captions = found["sds", "clip"], found["sds", "sds, shuffled"]
    every = ("preference, every parameter", "clip, every parameter")
    norms_words, every_words = (
        f"{points_words(found[pair])} with {what}, where {_skills_words(study['cells'][pair[0]], found[pair])}"
        for pair, what in ((("preference", "clip"), "LayerNorms"), (every, "every parameter"))
    )
    said = [
        f"Over {count_of(len(study['bases']), 'base')} and {count_of(len(study['seeds']), 'seed')} (n = {study['n']}), "
        f"the paper's term changes the text score by {points_words(term)} points relative to L_CLIP alone, and by "
        f"{points_words(captions)} relative to the same term with other images' captions.",
        f"The teacher's preference changes it by {norms_words}, and by {every_words}.",
        _return_words(experiment.get("return", {})),
        _preference_controls_words(experiment.get("dealt", {})),
        _mislabelled_words(experiment.get("mislabelled", {})),
        _better_words(experiment.get("better", {})),
        teacher_words(experiment),
        wrong_label_words(experiment),
        *limits(experiment),
    ]
    return [part for part in said if part]


def claim(experiment: Mapping[str, Any]) -> str:
    """What the paper's term and the teacher's preference change, in one sentence; empty before the confirmation.

    The verbs follow the intervals.
    """
    found, ten = main_effects(experiment), experiment.get(TEN, {})
    if not found:
        return ""
    term, preference = found["sds", "clip"], found["preference", "clip"]
    link = "and" if side(term) == side(preference) else "but"
    few = f"On these {count_of(len(experiment['confirm']['bases']), 'base')}"
    many = f"Over {count_of(len(ten.get('bases', ())), 'base')}, with intervals for bases in general,"
    return (
        f"{many if has_all_bases(ten) else few} the paper's L_SDS {VERBS[side(term)]} CLIP's text score "
        f"({points_words(term)} points), {link} training on which caption the diffusion model prefers "
        f"{VERBS[side(preference)]} it ({points_words(preference)})."
    )


def labels_claim(experiment: Mapping[str, Any]) -> str:
    """What the preference is worth beside true labels, and with half of them wrong; empty before that was run."""
    found = label_effects(experiment)
    true = found.get(("preference", "labels"))
    wrong = found.get(("preference, half mislabelled", "labels, half mislabelled"))
    if true is None or wrong is None:
        return ""
    worth = {
        "up": "That preference is worth more than",
        "down": "That preference is worth less than",
        "neither": "That preference cannot be told apart from",
    }
    half = {
        "up": "When half of the labels are wrong, it beats them by",
        "down": "When half of the labels are wrong, it is worth less: the difference is",
        "neither": "When half of the labels are wrong, the difference is",
    }
    return f"{worth[side(true)]} true labels ({points_words(true)} points). {half[side(wrong)]} {points_words(wrong)}."


def headline(experiment: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The findings in three sentences, for the README; empty before the confirmation and the comparisons with labels.

    measured: the result of the benchmark, by model.
    """
    found, labels = main_effects(experiment), label_effects(experiment)
    true = labels.get(("preference", "labels"))
    half = labels.get(("preference, half mislabelled", "clip, half mislabelled"))
    if not found or true is None or half is None:
        return ""
    models, ten, few, many = measured["models"], experiment.get(TEN, {}), "", ""
    if has_all_bases(ten):
        many = f" (both over {count_of(len(ten['bases']), 'base')} with {seeds_each(ten)}, for bases in general)"
        few = f" ({count_of(len(experiment['mislabelled']['bases']), 'base')}, for these only)"
    clip, diffusion = (share_words(models[name]["text"]) for name in ("mini-clip", "mini-diffusion"))
    return (
        f"On {measured['n']} pairs of combinations that no model was trained on, `mini-clip` has a text score of "
        f"{clip} %; scoring with the diffusion model's denoising loss reaches {diffusion} % (chance 25). The paper's "
        f"term L_SDS changes the text score of a fine-tuned CLIP by {points_words(found['sds', 'clip'])} points "
        f"relative to fine-tuning without it. Training CLIP on which of two captions the diffusion model prefers "
        f"changes it by {points_words(found['preference', 'clip'])} points{many}"
        f"{_beside_labels(found['preference', 'clip'], true)}; when half of the labels are wrong, the change is "
        f"{still(found['preference', 'clip'], half)}{points_words(half)}{few}."
    )


def _beside_labels(preference: Mapping[str, float], true: Mapping[str, float]) -> str:
    """What a change by preference is beside that by true labels. true: the effect relative to these."""
    if side(preference) != "up":
        return f", and by {points_words(true)} relative to true labels"
    than = {
        "up": "more than true labels do",
        "down": "less than true labels do",
        "neither": "an effect that cannot be told apart from that of true labels",
    }
    return f", {than[side(true)]}"


def _return_words(study: Mapping[str, Any]) -> str:
    """The effect after interpolating the weights with the base's (WiSE-FT); empty before that was run."""
    if not study.get("contrasts"):
        return ""
    (found,) = study["contrasts"]
    made = f"{count_of(len(study['bases']), 'base')}, {count_of(len(study['seeds']), 'seed')}"
    return (
        f"With those weights interpolated with the base's (WiSE-FT, declared afterwards; {made}), the change is "
        f"{points_words(found)} relative to L_CLIP alone with the same interpolation, and "
        f"{_skills_words(study['cells'][found['cell']], found)}."
    )


def _preference_controls_words(study: Mapping[str, Any]) -> str:
    """What the teacher's judgement of each pair is worth; empty before the controls were run."""
    found = {(row["cell"], row["control"]): row for row in study.get("contrasts", [])}
    if not found:
        return ""
    made = f"{count_of(len(study['bases']), 'base')}, {count_of(len(study['seeds']), 'seed')}"
    return (
        f"Preferences shuffled across pairs, most of which still favour the true caption, change it by "
        f"{points_words(found['preference, permuted', 'clip'])}. The teacher's own preferences change it by "
        f"{points_words(found['preference', 'preference, permuted'])} relative to these, and by "
        f"{points_words(found['preference', 'labels'])} relative to true labels. With a random sign, the change is "
        f"{points_words(found['preference, sides by lot', 'clip'])} (LayerNorms, declared afterwards; {made}, the "
        f"first of those above)."
    )


def _mislabelled_words(study: Mapping[str, Any]) -> str:
    """What the preference is worth when half of the labels are wrong; empty before that was run."""
    if not study.get("contrasts"):
        return ""
    made = f"{count_of(len(study['bases']), 'base')}, {count_of(len(study['seeds']), 'seed')}"
    words = {row["control"].removesuffix(", half mislabelled"): points_words(row) for row in study["contrasts"]}
    return (
        f"When half of the captions are replaced by their swaps, so that labels carry no information, the teacher's "
        f"preference changes it by {words['clip']} relative to L_CLIP alone, by {words['labels']} relative to the "
        f"labels, by {words['preference, permuted']} relative to preferences shuffled across pairs, and by "
        f"{words['preference']} relative to itself with every label right (LayerNorms, declared afterwards; {made})."
    )


def _better_words(study: Mapping[str, Any]) -> str:
    """What a more accurate teacher changes; empty before that was run."""
    if not study.get("contrasts"):
        return ""
    made = f"{count_of(len(study['bases']), 'base')}, {count_of(len(study['seeds']), 'seed')}"
    words = {row["control"]: points_words(row) for row in study["contrasts"]}
    return (
        f"With a more accurate teacher, the paper's term changes it by {words['clip']} relative to L_CLIP alone. "
        f"Relative to preference with the first teacher, preference changes it by {words['preference']}, and by "
        f"{words['preference, half mislabelled']} when half of the labels are wrong (LayerNorms, declared "
        f"afterwards; {made})."
    )


def _skills_words(cell: Mapping[str, Any], contrast: Mapping[str, Any]) -> str:
    """Whether zero-shot and retrieval are non-inferior; if one is not shown to be, by how much it changed."""
    lost = [name for name in SKILLS if not cell[name]["kept"]]
    if not lost:
        return "zero-shot and retrieval are non-inferior (margin 2 points)"
    kept = [f"{SKILLS[name]} is non-inferior (margin 2 points)" for name in SKILLS if name not in lost]
    changed = [
        f"{SKILLS[name]} is not shown to be non-inferior: it changes by {points_words(cell[name])}, and by "
        f"{points_words(contrast['skills'][name])} relative to the control"
        for name in lost
    ]
    return " and ".join([*kept, *changed])


def costs_words(costs: Mapping[str, Any]) -> str:
    """After how many steps querying the teacher beforehand becomes cheaper."""
    cheaper = costs["cheaper"]
    return (
        f"In the training loop, preference takes {cheaper['loop_ratio']:.1f} times as many steps per second as sds, "
        f"and {cheaper['loop_ratio_text']:.1f} times as many with the text tower alone ({costs['machine']}, batch size "
        f"{costs['batch']}). Querying the teacher about {cheaper['pairs']:,} pairs takes "
        f"{cheaper['asking_seconds']:.0f} s, once: preference is cheaper after {cheaper['steps']:,} steps "
        f"({cheaper['epochs']:g} epochs, or {cheaper['students']:g} of a student's {costs['steps']:,} steps). "
        f"{_operations_words(costs)}"
    ).rstrip()


UNTIMED = (
    "It was timed before `mini-clip-lesson` and the 2 x 2 of the lesson were added, and the studies of ten bases (by "
    "the same steps about 3 hours, the training of seven bases included), of the channel of L_SDS, of weights and of "
    "other sources (about 7 hours together)."
)
"""What `costs.json` leaves out until `mini costs` is run again."""


def whole_words(costs: Mapping[str, Any]) -> str:
    """How long everything takes from scratch; empty if not timed."""
    if "whole" not in costs:
        return ""
    hours = costs["whole"]
    lesson = f"{hours['lesson']:.1f} for the 2 x 2 of the lesson, " if "lesson" in hours else ""
    said = (
        f"Everything from scratch takes about {hours['whole']:.1f} hours ({costs['machine']}): {hours['models']:.1f} "
        f"for the models, {hours['variants']:.1f} for the CLIP variants and ablated teachers, {lesson}"
        f"{hours['studies']:.1f} for the studies, in parallel processes of one core each. This is extrapolated from "
        f"timed steps, not measured end to end; steps of the studies were timed in the same number of concurrent "
        f"processes."
    )
    return said if lesson else f"{said} {UNTIMED}"


def _operations_words(costs: Mapping[str, Any]) -> str:
    """How much of the ratio of two steps is due to network size; empty if not counted."""
    if "operations" not in costs:
        return ""
    ratios = {
        size: [found["sds"] / found[cell] for cell in ("preference", "preference, text tower alone")]
        for size, found in costs["operations"].items()
    }
    (mini, mini_text), (paper, paper_text) = ratios["mini"], ratios["paper"]
    return (
        f"Counting operations over the full context length instead, the ratios are {mini:.1f} and {mini_text:.1f} "
        f"here, where the denoiser is hardly larger than CLIP, and {paper:.0f} and {paper_text:.0f} for a ViT-B/16 and "
        f"the UNet of Stable Diffusion 1.4."
    )
