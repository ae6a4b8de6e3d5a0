"""Differences of two captions' losses on validation pictures, under many noise draws and their opposites.

    d(t, r, +-) = loss_B - loss_A  at timestep t  under the noise +eps or -eps of draw r

Each picture has noise of its own, in two sets that share nothing: what is tried is tried on `tried`, and the sign that
counts as right is that of the mean of `reference`.

Shape suffixes: E picture, C caption, T timestep, R draw, P sign of the draw (+, -), B batch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
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
    reference_stderr_ET: np.ndarray

    @property
    def reference(self) -> np.ndarray:
        """reference_E, the mean over timesteps."""
        reference_E: np.ndarray = self.reference_ET.mean(axis=1)
        return reference_E

    @property
    def reference_stderr(self) -> np.ndarray:
        """stderr_E of `reference`."""
        stderr_E: np.ndarray = np.sqrt(np.square(self.reference_stderr_ET).sum(axis=1)) / self.reference_ET.shape[1]
        return stderr_E


def collect(
    teacher: str,
    work: Path,
    progress: Callable[[str], None],
    part: tuple[int, int] = (0, 1),
    fifths: int | None = None,
) -> Draws:
    """The differences of a teacher, read from `work` as far as they are there.

    part: (k, n) makes only every n-th file, from the k-th. fifths: of the pictures; None: those of `FIFTHS`.
    """
    grid = (TIMESTEPS, TRIED + REFERENCE)
    wanted = FIFTHS[teacher] if fifths is None else fifths
    return _draws(stored(teacher, wanted, work / teacher, SEED, (grid,), progress, part))


def stored(
    teacher: str,
    fifths: int,
    stem: Path,
    seed: int,
    grids: Sequence[tuple[int, int]],
    progress: Callable[[str], None],
    part: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """difference_ETRP of the first fifths of the pictures, in files that begin with `stem`; makes those not there.

    grids: timesteps and draws of each; all have as many draws, and their timesteps follow one another.
    seed: picture e has the noise of seed + e.
    """
    pairs = benchmark_pairs(SEED, "validation", PICTURES)
    model: LatentDiffusion | None = None
    every = range(0, len(pairs), AT_ONCE)
    starts = sorted(first for fifth in range(fifths) for first in every[fifth::5])[part[0] :: part[1]]
    paths = {first: stem.with_name(f"{stem.name}-{first:04d}.npy") for first in starts}
    for first, path in paths.items():
        if not path.is_file():
            model = model or load_diffusion(cards.resolve(teacher).spec)
            found = [_differences(model, teacher, pairs[e], seed + e, grids) for e in range(first, first + AT_ONCE)]
            files.write_whole(path, as_bytes(np.stack(found)))
            progress(f"{stem.name}: pictures {first + 1} to {first + len(found)} of {len(pairs)}")
    loaded = [np.load(path, allow_pickle=False) for path in paths.values()]
    difference_ETRP: np.ndarray = np.concatenate(loaded).astype(np.float64)
    return difference_ETRP


def _draws(difference_ETRP: np.ndarray) -> Draws:
    """The first TRIED draws are one set, the others the other."""
    return referred(difference_ETRP[:, :, :TRIED], difference_ETRP[:, :, TRIED:])


def referred(tried_ETRP: np.ndarray, reference_ETRP: np.ndarray) -> Draws:
    """What is tried, and a reference of its own timesteps."""
    pair_ETR = reference_ETRP.mean(axis=3)
    return Draws(
        tried_ETRP=tried_ETRP,
        reference_ET=pair_ETR.mean(axis=2),
        reference_stderr_ET=pair_ETR.std(axis=2, ddof=1) / np.sqrt(pair_ETR.shape[2]),
    )


def as_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _differences(
    model: LatentDiffusion, teacher: str, pair: Pair, seed: int, grids: Sequence[tuple[int, int]]
) -> np.ndarray:
    """difference_TRP, float32, of the pair's first picture, whose true caption is its first."""
    span = cards.resolve(teacher).timestep_range
    generator = torch.Generator("cpu").manual_seed(seed)
    with exactly(model.device):
        latent_I = model.encode_images([draw(pair.scenes[0], MODEL_PIXELS)])
        condition_C = model.encode_prompts([pair.sentences[0].text, pair.sentences[1].text])
        found = []
        for count_T, count_R in grids:
            step_T = torch.from_numpy(spread_timesteps(count_T, span, model.schedule.steps))
            noise_TR = torch.randn(count_T, count_R, *model.latent_shape, generator=generator)
            noise_TRP = torch.stack([noise_TR, -noise_TR], dim=2)
            found.append(_of_grid(model, latent_I, condition_C, noise_TRP, step_T))
    difference_TRP: np.ndarray = torch.cat(found).numpy()
    return difference_TRP


def _of_grid(
    model: LatentDiffusion, latent_I: Tensor, condition_C: Tensor, noise_TRP: Tensor, step_T: Tensor
) -> Tensor:
    """difference_TRP of one grid."""
    shape = noise_TRP.shape[:3]
    place_B = torch.split(torch.arange(shape.numel()), BATCH)
    found = [_difference(model, latent_I, condition_C, noise_TRP, step_T, index_B) for index_B in place_B]
    return torch.cat(found).reshape(shape)


def _difference(
    model: LatentDiffusion, latent_I: Tensor, condition_C: Tensor, noise_TRP: Tensor, step_T: Tensor, index_B: Tensor
) -> Tensor:
    """d at some flat places of the grid, [B]."""
    t_B, r_B, p_B = torch.unravel_index(index_B, noise_TRP.shape[:3])
    latent_B = latent_I.expand(len(index_B), *latent_I.shape[1:])
    given = (model.denoise, model.schedule, latent_B, noise_TRP[t_B, r_B, p_B], step_T[t_B])
    own, other = (denoising_error(*given, model.take(condition_C, torch.full_like(index_B, c))) for c in (0, 1))
    return other - own
