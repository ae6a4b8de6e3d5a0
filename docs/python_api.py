"""Writes docs/python-api.md from the docstrings: `make docs`. Imports nothing of the package."""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from griffe2md import ConfigDict, render_object_docs

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python-api.md"
HEAD = """# Python API

What the package offers, from its docstrings (`make docs` writes this page). Start with
[`sdsdemo.score`](#sdsdemoscore). Above `sdsdemo.models` nothing is a tensor: scores are NumPy arrays, higher is better.

"""
TYPE, LINK = re.compile(r"<code>(.*?)</code>"), re.compile(r"\[([^\]]*)\]\([^)]*\)")
"""How a base class is written: as a link, which leads nowhere outside of a generated site."""
MODULES = (
    "sdsdemo",
    "sdsdemo.types",
    "sdsdemo.errors",
    "sdsdemo.models",
    "sdsdemo.models.images",
    "sdsdemo.core.losses",
    "sdsdemo.core.noising",
    "sdsdemo.core.intervals",
    "sdsdemo.core.maps",
    "sdsdemo.core.metrics",
    "sdsdemo.core.outcomes",
    "sdsdemo.data.benchmarks",
    "sdsdemo.evaluation.answers",
    "sdsdemo.evaluation.result_schema",
    "sdsdemo.evaluation.run",
    "sdsdemo.evaluation.store",
    "sdsdemo.finetuning.recipe",
    "sdsdemo.finetuning.run",
)
CONFIG = ConfigDict(
    docstring_style="google",
    heading_level=2,
    show_root_full_path=True,
    show_object_full_path=False,
    show_submodules=False,
    show_signature_annotations=True,
    summary=False,
    filters=["!^_"],
    line_length=100,
    members_order="source",
)


def page() -> str:
    """The whole page, as Markdown."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    package = loader.load("sdsdemo")
    parts = []
    for name in MODULES:
        found = package if name == package.name else package[name.removeprefix("sdsdemo.")]
        for imported in [key for key, member in found.members.items() if member.is_alias]:
            del found.members[imported]
        parts.append(render_object_docs(found, CONFIG, format_md=True))
    text = TYPE.sub(lambda found: "`" + LINK.sub(r"\1", found[1]).replace("\\", "") + "`", "\n\n".join(parts))
    return HEAD + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
