"""A pipeline's parts are read a tensor at a time, and what the library refuses is still refused in its sentences."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, T5EncoderModel

from sdsdemo.errors import UserError
from sdsdemo.models import denoiser_files
from sdsdemo.models.denoiser_files import load_exactly
from sdsdemo.models.families import FAMILIES, load_diffusion
from sdsdemo.models.pipelines import layout_of, read_index
from tests import twins
from tests.models.families.text import t5
from tests.models.test_families import ALL

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return twins.sd_folder(tmp_path / "painter")


def changed(folder: Path, change: Any) -> Path:
    """The folder, after `change` of the UNet's weights by name."""
    path = folder / "unet" / FILE
    state = load_file(path)
    change(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return folder


@pytest.fixture
def library_loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of the parts that a library loads in its own way."""
    seen: list[Path] = []

    def noting(load: Any) -> Any:
        def noted(folder: Path, **options: Any) -> Any:
            seen.append(folder)
            return load(folder, **options)

        return noted

    for kind in (UNet2DConditionModel, AutoencoderKL, CLIPTextModel):
        monkeypatch.setattr(kind, "from_pretrained", noting(kind.from_pretrained))
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_of_the_library_bit_for_bit(folder: Path, dtype: torch.dtype) -> None:
    expected: Any = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    found: Any = load_exactly(UNet2DConditionModel, folder / "unet", [FILE], "twin", dtype)
    assert found.state_dict().keys() == expected.state_dict().keys()
    for key, weight in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], weight.to(dtype)), key
    assert not found.training
    assert found.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert {p.device.type for p in found.parameters()} == {"cpu"}


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.kind)
def test_every_family_is_read_a_tensor_at_a_time(family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family.save(tmp_path / "twin")
    read: set[str] = set()

    def noted(kind: Any, folder: Path, *given: Any) -> Any:
        found = load_exactly(kind, folder, *given)
        read.update([folder.name] if found is not None else [])
        return found

    monkeypatch.setattr("sdsdemo.models.diffusion_files.load_exactly", noted)
    load_diffusion(f"diffusers:{tmp_path / 'twin'}")
    assert family.kind in FAMILIES
    assert read >= {layout_of(read_index(tmp_path / "twin", "twin")).denoiser, "vae"}


def test_a_text_encoder_is_the_librarys_bit_for_bit(folder: Path) -> None:
    expected: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    found: Any = load_exactly(CLIPTextModel, folder / "text_encoder", ["model.safetensors"], "twin", torch.float32)
    assert dict(found.named_buffers()).keys() == dict(expected.named_buffers()).keys()
    ids = torch.arange(1, 9)[None]
    assert torch.equal(found(ids)[0], expected(ids)[0])


def test_no_weight_is_held_in_two_precisions_while_a_pipeline_loads(
    folder: Path, library_loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored: VAE in half, the rest in single. Run: VAE in single, the rest in half."""
    vae = folder / "vae" / FILE
    save_file({key: tensor.half() for key, tensor in load_file(vae).items()}, vae)
    read: list[weakref.ref[torch.Tensor]] = []
    held: list[int] = []
    read_one = denoiser_files._read

    def noted(*given: Any) -> torch.Tensor:
        held.append(sum(tensor() is not None for tensor in read))
        tensor = read_one(*given)
        read.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(denoiser_files, "_read", noted)
    model = load_diffusion(f"diffusers:{folder}", precision="bfloat16")
    assert library_loads == []
    assert max(held) <= 1  # the one that was put last, until its name goes to the next
    assert {weight.dtype for weight in model.vae.parameters()} == {torch.float32}
    assert {weight.dtype for part in (model.denoiser, *model.text_encoders) for weight in part.parameters()} == {
        torch.bfloat16
    }


MISFITS: dict[str, Any] = {
    "missing": lambda state: state.pop("conv_in.weight"),
    "mismatched": lambda state: state.update({"conv_in.weight": torch.zeros(8, 5, 3, 3)}),
    "left over": lambda state: state.update({"conv_extra.weight": torch.zeros(2)}),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_weights_that_do_not_fit_are_refused_as_the_library_finds_them(
    folder: Path, library_loads: list[Path], misfit: str
) -> None:
    with pytest.raises(UserError, match=r"weights of the unet of 'painter' do not fit its config|missing or broken"):
        load_diffusion(f"diffusers:{changed(folder, MISFITS[misfit])}")
    assert len(library_loads) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_a_number_is_named(folder: Path, value: float) -> None:
    changed(folder, lambda state: state["conv_in.weight"].view(-1)[:1].fill_(value))
    with pytest.raises(UserError, match=r"'painter/unet' are not finite: conv_in\.weight holds NaN or infinity"):
        load_diffusion(f"diffusers:{folder}")


def test_bytes_that_belong_to_no_tensor_are_left_to_the_library(folder: Path) -> None:
    path = folder / "unet" / FILE
    path.write_bytes(path.read_bytes() + b"    ")
    assert load_exactly(UNet2DConditionModel, folder / "unet", [FILE], "twin", torch.float32) is None
    with pytest.raises(UserError):
        load_diffusion(f"diffusers:{folder}")


def test_the_library_is_not_asked_where_all_fits(folder: Path, library_loads: list[Path]) -> None:
    load_diffusion(f"diffusers:{folder}")
    assert library_loads == []


def test_what_the_library_keeps_in_single_precision_is_read_so(tmp_path: Path) -> None:
    encoder = t5(16)
    encoder.save_pretrained(tmp_path)
    state = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}  # with both names of its embeddings
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    exact = load_exactly(T5EncoderModel, tmp_path, ["model.safetensors"], "twin", torch.float16)
    assert exact is not None
    library = T5EncoderModel.from_pretrained(tmp_path, dtype=torch.float16)
    assert {k: w.dtype for k, w in exact.state_dict().items()} == {k: w.dtype for k, w in library.state_dict().items()}
