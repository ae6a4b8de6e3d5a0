"""Models that several threads load at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from sdsdemo.models.clip import ClipModel
from sdsdemo.models.families import load_diffusion
from sdsdemo.settings import CHECKPOINTS

CLIP, TEACHER = f"open_clip:local-dir:{CHECKPOINTS / 'mini-clip'}", f"diffusers:{CHECKPOINTS / 'mini-diffusion'}"


def clip() -> list[torch.Tensor]:
    return list(ClipModel.load(CLIP).module.state_dict().values())


def teacher() -> list[torch.Tensor]:
    return list(load_diffusion(TEACHER).denoiser.state_dict().values())


@pytest.mark.slow
def test_models_that_threads_load_at_once_have_their_weights() -> None:
    expected = {load: load() for load in (clip, teacher)}
    start = Barrier(4)

    def loaded(load: Callable[[], list[torch.Tensor]]) -> bool:
        start.wait()
        return all(torch.equal(now, then) for _ in range(3) for now, then in zip(load(), expected[load], strict=True))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(loaded, [clip, teacher, clip, teacher]))
