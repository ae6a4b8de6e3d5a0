"""The Fine-tune form in the page's URL: a preset, and the settings that differ from it. Knows no Gradio.

A URL fills the form in and starts nothing. It names no folder and no model without a card.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sdsdemo.core.number_format import limit
from sdsdemo.finetuning.recipe import CHOICES, PRESETS, RANGES
from sdsdemo.ui import address
from sdsdemo.ui.address import Query


def write(preset: str, values: Mapping[str, Any], first: str) -> str:
    """The settings that differ from their preset, as a query. first: the preset with which the page opens."""
    usual = asdict(PRESETS.get(preset, PRESETS[first]))
    return address.write("finetune", {**values, "preset": preset}, {**usual, "preset": first})


def read(
    query: Query, presets: Sequence[str], cards: Mapping[str, Collection[str]], names: Collection[str]
) -> tuple[str, dict[str, Any]]:
    """The preset and the settings that a query asks for.

    presets: the first is the usual one. cards: by setting, the models with a card. names: the form's settings.
    """
    preset = query.choice("preset", presets, presets[0])
    usual = asdict(PRESETS[preset])
    return preset, {name: _setting(query, name, usual[name], cards) for name in names}


def _setting(query: Query, name: str, usual: Any, cards: Mapping[str, Collection[str]]) -> Any:
    """A setting of the kind of its usual value."""
    if name not in query:
        return usual
    if isinstance(usual, bool):
        return query.choice(name, ("on", "off"), "on" if usual else "off", "it must be on or off") == "on"
    if isinstance(usual, int | float):
        return _number(query, name, usual)
    if name in cards:
        return query.choice(name, cards[name], usual, "there is no card with this name")
    return query.choice(name, CHOICES[name], usual) if name in CHOICES else query.text(name, 100)


def _number(query: Query, name: str, usual: float) -> float:
    """A number in the range that a recipe allows."""
    low, high = RANGES.get(name, (0, 1_000_000))
    text = query.text(name)
    try:
        value = type(usual)(text) if len(text) <= address.LONGEST_NUMBER else None
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        kind = "whole number" if isinstance(usual, int) else "number"
        query.leave_out(name, f"it must be a {kind} from {limit(low)} to {limit(high)}")
        return usual
    return value
