"""Fine-tuning on a Mac's GPU, which has no CUDA and no float64. None is needed here."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.run_record import RunRecord
from sdsdemo.finetuning.setup import Plan
from sdsdemo.finetuning.student import Student
from sdsdemo.finetuning.training import SmallerParts
from sdsdemo.models import cards
from sdsdemo.runtime.distributed import ALONE
from sdsdemo.settings import Settings
from tests.finetuning.tiny_teacher import LATENT, objective, student

MPS = torch.device("mps")


class OnMps(Tensor):
    """A tensor that cannot be float64 until it is on the CPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs or {})
        if func is Tensor.cpu:
            return found.as_subclass(Tensor)
        if isinstance(found, Tensor) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return found


class LinearOnMps(nn.Linear):
    on_mps = True

    def cpu(self) -> Any:
        self.on_mps = False
        return super().cpu()

    def double(self) -> Any:
        assert not self.on_mps, "MPS has no float64"
        return super().double()


def test_a_run_on_mps_begins_and_names_its_device(tmp_path: Path) -> None:
    plan = Plan(
        recipe=Recipe(objective="clip"), base_card=cards.resolve("mini-clip"), teacher_card=None, device=MPS,
        settings=Settings.from_environment({}), processes=ALONE, cache=None,
    )  # fmt: skip
    assert RunRecord(plan, FineTuningFolder(tmp_path / "run")).values["device"] == "mps"


@pytest.mark.parametrize("from_patches", [False, True])
def test_h_w_is_fitted_without_float64_on_the_device(from_patches: bool) -> None:
    plain: Student = student(from_patches=from_patches)
    assert plain.h_w is not None
    on_mps, width = deepcopy(plain), plain.h_w.in_features
    on_mps.h_w = LinearOnMps(width, plain.h_w.out_features)
    generator = torch.Generator().manual_seed(0)
    shape = (9, width, 8, 8) if from_patches else (9, width)
    read_N, latent_N = torch.randn(shape, generator=generator), torch.randn(9, *LATENT, generator=generator)
    read, latent = read_N.as_subclass(OnMps), latent_N.as_subclass(OnMps)
    on_mps.fit(read, latent)
    plain.fit(read_N, latent_N)
    assert on_mps.explains(read, latent) == plain.explains(read_N, latent_N)
    assert torch.equal(on_mps.h_w.weight, plain.h_w.weight)
    assert on_mps.h_w.on_mps, "the copy alone leaves the device"


def test_smaller_micro_batches_give_back_memory_of_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    memory = SmallerParts(objective(student()), MPS)
    assert [memory.relieve(), memory.relieve()] == [True, False]
    assert emptied == ["mps"]
