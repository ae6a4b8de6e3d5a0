"""The architecture as a test: imports point down, each heavy library has its owners, only the command line prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsdemo.settings import ROOT

PACKAGE = ROOT / "sdsdemo"
RANKS = (
    ("types", "errors", "settings", "wrapping", "runtime"),
    (
        "arguments", "losses", "metrics", "judging", "effects", "deciding", "inputs", "evidence", "processes", "swaps",
        "swap_words", "swap_phrases", "replacements", "recipes", "zerogpu", "text_tower", "console", "captions",
        "checkpoints", "study_words",
    ),
    (
        "models", "data", "training", "objectives", "results", "runs", "plots", "figures", "reports",
        "study_limits", "study_tables",
    ),
    ("summaries", "freshness"),
    ("evaluation", "reporting", "browsing", "mini", "finetuning"),
    ("workbench", "shell", "doctor", "bench", "shelf", "tunings", "job_states", "publishing"),
    ("ui", "cli", "cli_mini", "__main__"),
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
BESIDE = {
    ("settings", "types"), ("settings", "errors"),  ("deciding", "metrics"), ("effects", "metrics"),
    ("study_tables", "study_limits"), ("reports", "study_limits"),
    ("judging", "metrics"),
    ("objectives", "training"),
    ("data", "models"), ("recipes", "swaps"), ("swaps", "swap_words"), ("swaps", "swap_phrases"),
    ("swaps", "replacements"), ("swap_phrases", "swap_words"), ("replacements", "swap_phrases"),
    ("replacements", "swap_words"), ("mini", "finetuning"), ("mini", "evaluation"),
    ("tunings", "job_states"), ("shell", "workbench"), ("tunings", "workbench"), ("doctor", "workbench"),
    ("bench", "workbench"),
    ("inputs", "captions"), ("cli", "ui"), ("cli", "cli_mini"), ("cli_mini", "ui"), ("__main__", "cli"),
}  # fmt: skip
"""Who may import whom within a rank: `data` opens pictures as `models.images` does."""
OWNERS = {
    "gradio": ("ui",),
    "plotly": ("plots",),
    "matplotlib": ("figures",),
    "accelerate": ("processes",),
    "filelock": ("runtime",),
    "pydantic": ("runtime",),
    "open_clip": ("models", "mini", "losses"),
    "diffusers": ("models", "mini"),
    "transformers": ("models", "mini"),
    "torch": (
        "checkpoints",
        "losses",
        "text_tower",
        "models",
        "training",
        "objectives",
        "finetuning",
        "mini",
        "bench",
        "doctor",
        "processes",
    ),
}
TORCH_AT_THE_TOP = (
    "checkpoints.py",
    "losses.py", "text_tower.py", "training.py", "objectives.py", "bench.py", "mini/*.py", "finetuning/*.py",
    "models/clip*.py", "models/diffusion.py", "models/denoising.py", "models/delta.py", "models/domain.py",
    "models/tokens.py", "models/exact.py", "models/checkpoints.py",
)  # fmt: skip
"""The files that may load torch as soon as they are imported; the other owners load it where they need it."""
FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The module or package right below `sdsdemo` that a file belongs to; empty for `__init__`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: say the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_a_rank() -> None:
    assert {unit(path) for path in FILES} - {""} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = unit(path)
    for name in imports(path):
        parts = name.split(".")
        other = parts[1] if parts[0] == "sdsdemo" and len(parts) > 1 else ""
        if own and other in RANK and other != own:
            assert RANK[other] < RANK[own] or (own, other) in BESIDE, f"{own} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_heavy_library_is_imported_by_its_owners_only(path: Path) -> None:
    for name in imports(path):
        library = name.partition(".")[0]
        assert library not in OWNERS or unit(path) in OWNERS[library], f"{path.name} imports {library}"


def test_torch_is_loaded_at_once_only_where_it_is_the_matter_itself() -> None:
    for path in FILES:
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top]
        if any(name.partition(".")[0] == "torch" for name in names):
            assert any(path.relative_to(PACKAGE).match(allowed) for allowed in TORCH_AT_THE_TOP), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert not prints or unit(path) in ("cli", "console")


@pytest.mark.parametrize("module", ["sdsdemo", "sdsdemo.cli", "sdsdemo.settings", "sdsdemo.models.cards"])
def test_importing_is_quick(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'gradio', 'diffusers', 'open_clip'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["mini", "train", "--help"]], ids=" ".join)
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sdsdemo", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sdsdemo.cli" in loaded
    assert not loaded & {"torch", "gradio", "diffusers", "open_clip", "transformers"}


def test_building_the_page_loads_no_library_of_models() -> None:
    code = (
        "import sys; from sdsdemo.settings import Settings; from sdsdemo.ui.page import build_page; "
        "from sdsdemo.workbench import Workbench; build_page(Workbench(Settings.from_environment({}))); "
        "print(sorted({'diffusers', 'open_clip', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_nothing_here_names_a_bare_except_or_silences_a_warning() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path
        assert "filterwarnings" not in path.read_text(), path


def test_a_component_is_made_only_while_the_page_is_built() -> None:
    """A handler changes components by `gr.update`: one that makes a new one would put it into a page being built."""
    makers = {"HTML", "Markdown", "Row", "Column", "Group", "Tabs", "Dropdown", "Textbox", "Number", "Plot", "Image"}
    makers |= {"Gallery", "State", "Button", "DownloadButton", "Checkbox", "Slider", "Accordion", "JSON", "File"}
    building = re.compile(r"__init__|_?build\w*|_caption|_field|_slider|_memory|safe_image")
    found = []
    for path in PACKAGE.glob("ui/*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or building.fullmatch(function.name):
                continue
            made = [n for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
            found += [f"{path.name}: {function.name}" for n in made if n.func.attr in makers and _is_gradio(n.func)]
    assert not found


def _is_gradio(called: ast.Attribute) -> bool:
    return isinstance(called.value, ast.Name) and called.value.id == "gr"
