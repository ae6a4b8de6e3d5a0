"""What is read as JSON is checked as data: every reading in the source, and what damaged files of our own say."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdsdemo.app.hub_upload import push
from sdsdemo.errors import UserError
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.models.cards import _json as config_of_card
from sdsdemo.models.fingerprints import _json as config_of_fingerprint
from sdsdemo.settings import ASSETS, ROOT
from sdsdemo.ui import about, results_story
from sdsdemo.ui.examples import EXAMPLES_FILE, read_examples

PACKAGE = ROOT / "sdsdemo"
READS = ("json.load", "json.loads", "from_json", "files.from_json", "json.JSONDecoder")
UNCHECKED = {
    "runtime/files.py: from_json": "it is the reader itself",
    "models/clip_files.py: facts_of": "reads back what it has just written, to make plain data of it",
    "evaluation/store/row_format.py: strict": "writes a line again as strict JSON, whatever is in it",
    "ui/results.py: _result": "reads back what it has just written, with another name in it",
    "ui/result_files.py: _drawn": "reads back a checked result, which the page has just written",
    "ui/navigation.py: read": "takes what the browser sends part by part, and the first tab where a part does not fit",
}
"""Readings without a shape, and why."""


def unchecked(source: str) -> Iterator[str]:
    """Functions that read JSON and neither hand it to `shaped` nor keep it under a name that `shaped` is called on."""
    tree = ast.parse(source)
    for home in ast.walk(tree):
        if not isinstance(home, ast.FunctionDef | ast.Module):
            continue
        own = list(_within(home))
        checked = {
            id(call.args[0]) if isinstance(call.args[0], ast.Call) else ast.unparse(call.args[0])
            for call in own
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "shaped"
        }
        named = {
            id(node.value): ast.unparse(target)
            for node in own
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        }
        for node in own:
            reads = isinstance(node, ast.Call) and ast.unparse(node.func) in READS
            if reads and id(node) not in checked and named.get(id(node)) not in checked:
                yield getattr(home, "name", "")


def _within(home: ast.AST) -> Iterator[ast.AST]:
    """Everything in a function but the functions that are inside it."""
    for node in ast.iter_child_nodes(home):
        if not isinstance(node, ast.FunctionDef):
            yield node
            yield from _within(node)


def test_every_reading_of_json_is_followed_by_a_check_of_its_shape() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in unchecked(path.read_text(encoding="utf-8"))
    }
    assert found == set(UNCHECKED)


@pytest.mark.parametrize(
    ("body", "bare"),
    [
        ("return json.loads(text)", 1),
        ("return from_json(text)['a']", 1),
        ("value = files.from_json(text)\n    return value", 1),
        ("value = from_json(text)\n    other = shaped(1, int)\n    return value", 1),
        ("return shaped(from_json(text), list[int])", 0),
        ("value: dict = from_json(text)\n    return shaped(value, dict[str, int])", 0),
    ],
)
def test_a_bare_reading_is_seen_and_a_checked_one_is_not(body: str, bare: int) -> None:
    assert len(list(unchecked(f"def read(text):\n    {body}\n"))) == bare


OTHER_SHAPES = ["3", "null", "[]", '"text"', "{}", "[[]]", '{"models": []}', '{"confirm": 3}', "{", "9" * 5000]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def reading_curve(folder: Path, text: str) -> Any:
    put(folder / "mini-clip.json", text)
    return about.measured_card("mini-clip", folder, folder)


def reading_costs(folder: Path, text: str) -> Any:
    put(folder / results_story.EXPERIMENT, (ASSETS / results_story.EXPERIMENT).read_text())
    put(folder / results_story.COSTS, text)
    return results_story.cost_part(folder)


def reading_findings(folder: Path, text: str) -> Any:
    put(folder / results_story.EXPERIMENT, text)
    return results_story.effects_part(folder), about.experiment_html(folder)


def reading_measured(folder: Path, text: str) -> Any:
    put(folder / about.MEASURED_FILE, text)
    return about.measured_card("mini-clip", folder, folder), about.measured_html(folder)


def reading_examples(folder: Path, text: str) -> Any:
    put(folder / EXAMPLES_FILE, text)
    return read_examples(folder)


def reading_lines(folder: Path, text: str) -> Any:
    return read_rows(put(folder / "confirm.jsonl", text + "\n"))


def reading_record(folder: Path, text: str) -> Any:
    put(folder / "model.safetensors", "")
    put(folder / "run.json", text)
    return push(folder, "my-clip", "no token")


@pytest.mark.parametrize("text", OTHER_SHAPES)
@pytest.mark.parametrize(
    ("reading", "sound"),
    [
        (reading_curve, ["[]"]),
        (reading_costs, []),
        (reading_findings, []),
        (reading_measured, []),
        (reading_examples, ["[]"]),
        (reading_lines, ["{}", '{"models": []}', '{"confirm": 3}']),
        (reading_record, []),
    ],
)
def test_a_file_of_another_shape_is_one_sentence(
    reading: Callable[[Path, str], Any], sound: list[str], text: str, tmp_path: Path
) -> None:
    """sound: what is no fault in that file."""
    if text in sound:
        reading(tmp_path, text)
        return
    with pytest.raises(UserError) as error:
        reading(tmp_path, text)
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)


def test_one_wrong_number_deep_in_a_shipped_file_is_named(tmp_path: Path) -> None:
    found = json.loads((ASSETS / results_story.EXPERIMENT).read_text())
    found["confirm"]["contrasts"][1]["holm"] = "0.01"
    put(tmp_path / results_story.EXPERIMENT, json.dumps(found))
    with pytest.raises(UserError, match=r"experiment\.json is damaged \(confirm\.contrasts\.1\.holm: "):
        results_story.effects_part(tmp_path)


@pytest.mark.parametrize("text", OTHER_SHAPES)
def test_a_models_config_of_another_shape_is_none(text: str, tmp_path: Path) -> None:
    path = put(tmp_path / "config.json", text)
    is_object = text.startswith("{") and text != "{"
    assert config_of_card(path) == (json.loads(text) if is_object else {})
    assert config_of_fingerprint(path) == (json.loads(text) if is_object or text.startswith("[") else None)
