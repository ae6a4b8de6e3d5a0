"""The student: a CLIP with some trainable parameters, and linear maps from what its image tower sees.

    h_w   to the teacher's latents, for L_SDS          h_f   to its inner features, for `features`

h_w reads the image embedding, as in the paper, or each patch token for the latent at its place: one linear map for all
places, resized (bilinear) where the latent has other rows and columns than the patches.

Shape suffixes: B batch, D features, N pictures, E elements of a latent; P width of a patch token, Y and X rows and
columns of patches.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Towers, Trained
from sdsdemo.models.clip_patches import encode_patches, patch_width

RIDGE = 1e-3
"""Ridge penalty on the least squares, relative to the mean of the diagonal, so that the solution is unique."""
TEXT_PARAMETERS = ("positional_embedding", "text_projection")
"""Parameters of open_clip's text tower that belong to no submodule."""


class Student(nn.Module):
    """A CLIP, its trainable parameters, and the linear maps from its image embedding."""

    def __init__(
        self,
        clip: Any,
        latent_shape: tuple[int, int, int] | None = None,
        *,
        trained: Trained = "norms",
        towers: Towers = "both",
        inner_width: int | None = None,
        unit_variance: bool = False,
        map_scale: float = 1.0,
        from_patches: bool = False,
        frozen_map: bool = False,
    ) -> None:
        """clip: an open_clip model, changed in place; all parameters but the trained ones are frozen.

        latent_shape: the teacher's (channels, height, width), for h_w. inner_width: its feature width, for h_f.
        unit_variance: normalise h_w's output to unit variance per latent. map_scale: factor on h_w's output.
        from_patches: h_w reads patch tokens. frozen_map: h_w is never trained; fit it first.
        Raises `UserError` for a CLIP without such parameters to train, or without patch tokens.
        """
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.says = _unfreeze(clip, trained, towers)
        self.latent_shape, self.unit_variance, self.map_scale = latent_shape, unit_variance, map_scale
        self.from_patches = from_patches
        width = embedding_width(clip)
        self.h_w = self._new_map(width, latent_shape) if latent_shape is not None else None
        if self.h_w is not None and frozen_map:
            self.h_w.requires_grad_(False)
        self.h_f = nn.Linear(width, inner_width) if inner_width is not None else None

    def _new_map(self, width: int, latent_shape: tuple[int, int, int]) -> nn.Linear:
        if self.from_patches:
            return nn.Linear(patch_width(self.clip), latent_shape[0])
        return nn.Linear(width, int(np.prod(latent_shape)))

    def encode(self, pixels_B: Tensor) -> tuple[Tensor, Tensor]:
        """features_BD of images, normalised, and what h_w reads of them: the same, or patch_BPYX."""
        if self.from_patches:
            return encode_patches(self.clip, pixels_B)
        features_BD: Tensor = self.clip.encode_image(pixels_B, normalize=True)
        return features_BD, features_BD

    def latents(self, read_B: Tensor) -> Tensor:
        """h_w(f(x)): [B, channels, height, width]. read_B: what h_w reads, from `encode`."""
        assert self.h_w is not None
        assert self.latent_shape is not None
        latent_BE = self._mapped(self.h_w, read_B)
        if self.unit_variance:
            latent_BE = nn.functional.layer_norm(latent_BE, latent_BE.shape[1:])
        return self.map_scale * latent_BE.reshape(len(latent_BE), *self.latent_shape)

    def _mapped(self, h_w: nn.Linear, read_B: Tensor) -> Tensor:
        """latent_BE, before its variance and scale are set."""
        if not self.from_patches:
            latent_BE: Tensor = h_w(read_B)
            return latent_BE
        assert self.latent_shape is not None
        latent_B: Tensor = h_w(read_B.movedim(1, -1)).movedim(-1, 1)
        if latent_B.shape[2:] != self.latent_shape[1:]:
            latent_B = nn.functional.interpolate(latent_B, self.latent_shape[1:], mode="bilinear")
        return latent_B.flatten(1)

    @torch.no_grad()
    def fit(self, read_N: Tensor, latent_N: Tensor) -> None:
        """Initialise h_w by least squares from what it reads to true latents. Its R2: `explains`, best on other images.

        read_N: [N, D], or patches [N, P, Y, X]. latent_N: [N, channels, height, width], scaled for the denoiser.
        h_w's output is fitted to latent_N / map_scale, as `latents` multiplies by that. In float64, so on the CPU: MPS
        has none.
        """
        assert self.h_w is not None
        x_ND, y_NE = (rows.double() for rows in self._rows(read_N.cpu(), latent_N.cpu()))
        y_NE = y_NE / self.map_scale
        x_D, y_E = x_ND.mean(0), y_NE.mean(0)
        x_ND, y_NE = x_ND - x_D, y_NE - y_E
        square_DD = x_ND.T @ x_ND
        square_DD += RIDGE * square_DD.diagonal().mean() * torch.eye(len(square_DD), dtype=torch.float64).to(x_ND)
        weight_DE = torch.linalg.solve(square_DD, x_ND.T @ y_NE)
        self.h_w.weight.copy_(weight_DE.T)
        self.h_w.bias.copy_(y_E - x_D @ weight_DE)

    def _rows(self, read_N: Tensor, latent_N: Tensor) -> tuple[Tensor, Tensor]:
        """What h_w maps to what: a row per image, or per patch with the mean of the latent that it covers."""
        if not self.from_patches:
            return read_N, latent_N.flatten(1)
        small_N = nn.functional.adaptive_avg_pool2d(latent_N, (read_N.shape[2], read_N.shape[3]))
        return read_N.movedim(1, -1).flatten(0, 2), small_N.movedim(1, -1).flatten(0, 2)

    @torch.no_grad()
    def explains(self, read_N: Tensor, latent_N: Tensor) -> float:
        """R2 of h_w's scaled output on these images, before `unit_variance`, which keeps its direction alone.

        On images that h_w was fitted on, it is 1 if it reads embeddings and they are fewer than D.
        """
        assert self.h_w is not None
        y_NE = latent_N.cpu().flatten(1).double()
        error_NE = y_NE - self.map_scale * self._mapped(deepcopy(self.h_w).cpu().double(), read_N.cpu().double())
        return float(1 - error_NE.square().sum() / (y_NE - y_NE.mean(0)).square().sum())

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """CLIP's trained parameters, without the linear maps."""
        return [parameter for parameter in self.clip.parameters() if parameter.requires_grad]


