"""Mini models from other folders than the shipped one: under the same names, and further bases that are not shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.mini.models.clip import FURTHER
from sdsdemo.types import Availability, Card, Scorer

UNTRAINED = "{name} is not trained yet."
TRAIN = "Run `python -m sdsdemo mini study bases` without --part: it trains what is missing first."


class RelocatedWorkbench:
    """A workbench whose Mini models, further bases among them, are in another folder than `checkpoints/`."""

    def __init__(self, workbench: Any, folder: Path) -> None:
        """workbench: if it is relocated itself, the workbench that it wraps is used, so that this folder wins."""
        self._workbench: Any = workbench._workbench if isinstance(workbench, RelocatedWorkbench) else workbench
        self._folder = folder.resolve()
        self.settings = workbench.settings

    def card(self, name_or_spec: str) -> Card:
        """The card, with its weights in the folder."""
        if name_or_spec in FURTHER:
            return further_card(self._workbench.card("mini-clip"), name_or_spec, self._folder)
        card: Card = self._workbench.card(name_or_spec)
        return replace(card, spec=card.spec.replace(":checkpoints/", f":{self._folder}/"))

    def availability(self, card: Card) -> Availability:
        """As the workbench says."""
        return _availability(self._workbench, card)

    def scorer(self, name_or_spec: str) -> Scorer:
        """A new scorer each time."""
        from sdsdemo.models import open_scorer

        return open_scorer(self.card(name_or_spec), device="cpu")


class WithFurtherBases:
    """A workbench that also knows the bases that are not shipped."""

    def __init__(self, workbench: Any, folder: Path) -> None:
        """folder: where they are, or will be."""
        self._workbench, self._folder = workbench, folder.resolve()
        self.settings = workbench.settings

    def card(self, name_or_spec: str) -> Card:
        """The card of a further base, or what the workbench says."""
        if name_or_spec in FURTHER:
            return further_card(self._workbench.card("mini-clip"), name_or_spec, self._folder)
        card: Card = self._workbench.card(name_or_spec)
        return card

    def availability(self, card: Card) -> Availability:
        """Whether a further base is trained, or what the workbench says."""
        return _availability(self._workbench, card)


def further_card(base: Card, name: str, folder: Path) -> Card:
    """The card of a further base, from that of mini-clip."""
    return replace(base, name=name, title=f"{base.title}, seed {FURTHER[name].seed}", spec=f"{SPEC}{folder / name}")


SPEC = "open_clip:local-dir:"


def _availability(workbench: Any, card: Card) -> Availability:
    found: Availability = workbench.availability(card)
    if card.name in FURTHER and not found.can_run:
        return Availability(can_run=False, reason=UNTRAINED.format(name=card.name), next_step=TRAIN)
    return found
