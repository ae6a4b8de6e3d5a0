"""The page's HTML comes from templates that escape what they place: once, and only once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import nodes

from sdsdemo.settings import ASSETS, ROOT
from sdsdemo.ui import templates
from sdsdemo.ui.theme import make_theme
from tests.ui.views import views

UI = ROOT / "sdsdemo" / "ui"
FILES = sorted(templates.TEMPLATES.glob("*.html"))
NASTY = "<script>alert(\"1\")</script>\n& 'x' &amp; y"
SHORTENED = ("compare models on", "compare models off")
"""Views that say only the beginning of a long text."""
SCRIPT = re.compile(r"\)\s*=>|\b(document|window|element)\.[a-z]")
TAG = re.compile(r"</?[a-z][a-z0-9]*(\s[^<>]*)?/?>|<[a-z]+\s[a-z-]+=", re.IGNORECASE)


class Read(HTMLParser):
    """Tags, and every text and attribute as a reader meets it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.texts += [value or "" for name, value in attrs]
        assert all(re.fullmatch(r"[a-z][a-zA-Z-]*", name) for name, _ in attrs), attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def strings(path: Path) -> Iterator[str]:
    """The texts in a Python file that are no docstrings."""
    tree = ast.parse(path.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], set[str]]:
    """Every view with nasty text in it, and the names that were rendered."""
    names: set[str] = set()
    plain = templates.environment().get_template

    def noted(name: str, *more: Any) -> object:
        names.add(name)
        return plain(name, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates.environment(), "get_template", noted)
        made = dict(views(NASTY, tmp_path_factory.mktemp("runs")))
    return made, names


def test_foreign_text_is_escaped_once_and_only_once_in_every_view(rendered: tuple[dict[str, str], set[str]]) -> None:
    met = 0
    for name, html in rendered[0].items():
        read = Read(html)
        assert "script" not in read.tags, name
        text = " ".join("\n".join(read.texts).split())
        twice = re.findall(r"&(?:amp;(?!\ y)|lt;|gt;|quot;|#\d+;|#x[0-9a-f]+;)", text)
        assert not twice, (name, twice[:3])
        shown = text.count("<script>")
        assert shown == text.count(" ".join(NASTY.split())) or name in SHORTENED, name
        met += shown
    assert met > 100


def test_the_views_use_every_template(rendered: tuple[dict[str, str], set[str]]) -> None:
    assert rendered[1] | {"parts.html", "browse_parts.html"} >= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_template_leaves_a_value_unescaped(path: Path) -> None:
    environment = templates.environment()
    assert environment.autoescape is True
    tree = environment.parse(path.read_text())
    assert not [node for node in tree.find_all(nodes.Filter) if node.name in ("safe", "forceescape", "tojson")]
    assert not list(tree.find_all((nodes.EvalContextModifier, nodes.MarkSafe, nodes.MarkSafeIfAutoescape)))
    unquoted = re.findall(r"\s[a-z-]+=\{\{", path.read_text())
    assert not unquoted


def test_no_module_of_the_page_but_the_templates_marks_text_as_safe() -> None:
    for path in UI.rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert "Markup" not in names or path.name == "templates.py", path.name


@pytest.mark.parametrize("path", sorted(UI.rglob("*.py")), ids=lambda path: path.stem)
def test_python_files_of_the_page_hold_no_tags(path: Path) -> None:
    assert not [text for text in strings(path) if TAG.search(text)]


@pytest.mark.parametrize("path", sorted(UI.rglob("*.py")), ids=lambda path: path.stem)
def test_python_files_of_the_page_hold_no_scripts(path: Path) -> None:
    assert not [text for text in strings(path) if SCRIPT.search(text)]


def test_a_script_in_the_page_s_head_is_what_its_file_says() -> None:
    for path in templates.SCRIPTS.glob("*.js"):
        source = path.read_text()
        assert "</" not in source, path.name
        assert templates.script_element(path.stem) == f"<script>{source}</script>"


def test_a_value_that_is_missing_or_unknown_is_an_error() -> None:
    with pytest.raises(Exception, match="not provided"):
        templates.render("parts.message")
    with pytest.raises(TypeError):
        templates.render("parts.message", sentence="", other=1)


def test_the_end_of_a_line_between_two_tags_is_no_text() -> None:
    made = templates.environment().from_string("<p>\n  <b>{{ a }}</b>\n  {{ a }}\n</p>\nand\n<i>b</i>")
    assert made.render(a="<") == "<p><b>&lt;</b>&lt;</p>\nand\n<i>b</i>"


def test_text_has_no_size_but_the_five_of_the_page():
    sheets = {path.name: path.read_text() for path in (ASSETS / "style").glob("*.css")}
    found = re.findall(r"(?:font-size|font): ?([^;}]+)", "".join(sheets.values()))
    used = {size.removesuffix("!important").strip() for size in found}
    assert used <= {"inherit", *(f"var(--text-{name})" for name in ("small", "plain", "lead", "heading", "title"))}, (
        used
    )
    sizes = make_theme().__dict__
    gradio = {float(sizes[f"text_{step}"].removesuffix("rem")) for step in ("xxs", "xs", "sm", "md", "lg", "xl", "xxl")}
    assert gradio <= {float(size) for size in re.findall(r"--text-\w+: ([.\d]+)rem;", sheets["base.css"])}
