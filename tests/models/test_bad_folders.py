"""What is wrong with a diffusion model that cannot be loaded: one sentence that says what to do, for every family."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.pipelines import check_pipeline, layout_of
from sdsdemo.models.weights import stem_of
from sdsdemo.settings import Settings, budget
from sdsdemo.ui.compare_models import models_html
from tests import twins
from tests.models.families.pixart import PIXART_ALPHA
from tests.models.families.sd3 import SD3
from tests.models.families.sdxl import SDXL
from tests.models.families.z_image import Z_IMAGE

ONLINE = Settings.from_environment({})
SAVE: dict[str, Callable[[Path], Any]] = {
    "sd": twins.sd_folder, "sdxl": SDXL.save, "sd3": SD3.save, "z-image": Z_IMAGE.save, "pixart": PIXART_ALPHA.save
}  # fmt: skip
FLOW = ("sd3", "z-image")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("whole")
    for family, save in SAVE.items():
        save(root / family)
    return {family: root / family for family in SAVE}


@pytest.fixture(params=list(SAVE))
def folder(request: pytest.FixtureRequest, whole: dict[str, Path], tmp_path: Path) -> Path:
    """A twin to be broken, in a folder of its family's name."""
    copy = tmp_path / request.param
    shutil.copytree(whole[request.param], copy)
    return copy


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights_of(folder: Path, part: str) -> Path:
    return folder / part / f"{stem_of(part)}.safetensors"


def parts_of(folder: Path) -> tuple[str, ...]:
    """Denoiser, VAE and the first text encoder."""
    return layout_of(json.loads((folder / "model_index.json").read_text())).with_weights[:3]


def sentence_of(folder: Path) -> str:
    """What stops a model from being loaded, known before loading or on the way; without a path."""
    spec = f"diffusers:{folder}"
    state = cards.availability(cards.resolve(spec), ONLINE)
    with pytest.raises(UserError) as said:
        open_scorer(cards.resolve(spec), device="cpu")
    if state.reason and "GPU" not in state.reason:
        assert state.reason == str(said.value), "the same before loading"
    assert "\n" not in str(said.value)
    assert str(folder.parent) not in str(said.value)
    return str(said.value)


def early(folder: Path) -> str:
    """The same, where it is known before anything is loaded."""
    with pytest.raises(UserError) as said:
        check_pipeline(folder, folder.name)
    assert sentence_of(folder) == str(said.value)
    return str(said.value)


def test_twins_that_nothing_ails_load(folder: Path) -> None:
    open_scorer(cards.resolve(f"diffusers:{folder}"), device="cpu")


def test_a_folder_that_an_editor_left_in_a_tokenizer_is_passed_over(whole: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole["sd"], tmp_path / "sd"))
    (copy / "tokenizer" / ".ipynb_checkpoints").mkdir()
    check_pipeline(copy, "sd")


def test_a_family_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="KandinskyPipeline")
    said = early(folder)
    assert "is a KandinskyPipeline, which cannot score here yet: choose a StableDiffusionPipeline or" in said


SINGLE_FILES = {
    "v1-5-pruned.safetensors": ("model.diffusion_model.out.2.bias", r"StableDiffusionPipeline\.from_single_file"),
    "sd_xl.safetensors": ("model.diffusion_model.out.2.bias conditioner.bias", r"nXLPipeline\.from_single_file"),
    "sd3.safetensors": ("model.diffusion_model.joint_blocks.0.bias", r"Diffusion3Pipeline\.from_single_file"),
    "model.ckpt": ("weight", r"StableDiffusionPipeline\.from_single_file\(FILE\)\.save_pretrained\(FOLDER\)"),
    "pytorch_lora_weights.safetensors": ("unet.to_q.weight", "is a LoRA, which changes a model"),
    "style.safetensors": ("lora_unet_to_q.lora_down.weight", "is a LoRA, which changes a model"),
    "learned_embeds.safetensors": ("<cat-toy>", "is not a whole model, but one part of it or an addition"),
}
"""By its name, the tensors of a file, and what is said of it."""


