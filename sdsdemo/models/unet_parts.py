"""Which denoisers are a UNet, and whose middle block can be read. Small distilled UNets have none."""

from __future__ import annotations

from typing import Any

from sdsdemo.errors import UserError

NO_UNET = (
    "{what} reads the UNet of Stable Diffusion 1, 2 or XL, but {name!r} has a transformer: choose one of those models, "
    "or {instead}."
)
FEATURES, ANOTHER = "The objective features", "another objective"
NO_MIDDLE = (
    "{what} reads the middle block of a UNet, and that of {name!r} has none: choose Stable Diffusion 1, 2 or XL, or "
    "{instead}."
)


def is_unet(denoiser: Any) -> bool:
    """Whether a denoiser is a UNet, and no transformer."""
    return hasattr(denoiser, "mid_block")


def check_unet(denoiser: Any, name: str, what: str, instead: str) -> None:
    """Raises `UserError` where a denoiser is a transformer. what: for which it must not be one."""
    if not is_unet(denoiser):
        raise UserError(NO_UNET.format(what=what, name=name, instead=instead))


def middle_block(denoiser: Any, name: str) -> Any:
    """The middle block of a UNet, for the objective features. Raises `UserError` where there is none."""
    check_unet(denoiser, name, FEATURES, ANOTHER)
    if denoiser.mid_block is None:
        raise UserError(NO_MIDDLE.format(what=FEATURES, name=name, instead=ANOTHER))
    return denoiser.mid_block
