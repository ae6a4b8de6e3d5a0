"""Which precision a denoiser runs in on which machine, and that its weights are loaded in it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn
from transformers import T5EncoderModel

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.losses import sds_loss
from sdsdemo.core.noising import NoiseSchedule
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer, precision
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.families import from_pipeline, load_diffusion
from sdsdemo.models.frozen import frozen_view
from sdsdemo.models.precision import LARGE, cpu_has_bfloat16, gpu_has_bfloat16, pick_precision
from sdsdemo.settings import Settings
from sdsdemo.types import Budget, Precision
from tests import twins
from tests.models.families.sd3 import SD3

CPU, GPU, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle"]
BUDGET = Budget(timesteps=3, noises=2, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twins.sd_folder(tmp_path_factory.mktemp("precision"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the processor can do: `machine(amx=True)`."""

    def processor(*, amx: bool = False, avx512: bool = False) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)

    return processor


@pytest.mark.parametrize(("amx", "avx512"), [(True, False), (False, True), (True, True)])
def test_a_large_denoiser_runs_in_bfloat16_on_a_cpu_that_has_it(machine: Any, amx: bool, avx512: bool) -> None:
    machine(amx=amx, avx512=avx512)
    assert pick_precision("auto", CPU, LARGE + 1, torch.float16) == torch.bfloat16
    assert pick_precision("auto", CPU, LARGE, torch.float16) == torch.float32
    assert pick_precision("auto", MPS, LARGE + 1, torch.float16) == torch.float32


def test_without_bfloat16_in_the_processor_a_large_denoiser_stays_single(machine: Any) -> None:
    machine()
    assert pick_precision("auto", CPU, 10 * LARGE, torch.bfloat16) == torch.float32


def test_a_torch_that_does_not_say_is_taken_to_have_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not cpu_has_bfloat16()


@pytest.mark.parametrize(("major", "has"), [(7, False), (8, True)])
def test_a_gpu_that_emulates_bfloat16_counts_as_one_without(
    monkeypatch: pytest.MonkeyPatch, major: int, has: bool
) -> None:
    found = {"is_available": True, "current_device": 0, "get_device_properties": SimpleNamespace(major=major)}
    for name, answer in found.items():
        monkeypatch.setattr(torch.cuda, name, lambda *given, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert gpu_has_bfloat16() == has


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gpu_runs_what_the_family_says(machine: Any, dtype: torch.dtype) -> None:
    machine(amx=True)
    assert pick_precision("auto", GPU, 1, dtype) == dtype


@pytest.mark.parametrize("device", [CPU, GPU, MPS])
@pytest.mark.parametrize("name", precision.DTYPES)
def test_an_explicit_setting_wins(machine: Any, device: torch.device, name: Precision) -> None:
    machine(amx=True)
    assert pick_precision(name, device, 10 * LARGE, torch.float16) == precision.DTYPES[name]


def test_a_precision_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="'double'"):
        pick_precision("double", CPU, 1, torch.float16)
    with pytest.raises(UserError, match=r"must be auto, float32, bfloat16 or float16; it was 'double'\.$"):
        Settings.from_environment({"SDSDEMO_PRECISION": "double"})


def test_the_setting_reaches_the_model_and_its_scores_say_so(folder: Path) -> None:
    workbench = Workbench(Settings.from_environment({"SDSDEMO_PRECISION": "BFloat16"}))
    scorer = workbench.scorer(f"diffusers:{folder}")
    assert isinstance(scorer, DiffusionScorer)
    single = open_scorer(cards.resolve(f"diffusers:{folder}"), device="cpu")
    found, expected = (one.score([twins.picture()], CAPTIONS, BUDGET) for one in (scorer, single))
    assert (found.precision, expected.precision) == ("bfloat16", "float32")
    np.testing.assert_allclose(found.score_IC, expected.score_IC, rtol=0.02)
    assert not np.array_equal(found.score_IC, expected.score_IC)


def test_mini_stays_single_bit_for_bit_on_a_cpu_with_bfloat16(machine: Any) -> None:
    card, scores = cards.resolve("mini-diffusion"), []
    picture = twins.picture(size=(64, 64))
    for amx in (False, True):
        machine(amx=amx)
        scores.append(open_scorer(card, device="cpu").score([picture], CAPTIONS, BUDGET))
    assert {found.precision for found in scores} == {"float32"}
    np.testing.assert_array_equal(scores[0].score_IC, scores[1].score_IC)


