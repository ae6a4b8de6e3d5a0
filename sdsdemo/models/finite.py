"""Whether weights are numbers. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdsdemo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = (
    "The weights of {name!r} are not finite: {tensor} holds NaN or infinity, as after training that diverged. Take an "
    "earlier checkpoint, or fetch the model again."
)


def check_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Raises `UserError` naming the first tensor with a NaN or an infinity: every score would be one too."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(NOT_FINITE.format(name=name, tensor=key))