def embedding_width(clip: Any) -> int:
    """D, the width of the shared embedding of images and captions."""
    length = int(getattr(clip, "context_length", 77))
    device = next(clip.parameters()).device
    with torch.no_grad():
        return int(clip.encode_text(torch.zeros(1, length, dtype=torch.long, device=device)).shape[-1])


def _unfreeze(clip: Any, trained: Trained, towers: Towers) -> str:
    """Unfreeze the parameters to train and describe them. Raises `UserError` if there are none."""
    sides = {"image": [clip.visual], "text": [m for name, m in clip.named_children() if name != "visual"]}
    wanted = [side for side in sides if towers in ("both", side)]
    if trained == "all":
        for side in wanted:
            _ = [module.requires_grad_(True) for module in sides[side]]
            _ = [
                getattr(clip, name).requires_grad_(True)
                for name in TEXT_PARAMETERS
                if side == "text" and hasattr(clip, name)
            ]
        clip.logit_scale.requires_grad_(False)
        return f"every parameter of the {' and the '.join(wanted)} tower except the logit scale"
    said = []
    for side in wanted:
        modules = [module for root in sides[side] for module in root.modules()]
        norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
        batch_norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if not norms and not batch_norms:
            raise UserError(f"The {side} tower has neither LayerNorms nor BatchNorms: use --trained all instead.")
        for norm in norms or batch_norms:
            norm.requires_grad_(True)
        what = f"{len(norms)} LayerNorms" if norms else (
            f"{len(batch_norms)} BatchNorms (no LayerNorms found; scale and shift are trained, statistics frozen)"
        )  # fmt: skip
        said.append(f"{what} of the {side} tower")
    return " and ".join(said)
