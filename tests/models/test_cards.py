"""Cards: complete, found by name or spec, and honest about what can run here."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdsdemo.errors import UserError
from sdsdemo.models import cards, fetch, open_scorer, pick_device, pipelines, sources
from sdsdemo.models.families import FAMILIES, load_diffusion
from sdsdemo.models.remarks import remarks
from sdsdemo.settings import ROOT, Settings, budget
from sdsdemo.types import Card
from tests import twins

STUDENTS = ("mini-sds-clip", "mini-clip-control", "mini-preference-clip")
MINI = ("mini-clip", "mini-clip-clean", "mini-clip-lesson", "mini-diffusion", "mini-diffusion-short", *STUDENTS)
OFFLINE = Settings.from_environment({})
ONLINE = Settings.from_environment({"SDSDEMO_ALLOW_DOWNLOAD": "on"})


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    """No test sees what this machine has downloaded, or reaches the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("card", cards.all_cards().values(), ids=lambda card: card.name)
def test_a_card_is_complete(card: Card) -> None:
    texts = (card.name, card.title, card.spec, card.summary, card.training, card.licence)
    assert all(text == text.strip() and text for text in texts)
    assert card.size_mb > 0
    assert card.pixels > 0
    assert card.seconds_per_pair > 0
    assert card.needs in ("cpu", "gpu")
    assert sources.split_spec(card.spec)[0] == card.family
    assert 0 <= card.timestep_range[0] < card.timestep_range[1] <= 1
    assert (card.base in cards.all_cards()) == (card.family == "sds-clip")
    assert all(
        isinstance(getattr(card, field.name), type(None) | str | float | int | bool | tuple) for field in fields(card)
    )


@pytest.mark.parametrize("card", cards.all_cards().values(), ids=lambda card: card.name)
def test_a_published_number_has_a_source_and_says_how_sure_it_is(card: Card) -> None:
    for result in card.published:
        assert result["benchmark"]
        assert result["source"]
        assert result["sure"] in ("read", "recalled")
        values = [v for k, v in result.items() if k not in ("benchmark", "source", "sure")]
        assert values
        assert all(isinstance(value, float) and 0 <= value <= 100 for value in values)


def test_the_mini_models_have_cards_that_need_no_download_and_no_gpu() -> None:
    for name in MINI:
        card = cards.resolve(name)
        assert (card.name, card.mini, card.download, card.needs, card.pixels) == (name, True, False, "cpu", 64)
    assert {cards.resolve(name).base for name in STUDENTS} == {"mini-clip"}
    assert cards.resolve("mini-diffusion").timestep_range == (0.2, 0.8)


def test_openai_clips_keep_their_activation() -> None:
    specs = [card.spec for card in cards.all_cards().values() if card.spec.endswith("/openai")]
    assert len(specs) == 5
    assert all("-quickgelu/" in spec for spec in specs)


def test_names_and_tags_are_known_to_open_clip() -> None:
    import open_clip

    known = {f"open_clip:{name}/{tag}" for name, tag in open_clip.list_pretrained()}
    assert {c.spec for c in cards.all_cards().values() if c.family == "clip" and c.download} <= known


def test_an_unknown_name_lists_close_ones() -> None:
    with pytest.raises(UserError, match="Did you mean clip-vit-b-32"):
        cards.resolve("clip-vit-b32")
    with pytest.raises(UserError, match="mini-diffusion"):
        cards.resolve("zzz")


@pytest.mark.parametrize(
    "text", ["foo:bar", "open_clip:", "diffusers: ", ":", "openai/clip-vit-base-patch32", "runs/a.safetensors", "zzz"]
)
def test_a_text_that_is_no_spec_says_what_specs_look_like(text: str) -> None:
    with pytest.raises(UserError, match="open_clip:NAME/TAG"):
        cards.resolve(text)


def test_the_spec_of_a_card_is_that_card() -> None:
    for card in cards.all_cards().values():
        assert cards.resolve(f" {card.spec} ") is card


