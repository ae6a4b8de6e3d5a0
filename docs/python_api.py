"""Writes docs/python-api.md from the docstrings: `make docs`. Imports nothing of the package."""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from griffe2md import ConfigDict, render_object_docs

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python-api.md"
HEAD = """# Python API

Four functions do what the command line does: [`score`](#sdsdemoscore), [`score_many`](#sdsdemoscore_many),
[`evaluate`](#sdsdemoevaluate) and [`finetune`](#sdsdemofinetune). Run this in the clone, in the environment of the
set-up, or [install the package](deploying.md#as-a-package):

```python
import sdsdemo

base = sdsdemo.evaluate("mini-validation", ["mini-clip"], limit=40)
print(base["models"]["mini-clip"]["text"])  # the share of right examples: value, low, high, n

run = sdsdemo.finetune("runs/python", preset="minute", steps=100, progress=print)
print(run["state"], run["measured"]["sets"])  # before, after, and the change with its interval

models = ["mini-clip", "sds-clip:runs/python/model.safetensors"]
both = sdsdemo.evaluate("mini-validation", models, limit=40, out="runs/scores")
print(both["paired"])  # the two models compared on the same examples
```

The rest of this page is what lies below them, from its docstrings (`make docs` writes it). Functions that ask for a
`workbench` take a [`Workbench`](#sdsdemoappworkbench), which loads each model once. Above `sdsdemo.models` nothing is a
tensor: scores are NumPy arrays, higher is better.

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
    "sdsdemo.finetuning.events",
    "sdsdemo.app.workbench",
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
