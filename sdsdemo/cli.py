"""The workbench without a browser: `python -m sdsdemo VERB`. Results go to stdout, sentences about trouble to stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from sdsdemo.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 the user must change something, 1 our bug (by its traceback)."""
    asked = _parser().parse_args(arguments)
    try:
        return asked.run(asked)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sdsdemo", description="Which caption belongs to the picture?")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    score = verbs.add_parser(
        "score",
        help="what each model says about a picture",
        epilog='example: python -m sdsdemo score cat.png "a cat on a mat" "a mat on a cat" --model mini-clip',
    )
    score.add_argument("image")
    score.add_argument("captions", nargs="+", metavar="CAPTION")
    score.add_argument("--model", action="append", default=[], help="a card or a spec; may be repeated")
    for knob in ("timesteps", "noises", "seed"):
        score.add_argument(f"--{knob}", type=int)
    score.add_argument("--json", action="store_true", help="for machines")
    score.set_defaults(run=_score)
    models = verbs.add_parser("models", help="every model, and whether it can run here", epilog="example: ... models")
    models.add_argument("--json", action="store_true", help="for machines")
    models.set_defaults(run=_models)
    return parser


def _score(asked: argparse.Namespace) -> int:
    from sdsdemo.shell import ask

    answer = ask(
        asked.image, asked.captions, asked.model, timesteps=asked.timesteps, noises=asked.noises, seed=asked.seed
    )
    print(json.dumps(answer) if asked.json else "\n".join(_line(entry, asked.captions) for entry in answer["models"]))
    return 0


def _line(entry: dict[str, Any], captions: Sequence[str]) -> str:
    if "scores" not in entry:
        return f"{entry['model']}: {entry['problem']}"
    verdict = "cannot say" if entry["preferred"] is None else f'prefers "{captions[entry["preferred"]]}"'
    doubt = "" if entry["decided"] else " (undecided)"
    return (
        f"{entry['model']}: {verdict}{doubt}, scores {', '.join(f'{s:.4f}' for s in entry['scores'] if s is not None)}"
    )


def _models(asked: argparse.Namespace) -> int:
    from sdsdemo.workbench import Workbench

    workbench = Workbench()
    states = [(card, workbench.availability(card)) for card in workbench.cards()]
    if asked.json:
        rows = [
            {"model": c.name, "can_run": s.can_run, "reason": s.reason, "next_step": s.next_step} for c, s in states
        ]
        print(json.dumps(rows))
    else:
        for card, state in states:
            said = "runs here" if state.can_run else f"{state.reason} {state.next_step}"
            print(f"{card.name:18} {said}")
    return 0