def test_a_spec_of_a_folder_has_the_facts_of_the_folder(tmp_path: Path) -> None:
    card = cards.resolve(f"open_clip:local-dir:{twins.clip_folder(tmp_path / 'twin')}")
    assert (card.title, card.family, card.pixels, card.needs, card.download) == ("twin", "clip", 16, "cpu", False)
    assert card.size_mb == pytest.approx(sum(f.stat().st_size for f in (tmp_path / "twin").iterdir()) / 1e6, abs=0.06)
    pipeline = cards.resolve(f"diffusers:{twins.mini_folder(tmp_path / 'small')}")
    assert (pipeline.family, pipeline.pixels, pipeline.needs) == ("diffusion", 32, "cpu")


def test_two_folders_of_one_name_are_two_models(tmp_path: Path) -> None:
    one, two = (cards.resolve(f"open_clip:local-dir:{tmp_path / place / 'twin'}") for place in "ab")
    assert (one.title, one.name == two.name) == (two.title, False)


def test_a_repository_must_be_downloaded_and_a_folder_must_not(tmp_path: Path) -> None:
    repo = cards.resolve("diffusers:some-org/some-model@abc123")
    assert (repo.download, repo.needs, repo.size_mb) == (True, "gpu", 4300.0)
    assert not cards.resolve("diffusers:checkpoints/not-trained-yet").download
    assert not cards.resolve(f"diffusers:{tmp_path}").download


def test_relative_paths_are_looked_for_in_the_repository() -> None:
    assert sources.local_path("sdsdemo/models") == ROOT / "sdsdemo" / "models"
    assert sources.folder_named_by("open_clip:local-dir:checkpoints/mini-clip") == ROOT / "checkpoints" / "mini-clip"
    assert sources.folder_named_by("open_clip:ViT-B-32/openai") is None


def test_a_revision_is_what_stands_behind_the_last_at() -> None:
    assert sources.split_revision("org/model@fp16") == ("org/model", "fp16")
    assert sources.split_revision("org/model") == ("org/model", None)


def test_weights_that_must_be_fetched_need_leave_to_fetch() -> None:
    card = cards.resolve("clip-vit-b-32")
    state = cards.availability(card, OFFLINE)
    assert not state.can_run
    assert "fetch clip-vit-b-32" in state.next_step
    assert "0.6 GB" in state.next_step
    assert "SDSDEMO_ALLOW_DOWNLOAD=on" in state.next_step, "the shell has no option for it"
    assert cards.availability(card, ONLINE).can_run


def test_weights_that_were_fetched_before_need_no_leave(tmp_path: Path) -> None:
    twins.in_hub_cache(tmp_path / "cache", "timm/vit_base_patch32_clip_224.openai", twins.clip_folder(tmp_path / "x"))
    assert cards.availability(cards.resolve("clip-vit-b-32"), OFFLINE).can_run
    assert not cards.availability(cards.resolve("clip-vit-b-16"), OFFLINE).can_run


def test_a_pipeline_that_was_fetched_in_part_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "has_gpu", lambda: True)
    folder = twins.mini_folder(tmp_path / "pipeline")
    twins.in_hub_cache(tmp_path / "cache", "some-org/some-model", folder)
    card = cards.resolve("diffusers:some-org/some-model")
    assert cards.availability(card, OFFLINE).can_run
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert not cards.availability(card, OFFLINE).can_run


def test_a_gpu_model_runs_without_a_gpu_and_is_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    card = cards.resolve("sd-v1-4")
    monkeypatch.setattr(cards, "has_gpu", lambda: False)
    assert cards.availability(card, ONLINE).can_run
    (said,) = remarks(card, budget())
    assert "made for a GPU" in said
    assert "doctor --model sd-v1-4" in said
    assert remarks(cards.resolve("mini-diffusion"), budget()) == ()
    monkeypatch.setattr(cards, "has_gpu", lambda: True)
    assert cards.availability(card, ONLINE).can_run
    assert remarks(card, budget()) == ()


