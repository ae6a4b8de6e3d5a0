"""Gradients through a network in half precision, whose least number is 6e-8: L_SDS of lambda 0.001 is below it.

    backward, before the network   g -> 2^k g, so that the largest of a sample's numbers is close to `LARGEST`
    backward, behind it            g -> 2^-k g

A power of two is exact in floating point, and samples of a batch do not meet in a denoiser, so each has a k of its own.
The values of the forward pass are those without.

Shape suffixes: B batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LARGEST = 2.0**-4
"""What is left of half precision's 65,504 is room for gradients that grow within the network."""


class HalfGradients:
    """The two ends of one call of a network: `lower` what goes in, `raise_` what comes out, both in float32."""

    def __init__(self) -> None:
        self.scale_B: Tensor | None = None
        """2^k, known once the gradient of the output is there."""

    def lower(self, given_B: Tensor) -> Tensor:
        """The input as it is; its gradient divided by 2^k."""
        found: Tensor = _Lower.apply(given_B, self)
        return found

    def raise_(self, output_B: Tensor) -> Tensor:
        """The output as it is; its gradient times 2^k."""
        found: Tensor = _Raise.apply(output_B, self)
        return found


class _Raise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output_B: Tensor, ends: HalfGradients) -> Tensor:
        ctx.ends = ends
        return output_B.view_as(output_B)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient_B = gradients[0]
        largest_B = gradient_B.abs().flatten(1).amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        scale_B = torch.exp2((LARGEST / largest_B).log2().floor())
        ctx.ends.scale_B = scale_B.reshape(-1, *[1] * (gradient_B.dim() - 1))
        return gradient_B * ctx.ends.scale_B, None


class _Lower(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given_B: Tensor, ends: HalfGradients) -> Tensor:
        ctx.ends = ends
        return given_B.view_as(given_B)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.ends.scale_B, None
