"""Output of the command line: results to stdout, progress and errors to stderr.

Work never ends because nobody hears of it: what stderr does not take is dropped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, TypeAlias

from sdsdemo.cli.usage_errors import Parser
from sdsdemo.runtime.files import finite, to_json

_progress_columns = 0
"""How much of a terminal's line progress takes up now. Blanks clear it, as not every terminal knows escape codes."""

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
    end_progress()
    put(to_json(finite(result)) if asked.json else as_text(result))
    return 0


def put(text: str) -> None:
    """Prints to stdout. A reader that has had enough, such as `head`, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _discard(sys.stdout)


def columns() -> int:
    """Width of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def silent(line: str) -> None:
    """Discards a line: only the main process prints."""


def note(line: str) -> None:
    """Prints a permanent line to stderr."""
    end_progress()
    _tell(f"{line}\n")


def progress(line: str) -> None:
    """Prints progress to stderr: overwriting one line on a terminal, a new line each elsewhere."""
    global _progress_columns
    if sys.stderr is None or not sys.stderr.isatty():
        note(line)
        return
    most = _columns_of_stderr() - 1  # a full line would move on to the next one
    _tell(f"\r{line[:most].ljust(_progress_columns)}")
    _progress_columns = len(line[:most])


def end_progress() -> None:
    """Clears the progress line of a terminal, so that what follows begins a line."""
    global _progress_columns
    if _progress_columns:
        _tell(f"\r{' ' * _progress_columns}\r")
        _progress_columns = 0


def _tell(text: str) -> None:
    if sys.stderr is None:  # as it is where it was closed
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:  # `less`, `head` or `tee` has ended
        _discard(sys.stderr)
    except OSError:  # such as a log on a full disk, which may have room again later
        pass


def _discard(stream: TextIO) -> None:
    """What is written to it from now on goes nowhere, also at the end of the process."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _columns_of_stderr() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or columns()
    except (OSError, ValueError):
        return columns()