@pytest.mark.parametrize("where", [{"SPACE_ID": "a/b"}, {"SDSDEMO_DEVICE": "cuda"}])
def test_a_gpu_model_is_refused_in_a_space_or_where_a_gpu_is_asked_for(
    where: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "has_gpu", lambda: False)
    asked = {"SDSDEMO_ALLOW_DOWNLOAD": "on", **where}
    state = cards.availability(cards.resolve("sd-v1-4"), Settings.from_environment(asked))
    assert not state.can_run
    assert "GPU" in state.reason
    assert "SDSDEMO_DEVICE=cpu" in state.next_step
    patient = Settings.from_environment({**asked, "SDSDEMO_DEVICE": "cpu"})
    assert cards.availability(cards.resolve("sd-v1-4"), patient).can_run


def _lose(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


BREAKS: dict[str, Callable[[Path], None]] = {
    "the folder": _lose,
    "the index": lambda folder: _lose(folder / "model_index.json"),
    "a broken index": lambda folder: (folder / "model_index.json").write_text("{"),
    "the unet": lambda folder: _lose(folder / "unet"),
    "the unet's config": lambda folder: _lose(folder / "unet" / "config.json"),
    "a broken config": lambda folder: (folder / "unet" / "config.json").write_text("[]"),
    "the vae's weights": lambda folder: _lose(folder / "vae" / "diffusion_pytorch_model.safetensors"),
    "cut weights": lambda folder: (folder / "text_encoder" / "model.safetensors").write_bytes(b"123"),
    "the scheduler": lambda folder: _lose(folder / "scheduler"),
    "the tokenizer": lambda folder: _lose(folder / "tokenizer"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_pipeline_is_reported_before_a_missing_gpu(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "has_gpu", lambda: False)
    folder = twins.mini_folder(tmp_path / "painter")
    assert cards.availability(cards.resolve(f"diffusers:{folder}"), OFFLINE).can_run
    BREAKS[broken](folder)
    card = cards.resolve(f"diffusers:{folder}")
    state = cards.availability(card, OFFLINE)
    assert not state.can_run
    assert "painter" in state.reason
    assert "GPU" not in f"{state.reason} {state.next_step}"
    with pytest.raises(UserError) as said:
        load_diffusion(card.spec)
    assert str(said.value) == state.reason


@pytest.mark.skipif(sys.platform != "linux", reason="drivers are looked for on Linux alone")
@pytest.mark.parametrize("there", [*cards.GPU_FILES, ""])
def test_torch_is_asked_for_a_gpu_only_where_there_is_a_driver(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards.os.path, "exists", lambda path: path == there)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert cards.has_gpu() == bool(there)


def test_a_driver_s_folder_is_there_before_its_device_files() -> None:
    assert "/proc/driver/nvidia" in cards.GPU_FILES


def test_pipelines_that_pass_as_supported_have_an_adapter() -> None:
    assert set(FAMILIES) == set(pipelines.LAYOUTS)


def test_a_real_sds_clip_without_its_file_says_so_and_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "has_gpu", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    state = cards.availability(cards.resolve("sds-clip-vit-b-32"), ONLINE)
    assert not state.can_run
    assert "no fine-tuned file of CLIP ViT-B/32" in state.reason
    assert "sds-clip:FILE" in state.next_step
    assert "train one: about 900 h on this machine" in state.next_step
    monkeypatch.setattr(cards, "has_gpu", lambda: True)
    gpu = cards.availability(cards.resolve("sds-clip-vit-b-32"), ONLINE)
    assert "about 6 h" in gpu.next_step


def test_a_fine_tuned_file_cannot_run_without_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "sds-clip-vit-b-32.safetensors").write_bytes(b"")
    card = cards.resolve("sds-clip-vit-b-32")
    assert cards.availability(card, ONLINE).can_run
    state = cards.availability(card, OFFLINE)
    assert not state.can_run
    assert "CLIP ViT-B/32 are not on this machine" in state.reason


def test_a_mini_model_without_its_weights_says_how_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for name in MINI:
        state = cards.availability(cards.resolve(name), OFFLINE)
        assert not state.can_run
        assert "mini train" in state.next_step
    twins.clip_folder(tmp_path / "checkpoints" / "mini-clip")
    twins.mini_folder(tmp_path / "checkpoints" / "mini-diffusion")
    assert all(cards.availability(cards.resolve(name), OFFLINE).can_run for name in ("mini-clip", "mini-diffusion"))


def test_mini_is_what_the_card_says_and_not_how_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    shipped = cards.resolve("mini-clip")
    assert "mini train" in cards.availability(replace(shipped, name="tiny"), OFFLINE).next_step
    assert "mini train" not in cards.availability(replace(shipped, mini=False), OFFLINE).next_step


def test_a_folder_that_is_not_there_cannot_run(tmp_path: Path) -> None:
    for spec in (f"open_clip:local-dir:{tmp_path}/none", f"sds-clip:{tmp_path}/none"):
        state = cards.availability(cards.resolve(spec), ONLINE)
        assert not state.can_run
        assert str(tmp_path) not in state.reason + state.next_step


@pytest.mark.parametrize("family", ["diffusers", "transformers", "vlm"])
def test_a_path_that_leads_nowhere_is_named_as_it_was_given(family: str, tmp_path: Path) -> None:
    card = cards.resolve(f"{family}:{tmp_path}/slip/none")
    state = cards.availability(card, ONLINE)
    assert not state.can_run
    assert repr(f"{tmp_path}/slip/none") in state.reason
    with pytest.raises(UserError) as said:
        open_scorer(card, device="cpu")
    assert str(said.value) == state.reason


def test_fetching_downloads_what_is_missing_and_asks_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    twins.sd_folder(tmp_path)

    def download(repo: str, *_: object, **__: object) -> str:
        asked.append(repo)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for name in ("clip-vit-b-32", "sds-clip-vit-b-16", "sd-v1-4", "mini-clip"):
        fetch(cards.resolve(name))
    openai = [f"timm/vit_base_patch{patch}_clip_224.openai" for patch in (32, 16)]
    assert asked == [*openai, *["CompVis/stable-diffusion-v1-4"] * 2]  # the index first: it says which files to fetch
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=4.5e9))
    with pytest.raises(UserError, match="free some space"):
        fetch(cards.resolve("sd-v1-4"))
    assert len(asked) == 4


