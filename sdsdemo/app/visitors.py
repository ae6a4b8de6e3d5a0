"""Who asks: a visitor is a session of the page, and comes from an address. What one visitor may hold at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sdsdemo.errors import UserError
from sdsdemo.settings import FINETUNING

ONE_EACH = "You have a run here already: wait until it ends, or stop it. Runs from the shell have no limit."
MANY_THERE = (
    "{count} runs from your network are here already: wait until one ends, or run the command on your own machine."
)


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A session of a shared page, and where it comes from."""

    session: str
    address: str


def check_places(visitor: Visitor, others: Iterable[Visitor]) -> None:
    """Raises `UserError` for a visitor who has a place for a run already, or whose address has its share.

    others: those who hold a place, with repeats.
    """
    holders = list(others)
    if sum(holder.session == visitor.session for holder in holders) >= FINETUNING.page_places_of_visitor:
        raise UserError(ONE_EACH)
    there = sum(holder.address == visitor.address for holder in holders)
    if there >= FINETUNING.page_places_of_address:
        raise UserError(MANY_THERE.format(count=there))
