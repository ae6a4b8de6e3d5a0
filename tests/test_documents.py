"""The documents are true: commands parse, examples give what they show, links lead somewhere, tables are real."""

from __future__ import annotations

import re
import runpy
import shlex

import pytest

import setup_env
from sdsdemo.cli import main
from sdsdemo.cli.commands import as_text, ask
from sdsdemo.models.cards import all_cards
from sdsdemo.models.pipelines import LAYOUTS
from sdsdemo.settings import ROOT, TRAIN_MINUTES, VARIANTS_MINUTES
from sdsdemo.settings.environment import VARIABLES

README = (ROOT / "README.md").read_text()
FIRST = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
DOCUMENTS = {path.name: path.read_text() for path in (*FIRST, *sorted((ROOT / "docs").glob("*.md")))}
COMMAND = re.compile(
    r"^(?: {4})?(?:python -m )?sdsdemo (.+?)(?: {2,}#.*)?$|`(?:python -m )?sdsdemo ([^`.]+)`", re.MULTILINE
)
WRITTEN = {name: text for name, text in DOCUMENTS.items() if name != "python-api.md"}
"""By hand, and not from the docstrings."""
COMMANDS = sorted({"".join(found) for text in WRITTEN.values() for found in COMMAND.findall(text)})
LINES_OF_THE_FIRST_PAGE = 150


def between(name: str, document: str = "README.md") -> str:
    return DOCUMENTS[document].split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_the_first_page_is_short() -> None:
    assert len(README.splitlines()) <= LINES_OF_THE_FIRST_PAGE


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_holds_both_sides_of_a_merge(name: str) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", DOCUMENTS[name], re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
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
    table = between("settings", "deploying.md")
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


def targets(text: str) -> list[str]:
    """What a document links to, outside of the web."""
    return re.findall(r"\]\((?!https?:|mailto:)([^)]+)\)", text)


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    home = ROOT if (ROOT / name).exists() else ROOT / "docs"
    for target in targets(DOCUMENTS[name]):
        path, _, part = target.partition("#")
        file = home / path if path else home / name
        assert file.exists(), target
        headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if part else []
        assert not part or part in [anchor(heading) for heading in headings], target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_that_is_named_is_there(name: str) -> None:
    paths = re.findall(r"`((?:assets|checkpoints|docs|sdsdemo|tests)/[^`*\s]*)`", DOCUMENTS[name])
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_module_that_the_architecture_names_is_there() -> None:
    rooms = "|".join(path.name for path in (ROOT / "sdsdemo").iterdir() if path.is_dir())
    named = re.findall(rf"`((?:{rooms})/[\w/.]*)`", DOCUMENTS["architecture.md"])
    assert len(named) > 20
    assert [path for path in named if not (ROOT / "sdsdemo" / path).exists()] == []


def test_every_family_of_pipelines_and_every_card_of_one_is_in_the_table() -> None:
    table = DOCUMENTS["models.md"].split("## Diffusion pipelines")[1].split("## ")[0]
    models = [card.name for card in all_cards().values() if card.family == "diffusion" and not card.mini]
    assert set(re.findall("`(.+?)`", table)) >= {*LAYOUTS, *models}


def test_the_family_that_is_shown_as_an_example_is_the_code() -> None:
    shown = DOCUMENTS["architecture.md"].split("## Adding a family of diffusion pipelines")[1].split("```")[1]
    code: list[str] = []
    for line in shown.strip("\n").split("\n")[1:]:
        if line.startswith(" # "):
            code = (ROOT / re.split("[ ,]", line)[2]).read_text().split("\n")
        else:
            assert not line or line[1:] in code, line


def test_both_commands_and_the_plain_lines_are_there() -> None:
    for words in ("make run", "make test", "python -m venv .venv", "minutes"):
        assert words in README
    assert "--host 0.0.0.0" in DOCUMENTS["deploying.md"]


def test_the_first_page_and_the_set_up_name_the_same_disk() -> None:
    assert f"{setup_env.NEEDED_GB} GB of free disk, of which {setup_env.USED_GB} stay in use" in README


def test_the_environment_is_activated_before_the_first_command() -> None:
    """So that `python -m sdsdemo` is right as written in every document."""
    before, _, after = README.partition("    python -m sdsdemo")
    assert "\n    . .venv/bin/activate" in before
    assert after
    assert ". .venv/bin/activate" in DOCUMENTS["command-line.md"]


def test_help_and_documents_say_the_same_measured_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    from_scratch = DOCUMENTS["mini-appendix.md"].split("## From scratch")[1]
    for verb, minutes in (("train all", TRAIN_MINUTES), ("variants", VARIANTS_MINUTES)):
        rows = DOCUMENTS["command-line.md"].splitlines()
        (row,) = (line for line in rows if line.startswith(f"| `python -m sdsdemo mini {verb}`"))
        assert f"about {minutes} minutes on two cores" in row
        assert f": {minutes} minutes; the extrapolation says" in " ".join(from_scratch.split())
        with pytest.raises(SystemExit):
            main._parser().parse_args(["mini", verb.split()[0], "--help"])
        assert f"about {minutes} minutes on two cores" in " ".join(capsys.readouterr().out.split())


def test_the_drop_of_retrieval_over_tag_shares_is_the_one_in_the_table() -> None:
    document = DOCUMENTS["mini-appendix.md"]
    table = document.split("<!-- tags -->")[1].split("<!-- /tags -->")[0].strip().splitlines()[2:]
    retrieval = [float(row.split("|")[5].split("[")[0]) for row in table]
    assert f"within {max(retrieval) - min(retrieval):.1f} points" in document


def test_the_python_api_is_what_the_docstrings_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "python_api.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), "`make docs` writes it anew"
