"""The models of the Compare tab: the choices, the state of each, and the real CLIP that the page suggests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.models import cards
from sdsdemo.types import Answer, Card
from sdsdemo.ui import compare_html
from sdsdemo.ui.templates import render


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A real model for inputs that the Mini models do not know."""

    card: Card
    can_run: bool
    sentence: str


def models_html(workbench: Workbench, names: Sequence[object]) -> str:
    """One line per chosen model: loaded, not yet loaded, or why it cannot run here and what to do."""
    chosen = dict.fromkeys(str(name).strip() for name in names if name)
    return render("compare.models", lines=[_model_line(workbench, name) for name in chosen])


def model_choices(workbench: Workbench) -> list[tuple[str, str]]:
    """Label and name of every card; the label gives the size of a download."""
    return [(_choice(card), card.name) for card in workbench.cards()]


def find_suggestion(workbench: Workbench, answers: Sequence[Answer]) -> Suggestion | None:
    """A real CLIP if a Mini CLIP could not answer: the smallest that can run here, or else the smallest."""
    if not any(answer.problem and not answer.card.download and answer.card.family == "clip" for answer in answers):
        return None
    real = sorted((c for c in workbench.cards() if c.family == "clip" and c.download), key=lambda card: card.size_mb)
    if not real:
        return None
    states = {card.name: workbench.availability(card) for card in real}
    card = next((card for card in real if states[card.name].can_run), real[0])
    state, size = states[card.name], compare_html.size_words(card.size_mb)
    if state.can_run:
        return Suggestion(card=card, can_run=True, sentence=f"Load real CLIP ({card.title}, {size}) and score")
    sentence = f"Real CLIP ({card.title}, {size}) knows many more words and pictures. {state.words}"
    return Suggestion(card=card, can_run=False, sentence=" ".join(sentence.split()))


def take_suggestion(workbench: Workbench, models: Sequence[str | None], name: str) -> list[str | None]:
    """The rows with the real CLIP in place of Mini's, and its SDS-CLIP in place of Mini's if there is a card.

    Other models stay, and none is taken twice: a row that would repeat one is emptied.
    """
    tuned = next((card.name for card in workbench.cards() if card.base == name), None)
    in_place = {"clip": name, "sds-clip": tuned}
    rows: list[str | None] = []
    for model in models:
        put = in_place.get(workbench.card(model).family) if model and are_mini(workbench, [model]) else None
        rows.append(None if put and put in (*rows, *models) else put or model)
    return rows


def _model_line(workbench: Workbench, name: str) -> dict[str, Any]:
    """Whether it can run, its title, and a sentence on its state."""
    try:
        card = workbench.card(name)
    except UserError as error:
        return {"can_run": False, "title": "", "words": str(error)}
    state = workbench.availability(card)
    if not state.can_run:
        words = f"cannot run here. {state.words}".strip()
    elif workbench.is_loaded(card.name):
        words = "is loaded."
    else:
        fetch = f", after a download of {compare_html.size_words(card.size_mb)}" if card.download else ""
        words = f"loads when first used{fetch}."
    if state.can_run and cards.is_slow(card):
        words += " It is made for a GPU, and this machine has none: an answer takes minutes."
    return {"can_run": state.can_run, "title": card.title, "words": words}


def _choice(card: Card) -> str:
    return f"{card.title} · {compare_html.size_words(card.size_mb)} to download" if card.download else card.title


def are_mini(workbench: Workbench, names: Sequence[str | None]) -> bool:
    """Whether all chosen models are Mini's, which answer at once."""
    try:
        chosen = [workbench.card(name.strip()) for name in names if name]
    except UserError:
        return False
    return bool(chosen) and all(card.mini or (card.base or "").startswith("mini") for card in chosen)
