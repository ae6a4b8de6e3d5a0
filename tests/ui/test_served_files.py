"""What the page links to is served by the page's own server, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdsdemo.errors import UserError
from sdsdemo.settings import ASSETS, ROOT
from sdsdemo.ui import documents, served_files
from sdsdemo.ui.result_files import KINDS, File, addresses, result_file
from sdsdemo.ui.templates import render
from tests.ui.asgi import finished

NAME = 11 * "aZ"
"""The form of a run's download name."""


class Page:
    """Stands for the page's `gr.Blocks`."""


def made(name: str, ending: str) -> File:
    if name not in ("mini", "runs/of mine"):
        raise UserError("No.")
    return File(kind="text/csv", body=f"{name} as {ending}".encode(), name="x.csv")


def nothing(name: str, file: str) -> None:
    """Finds no file of a run."""


def asked(path: str, page: object = None, method: str = "GET", root: str = "") -> tuple[int, bytes]:
    """Status and body; -1 where it is left to the rest of the app."""
    sent: list[dict[str, Any]] = []

    async def rest(*scope_receive_send: Any) -> None:
        sent.extend([{"status": -1}, {"body": b""}])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [],
        "asgi": {"spec_version": "2.4"},
        "root_path": root,
        "app": SimpleNamespace(blocks=page),
    }
    finished(served_files.ServedFiles(rest)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_a_document_is_served_as_it_is_and_linked_where_it_is() -> None:
    assert asked("/docs/mini.md") == (200, (ROOT / "docs" / "mini.md").read_bytes())
    assert asked("/behind/a/proxy/docs/mini.md", root="/behind/a/proxy")[0] == 200
    assert asked("/docs/mini/benchmark-1.png")[1].startswith(b"\x89PNG")
    assert 'href="docs/mini.md"' in render("parts.document", name="mini.md")


def test_without_the_documents_their_names_are_plain_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(documents, "DOCS", tmp_path)
    assert render("parts.document", name="mini.md").strip() == "docs/mini.md"


@pytest.mark.parametrize(
    "path",
    ["/docs/../README.md", "/docs/../assets/preview.png",
     "/docs/none.md", "/docs/python_api.py", "/docs/", "/docs//etc/passwd", "/docs/mini.md/x",
     "/docs/mini.md\n", "/x/docs/mini.md", "/gradio_api/file=/w/docs/mini.md",
     "/results/mini.exe", "/results/mini", "/results/mini.csv\n", "/x/results/mini.csv",
     "/gradio_api/file=/home/u/results/sdsdemo/assets/examples/a.png",
     "/gradio_api/file=/w/assets/mini/results/mini.json", "/",
     f"/runs/{NAME}/log.jsonl", f"/runs/{NAME[1:]}/run.json", f"/x/runs/{NAME}/run.json", f"/runs/{NAME}/x/run.json"],
)  # fmt: skip
def test_nothing_else_is_served(path: str) -> None:
    page = Page()
    served_files.offer(page, made, nothing)
    assert asked(path, page)[0] == -1
    assert asked("/docs/mini.md", page, "POST")[0] == -1
    assert asked(path, page, root="/x/y")[0] == -1


def test_a_result_is_made_when_it_is_asked_for_and_of_its_own_page() -> None:
    page = Page()
    served_files.offer(page, made, nothing)
    assert asked("/results/mini.csv", page) == (200, b"mini as csv")
    assert asked("/app/results/mini.csv", page, root="/app") == (200, b"mini as csv")
    assert asked("/apple/results/mini.csv", page, root="/app")[0] == -1
    assert asked("/results/runs/of mine.svg", page) == (200, b"runs/of mine as svg")
    assert asked("/results/../secret.json", page)[0] == 404
    assert asked("/results/mini.csv", Page())[0] == -1
    assert addresses("runs/of mine")["svg"] == "results/runs/of%20mine.svg"


def test_a_file_of_a_run_is_served_by_its_download_name(tmp_path: Path) -> None:
    page, path = Page(), tmp_path / "run.json"
    path.write_bytes(b"{}")
    served_files.offer(page, made, lambda name, file: path if (name, file) == (NAME, "run.json") else None)
    assert asked(f"/runs/{NAME}/run.json", page) == (200, b"{}")
    assert asked(f"/app/runs/{NAME}/run.json", page, root="/app") == (200, b"{}")
    assert asked(f"/runs/{NAME}/model.safetensors", page)[0] == 404
    assert asked(f"/runs/{NAME}/run.json", Page())[0] == -1


def test_a_result_s_files_are_what_they_say() -> None:
    result = json.loads((ASSETS / "mini" / "results" / "mini-retrieval.json").read_text())
    begins = {"csv": b"benchmark,model", "json": b"{", "png": b"\x89PNG", "svg": b"<?xml"}
    for ending in KINDS:
        file = result_file(result, ending)
        assert file.body.startswith(begins[ending])
        assert file.name == f"sdsdemo-mini-retrieval.{ending}"