def test_an_unknown_family_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "AudioPipeline"}')
    asked: list[object] = []

    def download(*_: object, allow_patterns: object, **__: object) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError, match="AudioPipeline"):
        fetch(cards.resolve("sd-v1-4"))
    assert asked == [["model_index.json", "scheduler/scheduler_config.json"]]


def test_a_download_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _broken_off)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _broken_off)
    for name in ("clip-vit-b-32", "sd-v1-4"):
        with pytest.raises(UserError, match="could not be downloaded"):
            fetch(cards.resolve(name))


def test_an_unreachable_hub_is_not_a_repository_without_weights(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: object, **__: object) -> str:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s")
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(UserError, match="was not reached"):
        fetch(cards.resolve("clip-vit-b-32"))
    assert not caplog.records


def test_a_device_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="cuda"):
        open_scorer(cards.resolve("mini-clip"), device="cuda")
    with pytest.raises(ValueError, match="device must be"):
        pick_device("abacus")


def test_reading_the_cards_imports_no_library_of_models() -> None:
    code = (
        "import sys; from sdsdemo.models import cards, images, sources; cards.all_cards();"
        "print([name for name in ('torch', 'open_clip', 'diffusers', 'transformers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def _broken_off(*_: object, **__: object) -> None:
    raise OSError("connection lost")
