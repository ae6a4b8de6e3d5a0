"""Controls of L_SDS: do its value and gradient depend on the image, and on the caption? Trains nothing.

Shape suffixes: R rows of a micro-batch, D features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sdsdemo.finetuning.objectives import Batch, Objective

LEAST_ROWS = 3
"""Fewest rows of a batch: `other` latents come from the next row, and shuffled captions from the one after it."""


@torch.no_grad()
def sds_controls(objective: Objective, batch: Batch, rows: slice, step: int) -> dict[str, float]:
    """The paper's L_SDS on the student's latents and on control latents.

    Keys: `student`, `true`, `zero` (h_w(0)) and `other` (the student's latents of other images); each again with the
    captions of further rows (`... shuffled`). All use the same (t, eps). Needs true latents and `LEAST_ROWS`.
    """
    student = objective.student
    assert batch.latent_R is not None
    assert batch.pixels_R is not None
    _, read_R = student.encode(batch.pixels_R)
    latent_R = student.latents(read_R)
    latents = {
        "student": latent_R,
        "true": batch.latent_R.to(latent_R),
        "zero": student.latents(torch.zeros_like(read_R)),
        "other": latent_R.roll(1, 0),
    }
    turned = _turned(batch.condition_R)  # captions of neither the row's image nor the `other` one
    found = {}
    for name, one_R in latents.items():
        for words, condition_R in (("", batch.condition_R), (" shuffled", turned)):
            found[name + words] = float(objective.errors(one_R, condition_R, rows, step).mean())
    return found


def sds_gradient(objective: Objective, batch: Batch, rows: slice, step: int) -> list[Tensor]:
    """The gradient of L_SDS (without lambda) with respect to each trained parameter of CLIP."""
    assert batch.pixels_R is not None
    _, read_R = objective.student.encode(batch.pixels_R)
    parameters = objective.student.trained_parameters
    found = torch.autograd.grad(objective.sds(batch, rows, read_R, step), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def sds_gradient_controls(objective: Objective, batch: Batch, rows: slice, step: int) -> dict[str, float]:
    """`gradient on CLIP`: the gradient's norm; `cosine with shuffled`: its cosine with that under other rows' captions.

    A cosine of 1 would mean that CLIP's gradient does not depend on the captions.
    """
    turned = replace(batch, condition_R=_turned(batch.condition_R), twin_condition_R=_turned(batch.twin_condition_R))
    own, other = (torch.cat([g.flatten() for g in sds_gradient(objective, one, rows, step)]) for one in (batch, turned))
    cosine = nn.functional.cosine_similarity(own, other, dim=0)
    return {"gradient on CLIP": float(own.norm()), "cosine with shuffled": float(cosine)}


def _turned(condition_R: Any) -> Any:
    """The conditions two rows on, of one tensor or of several; None if there are none."""
    if condition_R is None:
        return None
    if isinstance(condition_R, tuple):
        return tuple(map(_turned, condition_R))
    assert len(condition_R) >= LEAST_ROWS, "the second row after each of two is itself"
    return condition_R.roll(2, 0)


def controls_words(found: dict[str, float]) -> str:
    """The controls of L_SDS in one line."""
    names = {"student": "h_w(f(x))", "true": "true latents", "zero": "h_w(0)", "other": "other images"}
    parts = [f"{words} {found[name]:.3f} / {found[name + ' shuffled']:.3f}" for name, words in names.items()]
    return (
        f"L_SDS with true / shuffled captions: {', '.join(parts)}. Its gradient on CLIP has norm "
        f"{found['gradient on CLIP']:.2g}; the cosine between the two gradients is {found['cosine with shuffled']:.3f}."
    )
