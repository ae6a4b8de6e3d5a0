"""What a denoiser says about one of the scenes: errors of each place, attention, and losses after each repaint.

Everything of a scene meets the same noise, which is drawn from the scene's own seed: so errors of the draw are as
independent between scenes as the scenes are.

Shape suffixes: C caption, T timestep, N noise draw, H, W places of the latent, K thing, R repaint, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdsdemo.core.losses import denoising_residual
from sdsdemo.data.mini.drawing import MODEL_PIXELS, draw
from sdsdemo.data.mini.scenes import Scene
from sdsdemo.mini.experiments.map_scenes import MapScene
from sdsdemo.models.attention import AttentionReader, differing_tokens
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.noise_grid import draw_noise, spread_timesteps
from sdsdemo.models.precision import exactly
from sdsdemo.types import Budget


@dataclass(frozen=True, kw_only=True)
class Read:
    """A scene as the denoiser sees it."""

    error_CTNHW: np.ndarray
    """Under A and B, under the distractors' pair, and under the absent pair."""
    attention_HW: np.ndarray
    """To the words in which A and B differ, a mean over both captions and all evaluations."""
    change_KR: np.ndarray
    """How far each repaint moves the difference of the losses of B and A: signed."""


class MapReader:
    """Reads scenes with one model."""

    def __init__(self, model: LatentDiffusion, span: tuple[float, float]) -> None:
        """span: the part of the noise schedule that timesteps cover."""
        self.model, self._span = model, span
        self._attention = AttentionReader(model)

    def read(self, one: MapScene, budget: Budget) -> Read:
        """Everything about a scene under the budget's noise."""
        noise_TN = draw_noise(budget, self.model.latent_shape).to(self.model.device)
        with exactly(self.model.device):
            latent_I = self._encode([one.scene])
            own_CTNHW, attention_HW = self._with_attention(latent_I, one.captions, noise_TN)
            other_CTNHW = self._errors(latent_I, [*one.distractors, *one.absent], noise_TN)
            losses = [
                self._difference(self._errors(self._encode([scene]), one.captions, noise_TN))
                for repaints in one.repainted
                for scene in repaints
            ]
        change_KR = np.array(losses).reshape(len(one.repainted), -1) - self._difference(own_CTNHW)
        return Read(
            error_CTNHW=np.concatenate([own_CTNHW, other_CTNHW]), attention_HW=attention_HW, change_KR=change_KR
        )

    def _encode(self, scenes: Sequence[Scene]) -> Tensor:
        return self.model.encode_images([draw(scene, MODEL_PIXELS) for scene in scenes])

    @staticmethod
    def _difference(error_CTNHW: np.ndarray) -> float:
        """Loss of B minus loss of A."""
        loss_C = error_CTNHW.mean(axis=(1, 2, 3, 4), dtype=np.float64)
        return float(loss_C[1] - loss_C[0])

    def _errors(self, latent_I: Tensor, captions: Sequence[str], noise_TN: Tensor) -> np.ndarray:
        """error_CTNHW of one latent."""
        condition_C = self.model.encode_prompts(captions)
        found = []
        for latent_B, noise_B, timestep_B, caption_B in self._batches(latent_I, len(captions), noise_TN):
            given = (latent_B, noise_B, timestep_B, self.model.take(condition_C, caption_B))
            found.append(denoising_residual(self.model.denoise, self.model.schedule, *given))
        return _of_places(found, len(captions), noise_TN)

    def _with_attention(
        self, latent_I: Tensor, captions: Sequence[str], noise_TN: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """error_CTNHW of two captions, and attention_HW to the words in which they differ."""
        condition_C = self.model.encode_prompts(captions)
        token_CL = torch.tensor(differing_tokens(*self.model.tokenize(captions).tolist()))
        found, attention = [], []
        for latent_B, noise_B, timestep_B, caption_B in self._batches(latent_I, len(captions), noise_TN):

            def denoise(noisy_B: Tensor, step_B: Tensor, condition_B: Tensor, at_B: Tensor = caption_B) -> Tensor:
                output_B, attention_BHW = self._attention.denoise(noisy_B, step_B, condition_B, token_CL[at_B])
                attention.append(attention_BHW.cpu())
                return output_B

            given = (latent_B, noise_B, timestep_B, self.model.take(condition_C, caption_B))
            found.append(denoising_residual(denoise, self.model.schedule, *given))
        attention_HW: np.ndarray = torch.cat(attention).double().mean(dim=0).numpy()
        return _of_places(found, len(captions), noise_TN), attention_HW

    def _batches(
        self, latent_I: Tensor, captions: int, noise_TN: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Latent, noise, timestep and caption of captions x timesteps x noises, in this order."""
        timesteps, noises = noise_TN.shape[:2]
        step_T = torch.from_numpy(spread_timesteps(timesteps, self._span, self.model.schedule.steps))
        index = torch.arange(captions * timesteps * noises)
        for index_B in torch.split(index, self.model.default_micro_batch()):
            c_B, t_B, n_B = torch.unravel_index(index_B, (captions, timesteps, noises))
            yield latent_I.expand(len(index_B), *latent_I.shape[1:]), noise_TN[t_B, n_B], step_T[t_B], c_B


def _of_places(residuals: Sequence[Tensor], captions: int, noise_TN: Tensor) -> np.ndarray:
    """error_CTNHW, a mean over channels."""
    residual_CTN = torch.cat(list(residuals)).reshape(captions, *noise_TN.shape)
    error_CTNHW: np.ndarray = residual_CTN.square().mean(dim=3).cpu().numpy()
    return error_CTNHW
