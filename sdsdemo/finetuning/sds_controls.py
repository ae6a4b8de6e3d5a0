"""Controls of L_SDS: do its value and gradient depend on the image, and on the caption? Trains nothing.

They run `at_once` rows at a time, so that they take no more memory than a step; by default the objective's micro-batch.

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
def sds_controls(
    objective: Objective, batch: Batch, rows: slice, step: int, at_once: int | None = None
) -> dict[str, float]:
    """The paper's L_SDS on the student's latents and on control latents.

    Keys: `student`, `true`, `zero` (h_w(0)) and `other` (the student's latents of other images); each again with the
    captions of further rows (`... shuffled`). All use the same (t, eps). Needs true latents and `LEAST_ROWS`.
    """
    student = objective.student
    assert batch.latent_R is not None
    assert batch.pixels_R is not None
    parts = _parts(objective, rows, at_once)
    read_R = torch.cat([student.encode(batch.pixels_R[part])[1] for part in parts])
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
            error_R = [
                objective.errors(one_R[part], _cut(condition_R, part), _within(rows, part), step) for part in parts
            ]
            found[name + words] = float(torch.cat(error_R).mean())
    return found


def sds_gradient(
    objective: Objective, batch: Batch, rows: slice, step: int, at_once: int | None = None
) -> list[Tensor]:
    """The gradient of L_SDS (without lambda) with respect to each trained parameter of CLIP.

    L_SDS is a mean over rows, so that each part counts by its share of them.
    """
    parameters = objective.student.trained_parameters
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for part in _parts(objective, rows, at_once):
        own, share = _part_of(batch, part), (part.stop - part.start) / (rows.stop - rows.start)
        assert own.pixels_R is not None
        _, read_R = objective.student.encode(own.pixels_R)
        loss = share * objective.sds(own, _within(rows, part), read_R, step)
        for sum_, gradient in zip(total, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if gradient is not None:
                sum_ += gradient
    return total


def sds_gradient_controls(
    objective: Objective, batch: Batch, rows: slice, step: int, at_once: int | None = None
) -> dict[str, float]:
    """`gradient on CLIP`: the gradient's norm; `cosine with shuffled`: its cosine with that under other rows' captions.

    A cosine of 1 would mean that CLIP's gradient does not depend on the captions.
    """
    turned = replace(batch, condition_R=_turned(batch.condition_R), twin_condition_R=_turned(batch.twin_condition_R))
    own, other = (
        torch.cat([gradient.flatten() for gradient in sds_gradient(objective, one, rows, step, at_once)])
        for one in (batch, turned)
    )
    cosine = nn.functional.cosine_similarity(own, other, dim=0)
    return {"gradient on CLIP": float(own.norm()), "cosine with shuffled": float(cosine)}


def _parts(objective: Objective, rows: slice, at_once: int | None) -> list[slice]:
    """These rows, counted from 0, in parts of `at_once`; the last may be smaller."""
    count, size = rows.stop - rows.start, at_once or objective.at_once
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _within(rows: slice, part: slice) -> slice:
    """A part of some rows, counted as they are."""
    return slice(rows.start + part.start, rows.start + part.stop)


def _part_of(batch: Batch, part: slice) -> Batch:
    """What L_SDS reads of these rows."""
    return Batch(
        pixels_R=_cut(batch.pixels_R, part),
        condition_R=_cut(batch.condition_R, part),
        twin_condition_R=_cut(batch.twin_condition_R, part),
        latent_R=_cut(batch.latent_R, part),
    )


def _cut(tensor_R: Any, part: slice) -> Any:
    """A part of the rows of one tensor or of several; None if there are none."""
    if isinstance(tensor_R, tuple):
        return tuple(_cut(one_R, part) for one_R in tensor_R)
    return None if tensor_R is None else tensor_R[part]


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
