"""`space check` and `space push`: what makes a Space goes there, in the versions that were tested, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app import space_files
from sdsdemo.app.space_check import check_space
from sdsdemo.app.space_files import FOLDERS, files_of, front_matter
from sdsdemo.app.space_push import contents_of, outdated, push_space, shown_models
from sdsdemo.cli.main import main
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import read_run
from sdsdemo.models import sources
from sdsdemo.models.preload import ENTRY, preload_entries
from sdsdemo.settings import ASSETS, ROOT
from tests.app.fake_hub import FakeHub, refusal, unreachable

LISTED = {
    "timm/vit_base_patch32_clip_224.openai": ["open_clip_pytorch_model.bin", "open_clip_model.safetensors"],
    "CompVis/stable-diffusion-v1-4": [
        "README.md", "sd-v1-4.ckpt", "model_index.json", "scheduler/scheduler_config.json",
        "tokenizer/vocab.json", "tokenizer/merges.txt",
        "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/pytorch_model.bin",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "safety_checker/model.safetensors",
    ],
}  # fmt: skip
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


class FakeSpaces(FakeHub):
    """The Hub of Spaces; `there` are the files of one that is updated, `readme` is its README.md."""

    readme = Path()

    def repo_exists(self, repo: str, repo_type: str) -> bool:
        return bool(self.there)

    def request_space_hardware(self, repo: str, hardware: str) -> None:
        self.calls.append(("hardware", hardware))

    def hf_hub_download(self, repo: str, name: str, repo_type: str) -> str:
        return str(self.readme)

    def create_repo(self, repo: str, **options: Any) -> None:
        if self.refuses:
            raise refusal()
        self.calls.append(("repo", (repo, options)))

    def add_space_variable(self, repo: str, name: str, value: str) -> None:
        self.calls.append((name, value))

    def list_repo_files(self, repo: str, repo_type: str) -> list[str]:
        return self.there

    def create_commit(self, repo: str, operations: list[Any], commit_message: str, repo_type: str) -> None:
        assert repo_type == "space"
        self.calls += [(one.path_in_repo, getattr(one, "path_or_fileobj", "deleted")) for one in operations]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeSpaces:
    hub = FakeSpaces()
    hub.install(monkeypatch)
    return hub


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hub's listings of two repositories, and the index of one."""
    (tmp_path / "index").mkdir()
    (tmp_path / "index/model_index.json").write_text(json.dumps(INDEX))
    monkeypatch.setattr(sources, "repo_listing", lambda repo, revision=None: LISTED.get(repo, []))
    monkeypatch.setattr(sources, "repo_folder", lambda *a, **o: tmp_path / "index")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout that can be a Space, with things beside it that must stay."""
    root = tmp_path / "checkout"
    for folder in ("sdsdemo/__pycache__", "assets", "checkpoints", "runs/mine", ".git"):
        (root / folder).mkdir(parents=True)
    for name in ("README.md", "requirements.txt", "constraints.txt", "LICENSE", "pyproject.toml", "app.py"):
        shutil.copy(ROOT / name, root)
    for stays in ("runs/mine/run.json", ".git/config", ".env", "sdsdemo/__pycache__/a.pyc", "assets/hf_token.txt"):
        (root / stays).write_text("secret")
    for goes in ("sdsdemo/versions.py", "assets/favicon.svg", "checkpoints/weights.safetensors"):
        (root / goes).write_text("x")
    return root


def test_this_repository_can_be_a_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", "check"]) == 0
    assert "This can be a Space." in capsys.readouterr().out
    assert check_space(ROOT)["warnings"] == []


def test_every_tracked_file_of_the_folders_is_part_of_a_space() -> None:
    listed = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert "checkpoints/mini-clip/tokenizer.json" in listed.stdout
    assert set(listed.stdout.splitlines()) - set(files_of(ROOT)) == set()


@pytest.mark.parametrize("name", ["hf_token.txt", "hftoken.txt", "my-token.json", "token.txt"])
def test_a_token_in_a_folder_of_models_stays(checkout: Path, name: str) -> None:
    added(f"checkpoints/mini/{name}")(checkout)
    added("checkpoints/mini/added_tokens.json")(checkout)
    sent = [path for path in files_of(checkout) if path.startswith("checkpoints/mini/")]
    assert sent == ["checkpoints/mini/added_tokens.json"]


def edited(name: str, before: str, after: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        text = (root / name).read_text()
        assert before in text
        (root / name).write_text(text.replace(before, after, 1))

    return edit


def added(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def add(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return add


FAULTS = {
    "lacks license": edited("README.md", "license: mit\n", ""),
    "no Gradio Space knows": edited("README.md", "pinned:", "pined:"),
    "put a text in quotes": edited("README.md", 'python_version: "3.12"', "python_version: 3.12"),
    "sdk in the front matter": edited("README.md", "sdk: gradio", "sdk: docker"),
    "app_file names": edited("README.md", "app_file: app.py", "app_file: main.py"),
    "colorFrom must be": edited("README.md", "colorFrom: blue", "colorFrom: teal"),
    "at most 60": edited("README.md", "short_description: ", "short_description: a very, very, very "),
    "was tested: set it": edited("README.md", "sdk_version: 6.31.0", "sdk_version: 6.32.0"),
    "does not fit requirements": edited("README.md", "sdk_version: 6.31.0", "sdk_version: 5.1.0"),
    "is not supported": edited("README.md", 'python_version: "3.12"', 'python_version: "3.10"'),
    "preload_from_hub has": edited("README.md", "pinned:", "preload_from_hub: [no-owner]\npinned:"),
    "begin with front matter": edited("README.md", "---\n", ""),
    "without a URL": edited("requirements.txt", "ftfy>=6.1", "ftfy @ git+https://example.org/ftfy"),
    "no tested version": edited("requirements.txt", "ftfy>=6.1", "unheard-of>=1"),
    "asks for": edited("requirements.txt", "ftfy>=6.1", "ftfy>=60"),
    "which asks for pydantic": edited("requirements.txt", "pydantic>=2.10", "pydantic>=2.13"),
    "which asks for pillow": edited("constraints.txt", "pillow==12.3.0", "pillow==13.0.0"),
    "of more than 20 MB": added("assets/large.bin", b"0" * 21_000_000),
    "no licence beside it": added("assets/fonts/a.woff2"),
    "no tokenizer.json beside it": added("checkpoints/mini/open_clip_config.json"),
    "no tokenizer/tokenizer.json": added("checkpoints/mini/model_index.json"),
    "is a Git LFS pointer": added("checkpoints/mini/model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_fault_is_found_and_said(checkout: Path, sentence: str) -> None:
    assert check_space(checkout)["errors"] == []
    FAULTS[sentence](checkout)
    errors = check_space(checkout)["errors"]
    assert any(sentence in error for error in errors), errors


def test_the_versions_of_a_space_fit_the_builders_gradio(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(space_files.FREE, "pydantic")
    assert any("gradio[oauth,mcp]" in error for error in check_space(checkout)["errors"])


def test_an_exact_torch_is_a_warning(checkout: Path) -> None:
    edited("requirements.txt", "torch>=2.8", "torch==2.14.1")(checkout)
    found = check_space(checkout)
    assert found["errors"] == []
    assert "torch should be a range" in found["warnings"][0]


def test_a_licence_beside_a_font_is_enough(checkout: Path) -> None:
    for name in ("assets/fonts/a.woff2", "assets/fonts/OFL.txt"):
        added(name)(checkout)
    assert check_space(checkout)["errors"] == []


def test_neither_runs_nor_caches_nor_tokens_are_uploaded(checkout: Path, hub: FakeSpaces) -> None:
    assert push_space(checkout, "demo", "secret") == "https://huggingface.co/spaces/ada/demo"
    sent = {name for name, _ in hub.calls} - {"token", "repo"}
    assert sent == {
        "app.py", "README.md", "requirements.txt", "constraints.txt", "LICENSE", "sdsdemo/versions.py",
        "assets/favicon.svg", "checkpoints/weights.safetensors",
    }  # fmt: skip
    assert "secret" not in str([content for name, content in hub.calls if name != "token"])


def test_an_update_deletes_what_has_gone_and_keeps_results(checkout: Path, hub: FakeSpaces) -> None:
    hub.there = ["sdsdemo/versions.py", "sdsdemo/old.py", "results/mine/run.json", ".gitattributes", "notes.md"]
    push_space(checkout, "demo", "secret")
    assert [name for name, content in hub.calls if content == "deleted"] == ["sdsdemo/old.py"]


def test_requirements_have_the_versions_that_were_tested(checkout: Path) -> None:
    content = contents_of(checkout, [], [])["requirements.txt"]
    assert isinstance(content, bytes)
    lines = content.decode().splitlines()
    assert "gradio[oauth]==6.31.0" in lines
    assert {"torch>=2.8", "pydantic>=2.10"} <= set(lines)
    assert sum("==" in line for line in lines) == len(lines) - 4  # a comment, and what stays a range


def test_no_more_models_are_pushed_than_a_page_shows() -> None:
    with pytest.raises(UserError, match="at most 6 models, Mini's included; these would be 7"):
        shown_models(["clip-vit-b-32", "clip-vit-b-16", "clip-vit-l-14", "sd-v1-4"])


@pytest.mark.usefixtures("listings")
def test_models_are_preloaded_as_they_are_fetched(checkout: Path, hub: FakeSpaces) -> None:
    push_space(checkout, "demo", "secret", models=["clip-vit-b-32", "sd-v1-4"], hardware="some-gpu")
    sent = dict(hub.calls)
    clip, stable = front_matter(sent["README.md"].decode())["preload_from_hub"]
    assert clip == "timm/vit_base_patch32_clip_224.openai open_clip_model.safetensors"
    repo, files, commit = stable.split(" ")
    assert (repo, len(commit)) == ("CompVis/stable-diffusion-v1-4", 40)
    assert set(files.split(",")) == {
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
        "text_encoder/config.json", "text_encoder/model.safetensors", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    assert all(ENTRY.fullmatch(entry) for entry in (clip, stable))
    assert sent["SDSDEMO_MODELS"] == "mini-clip,mini-diffusion,mini-sds-clip,clip-vit-b-32,sd-v1-4"
    assert sent["repo"] == ("ada/demo", {"repo_type": "space", "space_sdk": "gradio", "space_hardware": "some-gpu"})


def test_a_hub_that_is_not_reached_is_a_sentence_of_its_own(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    with pytest.raises(UserError, match="Hub was not reached"):
        push_space(checkout, "demo", "secret")
    with pytest.raises(UserError, match="could not be listed"):
        push_space(checkout, "demo", "secret", models=["clip-vit-b-32"])


@pytest.mark.usefixtures("listings")
def test_an_update_keeps_the_models_of_a_space_and_moves_it(checkout: Path, hub: FakeSpaces, tmp_path: Path) -> None:
    push_space(checkout, "demo", "secret", models=["clip-vit-b-32"])
    hub.readme, hub.there = tmp_path / "of the Space", ["README.md", "app.py"]
    hub.readme.write_bytes(dict(hub.calls)["README.md"])
    hub.calls.clear()
    push_space(checkout, "demo", "secret", hardware="some-gpu")
    sent = dict(hub.calls)
    assert sent["hardware"] == "some-gpu"
    assert "repo" not in sent
    assert front_matter(sent["README.md"].decode())["preload_from_hub"] == [
        "timm/vit_base_patch32_clip_224.openai open_clip_model.safetensors"
    ]
    for broken in ("no front matter", "---\ntitle: x\n---\n"):
        hub.readme.write_text(broken)
        push_space(checkout, "demo", "secret")


@pytest.mark.usefixtures("listings")
def test_mini_needs_no_preload_and_an_unlisted_repository_is_a_sentence() -> None:
    assert preload_entries(["mini-clip", "mini-sds-clip"]) == []
    with pytest.raises(UserError, match="could not be listed"):
        preload_entries(["clip-rn50"])


def test_results_go_there_without_the_path_of_the_set(checkout: Path, tmp_path: Path) -> None:
    run = tmp_path / "winoground-sd"
    shutil.copytree(ASSETS / "mini/runs/mini", run)
    header = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(header | {"benchmark": "winoground:/home/ada/winoground"}))
    (run / "run.lock").write_text("")
    sent = contents_of(checkout, [], [run])
    results = {name: content for name, content in sent.items() if name.startswith("results/")}
    assert set(results) == {f"results/winoground-sd/{name}" for name in ("run.json", "examples.jsonl", "scores.jsonl")}
    written = results["results/winoground-sd/run.json"]
    assert isinstance(written, bytes)
    assert b"/home/ada" not in written


def stored_run(folder: Path, **changes: str) -> Path:
    """A copy of the shipped run, whose texts are changed."""
    shutil.copytree(ASSETS / "mini/runs/mini", folder)
    for file in folder.glob("*.json*"):
        text = file.read_text()
        for before, after in changes.items():
            text = text.replace(f'"{before.replace("_", "-")}"', f'"{after}"')
        file.write_text(text)
    return folder


def test_results_go_there_without_the_paths_of_models(checkout: Path, tmp_path: Path) -> None:
    own = {"mini_clip": "open_clip:local-dir:/home/ada/a/clip", "mini_sds_clip": "open_clip:local-dir:/home/ada/b/clip"}
    run = stored_run(tmp_path / "run", **own)
    sent = {name: content for name, content in contents_of(checkout, [], [run]).items() if "results/" in name}
    for name, content in sent.items():
        text = content if isinstance(content, bytes) else content.read_bytes()
        assert b"/home/ada" not in text
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(text)
    there, here = read_run(tmp_path / "there/results/run"), read_run(run)
    assert {"open_clip:local-dir:clip", "open_clip:local-dir:clip-2"} <= set(there.models)
    mine = here.of(own["mini_sds_clip"])
    assert mine is not None
    again = there.of("open_clip:local-dir:clip-2")
    assert again is not None
    assert [scores.score_IC.tolist() for scores in again] == [scores.score_IC.tolist() for scores in mine]


def test_two_results_of_one_name_are_refused(checkout: Path, tmp_path: Path) -> None:
    runs = [stored_run(tmp_path / part / "seed-0") for part in ("winoground", "aro")]
    with pytest.raises(UserError, match="called 'seed-0'"):
        contents_of(checkout, [], runs)


def test_results_that_are_pushed_again_leave_no_file_of_the_earlier_ones(checkout: Path, tmp_path: Path) -> None:
    there = ["results/run/scores-2.jsonl", "results/run/run.json", "results/other/scores-2.jsonl"]
    assert outdated(there, contents_of(checkout, [], [stored_run(tmp_path / "run")])) == there[:1]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("sds-clip:runs/try/model.safetensors", "export 'sds-clip:runs/try/model.safetensors' --push"),
        ("open_clip:local-dir:/home/ada/my-clip", "open_clip:hf-hub:YOU"),
        ("open_clip:local-dir:checkpoints/../runs/clip", "open_clip:hf-hub:YOU"),
        ("diffusers:/home/ada/sd", "diffusers:YOU/NAME"),
        (f"open_clip:local-dir:{ROOT}/checkpoints/mini-clip", "below checkpoints/"),
    ],
)
def test_a_model_of_this_machine_alone_is_refused(checkout: Path, hub: FakeSpaces, model: str, says: str) -> None:
    with pytest.raises(UserError, match="only on this machine") as refused:
        push_space(checkout, "demo", "secret", models=[model])
    assert says in str(refused.value)
    assert hub.calls == []


def test_a_model_of_the_checkout_goes_along_and_is_shown_once() -> None:
    asked = ["mini-sds-clip", "open_clip:local-dir:checkpoints/mini-clip", "mini-preference-clip"]
    assert shown_models(asked) == ["mini-clip", "mini-diffusion", "mini-sds-clip", "mini-preference-clip"]


def test_a_dry_run_lists_and_uploads_nothing(hub: FakeSpaces, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", "push", "demo", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "checkpoints/mini-diffusion/unet/diffusion_pytorch_model.safetensors" in said
    assert "Nothing was uploaded." in said
    assert hub.calls == []


def test_the_name_of_a_space_goes_under_the_tokens_account(checkout: Path, hub: FakeSpaces) -> None:
    with pytest.raises(UserError, match=r"Name the Space .* no ORGANISATION/"):
        push_space(checkout, "team/demo", "secret")
    assert hub.calls == []


def test_a_refusal_and_a_checkout_with_faults_are_sentences(checkout: Path, hub: FakeSpaces) -> None:
    hub.refuses = True
    with pytest.raises(UserError, match="refused the Space"):
        push_space(checkout, "demo", "secret")
    (checkout / "LICENSE").unlink()
    with pytest.raises(UserError, match="There is no LICENSE"):
        push_space(checkout, "demo", "secret")
    with pytest.raises(UserError, match="in a clone"):
        check_space(checkout / "assets")
