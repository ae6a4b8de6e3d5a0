"""Output of the command line: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from sdsdemo.cli.usage_errors import Parser
from sdsdemo.runtime.files import finite, to_json

Handler = Callable[[argparse.Namespace], int]
Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


def verb(verbs: Verbs, name: str, says: str, example: str, run: Handler) -> Parser:
    """Adds a verb: its parser, whose arguments `run` handles."""
    parser = verbs.add_parser(
        name, help=says, description=f"{says[0].upper()}{says[1:]}.", epilog=f"example: python -m sdsdemo {example}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to stdout")
    parser.set_defaults(run=run)
    return parser


def show(asked: argparse.Namespace, result: Any, as_text: Callable[[Any], str]) -> int:
    """Prints the result to stdout, as JSON with --json."""
    print(to_json(finite(result)) if asked.json else as_text(result), flush=True)
    return 0


def columns() -> int:
    """Width of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def silent(line: str) -> None:
    """Discards a line: only the main process prints."""


def note(line: str) -> None:
    """Prints a permanent line to stderr."""
    print(line, file=sys.stderr, flush=True)


def progress(line: str) -> None:
    """Prints progress to stderr: overwriting one line on a terminal, a new line each elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
    else:
        note(line)
