"""The package works when it is installed: what it carries is found from anywhere, and the command has a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from sdsdemo.settings import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder like site-packages: the package with what its wheel puts inside, and nothing else of the checkout."""
    place = tmp_path / "site-packages"
    shutil.copytree(ROOT / "sdsdemo", place / "sdsdemo", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "assets").mkdir()  # of another package: it must not be taken for ours
    for source, target in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items():
        (place / target).parent.mkdir(exist_ok=True)
        (place / target).symlink_to(ROOT / source, target_is_directory=True)
    return place


@pytest.mark.slow
def test_an_installed_package_finds_its_models_from_any_folder(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "sdsdemo", "models", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    runs = {row["model"]: row["can_run"] for row in json.loads(done.stdout)}
    assert runs
    assert all(can_run for model, can_run in runs.items() if model.startswith("mini-"))


def test_the_console_script_names_a_function_that_is_there() -> None:
    module, _, name = PROJECT["project"]["scripts"]["sdsdemo"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "sdsdemo" / "py.typed").is_file()


def test_the_page_s_templates_and_scripts_come_with_the_package(installed: Path, tmp_path: Path) -> None:
    names = [path.stem for path in (ROOT / "sdsdemo" / "ui" / "scripts").glob("*.js")]
    asks = f"from sdsdemo.ui.templates import *; render('page.masthead'); print(len([script(n) for n in {names}]))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", asks]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(names) > 5


def test_no_setting_of_the_wheel_leaves_a_file_of_the_package_out() -> None:
    build = PROJECT["tool"]["hatch"]["build"]
    assert set(build) == {"targets"}
    assert set(build["targets"]["wheel"]) == {"packages", "force-include"}
    assert build["targets"]["wheel"]["packages"] == ["sdsdemo"]
    assert "sdsdemo" in build["targets"]["sdist"]["include"]
    ignored = (ROOT / ".gitignore").read_text().split()  # hatchling leaves out what git ignores
    carried = [path for path in (ROOT / "sdsdemo" / "ui").rglob("*") if path.suffix in (".html", ".js")]
    assert carried
    assert not [path for path in carried for one in ignored if path.match(one.strip("/"))]
