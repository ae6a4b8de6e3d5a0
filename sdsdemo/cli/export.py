"""`export`: a CLIP as a whole model that the plain libraries load."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from sdsdemo.cli.output import Verbs, note, show, verb


def add_export(verbs: Verbs) -> None:
    """Adds the verb `export`."""
    example = "export sds-clip:runs/try/model.safetensors --format open_clip --out my-clip"
    says = "write a CLIP, fine-tuned or not, as a whole model that the plain libraries load"
    export = verb(verbs, "export", says, example, _export)
    export.add_argument("model", metavar="NAME", help="a CLIP: a card, an open_clip: spec, or sds-clip:FILE")
    formats = "open_clip (any CLIP), or transformers (CLIPModel: plain ViTs)"
    export.add_argument("--format", choices=["open_clip", "transformers"], default="open_clip", help=formats)
    export.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for the model; new, or empty")
    results = "quote these stored results in the model card: a folder of `evaluate --out`; may be repeated"
    export.add_argument("--results", type=Path, action="append", default=[], metavar="DIR", help=results)
    pushed = "also publish it on the Hugging Face Hub as USER/NAME, with the token that you signed in with"
    export.add_argument("--push", metavar="NAME", help=pushed)


def _export(asked: argparse.Namespace) -> int:
    from sdsdemo.app import hub_upload
    from sdsdemo.app.export import as_text, export
    from sdsdemo.app.workbench import Workbench

    token = hub_upload.own_token() if asked.push is not None else ""
    repo = hub_upload.repo_of(asked.push, token) if asked.push is not None else ""
    done = export(
        Workbench(),
        asked.model,
        asked.out,
        format=asked.format,
        runs=asked.results,
        repo=repo,
        publish=partial(hub_upload.push_model, repo=repo, token=token) if repo else None,
        note=note,
    )
    return show(asked, done, as_text)
