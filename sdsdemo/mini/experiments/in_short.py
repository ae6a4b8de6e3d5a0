"""The study's first screen in sentences: what was found, and the strongest limits. Computes nothing.

Effects are those on bases in general where all ten bases are done, else those of the confirmation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.core.number_format import points_words
from sdsdemo.core.wording import count_of
from sdsdemo.evaluation.limits import (
    LESSON,
    bases_in_general,
    has_all_bases,
    one_recipe_words,
    seeds_each,
)
from sdsdemo.mini.experiments.effects import VERBS, label_effects, main_effects, side, still
from sdsdemo.mini.experiments.source_words import sibling_in_short
from sdsdemo.mini.experiments.tables import TEN

WISE_FT = "preference, every parameter, WiSE-FT", "clip, every parameter, WiSE-FT"
WORTH_CLAIMING = 0.04
"""The smallest effect worth claiming, in text score: set before the confirmation."""
WORLD = (
    "**A drawn world.** Some sixty words, a dozen shapes, networks of 0.7 to 2.5 million parameters: nothing "
    "follows about a real CLIP."
)


def found_in_short(experiment: Mapping[str, Any]) -> list[str]:
    """The findings, each with its interval; empty before the confirmation."""
    effect = main_effects(experiment)
    if not effect:
        return []
    term, captions, preference = effect["sds", "clip"], effect["sds", "sds, shuffled"], effect["preference", "clip"]
    said = [
        f"**The paper's term {VERBS[side(term)]} the text score**: {points_words(term)} points relative to L_CLIP "
        f"alone, and {points_words(captions)} relative to the same term with other images' captions"
        f"{_too_small(captions)}.",
        f"**Training on which of two captions the teacher prefers {VERBS[side(preference)]} it**: "
        f"{points_words(preference)} with LayerNorms{_wise_ft_words(effect)}.",
        _labels_words(experiment),
        sibling_in_short(experiment),
    ]
    return [*(one for one in said if one), _over_words(experiment)]


def strongest_limits(experiment: Mapping[str, Any]) -> list[str]:
    """What stands between these figures and a claim about CLIP; empty before the confirmation."""
    if not main_effects(experiment):
        return []
    taught = f"**A taught teacher.** {LESSON}"
    if has_all_bases(ten := experiment.get(TEN, {})):
        return [WORLD, taught, f"**One recipe for all bases.** {one_recipe_words(ten)}"]
    return [WORLD, taught, f"**Few bases.** {bases_in_general(experiment)}"]


def _too_small(effect: Mapping[str, Any]) -> str:
    """A gain that is clear of zero and of any effect worth claiming; empty for other effects."""
    if side(effect) != "up" or effect["high"] >= WORTH_CLAIMING:
        return ""
    return f": clear of zero, but below the {100 * WORTH_CLAIMING:.0f} points set as worth claiming"


def _wise_ft_words(effect: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    found = effect.get(WISE_FT)
    if found is None:
        return ""
    return f"; {points_words(found)} with every parameter, interpolated with the base's (WiSE-FT)"


def _labels_words(experiment: Mapping[str, Any]) -> str:
    """What the preference is worth beside labels; empty before that was run."""
    found = label_effects(experiment)
    true = found.get(("preference", "labels"))
    wrong = found.get(("preference, half mislabelled", "clip, half mislabelled"))
    if true is None or wrong is None:
        return ""
    alone = main_effects(experiment)["preference", "clip"]
    worth = {"up": "is worth more than", "down": "is worth less than", "neither": "cannot be told apart from"}
    return (
        f"**Preference {worth[side(true)]} a true label**: {points_words(true)} relative to training on which caption "
        f"is true. When half of the labels are wrong, it {still(alone, wrong)}changes the text "
        f"score by {points_words(wrong)}."
    )


def _over_words(experiment: Mapping[str, Any]) -> str:
    """What the intervals are over."""
    confirm = experiment["confirm"]
    bases, seeds = count_of(len(confirm["bases"]), "base"), count_of(len(confirm["seeds"]), "seed")
    ten = experiment.get(TEN, {})
    if has_all_bases(ten):
        return (
            f"Intervals are 95 %, n = {ten['n']}: by Student's t over {len(ten['bases'])} bases with "
            f"{seeds_each(ten)}, for bases in general; the one with half of the labels wrong over {bases}, for these "
            f"only."
        )
    return f"Intervals are 95 %, over {bases} with up to {seeds} (n = {confirm['n']}), and about these bases only."
