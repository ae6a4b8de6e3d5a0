"""Which files of a pipeline are read and fetched: variants, shards, and half precision where it runs in half."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdsdemo import models as adapters
from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.commands import fetch_model
from sdsdemo.errors import UserError
from sdsdemo.models import cards, fetch, sources
from sdsdemo.models.diffusion_files import in_half, weights_in_repo
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.pipelines import Layout
from sdsdemo.models.transformers_files import patterns_to_fetch
from sdsdemo.models.weights import choose, stem_of
from sdsdemo.settings import Settings
from tests import twins

OFFLINE = Settings.from_environment({})
PARTS = Layout().with_weights
pytestmark = pytest.mark.usefixtures("alone")


def as_variant(folder: Path, variant: str, *, keep: bool = False) -> None:
    """Every weight of a pipeline in half, under the name of a variant."""
    for part in PARTS:
        stem = stem_of(part)
        path = folder / part / f"{stem}.safetensors"
        half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
        save_file(half, path.with_name(f"{stem}.{variant}.safetensors"), metadata={"format": "pt"})
        if not keep:
            path.unlink()


def in_shards(folder: Path, part: str, stem: str, variant: str = "") -> None:
    """The weights of a part in two files and an index, as the libraries write them."""
    path = folder / part / f"{stem}.safetensors"
    state, dot = load_file(path), f".{variant}" if variant else ""
    names, place = sorted(state), {}
    for number, own in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}{dot}-0000{number}-of-00002.safetensors"
        save_file({name: state[name].contiguous() for name in own}, path.with_name(file), metadata={"format": "pt"})
        place |= dict.fromkeys(own, file)
    index = {"metadata": {"total_size": 1}, "weight_map": place}
    path.with_name(f"{stem}.safetensors.index{dot}.json").write_text(json.dumps(index))
    path.unlink()


def unet_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_diffusion(f"diffusers:{folder}").denoiser.state_dict()


@pytest.mark.parametrize("variant", ["fp16", "bf16", "ema-only"])
def test_a_pipeline_whose_weights_are_only_there_as_a_variant_is_read(variant: str, tmp_path: Path) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    before = unet_of(folder)
    as_variant(folder, variant)
    card = cards.resolve(f"diffusers:{folder}")
    assert cards.availability(card, OFFLINE).can_run
    assert len(cards.fingerprint(card)) == 64
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet_of(folder).items())


def test_full_precision_goes_before_a_variant(tmp_path: Path) -> None:
    folder = twins.sd_folder(tmp_path / "twin")
    before = unet_of(folder)
    as_variant(folder, "fp16", keep=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet_of(folder).items())


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_a_pipeline_in_shards_is_read_and_a_missing_one_named(variant: str, tmp_path: Path) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    before = unet_of(folder)
    for part in PARTS:
        stem = stem_of(part)
        in_shards(folder, part, stem, variant)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet_of(folder).items())
    twins.in_hub_cache(tmp_path / "hub", "twins/shards", folder)
    card = cards.resolve("diffusers:twins/shards")
    assert cards.is_downloaded(card)
    shard = next((folder / "vae").glob("*-00002-of-00002.safetensors"))
    shard.unlink()
    assert not cards.is_downloaded(card)
    with pytest.raises(UserError, match=shard.name):
        load_diffusion(f"diffusers:{folder}")


def test_which_files_of_a_part_are_read() -> None:
    full, half, odd = "model.safetensors", "model.fp16.safetensors", "model.non_ema.safetensors"
    for names, want in (
        ([half, full, odd], full),
        ([odd, half], half),
        ([odd], odd),
        (["model.bf16.safetensors", half], half),
    ):
        found = choose(names, "model")
        assert found is not None
        assert found.files == (want,)
    shards = [f"model.fp16-0000{k}-of-00002.safetensors" for k in (1, 2)]
    found = choose([*shards, "model.safetensors.index.fp16.json", "pytorch_model.bin"], "model")
    assert found is not None
    assert (found.variant, len(found.files)) == ("fp16", 3)
    assert choose([*shards, "other.safetensors", "model.bin"], "model") is None


def test_what_is_fetched_of_a_repository_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin"]
    listed += ["vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"]
    listed += [f"text_encoder/model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    listed += ["text_encoder/model.safetensors.index.json", "safety_checker/model.safetensors"]
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: listed)
    wanted = weights_in_repo("some/repo", Layout(), None, allow_download=True)
    assert sorted(wanted) == sorted({listed[1], listed[3], *listed[5:8]})


LISTED = [
    *(f"unet/diffusion_pytorch_model{variant}.safetensors" for variant in ("", ".fp16", ".bf16")),
    *(f"vae/diffusion_pytorch_model{variant}.safetensors" for variant in ("", ".fp16")),
    "text_encoder/model.safetensors",
]


@pytest.mark.parametrize(("dtype", "variant"), [("float32", ""), ("float16", ".fp16"), ("bfloat16", ".bf16")])
def test_half_precision_is_fetched_for_what_runs_in_half(
    dtype: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: LISTED)
    wanted = weights_in_repo("some/repo", Layout(), None, True, getattr(torch, dtype))
    unet, vae, text = (f"{part}/{stem_of(part)}{{}}.safetensors" for part in ("unet", "vae", "text_encoder"))
    assert sorted(wanted) == sorted([unet.format(variant), vae.format(""), text.format("")])


def test_a_download_that_has_begun_goes_on_in_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [f"unet/diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: [*shards, index, *LISTED[1:]])
    monkeypatch.setattr(sources, "cached_file", lambda repo, names, revision=None: names[0] in shards[:1] or None)
    wanted = weights_in_repo("some/repo", Layout(), None, True, torch.float16)
    assert {name for name in wanted if name.startswith("unet/")} == {*shards, index}


def test_a_repository_with_pickled_weights_only_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: listed)
    for held, words in (
        (["text_encoder/openvino_model.bin", "text_encoder/pytorch_model.bin"], "text_encoder .* only as pytorch_mo"),
        (["text_encoder/model.onnx", "pytorch_model.bin"], "has no weights of the text_encoder as safetensors"),
    ):
        listed[:] = [*LISTED[:-1], *held]
        with pytest.raises(UserError, match=words):
            weights_in_repo("some/repo", Layout(), None, True)
    with pytest.raises(UserError, match=r"only as pytorch_model\.bin, which may hold code"):
        patterns_to_fetch("some/repo", None)
    assert "model.safetensors" in patterns_to_fetch("some/repo", None, allow_download=False)[-1]


class Hub:
    """A folder in place of the Hub, of which what is asked for is copied."""

    def __init__(self, remote: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.remote, self.local = remote, local
        monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: self.files())
        monkeypatch.setattr(sources, "repo_sizes", lambda repo, revision=None: self.sizes())
        monkeypatch.setattr("huggingface_hub.snapshot_download", self.download)

    def files(self) -> list[str]:
        return [str(path.relative_to(self.remote)) for path in self.remote.rglob("*.*")]

    def sizes(self) -> dict[str, int]:
        return {file: (self.remote / file).stat().st_size for file in self.files()}

    def download(self, repo: str, *, allow_patterns: list[str], **_: object) -> str:
        for file in (file for file in self.files() if any(Path(file).match(one) for one in allow_patterns)):
            place = self.local / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.remote / file, place)
        return str(self.local)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"scheduler": ["diffusers", "EDMDPMSolverMultistepScheduler"]}, "noise levels are not those of its family"),
        ({"vae": ["os", "system"]}, "The vae of 'some/repo' has the class system"),
        ({"text_encoder": None}, "'some/repo' has no text_encoder"),
    ],
)
def test_what_no_download_mends_is_said_before_the_weights_are_fetched(
    fault: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(twins.sd_folder(tmp_path / "remote"), tmp_path / "local", monkeypatch)
    index = hub.remote / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | fault))
    with pytest.raises(UserError, match=said):
        fetch(cards.resolve("diffusers:some/repo"), device="cpu")
    assert not list(hub.local.rglob("*.safetensors"))


def test_a_fetched_pipeline_that_cannot_be_loaded_is_not_said_to_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(twins.sd_folder(tmp_path / "remote"), tmp_path / "local", monkeypatch)
    (hub.remote / "vae" / "config.json").unlink()
    with pytest.raises(UserError, match=r"The vae of 'some/repo' is missing or broken"):
        fetch(cards.resolve("diffusers:some/repo"), device="cpu")


@pytest.mark.parametrize(("precision", "half"), [("float16", ["unet", "text_encoder"]), ("float32", [])])
def test_a_fetch_says_which_parts_came_in_half_and_they_load(
    precision: str, half: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Hub with both precisions of each part."""
    remote, local = twins.sd_folder(tmp_path / "remote"), tmp_path / "local"
    for part in PARTS:
        path = remote / part / f"{stem_of(part)}.safetensors"
        state = {key: tensor.half() for key, tensor in load_file(path).items()}
        save_file(state, path.with_suffix(".fp16.safetensors"))

    hub, said_before = Hub(remote, local, monkeypatch), list[str]()
    workbench = Workbench(Settings.from_environment({"SDSDEMO_DEVICE": "cuda", "SDSDEMO_PRECISION": precision}))
    said = fetch_model(workbench, "sd-v1-4", said_before.append)["message"]
    brought = sum(path.stat().st_size for path in local.rglob("*.*"))
    assert adapters.download_mb(cards.resolve("sd-v1-4"), device="cuda", precision=precision) * 1e6 == brought
    assert brought < sum(hub.sizes().values()) / 1.2, "one precision of each part"
    assert f"{brought / 1e9:.1f} GB" in said_before[0]
    assert ("came in half precision" in said) is bool(half)
    assert all(part in said for part in half)
    assert in_half(local) == half
    assert len(list(local.rglob("*.safetensors"))) == len(PARTS)
    load_diffusion(f"diffusers:{local}")


def test_pickled_weights_of_a_pipeline_are_refused_with_the_cure(tmp_path: Path) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(UserError, match="safe_serialization=True"):
        load_diffusion(f"diffusers:{folder}")
