"""The student: a CLIP of which some parameters are trained, and linear maps from its image embedding.

    h_w   to the teacher's latents, for L_SDS          h_f   to its inner features, for `features`

Shape suffixes: B batch, D features, N pictures, E elements of a latent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Towers, Trained

RIDGE = 1e-3
"""Added to the diagonal of the least squares, in units of its mean, so that it has one answer."""
TEXT_PARAMETERS = ("positional_embedding", "text_projection")
"""Parameters of open_clip's text tower that lie in no module of their own."""


class Student(nn.Module):
    """A CLIP, the parameters of it that are trained, and the linear maps from its image embedding."""

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
    ) -> None:
        """clip: an open_clip model, changed in place; its parameters are frozen but for those that are trained.

        latent_shape: the teacher's (channels, height, width), for h_w. inner_width: of its inner features, for h_f.
        unit_variance, map_scale: h_w's output is brought to unit variance a latent, and multiplied.
        Raises `UserError` for a CLIP that has nothing of the kind to train.
        """
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.says = _thaw(clip, trained, towers)
        self.latent_shape, self.unit_variance, self.map_scale = latent_shape, unit_variance, map_scale
        width = embedding_width(clip)
        self.h_w = nn.Linear(width, int(np.prod(latent_shape))) if latent_shape is not None else None
        self.h_f = nn.Linear(width, inner_width) if inner_width is not None else None

    def latents(self, features_BD: Tensor) -> Tensor:
        """h_w(f(x)): [B, channels, height, width]."""
        assert self.h_w is not None
        assert self.latent_shape is not None
        latent_BE: Tensor = self.h_w(features_BD)
        if self.unit_variance:
            latent_BE = nn.functional.layer_norm(latent_BE, latent_BE.shape[1:])
        return self.map_scale * latent_BE.reshape(len(latent_BE), *self.latent_shape)

    @torch.no_grad()
    def fit(self, features_ND: Tensor, latent_N: Tensor) -> float:
        """Start h_w at the least-squares map from image embeddings to true latents; gives the R2 of that map.

        features_ND: [N, D]. latent_N: [N, channels, height, width], scaled as the denoiser meets them.
        """
        assert self.h_w is not None
        x_ND, y_NE = features_ND.double(), latent_N.flatten(1).double()
        x_D, y_E = x_ND.mean(0), y_NE.mean(0)
        x_ND, y_NE = x_ND - x_D, y_NE - y_E
        square_DD = x_ND.T @ x_ND
        square_DD += RIDGE * square_DD.diagonal().mean() * torch.eye(len(square_DD), dtype=torch.float64).to(x_ND)
        weight_DE = torch.linalg.solve(square_DD, x_ND.T @ y_NE)
        self.h_w.weight.copy_(weight_DE.T)
        self.h_w.bias.copy_(y_E - x_D @ weight_DE)
        return self.explains(features_ND, latent_N)

    @torch.no_grad()
    def explains(self, features_ND: Tensor, latent_N: Tensor) -> float:
        """R2 of h_w on images: of the ones that it was fitted on it is 1 where these are fewer than D."""
        assert self.h_w is not None
        y_NE = latent_N.flatten(1).double()
        weight_ED, bias_E = self.h_w.weight.double(), self.h_w.bias.double()
        error_NE = y_NE - features_ND.double() @ weight_ED.T - bias_E
        return float(1 - error_NE.square().sum() / (y_NE - y_NE.mean(0)).square().sum())

    @property
    def thawed(self) -> list[nn.Parameter]:
        """The parameters of CLIP that are trained, without the maps."""
        return [parameter for parameter in self.clip.parameters() if parameter.requires_grad]


def embedding_width(clip: Any) -> int:
    """D of the embedding that images and captions share."""
    length = int(getattr(clip, "context_length", 77))
    device = next(clip.parameters()).device
    with torch.no_grad():
        return int(clip.encode_text(torch.zeros(1, length, dtype=torch.long, device=device)).shape[-1])


def _thaw(clip: Any, trained: Trained, towers: Towers) -> str:
    """Let the parameters that are trained have a gradient; says which they are. Raises `UserError` for none."""
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
            raise UserError(f"The {side} tower has neither LayerNorms nor BatchNorms: train all parameters instead.")
        for norm in norms or batch_norms:
            norm.requires_grad_(True)
        what = f"{len(norms)} LayerNorms" if norms else (
            f"{len(batch_norms)} BatchNorms, as it has no LayerNorm: their scale and shift, with frozen statistics"
        )  # fmt: skip
        said.append(f"{what} of the {side} tower")
    return " and ".join(said)
