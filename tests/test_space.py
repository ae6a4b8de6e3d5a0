"""The repository as a Hugging Face Space: front matter, requirements, and the app under a Space's environment."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from gradio_client import Client, handle_file

from sdsdemo.settings import ASSETS, ROOT
from tests.conftest import free_port

ON_REQUEST = ("spacy", "spaces", "trackio")
"""Asked for, with a sentence, only by who needs it: the order sets of ARO, ZeroGPU, `--track`."""
PROVIDED_BY = {
    "open_clip": "open_clip_torch",
    "fsspec": "datasets",
    "starlette": "gradio",
    "gradio_client": "gradio",
    "PIL": "pillow",
    "tokenizers": "transformers",
    "yaml": "huggingface_hub",
    "packaging": "huggingface_hub",
}
"""Imports whose package has another name, or comes with another package."""
OURS = ("HF_", "HUGGING", "GRADIO_", "SDSDEMO_", "SPACE_")
"""How the variables begin that a Space sets itself, or that would change what the app does."""
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
"""What the reference of the Spaces' front matter allows."""
START_SECONDS = 120
LOCAL = re.compile(r"'(127\.\d+\.\d+\.\d+|localhost|::1|0\.0\.0\.0)'|^socket\.connect '/")
"""What a process may connect to: itself, and sockets that are files."""


def front_matter() -> dict:
    _, block, _ = (ROOT / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(block)


def test_the_front_matter_is_complete_and_points_at_what_is_there() -> None:
    facts = front_matter()
    required = {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license"}
    assert required <= set(facts)
    assert facts["sdk"] == "gradio"
    assert (ROOT / facts["app_file"]).is_file()
    assert isinstance(facts["python_version"], str)
    assert tuple(map(int, facts["python_version"].split("."))) >= (3, 11)
    assert len(facts["short_description"]) <= 60
    assert len(facts["emoji"]) == 1
    assert {facts["colorFrom"], facts["colorTo"]} <= COLOURS


def test_the_space_runs_the_gradio_that_was_tested() -> None:
    tested = re.search(r"^gradio==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert tested is not None
    assert front_matter()["sdk_version"] == tested.group(1)


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports absolutely."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | named}


def test_requirements_provide_everything_that_is_imported() -> None:
    required = set(re.findall(r"^([A-Za-z_][A-Za-z0-9_]*)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    names = set().union(*(imported(path) for path in [ROOT / "app.py", *(ROOT / "sdsdemo").rglob("*.py")]))
    foreign = {name for name in names if name not in sys.stdlib_module_names} - {"sdsdemo", *ON_REQUEST}
    assert {PROVIDED_BY.get(name, name) for name in foreign} <= required


def test_the_app_serves_everyone_under_a_spaces_environment(tmp_path: Path) -> None:
    _serves_everyone(tmp_path, ROOT)
    reached = (tmp_path / "connections").read_text() if (tmp_path / "connections").exists() else ""
    assert [line for line in reached.splitlines() if not LOCAL.search(line)] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody can write to")
def test_it_serves_where_neither_home_nor_working_folder_can_be_written(tmp_path: Path) -> None:
    nowhere = "/proc/nowhere"
    _serves_everyone(tmp_path, Path("/proc"), HOME=nowhere, XDG_CACHE_HOME=nowhere, HF_HOME=nowhere)


def _serves_everyone(folder: Path, work_in: Path, **more: str) -> None:
    """A Space that is started in a working folder shows its page and answers. folder: for its temporary files."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/sdsdemo",
        "SPACE_HOST": "someone-sdsdemo.hf.space",
        "SPACE_AUTHOR_NAME": "someone",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),  # an empty one: no token and no weights of whoever runs this test
        "PYTHONPATH": str(ROOT / "tests" / "watched"),
        "SDSDEMO_TEST_CONNECTIONS": str(folder / "connections"),
        **more,
    }
    log, command = folder / "log", [sys.executable, str(ROOT / "app.py")]
    with log.open("w") as file:
        app = subprocess.Popen(command, cwd=work_in, env=environment, stdout=file, stderr=file)
    try:
        page = _page(f"http://{_own_address()}:{port}/", app, log)
        answer = _answer(f"http://{_own_address()}:{port}/")
    finally:
        app.terminate()
        app.wait(timeout=60)
    assert "SDS-CLIP" in page
    assert [found["model"] for found in answer["models"]] == ["mini-clip", "mini-diffusion"]
    assert str(ROOT / "sdsdemo") not in log.read_text()  # no traceback through our code; Gradio's own misses `spaces`


def _answer(address: str) -> Any:
    """What `/score` says of a shipped picture, asked as a program asks."""
    picture = sorted((ASSETS / "mini" / "examples").glob("*.png"))[0]
    return Client(address, verbose=False).predict(
        image=handle_file(picture),
        captions=["a red star", "a blue star"],
        models=["mini-clip", "mini-diffusion"],
        timesteps=2,
        noises=2,
        api_name="/score",
    )


def _own_address() -> str:
    """An address of this machine other than 127.0.0.1: a Space is reached from outside."""
    if sys.platform == "linux":
        return "127.0.0.2"  # Linux answers on all of 127.*, and a server that is bound to 127.0.0.1 does not
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _page(address: str, app: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the page did not come: {log.read_text()[-2000:]}")