def test_weights_are_loaded_in_their_precision_at_once(
    folder: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the processor picks for a large denoiser; here any counts as large."""
    machine(amx=True)
    monkeypatch.setattr(precision, "LARGE", 1)
    converted: list[torch.dtype] = []
    to = nn.Module.to

    def noted(module: nn.Module, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> nn.Module:
        if dtype is not None:
            converted.extend({p.dtype for p in module.parameters()} - {dtype})
        return to(module, *args, dtype=dtype, **kwargs)

    monkeypatch.setattr(nn.Module, "to", noted)
    model = load_diffusion(f"diffusers:{folder}")
    assert converted == []
    assert {p.dtype for part in (model.denoiser, *model.text_encoders) for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.vae.parameters()} == {torch.float32}


def test_what_is_computed_and_not_stored_keeps_single_precision() -> None:
    """As the frequencies of rotary positions: rounded to 8 bits they would place a late token elsewhere."""
    module = nn.Linear(2, 2)
    module.register_buffer("frequency", torch.tensor([1.0, 0.7943]), persistent=False)
    module.register_buffer("mean", torch.tensor([0.7943]))
    view = frozen_view(module, CPU, torch.bfloat16)
    assert view.weight.dtype == view.mean.dtype == torch.bfloat16
    assert view.frequency.tolist() == module.frequency.tolist()
    assert frozen_view(module.half(), CPU, torch.float32).frequency.dtype == torch.float32


def test_in_half_precision_t5_keeps_in_single_what_the_library_keeps(tmp_path: Path) -> None:
    SD3.save(tmp_path)
    library = T5EncoderModel.from_pretrained(tmp_path / "text_encoder_3", dtype=torch.float16)
    assert {weight.dtype for weight in library.parameters()} == {torch.float16, torch.float32}
    pipes = [StableDiffusion3Pipeline.from_pretrained(tmp_path, torch_dtype=dtype) for dtype in (None, torch.float16)]
    models = [from_pipeline(pipe, precision="float16") for pipe in pipes]
    for model in (load_diffusion(f"diffusers:{tmp_path}", precision="float16"), *models):
        for name, weight in model.text_encoders[2].named_parameters():
            torch.testing.assert_close(weight, library.get_parameter(name), rtol=0, atol=0)
    kept = [name for name, weight in library.named_parameters() if weight.dtype == torch.float32]
    shared = models[1].text_encoders[2].get_parameter(kept[0])
    assert shared.data_ptr() == pipes[1].text_encoder_3.get_parameter(kept[0]).data_ptr()
    in_bfloat16 = frozen_view(library, CPU, torch.bfloat16)
    assert {weight.dtype for weight in in_bfloat16.parameters()} == {torch.bfloat16}


class Squares(LatentDiffusion):
    """Its denoiser squares what it is given, in a precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.device, self.dtype = CPU, dtype

    def predict(self, noisy_B: Tensor, timestep_B: Tensor, condition_B: Any) -> Tensor:
        assert noisy_B.dtype == self.dtype
        return noisy_B * noisy_B


def test_l_sds_in_half_precision_has_the_gradient_of_single() -> None:
    """At lambda 0.001 it is below half precision's least number; samples whose losses count otherwise scale apart."""
    schedule = NoiseSchedule(prediction="epsilon", alpha_bar=torch.linspace(0.99, 0.01, 1000))
    latent_B, noise_B = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    given: Any = (noise_B, torch.tensor([100, 500, 900]), None)
    gradients: list[Tensor] = []
    for dtype in (torch.float16, torch.float32):
        z_B, denoise = latent_B.clone().requires_grad_(), Squares(dtype).denoise
        loss_B = sds_loss(denoise, schedule, z_B, *given)
        assert torch.equal(loss_B, sds_loss(denoise, schedule, latent_B, *given)), "the loss itself does not change"
        gradients += torch.autograd.grad((loss_B * torch.tensor([1e-4, 1e-9, 1.0])).sum(), z_B)
    for half, single in zip(*gradients, strict=True):
        assert float((half - single).norm() / single.norm()) < 0.01


def test_a_gradient_of_zero_stays_zero_in_half_precision() -> None:
    noisy_B = torch.ones(2, 1, 2, 2, requires_grad=True)
    output_B = Squares(torch.float16).denoise(noisy_B, torch.zeros(2), None)
    (gradient_B,) = torch.autograd.grad(output_B[0].sum(), noisy_B)
    assert gradient_B[0].eq(2).all()
    assert not gradient_B[1].any()


def _settings() -> list[Any]:
    """Whatever torch keeps of the precision of float32; None where it refuses to say."""
    found: list[Any] = [spot.fp32_precision for spot in precision._spots()]
    for ask in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            found.append(ask())
        except RuntimeError:
            found.append(None)
    return found


@pytest.fixture
def as_before() -> Iterator[None]:
    """Puts torch's settings back, whatever a test does to them."""
    put_back = precision._set_single()
    put_back()
    yield
    put_back()


USED: dict[str, Callable[[Any], None]] = {
    "torch's own": lambda backends: None,
    "products in TF32": lambda backends: torch.set_float32_matmul_precision("high"),
    "the older setting": lambda backends: setattr(backends.cuda.matmul, "allow_tf32", True),
    "the newer setting": lambda backends: setattr(backends.cuda.matmul, "fp32_precision", "tf32"),
    "convolutions in TF32": lambda backends: setattr(backends.cudnn.conv, "fp32_precision", "tf32"),
}


@pytest.mark.parametrize("kind", USED)
@pytest.mark.usefixtures("as_before")
def test_a_score_is_single_whatever_the_caller_has_switched_on(kind: str) -> None:
    USED[kind](torch.backends)
    before = _settings()
    with precision.exactly(CPU), precision.exactly(CPU):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
        assert {spot.fp32_precision for spot in precision._spots()} <= {"ieee"}
    assert _settings() == before


@pytest.mark.usefixtures("as_before")
def test_two_at_once_stay_single_until_the_last_is_done() -> None:
    first, second = precision.single_precision(), precision.single_precision()
    before = _settings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert _settings() == before
