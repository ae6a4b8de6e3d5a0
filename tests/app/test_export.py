"""`export`: a whole folder or none, a model card after the Hub's conventions, and publishing with one's own token."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.export import export
from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import base_header, write_delta
from sdsdemo.settings import ASSETS
from tests import twins
from tests.app.fake_hub import FakeHub

RUN = ASSETS / "mini" / "runs" / "mini"


@pytest.fixture(scope="module")
def workbench() -> Workbench:
    return Workbench()


def front_matter(folder: Path) -> dict[str, str]:
    head = (folder / "README.md").read_text().split("---\n")[1]
    return dict(line.split(": ", 1) for line in head.splitlines())


def delta(folder: Path, base: Path, **story: Any) -> str:
    model = ClipModel.load(f"open_clip:local-dir:{base}")
    tensors = {"clip.ln_final.weight": model.module.state_dict()["ln_final.weight"] + 1}
    write_delta(folder / "model.safetensors", tensors, base_header(model) | story)
    return f"sds-clip:{folder / 'model.safetensors'}"


def test_the_card_of_a_fine_tuned_mini_model_tells_its_story(workbench: Workbench, tmp_path: Path) -> None:
    done = export(workbench, "mini-preference-clip", tmp_path / "out", format="open_clip")
    assert set(done["files"]) >= {"README.md", "knows.json", "open_clip_config.json", "open_clip_model.safetensors"}
    assert front_matter(tmp_path / "out") == {
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "license": "mit",
        "tags": "[clip, compositionality, preference]",
    }
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`preference`, for 800 steps, with seed 0" in card
    assert re.search(r"mini-validation, text: .* 95 % interval .* n = 400", card)


def test_stored_results_are_quoted_with_interval_and_n(workbench: Workbench, tmp_path: Path) -> None:
    export(workbench, "mini-clip", tmp_path / "out", format="open_clip", runs=[RUN])
    card = (tmp_path / "out" / "README.md").read_text()
    assert re.search(r"\| mini \| text \| 37\.0 \| 32\.\d to 41\.\d \| 400 \|", card)
    assert "its weights are unchanged" in card
    with pytest.raises(UserError, match="hold no scores of mini-clip-2"):
        export(workbench, "mini-clip-2", tmp_path / "other", format="open_clip", runs=[RUN])
    assert not (tmp_path / "other").exists()


def test_a_base_on_the_hub_is_named_as_the_card_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    twins.in_hub_cache(tmp_path / "hub", "twins/clip", twins.clip_folder(tmp_path / "twin"))
    model = ClipModel.load("open_clip:hf-hub:twins/clip")
    tensors = {"clip.ln_final.weight": model.module.state_dict()["ln_final.weight"] + 1}
    write_delta(tmp_path / "model.safetensors", tensors, base_header(model) | {"objective": "sds\ntags: [x]"})
    spec = f"sds-clip:{tmp_path / 'model.safetensors'}"
    export(Workbench(), spec, tmp_path / "out", format="transformers", repo="ada/my-clip")
    found = front_matter(tmp_path / "out")
    assert found["base_model"] == "twins/clip"
    assert found["base_model_relation"] == "finetune"
    assert (found["library_name"], found["license"]) == ("transformers", "unknown")
    assert found["tags"] == "[clip, compositionality, fine-tuned]"  # a text from a file adds no line
    assert 'CLIPModel.from_pretrained("ada/my-clip")' in (tmp_path / "out" / "README.md").read_text()


def test_the_record_of_the_run_gives_the_command(workbench: Workbench, tmp_path: Path) -> None:
    spec = delta(tmp_path, twins.clip_folder(tmp_path / "twin"), objective="clip")
    record = {"objective": "clip", "base_card": "twin", "steps_done": 40, "seed": 3, "command": "python -m sdsdemo x"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    export(workbench, spec, tmp_path / "out", format="open_clip")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "    python -m sdsdemo x" in card
    assert str(tmp_path) not in card
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="record of this run cannot be read"):
        export(workbench, spec, tmp_path / "other", format="open_clip")


def test_the_card_tells_of_the_steps_of_the_weights(workbench: Workbench, tmp_path: Path) -> None:
    spec = delta(tmp_path, twins.clip_folder(tmp_path / "twin"), objective="clip", steps_done=4)
    record = {"objective": "clip", "base_card": "twin", "steps_done": 10, "seed": 3, "command": "python -m sdsdemo x"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    export(workbench, spec, tmp_path / "out", format="open_clip")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "for 4 steps" in card
    assert "    python -m sdsdemo x" in card


def test_a_folder_is_written_whole_or_not_at_all(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="does not read the class token"):
        export(workbench, "mini-clip", tmp_path / "out", format="transformers")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="'out' is not empty"):
        export(workbench, "mini-clip", tmp_path / "out", format="open_clip")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    monkeypatch.setattr("sdsdemo.models.clip_export._save_tokenizer", _full_disk)
    with pytest.raises(UserError, match="cannot be written"):
        export(workbench, "mini-clip", tmp_path / "new", format="open_clip")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["mini-diffusion", "transformers:some/clip"])
def test_what_is_no_clip_of_open_clips_is_refused(workbench: Workbench, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is not an open_clip CLIP"):
        export(workbench, name, tmp_path / "out", format="open_clip")


def test_a_pushed_model_finds_its_tokenizer_in_its_own_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    hub.install(monkeypatch)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    arguments = ["export", "mini-clip", "--out", str(tmp_path / "out"), "--push", "my-clip", "--json"]
    assert main(arguments) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["address"] == "https://huggingface.co/ada/my-clip"
    sent = dict(hub.calls)
    assert sent["repo"] == "ada/my-clip"
    assert set(done["files"]) <= set(sent)
    config = json.loads(sent["open_clip_config.json"])
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "ada/my-clip"
    assert b'"hf-hub:ada/my-clip"' in sent["README.md"]
    assert b"secret" not in b"".join(value for value in sent.values() if isinstance(value, bytes))


def test_a_push_that_broke_off_is_repeated_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    hub.install(monkeypatch)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    arguments = ["export", "mini-clip", "--out", str(tmp_path / "out"), "--push", "my-clip"]
    hub.breaks = ConnectionResetError()
    assert main(arguments) == 2
    assert "connection broke off" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    hub.there, hub.breaks = [".gitattributes"], None
    assert main(arguments) == 0
    assert (tmp_path / "out" / "open_clip_config.json").is_file()


def test_the_working_folder_is_never_replaced(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (".", "", "x/..", str(tmp_path)):
        with pytest.raises(UserError, match="folder that you are in"):
            export(workbench, "mini-clip", Path(out), format="open_clip")
    assert list(tmp_path.iterdir()) == []
    export(workbench, "mini-clip", Path("new"), format="open_clip")
    assert (tmp_path / "new" / "README.md").is_file()


def test_a_link_goes_on_pointing_to_the_model(workbench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "disk" / "empty").mkdir(parents=True)
    for target in ("empty", "new"):
        link = tmp_path / f"link-{target}"
        link.symlink_to(tmp_path / "disk" / target, target_is_directory=True)
        done = export(workbench, "mini-clip", link, format="open_clip", publish=lambda folder: "address")
        assert link.is_symlink()
        assert "README.md" in done["files"]
        assert (tmp_path / "disk" / target / "README.md").is_file()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["empty", "new"]


def test_a_published_model_whose_place_is_taken_meanwhile_is_kept(workbench: Workbench, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def publish(folder: Path) -> str:
        out.mkdir()
        (out / "another.txt").touch()
        return "address"

    with pytest.raises(UserError, match=r"The model is whole in .*'out' cannot be taken"):
        export(workbench, "mini-clip", out, format="open_clip", publish=publish)
    [kept] = tmp_path.glob(".out.*.part")
    assert (kept / "README.md").is_file()
    assert [path.name for path in out.iterdir()] == ["another.txt"]


def test_pushing_without_a_token_or_under_a_bad_name_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for token, name, sentence in ((None, "my-clip", "Sign in"), ("secret", "a/b", "letters, digits")):
        monkeypatch.setattr("huggingface_hub.get_token", lambda token=token: token)
        assert main(["export", "mini-clip", "--out", str(tmp_path / "out"), "--push", name]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
