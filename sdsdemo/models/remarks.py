"""What should be known of a model before its scores, in a sentence each. Loads none.

That it is slow here; and, of a model that a spec names, what was taken for granted: a card was chosen with care.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sdsdemo.models import cards, sources
from sdsdemo.models.pipelines import INDEX, read_index
from sdsdemo.types import Budget, Card

OTHER_RANGE = (
    "{title} has the weights of {card}, whose card spreads timesteps over {own} of the schedule; here they are spread "
    "over {here}. For the card's, set the timestep range to {own_words} (--timestep-range {own_words})."
)

ASSUMED = (
    "{file} does not say how its model was trained: pictures are prepared as {whose} (mean {mean}, standard deviation "
    "{std}, {interpolation}, {resize_mode})."
)
RELEASED, DEFAULT = "for all released weights of {name}", "open_clip does by default"
WITH_QUICK = (
    " {name} was taken {how} QuickGELU: if it was trained {other_how} QuickGELU, write {other} in place of {name}."
)
QUICK = "-quickgelu"
SLOW = (
    "{title} is made for a GPU, and this machine has none: an answer takes minutes. How long a benchmark takes, "
    "`python -m sdsdemo doctor --model {name}` measures."
)
DISTILLED = (
    "{title} is distilled, as {sign} says: it was trained to draw in a few steps, not to predict the noise at every "
    "level, so its scores say little about captions; use the model that it was distilled from."
)
DISTILLED_SCHEDULERS = ("LCMScheduler", "TCDScheduler")
DISTILLED_NAMES = ("turbo", "schnell", "lightning", "lcm", "distilled")
"""Words of a repository's or a folder's name; the files of Z-Image-Turbo are as those of its base model."""


def remarks(card: Card, budget: Budget) -> tuple[str, ...]:
    """Sentences on a model; those on what was taken for granted only where a spec names it."""
    slow = (SLOW.format(title=card.title, name=card.name),) if cards.is_slow(card) else ()
    return slow + (_taken_for_granted(card, budget) if card.name == card.spec else ())


def _taken_for_granted(card: Card, budget: Budget) -> tuple[str, ...]:
    if card.family == "clip":
        return _assumed(card)
    if card.family != "diffusion":
        return ()
    return _distilled(card) + (_other_range(card) if budget.timestep_range is None else ())


def _distilled(card: Card) -> tuple[str, ...]:
    """Where the index of a pipeline or its name tells that it is a distilled model."""
    index = sources.pipeline_file(card.spec, INDEX, card.revision)
    described = read_index(index.parent, card.title) if index is not None else {}
    scheduler = described.get("scheduler")
    words = re.split(r"[\W_]+", card.title.rpartition("/")[2].lower())
    signs = (
        f"is_distilled in its {INDEX}" if described.get("is_distilled") is True else "",
        f"its {scheduler[1]}" if isinstance(scheduler, list) and scheduler[-1] in DISTILLED_SCHEDULERS else "",
        "its name" if set(words) & set(DISTILLED_NAMES) else "",
    )
    sign = next(filter(None, signs), "")
    return (DISTILLED.format(title=card.title, sign=sign),) if sign else ()


def _assumed(card: Card) -> tuple[str, ...]:
    """What a file of weights on a named architecture leaves open."""
    file, rest = sources.checkpoint_named_by(card.spec), sources.split_spec(card.spec)[1]
    if file is None or rest.startswith(sources.LOCAL_DIR):
        return ()
    from sdsdemo.models.clip_files import pixels_taken, usual_pixels

    name = rest.partition("/")[0]
    whose = RELEASED.format(name=name) if usual_pixels(name) else DEFAULT
    return (ASSUMED.format(file=file.name, whose=whose, **pixels_taken(name)) + _quick_too(name),)


def _quick_too(name: str) -> str:
    """On the activation, where open_clip has the architecture with both."""
    from sdsdemo.models.clip_files import architectures, is_quick

    quick = is_quick(name)
    other = name.removesuffix(QUICK) if quick else f"{name}{QUICK}"
    if other == name or other not in architectures():
        return ""
    how, other_how = ("with", "without") if quick else ("without", "with")
    return WITH_QUICK.format(name=name, how=how, other_how=other_how, other=other)


def _other_range(card: Card) -> tuple[str, ...]:
    """Where the same weights have a card with another range of timesteps."""
    others = [
        c for c in cards.all_cards().values() if c.family == "diffusion" and c.timestep_range != card.timestep_range
    ]
    weights = _weights(cards.fingerprint_parts(card)) if others else {}
    for other in others if weights else ():
        if _weights(cards.fingerprint_parts(other)) == weights:
            (low, high), (here_low, here_high) = other.timestep_range, card.timestep_range
            return (
                OTHER_RANGE.format(
                    title=card.title,
                    card=other.name,
                    own=f"{low:g} to {high:g}",
                    here=f"{here_low:g} to {here_high:g}",
                    own_words=f"{low:g} {high:g}",
                ),
            )
    return ()


def _weights(parts: Mapping[str, str]) -> dict[str, str]:
    return {part: digest for part, digest in parts.items() if part.endswith("weights")}
