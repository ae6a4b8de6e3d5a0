"""Where weights come from: training checkpoints in every form, names of open_clip, and files that are none."""

from __future__ import annotations

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

from sdsdemo.errors import UserError
from sdsdemo.models import cards, sources
from sdsdemo.models.checkpoints import read_state
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.clip_transformers import TransformersClip
from sdsdemo.models.delta import base_header, read_delta, write_delta
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.pipelines import Layout
from sdsdemo.models.remarks import remarks
from sdsdemo.models.weights import stem_of
from sdsdemo.settings import Settings, budget
from tests import twins
from tests.app.fake_hub import unreachable

OFFLINE = Settings.from_environment({})
NAME = "tiny-twin"
PARTS = Layout().with_weights
pytestmark = pytest.mark.usefixtures("alone")


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
        with pytest.raises(UserError, match="save only the weights"):
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


def test_models_in_the_cache_load_where_the_hub_is_not_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    assert sources.repo_listing("twins/sd") == []
    for repo, folder in (
        ("twins/sd", twins.sd_folder(tmp_path / "sd")),
        ("twins/siglip", twins.transformers_folder(tmp_path / "siglip", kind="siglip")),
    ):
        twins.in_hub_cache(tmp_path / "hub", repo, folder)
    load_diffusion("diffusers:twins/sd", allow_download=True)
    TransformersClip.load("transformers:twins/siglip", allow_download=True)
    for load in (load_diffusion, TransformersClip.load):
        kind = "diffusers" if load is load_diffusion else "transformers"
        with pytest.raises(UserError, match="could not be downloaded"):
            load(f"{kind}:twins/gone", allow_download=True)


def test_help_and_cards_do_not_load_open_clip() -> None:
    code = (
        "import sys; from sdsdemo.cli.main import main; from sdsdemo.models import cards; "
        "cards.resolve('clip-vit-b-32');"
        "\ntry: main(['score', '--help'])\nexcept SystemExit: pass\nassert 'open_clip' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


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


HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def test_a_file_gets_the_pixels_that_all_released_weights_have(
    trained: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SigLIP's, whose weights all want what is not open_clip's default."""
    save_file(trained, tmp_path / "a.safetensors")
    spec = f"open_clip:{NAME}/{tmp_path / 'a.safetensors'}"
    card = cards.resolve(spec)
    before = cards.fingerprint_parts(card)
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, NAME, {"webli": HALVES, "other": {**HALVES, "hf_hub": "a/b/"}}
    )
    taken = ClipModel.load(spec).facts["preprocess"]
    assert (taken["mean"], taken["std"], taken["resize_mode"]) == ([0.5] * 3, [0.5] * 3, "squash")
    assert "as for all released weights of tiny-twin (mean 0.5 0.5 0.5" in remarks(card, budget())[0]
    assert cards.what_changed(before, cards.fingerprint_parts(card)) == "preprocessing"
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, NAME, {"webli": HALVES, "other": {**HALVES, "mean": (0,) * 3}}
    )
    assert ClipModel.load(spec).facts["preprocess"]["resize_mode"] == "shortest"
    assert "as open_clip does by default (mean 0.481" in remarks(card, budget())[0]
    assert cards.fingerprint_parts(card) == before
