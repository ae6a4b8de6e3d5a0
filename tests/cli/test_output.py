"""Progress on a terminal: one line, which is gone before anything else is printed."""

from __future__ import annotations

import argparse
import io
import sys

import pytest

from sdsdemo.cli import output
from sdsdemo.cli.main import main


class Terminal(io.StringIO):
    """A terminal that knows no escape code: `rows` are what it shows."""

    def isatty(self) -> bool:
        return True

    @property
    def rows(self) -> list[str]:
        rows = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            rows.append(shown.rstrip())
        return rows


def put(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of stdout and stderr, of 20 columns."""
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    return terminal


def test_a_note_and_a_result_begin_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = put(monkeypatch)
    output.progress("10 of 400")
    output.progress("9 of 10")
    assert terminal.rows == ["9 of 10"]
    output.note("A remark.")
    output.progress("10 of 10")
    output.show(argparse.Namespace(json=False), 1, str)
    assert terminal.rows == ["A remark.", "1", ""]
    assert "\033" not in terminal.getvalue()


def test_a_long_progress_line_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = put(monkeypatch)
    output.progress("a spec with a long path 1 of 2")
    assert terminal.rows == ["a spec with a long"]
    output.end_progress()
    assert terminal.rows == [""]


@pytest.mark.parametrize("ends_with", [KeyboardInterrupt(), RuntimeError()], ids=["stopped", "a bug"])
def test_nothing_is_glued_to_progress_however_a_command_ends(
    monkeypatch: pytest.MonkeyPatch, ends_with: BaseException
) -> None:
    terminal = put(monkeypatch)

    def broken(*_: object) -> None:
        output.progress("1 of 2")
        raise ends_with

    monkeypatch.setattr("sdsdemo.cli.commands.list_models", broken)
    if isinstance(ends_with, KeyboardInterrupt):
        assert main(["models"]) == 130
        assert terminal.rows == ["Stopped.", ""]
    else:
        with pytest.raises(RuntimeError):
            main(["models"])
        assert terminal.rows == [""]


def test_elsewhere_progress_is_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    output.progress("1 of 2")
    output.progress("2 of 2")
    assert file.getvalue() == "1 of 2\n2 of 2\n"


def test_a_closed_stderr_is_no_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    output.progress("1 of 2")
    output.note("A remark.")
    assert capsys.readouterr().out == ""
