"""The architecture as a test: imports point down, each heavy library has its owners, only the command line prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sdsdemo.models.pipelines import LIBRARIES
from sdsdemo.settings import ROOT

PACKAGE = ROOT / "sdsdemo"
FLOORS = (
    ("types", "errors"),
    ("runtime", "core", "settings"),
    ("captions",),
    ("models",),
    ("data",),
    ("evaluation",),
    ("finetuning",),
    ("mini", "app"),
    ("ui",),
    ("cli",),
    ("__main__",),
)
"""Every front door on its floor: an import goes to a lower floor, never up and never sideways."""
FLOOR = {door: floor for floor, doors in enumerate(FLOORS) for door in doors}
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(from, to) -> why; at most five."""
INSIDE = {
    "data": ("files", "mini", "captions", "published", "readers", ""),
    "mini": ("models", "experiments"),
    "evaluation": ("store", ""),
}
"""By package, its folders from the lowest up; "" is the package's own files."""
OWNERS = {
    "gradio": ("ui/*.py",),
    "jinja2": ("ui/templates.py",),
    "markupsafe": ("ui/templates.py",),
    "plotly": ("evaluation/loss_charts.py",),
    "matplotlib": ("evaluation/figures.py",),
    "accelerate": ("runtime/distributed.py", "models/denoiser_files.py", "models/random_weights.py"),
    "trackio": ("finetuning/tracking.py",),
    "filelock": ("runtime/files.py",),
    "pydantic": ("runtime/shapes.py",),
    "scipy": ("core/intervals.py", "core/maps.py", "models/domain.py"),
    "open_clip": ("models/*.py", "mini/models/*.py", "mini/experiments/*.py", "core/losses.py"),
    "diffusers": ("models/*.py", "mini/models/*.py", "mini/experiments/*.py"),
    "transformers": ("models/*.py", "mini/models/*.py", "mini/experiments/*.py"),
    "torch": (
        "core/losses.py", "core/noising.py", "models/*.py", "models/families/*.py", "finetuning/*.py",
        "mini/models/*.py",
        "mini/experiments/*.py", "runtime/distributed.py", "cli/bench.py", "cli/bench_shapes.py", "cli/doctor.py",
    ),
}  # fmt: skip
"""The files that may import a heavy library."""
TORCH_AT_THE_TOP = (
    "core/losses.py", "core/noising.py", "cli/bench.py", "mini/models/*.py", "mini/experiments/*.py",
    "finetuning/*.py", "models/attention.py", "models/checkpoints.py", "models/clip*.py", "models/conditions.py",
    "models/delta.py", "models/denois*.py", "models/diffusion*.py", "models/domain.py", "models/drawing.py",
    "models/precision.py", "models/families/*.py", "models/frozen.py", "models/noise_grid.py",
    "models/pipeline_facts.py", "models/pipeline_parts.py", "models/transformers_module.py", "models/vlm*.py",
    "models/tokenizer_checks.py", "cli/bench_shapes.py", "models/random_weights.py", "models/prompt_keys.py",
    "models/compiled.py", "models/half_gradients.py",
)  # fmt: skip
"""The files that may load torch as soon as they are imported; the other owners load it where they need it."""
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTERS = ("import_module", "__import__", "run_module", "resolve_name")
"""Functions that import what a string names."""
COMPUTED = {
    "models/diffusion_files.py": "the libraries' classes that a pipeline's index names, after `class_named` allows them"
}
"""Files that may compute the name of what they import, and why; at most five, and none of ours."""


def unit(path: Path) -> str:
    """The module or package right below `sdsdemo` that a file belongs to; empty for `__init__`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names that a file imports, wherever in it, by a statement or through `importlib`."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: say the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(IMPORTERS):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def computed_imports(code: ast.AST) -> Iterator[str]:
    """Imports whose name is computed, as they are written: `imports` cannot see where they lead."""
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(IMPORTERS):
            name = next(iter(node.args), None) or next((k.value for k in node.keywords if k.arg == "name"), None)
            if not (isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value[:1] != "."):
                yield ast.unparse(node)


def inner(path: Path) -> str:
    """The folder of a file below its package; empty for the package's own files."""
    parts = path.relative_to(PACKAGE).parts
    return parts[1] if len(parts) > 2 else ""


def module_of(name: str) -> Path | None:
    """The file of ours that a dotted name means."""
    place = PACKAGE.parent / name.replace(".", "/")
    for found in (place.with_suffix(".py"), place / "__init__.py", place.parent.with_suffix(".py")):
        if found.is_file() and name.startswith("sdsdemo."):
            return found
    return None


def test_every_front_door_has_a_floor() -> None:
    assert {unit(path) for path in FILES} - {""} == set(FLOOR)
    assert len(set(FLOOR) - {"__main__"}) <= 14
    assert len(EXCEPTIONS) <= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = unit(path)
    for name in imports(path):
        parts = name.split(".")
        other = parts[1] if parts[0] == "sdsdemo" and len(parts) > 1 else ""
        if own and other in FLOOR and other != own:
            assert FLOOR[other] < FLOOR[own] or (own, other) in EXCEPTIONS, f"{own} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_inside_packages(path: Path) -> None:
    order = INSIDE.get(unit(path), ("",))
    for name in imports(path):
        other = module_of(name)
        if other is not None and unit(other) == unit(path) and path.name != "__init__.py" and len(order) > 1:
            assert order.index(inner(other)) <= order.index(inner(path)), f"{path.name} imports {name}"


