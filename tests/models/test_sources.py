"""Where weights come from: training checkpoints, variants, shards, and files that are none."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.commands import fetch_model
from sdsdemo.errors import UserError
from sdsdemo.models import cards, sources
from sdsdemo.models.checkpoints import read_state
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header, read_delta, write_delta
from sdsdemo.models.diffusion_files import in_half, weights_in_repo
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.pipelines import Layout
from sdsdemo.models.remarks import remarks
from sdsdemo.models.weights import choose, stem_of
from sdsdemo.settings import Settings, budget
from tests import twins

OFFLINE = Settings.from_environment({})
NAME = "tiny-twin"
PARTS = Layout().with_weights
CAPTIONS = ["a red star", "a blue circle"]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A tiny architecture that open_clip knows by name, and weights for it."""
    for name, quick in ((NAME, False), (f"{NAME}-quickgelu", True)):
        config = twins.clip_config(words=False, quick_gelu=quick)
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    return twins.clip_module(twins.clip_config(words=False), seed=3).state_dict()


WRITERS: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "epoch_5.pt": lambda state, path: torch.save(
        {"epoch": 5, "name": "x", "state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {"lr": 1}},
        path,
    ),
    "compiled.pt": lambda state, path: torch.save(
        {"state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}}, path
    ),
    "bare.pth": lambda state, path: torch.save(state, path),
    "old.bin": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "plain.safetensors": lambda state, path: save_file(state, path),
}


@pytest.mark.parametrize("file", WRITERS)
def test_a_checkpoint_on_a_named_architecture_is_read_whatever_its_form(
    file: str, trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    WRITERS[file](trained, tmp_path / file)
    spec = f"open_clip:{NAME}/{tmp_path / file}"
    loaded = ClipModel.load(spec).module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.items())
    card = cards.resolve(spec)
    assert (card.download, cards.availability(card, OFFLINE).can_run) == (False, True)
    (sentence,) = remarks(card, budget())
    assert f"write {NAME}-quickgelu in place of {NAME}" in sentence
    assert "weights" in cards.fingerprint_parts(card)
    other = cards.resolve(f"open_clip:{NAME}-quickgelu/{tmp_path / file}")
    assert cards.what_changed(cards.fingerprint_parts(card), cards.fingerprint_parts(other)) == "architecture"


WRAPPERS = ("module", "_orig_mod", "model", "student", "_fsdp_wrapped_module")


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_is_read_whatever_its_model_was_wrapped_in(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    before = "".join(f"{rng.choice(WRAPPERS)}." for _ in range(rng.randrange(1, 5)))
    own = twins.clip_module(twins.clip_config(words=False)).state_dict()
    held: Any = {f"{before}{name.replace('conv1.', '_orig_mod.conv1.')}": tensor for name, tensor in own.items()}
    for key in rng.sample(["state_dict", "model", "model_state_dict"], rng.randrange(3)):
        held = {"epoch": 1, key: held}
    torch.save(held, tmp_path / "epoch.pt")
    read = read_state(tmp_path / "epoch.pt", "twin")
    assert list(read) == list(own), before
    assert all(torch.equal(read[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("seed", range(6))
def test_weights_that_are_not_finite_are_named_whatever_holds_them(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    folder = twins.clip_folder(tmp_path / "twin")
    spoiled = spoil(folder / "open_clip_model.safetensors", rng)
    with pytest.raises(UserError, match=rf"weights of 'twin' are not finite: {re.escape(spoiled)} holds NaN") as said:
        ClipModel.load(f"open_clip:local-dir:{folder}")
    assert "features" not in str(said.value)
    pipeline = twins.mini_folder(tmp_path / "sd")
    part = rng.choice(PARTS)
    stem = stem_of(part)
    spoiled = spoil(pipeline / part / f"{stem}.safetensors", rng)
    with pytest.raises(UserError, match=rf"weights of 'sd/{part}' are not finite: {re.escape(spoiled)} holds NaN"):
        load_diffusion(f"diffusers:{pipeline}")


def spoil(path: Path, rng: random.Random) -> str:
    """Puts a NaN or an infinity anywhere into a file of weights; the name of the tensor."""
    state = load_file(path)
    name = rng.choice([name for name, tensor in state.items() if tensor.is_floating_point()])
    state[name].reshape(-1)[rng.randrange(state[name].numel())] = rng.choice(
        [float("nan"), float("inf"), -float("inf")]
    )
    save_file(state, path)
    return name


def test_a_checkpoint_in_a_folder_with_a_config_needs_no_name(tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    state = load_file(folder / "open_clip_model.safetensors")
    state["logit_scale"] = torch.tensor(1.5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "epoch_5.pt")
    loaded = ClipModel.load(f"open_clip:local-dir:{folder / 'epoch_5.pt'}").module
    assert loaded.logit_scale.item() == 1.5


def test_a_checkpoint_without_its_architecture_says_what_to_write(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "epoch_5.pt")
    card = cards.resolve(f"open_clip:local-dir:{tmp_path}/epoch_5.pt")
    assert cards.availability(card, OFFLINE).can_run
    with pytest.raises(UserError, match=r"write open_clip:NAME/epoch_5\.pt"):
        ClipModel.load(card.spec)


def test_weights_of_another_size_name_the_first_tensor_that_does_not_fit(
    trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    positions = trained["visual.positional_embedding"]
    save_file(trained | {"visual.positional_embedding": torch.cat([positions] * 2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"visual.positional_embedding is 10 x 16, and 5 x 16 in the architecture"):
        ClipModel.load(f"open_clip:{NAME}/{tmp_path / 'a.safetensors'}")


class _Bomb:
    """What unpickling would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.usefixtures("trained")
def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(
            {"state_dict": {"a": _Bomb(tmp_path / "ran")}}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
        )
        with pytest.raises(UserError, match="save the weights alone"):
            ClipModel.load(f"open_clip:{NAME}/{tmp_path / 'a.pt'}")
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("ViT-B-32/nope", "no weights called 'nope' in open_clip. It has openai, laion400m_e31"),
        ("ViT-B-32", "write open_clip:ViT-B-32/TAG. It has openai"),
        ("ViT-B32/openai", "Did you mean ViT-B-32"),
        ("vit_l_14/openai", "Did you mean ViT-L-14"),
        ("laion/some-clip-of-mine", "open_clip:hf-hub:laion/some-clip-of-mine"),
        ("ViT-B-32/openai", "ViT-B-32-quickgelu/openai"),
        ("ViT-B-32/logs/none.pt", "no file of weights called 'none.pt'"),
    ],
)
def test_an_unknown_open_clip_name_is_refused_first(spec: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        cards.resolve(f"open_clip:{spec}")


def test_help_and_cards_do_not_load_open_clip() -> None:
    code = (
        "import sys; from sdsdemo.cli.main import main; from sdsdemo.models import cards; "
        "cards.resolve('clip-vit-b-32');"
        "\ntry: main(['score', '--help'])\nexcept SystemExit: pass\nassert 'open_clip' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


# ------------------------------------------------------------------------------------------- variants and shards


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


@pytest.mark.parametrize(("precision", "half"), [("float16", ["unet", "text_encoder"]), ("float32", [])])
def test_a_fetch_says_which_parts_came_in_half_and_they_load(
    precision: str, half: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub is a folder with both precisions of each part, of which what is asked for is copied."""
    remote, local = twins.sd_folder(tmp_path / "remote"), tmp_path / "local"
    for part in PARTS:
        path = remote / part / f"{stem_of(part)}.safetensors"
        state = {key: tensor.half() for key, tensor in load_file(path).items()}
        save_file(state, path.with_suffix(".fp16.safetensors"))

    def download(repo: str, *, allow_patterns: list[str], **_: object) -> str:
        found = [path for path in remote.rglob("*") if path.is_file()]
        for path in (path for path in found if any(path.relative_to(remote).match(one) for one in allow_patterns)):
            place = local / path.relative_to(remote)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        return str(local)

    listed = [str(path.relative_to(remote)) for path in remote.rglob("*.*")]
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: listed)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    workbench = Workbench(Settings.from_environment({"SDSDEMO_DEVICE": "cuda", "SDSDEMO_PRECISION": precision}))
    said = fetch_model(workbench, "sd-v1-4", lambda line: None)["message"]
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


# ------------------------------------------------------------------------------------------- files that are none

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:df01d1a2\nsize 26366460\n"
NONE = {
    "pointer": (POINTER, "git lfs pull"),
    "empty": (b"", "is empty"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
}
FILES = {
    "clip": ["open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json", "tokenizer_config.json"],
    "sd": [
        *(f"{part}/{stem_of(part)}.safetensors" for part in PARTS),
        *(f"{part}/config.json" for part in PARTS),
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
    ],
}


@pytest.mark.parametrize("kind", NONE)
@pytest.mark.parametrize(("folder", "file"), [(folder, file) for folder, files in FILES.items() for file in files])
def test_a_file_that_is_none_is_named_with_its_cure(
    folder: str, file: str, kind: str, tmp_path: Path, originals: Path
) -> None:
    shutil.copytree(originals / folder, tmp_path / folder)
    content, cure = NONE[kind]
    (tmp_path / folder / file).write_bytes(content)
    load: Any = ClipModel.load if folder == "clip" else load_diffusion
    with pytest.raises(UserError, match=cure) as caught:
        load(f"{'open_clip:local-dir' if folder == 'clip' else 'diffusers'}:{tmp_path / folder}")
    assert file.rpartition("/")[2] in str(caught.value)


@pytest.mark.parametrize("kind", NONE)
@pytest.mark.parametrize("file", ["a.safetensors", "a.pt", "a.bin"])
@pytest.mark.usefixtures("trained")
def test_a_checkpoint_or_delta_that_is_none_is_named_with_its_cure(file: str, kind: str, tmp_path: Path) -> None:
    content, cure = NONE[kind]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=cure):
        ClipModel.load(f"open_clip:{NAME}/{tmp_path / file}")
    if file.endswith(".safetensors"):
        with pytest.raises(UserError, match=cure):
            read_delta(tmp_path / file)


def test_a_cut_file_says_how_much_of_it_is_there(tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    base = ClipModel.load(f"open_clip:local-dir:{folder}")
    write_delta(tmp_path / "d.safetensors", {"clip.ln_final.weight": torch.zeros(16)}, base_header(base))
    for path in (tmp_path / "d.safetensors", folder / "open_clip_model.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"is truncated: it has [\d,]+ of [\d,]+ bytes"):
        read_delta(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match=r"is truncated: it has [\d,]+ of [\d,]+ bytes"):
        ClipModel.load(f"open_clip:local-dir:{folder}")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("originals")
    twins.clip_folder(place / "clip")
    twins.mini_folder(place / "sd")
    return place
