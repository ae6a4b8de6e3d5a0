"""Controls of L_SDS: do its value and gradient depend on the image, and on the caption? Trains nothing.

Shape suffixes: R rows of a micro-batch, D features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sdsdemo.core.losses import sds_loss
from sdsdemo.finetuning.objectives import Batch, Objective


@torch.no_grad()
def sds_controls(objective: Objective, batch: Batch, rows: slice, step: int) -> dict[str, float]:
    """L_SDS on the student's latents and on control latents.

    Keys: `student`, `true`, `zero` (h_w(0)) and `other` (the student's latents of other images); each again with the
    captions of further rows (`... shuffled`). All use the same (t, eps). Needs true latents and at least three rows.
    """
    student, teacher = objective.student, objective.teacher
    assert teacher is not None
    assert batch.latent_R is not None
    assert batch.pixels_R is not None
    image_RD = student.clip.encode_image(batch.pixels_R, normalize=True)
    latent_R = student.latents(image_RD)
    latents = {
        "student": latent_R,
        "true": batch.latent_R.to(latent_R),
        "zero": student.latents(torch.zeros_like(image_RD)),
        "other": latent_R.roll(1, 0),
    }
    timestep_R, noise_R = objective.draw(step, rows)
    turned = _turned(batch.condition_R)  # captions of neither the row's image nor the `other` one
    found = {}
    for name, one_R in latents.items():
        for words, condition_R in (("", batch.condition_R), (" shuffled", turned)):
            error_R = sds_loss(
                teacher.denoise, teacher.schedule, one_R, noise_R.to(one_R.device), timestep_R, condition_R,
                reduction=objective.config.reduction,
            )  # fmt: skip
            found[name + words] = float(error_R.mean())
    return found


def sds_gradient(objective: Objective, batch: Batch, rows: slice, step: int) -> list[Tensor]:
    """The gradient of L_SDS (without lambda) with respect to each trained parameter of CLIP."""
    image_RD = objective.student.clip.encode_image(batch.pixels_R, normalize=True)
    parameters = objective.student.trained_parameters
    found = torch.autograd.grad(objective.sds(batch, rows, image_RD, step), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def sds_gradient_controls(objective: Objective, batch: Batch, rows: slice, step: int) -> dict[str, float]:
    """`gradient on CLIP`: the gradient's norm; `cosine with shuffled`: its cosine with that under other rows' captions.

    A cosine of 1 would mean that CLIP's gradient does not depend on the captions.
    """
    turned = replace(batch, condition_R=_turned(batch.condition_R))
    own, other = (torch.cat([g.flatten() for g in sds_gradient(objective, one, rows, step)]) for one in (batch, turned))
    cosine = nn.functional.cosine_similarity(own, other, dim=0)
    return {"gradient on CLIP": float(own.norm()), "cosine with shuffled": float(cosine)}


def _turned(condition_R: Any) -> Any:
    """The conditions two rows on, of one tensor or of several."""
    if isinstance(condition_R, tuple):
        return tuple(map(_turned, condition_R))
    return condition_R.roll(2, 0)


def controls_words(found: dict[str, float]) -> str:
    """The controls of L_SDS in one line."""
    names = {"student": "h_w(f(x))", "true": "true latents", "zero": "h_w(0)", "other": "other images"}
    parts = [f"{words} {found[name]:.3f} / {found[name + ' shuffled']:.3f}" for name, words in names.items()]
    return (
        f"L_SDS with true / shuffled captions: {', '.join(parts)}. Its gradient on CLIP has norm "
        f"{found['gradient on CLIP']:.2g}; the cosine between the two gradients is {found['cosine with shuffled']:.3f}."
    )