def test_no_import_has_a_computed_name() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in FILES if any(computed_imports(tree(path)))}
    assert found == set(COMPUTED)
    assert set(LIBRARIES) <= set(OWNERS)
    assert len(EXCEPTIONS) + len(COMPUTED) <= 5


@pytest.mark.parametrize(
    "code",
    ["import_module(f'sdsdemo.{name}')", "importlib.import_module(name)", "__import__('sdsdemo.' + x)",
     "importlib.import_module(name=x)", "import_module('.run', 'sdsdemo.evaluation')"],
)  # fmt: skip
def test_an_import_with_a_computed_name_is_seen(code: str) -> None:
    assert list(computed_imports(ast.parse(code)))


def test_no_files_import_each_other_in_a_circle() -> None:
    below = {
        path: {other for name in imports(path) if (other := module_of(name)) not in (None, path)} for path in FILES
    }
    below = {path: {other for other in others if other.name != "__init__.py"} for path, others in below.items()}
    while free := [path for path, others in below.items() if not others & below.keys()]:
        below = {path: others for path, others in below.items() if path not in free}
    assert not below, f"a circle among {sorted(str(path.relative_to(PACKAGE)) for path in below)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_heavy_library_is_imported_by_its_owners_only(path: Path) -> None:
    for name in imports(path):
        library = name.partition(".")[0]
        allowed = OWNERS.get(library, ("**/*.py",))
        assert library not in OWNERS or any(path.relative_to(PACKAGE).match(own) for own in allowed), (
            f"{path.name} imports {library}"
        )


def test_torch_is_loaded_at_once_only_where_it_is_the_matter_itself() -> None:
    for path in FILES:
        top = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top]
        if any(name.partition(".")[0] == "torch" for name in names):
            assert any(path.relative_to(PACKAGE).match(allowed) for allowed in TORCH_AT_THE_TOP), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert not prints or unit(path) == "cli"


@pytest.mark.parametrize("module", ["sdsdemo", "sdsdemo.cli.main", "sdsdemo.settings", "sdsdemo.models.cards"])
def test_importing_is_quick(module: str) -> None:
    slow = {"torch", "gradio", "diffusers", "open_clip", "scipy"}
    code = f"import sys, {module}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["mini", "train", "--help"]], ids=" ".join)
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sdsdemo", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sdsdemo.cli.main" in loaded
    assert not loaded & {"torch", "gradio", "diffusers", "open_clip", "transformers", "scipy"}


def test_building_the_page_loads_no_library_of_models() -> None:
    code = (
        "import sys; from sdsdemo.settings import Settings; from sdsdemo.ui.page import build_page; "
        "from sdsdemo.app.workbench import Workbench; build_page(Workbench(Settings.from_environment({}))); "
        "from sdsdemo.models.cards import has_gpu; torch = set() if has_gpu() else {'torch'}; "
        "print(sorted(({'diffusers', 'open_clip', 'transformers', 'matplotlib'} | torch) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_no_file_has_more_than_350_lines() -> None:
    long = {str(path.relative_to(PACKAGE)) for path in FILES if len(path.read_text().splitlines()) > 350}
    assert not long


def test_names_of_tests_are_under_70_characters() -> None:
    names = [
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, FUNCTION) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) >= 70] == []


def test_functions_are_short() -> None:
    functions = [node for path in FILES for node in ast.walk(tree(path)) if isinstance(node, FUNCTION)]
    lines = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    median, most = lines[len(lines) // 2], lines[int(0.9 * len(lines))]
    assert (median <= 7, most <= 18, lines[-1] <= 50) == (True, True, True), (median, most, lines[-1])


def test_text_is_written_by_the_one_place_that_says_how() -> None:
    """`write_text` and `open` write the code page and the line ends of the machine."""
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"""\.write_text\(|\bopen\(.*["'][wax]\+?["']""", line)
    ]
    assert found == []


def test_nothing_here_names_a_bare_except_or_silences_a_warning() -> None:
    for path in FILES:
        for node in ast.walk(tree(path)):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path
        assert "filterwarnings" not in path.read_text(), path


def test_no_loading_by_an_auto_class_may_run_code_of_a_model() -> None:
    """Without `trust_remote_code=False`, transformers asks on the terminal whether code in the folder may run."""
    found = []
    for path in FILES:
        for node in ast.walk(tree(path)):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if re.fullmatch(r"(\w+\.)*(Auto[A-Z]\w+\.from_\w+|HFTokenizer)", call):
                said = ast.unparse(node)
                found.append(call)
                assert "NEVER_REMOTE" in said or "trust_remote_code=False" in said, f"{path}: {said}"
    assert len(found) >= 5


def test_a_component_is_made_only_while_the_page_is_built() -> None:
    """A handler changes components by `gr.update`: one that makes a new one would put it into a page being built."""
    makers = {"HTML", "Markdown", "Row", "Column", "Group", "Tabs", "Dropdown", "Textbox", "Number", "Plot", "Image"}
    makers |= {"Gallery", "State", "Button", "DownloadButton", "Checkbox", "Slider", "Accordion", "JSON", "File"}
    building = re.compile(r"__init__|_?build\w*|_caption|_field|_slider|_memory|safe_image")
    found = []
    for path in PACKAGE.glob("ui/*.py"):
        for function in ast.walk(tree(path)):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or building.fullmatch(function.name):
                continue
            made = [n for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
            found += [f"{path.name}: {function.name}" for n in made if n.func.attr in makers and _is_gradio(n.func)]
    assert not found


def _is_gradio(called: ast.Attribute) -> bool:
    return isinstance(called.value, ast.Name) and called.value.id == "gr"
