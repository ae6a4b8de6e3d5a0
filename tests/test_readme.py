"""The README is true: its commands parse, its example gives what it shows, its tree and settings are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sdsdemo.cli import main
from sdsdemo.cli.commands import as_text, ask
from sdsdemo.settings import ROOT, TRAIN_MINUTES, VARIABLES, VARIANTS_MINUTES

README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^ {4}python -m sdsdemo (.+)$|`python -m sdsdemo ([^`.]+)`", README, re.MULTILINE)))


def between(name: str) -> str:
    return README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


@pytest.mark.parametrize("command", ["".join(found) for found in COMMANDS])
def test_every_command_parses(command: str) -> None:
    assert main._parser().parse_args(shlex.split(command)).run


def test_the_worked_example_gives_the_answer_that_is_shown() -> None:
    """Word for word; numbers may differ in their last digit from one processor to another."""
    (line,) = re.findall(r"^ {4}python -m sdsdemo (score .+)$", README, re.MULTILINE)
    asked = main._parser().parse_args(shlex.split(line))
    answer = as_text(ask(ROOT / asked.image, asked.captions, asked.model)).split()
    shown = between("worked-example").split()
    number = re.compile(r"-?\d+\.\d+")
    assert [number.sub("#", word) for word in answer] == [number.sub("#", word) for word in shown]
    for ours, theirs in zip(answer, shown, strict=True):
        if number.fullmatch(ours):
            assert float(ours) == pytest.approx(float(theirs), abs=0.011 if float(ours) > 1 else 0.0003)


def test_the_python_example_returns_what_the_shell_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    found: dict = {}
    exec(block, found)
    answer = found["answer"]
    assert [entry["model"] for entry in answer["models"]] == ["mini-clip", "mini-diffusion"]
    assert [entry["preferred"] for entry in answer["models"]] == [0, 1]
    assert answer["image"] == "this-is-a-blue-arrow-and-an-orange-star.png"


def test_the_table_of_settings_is_the_one_in_the_code() -> None:
    table = between("settings")
    for variable in VARIABLES:
        assert f"| `{variable.name}` | `{variable.default}` | {variable.meaning} |" in table
    assert len(table.splitlines()) == len(VARIABLES) + 2


def test_the_tree_names_every_module_and_package() -> None:
    tree = README.split("## The tree")[1].split("## Licence")[0]
    for path in sorted((ROOT / "sdsdemo").iterdir()):
        if path.name.startswith("__"):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert re.search(rf"(`|/){re.escape(name)}`", tree), name


def test_every_file_that_is_linked_or_named_in_a_path_is_there() -> None:
    paths = re.findall(r"\]\((?!https?:)([^)]+)\)|`((?:assets|checkpoints|sdsdemo|tests)/[^`*]*)`", README)
    missing = [path for found in paths for path in found if path and not Path(ROOT / path).exists()]
    assert missing == []


def test_both_commands_and_the_plain_lines_are_there() -> None:
    for words in ("make run", "make test", "--host 0.0.0.0", "python -m venv .venv", "6 GB", "minutes"):
        assert words in README


def test_readme_help_and_docs_say_the_same_measured_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs" / "mini.md").read_text()
    for verb, minutes in (("train all", TRAIN_MINUTES), ("variants", VARIANTS_MINUTES)):
        (row,) = (line for line in README.splitlines() if line.startswith(f"| `python -m sdsdemo mini {verb}`"))
        assert f"about {minutes} minutes on two cores" in row
        assert f": {minutes} minutes, of which" in document
        with pytest.raises(SystemExit):
            main._parser().parse_args(["mini", verb.split()[0], "--help"])
        assert f"about {minutes} minutes on two cores" in " ".join(capsys.readouterr().out.split())


def test_the_drop_of_retrieval_over_tag_shares_is_the_one_in_the_table() -> None:
    document = (ROOT / "docs" / "mini.md").read_text()
    table = document.split("<!-- tags -->")[1].split("<!-- /tags -->")[0].strip().splitlines()[2:]
    retrieval = [float(row.split("|")[5].split("[")[0]) for row in table]
    assert f"within {max(retrieval) - min(retrieval):.1f} points" in document