@pytest.mark.parametrize("file", SINGLE_FILES)
@pytest.mark.parametrize("named", ["file", "folder"])
def test_a_file_in_place_of_a_pipeline_says_what_to_name(file: str, named: str, tmp_path: Path) -> None:
    place, (tensors, words) = tmp_path / "painter", SINGLE_FILES[file]
    place.mkdir()
    save_file({tensor: torch.zeros(3) for tensor in tensors.split()}, place / file)
    spec = place / file if named == "file" else place
    with pytest.raises(UserError, match=words) as said:
        open_scorer(cards.resolve(f"diffusers:{spec}"), device="cpu")
    assert file in str(said.value)
    assert cards.availability(cards.resolve(f"diffusers:{spec}"), ONLINE).reason == str(said.value)


def test_the_weights_of_a_part_are_no_model(whole: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="is not a whole model, but one part of it or an addition"):
        check_pipeline(weights_of(whole["sd"], "unet"), "unet")


@pytest.mark.parametrize("family", ["transformers", "vlm"])
def test_a_file_in_place_of_a_folder_of_transformers_is_refused(family: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    said = cards.availability(cards.resolve(f"{family}:{tmp_path}/model.safetensors"), ONLINE).reason
    assert "is a file, and a transformers model is a folder: name the one that holds it" in said


def test_weights_as_bin_alone_are_never_read(folder: Path) -> None:
    for part in parts_of(folder):
        safe = weights_of(folder, part)
        safe.rename(safe.with_suffix(".bin"))
        said = early(folder)
        assert f"The {part} of {folder.name!r} has its weights only as {stem_of(part)}.bin" in said
        assert "safe_serialization=True" in said
        safe.with_suffix(".bin").rename(safe)


def test_a_part_that_the_index_lacks_is_named(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    for part in (*parts_of(folder), "scheduler", "tokenizer"):
        for lack in ({}, {part: None}, {part: [None, None]}):
            left = {key: value for key, value in index.items() if key != part} | lack
            (folder / "model_index.json").write_text(json.dumps(left))
            assert f"{folder.name!r} has no {part}, which scoring needs" in early(folder)


def test_a_part_whose_folder_is_missing_is_named(folder: Path) -> None:
    for part in (*parts_of(folder), "scheduler", "tokenizer"):
        (folder / part).rename(folder / "elsewhere")
        assert f"The {part} of {folder.name!r} is missing or broken" in early(folder)
        (folder / "elsewhere").rename(folder / part)


def test_weights_of_another_shape_than_the_config_name_one(folder: Path) -> None:
    for part in parts_of(folder):
        file = weights_of(folder, part)
        kept, weights = file.read_bytes(), load_file(file)
        key = max((key for key in weights if weights[key].ndim == 2), key=lambda key: weights[key].numel(), default="")
        key = key or max(weights, key=lambda key: weights[key].numel())
        save_file(weights | {key: torch.zeros(7, 5)}, file, metadata={"format": "pt"})
        said = sentence_of(folder)
        assert f"The weights of the {part} of {folder.name!r} do not fit its config" in said, said
        assert key.rpartition(".")[0].rpartition(".")[2] in said
        file.write_bytes(kept)


def test_weights_that_are_not_there_are_not_made_up(folder: Path) -> None:
    for part in parts_of(folder):
        file = weights_of(folder, part)
        kept, weights = file.read_bytes(), load_file(file)
        key = next(key for key in sorted(weights) if weights[key].ndim > 1)
        save_file({name: weights[name] for name in weights if name != key}, file, metadata={"format": "pt"})
        assert f"The weights of the {part} of {folder.name!r} do not fit its config" in sentence_of(folder)
        file.write_bytes(kept)


def test_half_a_file_says_how_many_bytes_are_there(folder: Path) -> None:
    for part in parts_of(folder):
        file = weights_of(folder, part)
        kept = file.read_bytes()
        file.write_bytes(kept[: len(kept) // 2])
        said = early(folder)
        assert f"{file.name} of {folder.name!r} is truncated: it has {len(kept) // 2:,} of {len(kept):,} bytes" in said
        file.write_bytes(kept)


def shard(folder: Path, part: str) -> list[Path]:
    """The weights of a part in two shards with an index."""
    file = weights_of(folder, part)
    weights = load_file(file)
    keys, names = sorted(weights), [f"{stem_of(part)}-0000{k}-of-00002.safetensors" for k in (1, 2)]
    half = {key: names[2 * place // len(keys)] for place, key in enumerate(keys)}
    for name in names:
        own = {key: weights[key].contiguous() for key in keys if half[key] == name}
        save_file(own, file.with_name(name), metadata={"format": "pt"})
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": half}))
    file.unlink()
    return [file.with_name(name) for name in names]


def test_a_shard_that_is_missing_or_cut_is_named(folder: Path, whole: dict[str, Path]) -> None:
    for part in parts_of(folder):
        first, second = shard(folder, part)
        second.write_bytes(second.read_bytes()[:-10])
        assert f"{second.name} of {folder.name!r} is truncated" in early(folder)
        second.unlink()
        assert f"{second.name} of {folder.name!r} is missing, one of the parts of its weights" in early(folder)
        first.unlink()
        assert f"{first.name} of {folder.name!r} is missing" in early(folder)
        shutil.rmtree(folder / part)
        shutil.copytree(whole[folder.name] / part, folder / part)


@pytest.mark.parametrize("place", ["beside", "in the cache of the download"])
def test_what_an_interrupted_download_left_is_recognised(place: str, folder: Path) -> None:
    for part in parts_of(folder):
        file = weights_of(folder, part)
        kept = file.read_bytes()
        left = folder / (part if place == "beside" else f".cache/huggingface/download/{part}")
        left.mkdir(parents=True, exist_ok=True)
        begun = left / "diffusion.abc.incomplete"
        begun.write_bytes(kept[:100])
        file.unlink()
        said = early(folder)
        assert f"The {part} of {folder.name!r} was not downloaded to its end (diffusion.abc.incomplete" in said
        begun.unlink()
        file.write_bytes(kept)


@pytest.mark.parametrize("where", ["index and config", "config alone", "index alone"])
def test_a_scheduler_of_another_family_is_refused(where: str, folder: Path) -> None:
    other = "DDPMScheduler" if folder.name in FLOW else "FlowMatchEulerDiscreteScheduler"
    if where != "config alone":
        edit(folder / "model_index.json", scheduler=["diffusers", other])
    if where != "index alone":
        edit(folder / "scheduler" / "scheduler_config.json", _class_name=other)
    said = early(folder)
    assert f"The scheduler of {folder.name!r} is a {other}, which is none of its family" in said
    assert "restore scheduler/scheduler_config.json" in said


def test_a_scheduler_of_other_noise_levels_is_no_fault_of_the_download(whole: dict[str, Path], tmp_path: Path) -> None:
    """As playground-v2.5, a Stable Diffusion XL, has it."""
    folder = Path(shutil.copytree(whole["sdxl"], tmp_path / "sdxl"))
    edit(folder / "model_index.json", scheduler=["diffusers", "EDMDPMSolverMultistepScheduler"])
    assert "'sdxl' was made with EDMDPMSolverMultistepScheduler, whose noise levels are not those of" in early(folder)


def test_the_page_says_it_in_the_row_of_the_model(folder: Path) -> None:
    weights_of(folder, "vae").unlink()
    bench, spec = Workbench(ONLINE), f"diffusers:{folder}"
    asked = (twins.picture(), ["a red star", "a blue star"], [spec], budget(2, 2))
    (answer,) = bench.compare(*asked, show=0.4, live=True)
    assert answer.problem == early(folder)
    assert not answer.fault
    assert f"The vae of &#39;{folder.name}&#39; is missing or broken" in models_html(bench, [spec])


def test_the_shell_says_it_in_one_line_and_exits_with_2(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = folder.parent / "picture.png"
    twins.picture().save(picture)
    (folder / "vae").rename(folder / "elsewhere")
    status = main(["score", str(picture), "a red star", "a blue star", "--model", f"diffusers:{folder}"])
    out, err = capfd.readouterr()
    assert status == 2
    assert "Traceback" not in out + err
    assert f"The vae of {folder.name!r} is missing or broken" in out + err
