"""`space check` and `space push`: the checkout as a Hugging Face Space."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdsdemo.cli.output import Verbs, show, verb


def add_space(verbs: Verbs) -> None:
    """Adds the verb `space` and its own verbs."""
    space = verbs.add_parser("space", help="check this checkout as a Hugging Face Space, and push it")
    inner = space.add_subparsers(required=True, metavar="COMMAND")
    verb(inner, "check", "check sizes, front matter, versions and licences", "space check", _check)
    example = "space push sds-clip --model clip-vit-b-32 --model sd-v1-4 --dry-run"
    push = verb(inner, "push", "create or update a Space with the token that you signed in with", example, _push)
    push.add_argument("name", metavar="NAME", help="the Space will be USER/NAME")
    model = "a real model beside Mini's, fetched while the Space is built; may be repeated"
    push.add_argument("--model", action="append", default=[], metavar="NAME", help=model)
    results = "show these stored results in Browse and Results: a folder of `evaluate --out`; may be repeated"
    push.add_argument("--results", type=Path, action="append", default=[], metavar="DIR", help=results)
    push.add_argument("--hardware", default="", metavar="NAME", help="as the Hub names it; by default the Hub's choice")
    push.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")


def _check(asked: argparse.Namespace) -> int:
    from sdsdemo.app.space_check import as_text, check_space
    from sdsdemo.settings import ROOT

    found = check_space(ROOT)
    show(asked, found, as_text)
    return 2 if found["errors"] else 0


def _push(asked: argparse.Namespace) -> int:
    from sdsdemo.app import hub_upload, space_push
    from sdsdemo.settings import ROOT

    if asked.dry_run:
        found = space_push.summary(space_push.contents_of(ROOT, asked.model, asked.results))
        return show(asked, found, space_push.as_text)
    address = space_push.push_space(
        ROOT, asked.name, hub_upload.own_token(), models=asked.model, runs=asked.results, hardware=asked.hardware
    )
    return show(
        asked, {"address": address}, lambda done: f"The Space is at {done['address']}; it takes minutes to build."
    )
