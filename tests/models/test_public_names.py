"""What others see of specs and sources: no folder of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdsdemo.models.public_names import is_own_file, path_of_source, public, public_name


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ("open_clip:local-dir:/home/ada/my-clip", "open_clip:local-dir:my-clip"),
        ("open_clip:ViT-B-32//home/ada/w.pt", "open_clip:ViT-B-32/w.pt"),
        ("sds-clip:/home/ada b/model.safetensors", "sds-clip:model.safetensors"),
        ("diffusers:../ada/sd", "diffusers:sd"),
        ("transformers:/home/ada/clip@main", "transformers:clip@main"),
        ("winoground:/home/ada/data", "winoground:data"),
        ("folder:../unreleased set", "folder:unreleased set"),
        ("hub:/home/ada/unreleased-set", "hub:unreleased-set"),
        ("hub:~/sets/unreleased@test", "hub:unreleased@test"),
        ("hub:a/folder/of/shards", "hub:shards"),
        ("/home/ada/words.json", "words.json"),
        *((name, name) for name in ("mini-clip", "mini", "runs/mine", "a note: with/slash", "")),
        *((data, data) for data in ("hub:name", "hub:org/name", "hub:org/name@test")),
        *((spec, spec) for spec in ("open_clip:ViT-B-32/openai", "open_clip:hf-hub:org/name", "vlm:org/name@abc")),
        ("open_clip:local-dir:checkpoints/mini-clip", "open_clip:local-dir:checkpoints/mini-clip"),
    ],
)
def test_a_path_becomes_its_last_name_and_all_else_stays(own: str, shown: str) -> None:
    assert public_name(own) == shown


def test_a_folder_here_that_is_named_as_on_the_hub_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of_source("hub:ada/set@val") == ("", "", "")
    (tmp_path / "ada" / "set").mkdir(parents=True)
    assert path_of_source("hub:ada/set@val") == ("hub:", "ada/set", "@val")


@pytest.mark.parametrize(
    ("spec", "is_own"),
    [
        ("open_clip:local-dir:runs/mine-model", True),
        ("open_clip:ViT-B-32/runs/w.pt", True),
        ("diffusers:checkpoints/my-sd", True),
        ("open_clip:local-dir:/home/ada/my-clip", True),
        ("open_clip:local-dir:checkpoints/mini-clip", False),
        ("diffusers:checkpoints/mini-diffusion", False),
        ("open_clip:ViT-B-32/openai", False),
        ("mini-clip", False),
    ],
)
def test_a_file_of_ones_own_is_one_that_no_card_names(spec: str, is_own: bool) -> None:
    assert is_own_file(spec) == is_own


def test_every_text_of_a_record_is_public_and_a_command_word_by_word() -> None:
    record = {
        "command": "run --data 'folder:/home/ada/a set' --seed 1",
        "sets": {"coco:/home/ada/x": [1.5, None, True]},
    }
    assert public(record) == {"command": "run --data 'folder:a set' --seed 1", "sets": {"coco:x": [1.5, None, True]}}
    assert public({"command": "no 'command"}) == {"command": "no 'command"}
