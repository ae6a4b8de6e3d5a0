"""Nothing in the folder of a model is ever run, and nobody is asked on the terminal whether it may be."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer, transformers_files
from sdsdemo.models.diffusion_files import configs
from sdsdemo.models.pipelines import LAYOUTS
from tests import twins

CODE = (
    "open({mark!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as Evil, DistilBertModel as Model\n"
)
AUTO = {"AutoTokenizer": [None, "evil.Evil"], "AutoModel": "evil.Model", "AutoConfig": "evil.Model"}


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the code in a folder would write. Whoever asks on the terminal is told to go on."""
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


def clip_with_code(folder: Path, mark: Path, **settings: Any) -> str:
    """A CLIP whose tokenizer is a class in its folder. settings: its `tokenizer_kwargs`."""
    twins.clip_folder(folder)
    described = json.loads((folder / "open_clip_config.json").read_text())
    described["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = settings
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    poison(folder, mark)
    return f"open_clip:local-dir:{folder}"


def poison(folder: Path, mark: Path) -> None:
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)))
    edit(folder / "tokenizer_config.json", auto_map=AUTO, tokenizer_class="Evil")


def opened(spec: str) -> str:
    """What is said of a model that is loaded; empty where it is taken."""
    try:
        open_scorer(cards.resolve(spec), device="cpu")
    except UserError as error:
        return str(error)
    return ""


def test_a_clip_cannot_ask_for_its_own_code(tmp_path: Path, mark: Path) -> None:
    said = opened(clip_with_code(tmp_path / "twin", mark, trust_remote_code=True))
    assert "trust_remote_code" in said
    assert not mark.exists()


def test_a_clip_s_code_is_never_asked_about(tmp_path: Path, mark: Path) -> None:
    opened(clip_with_code(tmp_path / "twin", mark))
    assert not mark.exists()


@pytest.mark.parametrize("key", ["tokenizer_file", "cache_dir", "reduction_mask", "bpe_path"])
def test_a_clip_s_tokenizer_takes_no_file_and_no_draw(tmp_path: Path, mark: Path, key: str) -> None:
    assert key in opened(clip_with_code(tmp_path / "twin", mark, **{key: "x"}))


def test_settings_of_open_clip_s_own_tokenizers_are_taken(tmp_path: Path) -> None:
    folder = twins.clip_folder(tmp_path / "twin")
    described = json.loads((folder / "open_clip_config.json").read_text())
    described["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize", "strip_sep_token": False}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    assert opened(f"open_clip:local-dir:{folder}") == ""


def test_a_siglip_s_code_is_never_run(tmp_path: Path, mark: Path) -> None:
    poison(twins.transformers_folder(tmp_path / "twin", kind="siglip"), mark)
    opened(f"transformers:{tmp_path / 'twin'}")
    assert not mark.exists()


@pytest.mark.parametrize(("part", "kind"), [("tokenizer", "AutoTokenizer"), ("text_encoder", "AutoModel")])
def test_a_pipeline_s_code_is_never_run(tmp_path: Path, mark: Path, part: str, kind: str) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    poison(folder / "tokenizer", mark)
    (folder / "text_encoder" / "evil.py").write_text(CODE.format(mark=str(mark)))
    edit(folder / "text_encoder" / "config.json", auto_map=AUTO, model_type="evil")
    edit(folder / "model_index.json", **{part: ["transformers", kind]})
    assert opened(f"diffusers:{folder}") != ""
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["DiffusionPipeline", "AutoModel"])
def test_a_part_that_is_a_pipeline_of_its_own_is_refused(tmp_path: Path, kind: str) -> None:
    folder = twins.mini_folder(tmp_path / "twin")
    edit(folder / "model_index.json", unet=["diffusers", kind])
    assert "not part of a pipeline" in opened(f"diffusers:{folder}")


@pytest.mark.parametrize("told", ["org/kernel", {"text_config": "org/kernel:fast"}])
def test_an_attention_of_another_repository_is_refused(tmp_path: Path, told: Any) -> None:
    folder = twins.transformers_folder(tmp_path / "twin")
    edit(folder / "config.json", attn_implementation=told)
    assert "names code of another repository" in opened(f"transformers:{folder}")


def test_no_pattern_that_is_fetched_matches_code() -> None:
    code = ("tokenization_x.py", "tokenizer.py", "vocab.py", "chat_template.py", "modeling_token.py")
    assert not [(name, pattern) for name in code for pattern in transformers_files.BESIDE if fnmatch(name, pattern)]


@pytest.mark.parametrize("family", LAYOUTS)
def test_no_pattern_of_a_pipeline_matches_code(family: str) -> None:
    patterns = configs(LAYOUTS[family])
    for part in LAYOUTS[family].tokenizers:
        for file in ("tokenizer.json", "merges.txt", "spiece.model", "chat_template.jinja"):
            assert any(fnmatch(f"{part}/{file}", one) for one in patterns), file
        assert not any(fnmatch(f"{part}/tokenization_x.py", one) for one in patterns)
