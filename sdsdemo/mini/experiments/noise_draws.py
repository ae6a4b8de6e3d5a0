"""Differences of two captions' losses on validation pictures, under many noise draws and their opposites.

    d(t, r, +-) = loss_B - loss_A  at timestep t  under the noise +eps or -eps of draw r

Each picture has noise of its own, in two sets that share nothing: what is tried is tried on `tried`, and the sign that
counts as right is that of the mean of `reference`.

Shape suffixes: E picture, C caption, T timestep, R draw, P sign of the draw (+, -), B batch.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdsdemo.core.losses import denoising_error
from sdsdemo.data.mini.benchmarks import Pair, benchmark_pairs
from sdsdemo.data.mini.drawing import MODEL_PIXELS, draw
from sdsdemo.models import cards
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.noise_grid import spread_timesteps
from sdsdemo.models.precision import exactly
from sdsdemo.runtime import files

SEED = 41_007
"""Of the pictures, which are in no other set; picture e has the noise of seed SEED + e."""
PICTURES, AT_ONCE = 400, 20
"""Pictures, and how many are written at once."""
FIFTHS = {"mini-diffusion": 5, "mini-diffusion-short": 2}
"""By teacher: on how many fifths of the pictures it is tried."""
TIMESTEPS = 8
TRIED, REFERENCE = 16, 64
"""Draws a timestep in each set: with both signs 256 and 1,024 evaluations a caption."""
BATCH = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """What `collect` gives for a teacher; positive favours the true caption."""

    tried_ETRP: np.ndarray
    reference_ET: np.ndarray
    """The mean of the other set at each timestep."""
    reference_stderr_E: np.ndarray

    @property
    def reference(self) -> np.ndarray:
        """reference_E, the mean over timesteps."""
        reference_E: np.ndarray = self.reference_ET.mean(axis=1)
        return reference_E


def collect(teacher: str, work: Path, progress: Callable[[str], None], part: tuple[int, int] = (0, 1)) -> Draws:
    """The differences of a teacher, read from `work` as far as they are there.

    part: (k, n) makes only every n-th file, from the k-th.
    """
    pairs = benchmark_pairs(SEED, "validation", PICTURES)
    model: LatentDiffusion | None = None
    every = range(0, len(pairs), AT_ONCE)
    starts = sorted(first for fifth in range(FIFTHS[teacher]) for first in every[fifth::5])[part[0] :: part[1]]
    for first in starts:
        path = work / f"{teacher}-{first:04d}.npy"
        if not path.is_file():
            model = model or load_diffusion(cards.resolve(teacher).spec)
            found = [_differences(model, teacher, pairs[e], SEED + e) for e in range(first, first + AT_ONCE)]
            files.write_whole(path, _as_bytes(np.stack(found)))
            progress(f"{teacher}: pictures {first + 1} to {first + len(found)} of {len(pairs)}")
    loaded = [np.load(work / f"{teacher}-{first:04d}.npy", allow_pickle=False) for first in starts]
    return _draws(np.concatenate(loaded).astype(np.float64))


def _draws(difference_ETRP: np.ndarray) -> Draws:
    """The first TRIED draws are one set, the others the other."""
    reference_ETR = difference_ETRP[:, :, TRIED:].mean(axis=3)
    variance_ET = reference_ETR.var(axis=2, ddof=1) / REFERENCE
    return Draws(
        tried_ETRP=difference_ETRP[:, :, :TRIED],
        reference_ET=reference_ETR.mean(axis=2),
        reference_stderr_E=np.sqrt(variance_ET.sum(axis=1)) / TIMESTEPS,
    )


def _as_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _differences(model: LatentDiffusion, teacher: str, pair: Pair, seed: int) -> np.ndarray:
    """difference_TRP, float32, of the pair's first picture, whose true caption is its first."""
    span = cards.resolve(teacher).timestep_range
    step_T = torch.from_numpy(spread_timesteps(TIMESTEPS, span, model.schedule.steps))
    generator = torch.Generator("cpu").manual_seed(seed)
    noise_TR = torch.randn(TIMESTEPS, TRIED + REFERENCE, *model.latent_shape, generator=generator)
    noise_TRP = torch.stack([noise_TR, -noise_TR], dim=2)
    shape = noise_TRP.shape[:3]
    with exactly(model.device):
        latent_I = model.encode_images([draw(pair.scenes[0], MODEL_PIXELS)])
        condition_C = model.encode_prompts([pair.sentences[0].text, pair.sentences[1].text])
        place_B = torch.split(torch.arange(shape.numel()), BATCH)
        found = [_difference(model, latent_I, condition_C, noise_TRP, step_T, index_B) for index_B in place_B]
    difference_TRP: np.ndarray = torch.cat(found).reshape(shape).numpy()
    return difference_TRP


def _difference(
    model: LatentDiffusion, latent_I: Tensor, condition_C: Tensor, noise_TRP: Tensor, step_T: Tensor, index_B: Tensor
) -> Tensor:
    """d at some flat places of the grid, [B]."""
    t_B, r_B, p_B = torch.unravel_index(index_B, noise_TRP.shape[:3])
    latent_B = latent_I.expand(len(index_B), *latent_I.shape[1:])
    given = (model.denoise, model.schedule, latent_B, noise_TRP[t_B, r_B, p_B], step_T[t_B])
    own, other = (denoising_error(*given, model.take(condition_C, torch.full_like(index_B, c))) for c in (0, 1))
    return other - own
