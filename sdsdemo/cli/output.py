"""How the command line speaks: results go to stdout; progress and trouble to stderr."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from typing import Any

from sdsdemo.runtime.files import finite, to_json

Handler = Callable[[argparse.Namespace], int]


def verb(verbs: Any, name: str, says: str, example: str, run: Handler) -> argparse.ArgumentParser:
    """A new verb below `verbs`: its parser, with what `run` does with what was asked."""
    parser = verbs.add_parser(
        name, help=says, description=f"{says[0].upper()}{says[1:]}.", epilog=f"example: python -m sdsdemo {example}"
    )
    parser.add_argument("--json", action="store_true", help="for machines, on stdout")
    parser.set_defaults(run=run)
    return parser


def show(asked: argparse.Namespace, result: Any, as_text: Callable[[Any], str]) -> int:
    """The result on stdout, as JSON where that was asked for."""
    print(to_json(finite(result)) if asked.json else as_text(result), flush=True)
    return 0


def columns() -> int:
    """Of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def silent(line: str) -> None:
    """What the processes beside the main one say."""


def note(line: str) -> None:
    """A line that stays, on stderr."""
    print(line, file=sys.stderr, flush=True)


def progress(line: str) -> None:
    """One line that is written over itself on a terminal, and a line each elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
    else:
        note(line)
