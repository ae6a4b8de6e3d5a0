"""A diffusion scorer that memory runs out on: smaller batches and the same numbers, or a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.errors import UserError
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.memory import is_out_of_memory
from tests import twins
from tests.models.diffusion_twins import BUDGET, CAPTIONS, evidence, losses, scorer_of


@pytest.fixture
def scorer(diffusion_folders: dict[str, Path]) -> DiffusionScorer:
    return scorer_of(diffusion_folders["epsilon"])


FULL = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"),
    "cpu of Windows": RuntimeError(
        "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate"
    ),
    "cuda driver": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB)"),
}


@pytest.mark.parametrize("device", FULL)
def test_out_of_memory_halves_the_micro_batch_and_loses_no_sample(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    expected = losses(scorer.score([twins.picture()], CAPTIONS, BUDGET))
    monkeypatch.setattr(scorer.model, "denoise", _with_room_for(3, scorer.model.denoise, FULL[device]))
    scores = scorer.score([twins.picture()], CAPTIONS, BUDGET)
    np.testing.assert_allclose(losses(scores), expected, atol=1e-5)
    assert evidence(scores).micro_batch == 2


def test_memory_may_run_out_where_conditions_are_gathered(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.micro_batch, take = 8, scorer.model.take

    def take_if_it_fits(condition_C: Any, index_B: torch.Tensor) -> Any:
        if len(index_B) > 3:
            raise FULL["cuda"]
        return take(condition_C, index_B)

    monkeypatch.setattr(scorer.model, "take", take_if_it_fits)
    assert evidence(scorer.score([twins.picture()], CAPTIONS, BUDGET)).micro_batch == 2


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", "The computer (the device is cpu) has"), ("mps", "The GPU (mps) has"), ("cuda", "The GPU has")],
)
def test_one_sample_that_does_not_fit_is_a_sentence_that_names_the_device(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    scorer.micro_batch = 1
    monkeypatch.setattr(scorer.model, "device", torch.device(device))
    with pytest.raises(UserError, match=f"^{re.escape(said)} too little memory for one sample of .*: close "):
        scorer._halve()


def test_what_this_torch_says_of_a_full_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as said:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(said.value)


@pytest.mark.parametrize("words", ["mat1 and mat2 shapes cannot be multiplied", "not enough memory for the cache file"])
def test_another_error_is_passed_on_and_halves_nothing(
    scorer: DiffusionScorer, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    before = scorer.micro_batch
    monkeypatch.setattr(scorer.model, "denoise", _with_room_for(0, scorer.model.denoise, RuntimeError(words)))
    with pytest.raises(RuntimeError, match=words):
        scorer.score([twins.picture()], CAPTIONS, BUDGET)
    assert scorer.micro_batch == before


def _with_room_for(samples: int, denoise: Any, error: Exception) -> Any:
    def denoise_if_it_fits(noisy_B: torch.Tensor, timestep_B: torch.Tensor, condition_B: Any) -> torch.Tensor:
        if len(noisy_B) > samples:
            raise error
        return denoise(noisy_B, timestep_B, condition_B)

    return denoise_if_it_fits
