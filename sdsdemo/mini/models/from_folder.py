"""Mini models from another folder than the shipped one, under the same names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sdsdemo.types import Availability, Card, Scorer


class RelocatedWorkbench:
    """A workbench whose Mini models are in another folder than `checkpoints/`."""

    def __init__(self, workbench: Any, folder: Path) -> None:
        """workbench: if it is relocated itself, the workbench that it wraps is used, so that this folder wins."""
        self._workbench: Any = workbench._workbench if isinstance(workbench, RelocatedWorkbench) else workbench
        self._folder = folder.resolve()
        self.settings = workbench.settings

    def card(self, name_or_spec: str) -> Card:
        """The card, with its weights in the folder."""
        card: Card = self._workbench.card(name_or_spec)
        return replace(card, spec=card.spec.replace(":checkpoints/", f":{self._folder}/"))

    def availability(self, card: Card) -> Availability:
        """As the workbench says."""
        found: Availability = self._workbench.availability(card)
        return found

    def scorer(self, name_or_spec: str) -> Scorer:
        """A new scorer each time."""
        from sdsdemo.models import open_scorer

        return open_scorer(self.card(name_or_spec), device="cpu")
