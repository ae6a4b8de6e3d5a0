"""`doctor`: every variable, limit and model in sentences that fit the terminal, and no secret."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli import doctor
from sdsdemo.settings import FINETUNING, LIMITS, ROOT
from sdsdemo.settings.environment import VARIABLES
from tests.cli.shell import said


def test_doctor_names_every_variable_limit_and_model_and_never_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    status, out, _ = said(capsys, "doctor")
    found = json.loads(said(capsys, "doctor", "--json")[1])
    assert status == 0
    assert found["hub_token"] is True
    assert "hf_secret" not in out + json.dumps(found)
    assert {v["name"] for v in found["variables"]} == {v.name for v in VARIABLES}
    assert found["limits"]["image_bytes"] == LIMITS.image_bytes
    for word in ("Python", "Shipped weights", "What to do", *(v.name for v in VARIABLES)):
        assert word in out


def test_the_folder_that_the_page_was_told_to_write_to_is_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file"))
    found = json.loads(said(capsys, "doctor", "--json")[1])
    assert found["folders"]["temporary"]["path"] == str(tmp_path / "file")
    monkeypatch.setattr("sdsdemo.cli.doctor.can_write", lambda folder: folder != tmp_path / "file")
    advice = json.loads(said(capsys, "doctor", "--json")[1])["advice"]
    assert any("GRADIO_TEMP_DIR" in line for line in advice)


def test_a_report_for_an_issue_names_no_folder_of_the_users(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    monkeypatch.setenv("HOME", str(tmp_path / "ada-lovelace"))
    monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / "ada-lovelace" / "cache"))
    status, out, _ = said(capsys, "doctor", "--report")
    assert status == 0
    assert out.startswith("```text\nsdsdemo ")
    assert "~/cache" in out
    for secret in ("hf_secret", "ada-lovelace", str(ROOT)):
        assert secret not in out


def test_a_report_names_no_folder_outside_of_the_home_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "acme" / "clip").mkdir(parents=True)
    (tmp_path / "acme" / "epoch.pt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    places = {
        "SDSDEMO_CACHE": "/srv/alice acme/cache",
        "SDSDEMO_RUNS": "/data/acme/runs",
        "SDSDEMO_MODELS": "mini-clip,transformers:/mnt/clients/acme/clip,sds-clip:acme/secret.safetensors,"
        "open_clip:local-dir:acme/clip,open_clip:ViT-B-32/acme/epoch.pt",
    }
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/scratch/acme/hub")
    out = said(capsys, "doctor", "--report")[1]
    as_json = said(capsys, "doctor", "--report", "--json")[1]
    for secret in ("alice", "acme", "clients", "/srv", "/data", "/mnt", "/scratch", "secret", str(ROOT)):
        assert secret not in out, secret
        assert secret not in as_json, secret
    assert "..." in {variable["value"] for variable in json.loads(as_json)["variables"]}
    for kept in ("SDSDEMO_MODELS = mini-clip,transformers:...,sds-clip:...", "SDSDEMO_RUNS = ...", "weights    ..."):
        assert kept in out


def test_a_report_is_not_of_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "doctor", "--report", "--model", "transformers:/srv/acme/clip")
    assert (status, out) == (2, "")
    assert "leave out one of them" in err


def test_a_report_keeps_what_is_no_path(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDSDEMO_MODELS", "mini-clip,transformers:google/siglip-base-patch16-224")
    out = said(capsys, "doctor", "--report")[1]
    assert "transformers:google/siglip-base-patch16-224" in out
    assert "SDSDEMO_RUNS = runs" in out


def test_doctor_says_each_limit_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    block = said(capsys, "doctor")[1].split("\nLimits\n")[1].split("\n\n")[0]
    sentences = " ".join(block.split()).split(". ")
    limits = asdict(LIMITS) | FINETUNING.of_the_page
    assert len(sentences) == len(limits)
    for sentence, (name, value) in zip(sentences, limits.items(), strict=True):
        shown = ", ".join(value) if isinstance(value, tuple) else f"{value:,}"
        assert shown in sentence, name
        assert len(sentence.split()) > 4


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_doctor_is_wrapped_to_the_terminal_and_nothing_is_cut(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("SDSDEMO_MODELS", "mini-clip,clip-vit-b-32")
    out = said(capsys, "doctor")[1]
    assert max(map(len, out.splitlines())) <= columns
    found = json.loads(said(capsys, "doctor", "--json")[1])
    words = " ".join(out.split())
    for sentence in (*found["advice"], *(v["meaning"] for v in found["variables"])):
        assert " ".join(sentence.split()) in words


def test_doctor_says_what_to_do_about_missing_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDSDEMO_MODELS", "mini-clip,clip-vit-b-32")
    assert "fetch clip-vit-b-32" in said(capsys, "doctor")[1].split("What to do")[1]


@pytest.mark.parametrize("name", ["torch", "huggingface_hub"])
def test_doctor_says_which_package_does_not_load(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
    monkeypatch.setenv("SDSDEMO_MODELS", "mini-clip,transformers:google/siglip-base-patch16-224")
    status, out, _ = said(capsys, "doctor")
    assert status == 0
    assert f"{name} does not load (ModuleNotFoundError: import of {name} halted" in " ".join(out.split())


def test_any_error_of_a_package_at_loading_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(doctor.LOADS, "open_clip", load)
    found = doctor.examine(Workbench())
    assert [line for line in found["advice"] if "torchvision::nms does not exist" in line]
    assert {card["reason"] for card in found["models"]} == {doctor.UNKNOWN}


def test_models_run_on_what_the_setting_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("SDSDEMO_DEVICE", "cpu")
    assert doctor.examine(Workbench())["device"] == "the CPU"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("SDSDEMO_DEVICE", "cuda")
    found = doctor.examine(Workbench())
    assert "nothing but the Mini models" in found["device"]
    assert [line for line in found["advice"] if "SDSDEMO_DEVICE asks for cuda" in line]


def test_a_file_where_a_folder_should_be_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        monkeypatch.setenv("SDSDEMO_CACHE", str(tmp_path / place))
        found = doctor.examine(Workbench())
        assert not found["folders"]["cache"]["can_write"]
        assert [line for line in found["advice"] if "SDSDEMO_CACHE" in line]


def test_the_disk_that_is_looked_at_is_that_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=1e9)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "later" / "hub"))
    monkeypatch.setattr("sdsdemo.cli.doctor.shutil.disk_usage", usage)
    assert [line for line in doctor.examine(Workbench())["advice"] if "weights folder has 1.0 GB left" in line]
    assert asked == [tmp_path]
