"""Progress on a terminal: one line, which is gone before anything else is printed."""

from __future__ import annotations

import argparse
import errno
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


class _Refusing(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


GONE, FULL = BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [GONE, FULL])
def test_work_goes_on_where_nobody_reads_its_progress(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def work(asked: argparse.Namespace) -> int:
        for k in range(3):
            output.progress(f"{k} of 3")
            output.note("A remark.")
            done.append(k)
        return 0

    monkeypatch.setattr("sdsdemo.cli.main._models", work)
    monkeypatch.setattr(sys, "stderr", _Refusing(error))
    assert (main(["models"]), done) == (0, [0, 1, 2])


def test_an_error_keeps_its_status_where_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Refusing(GONE))
    assert main(["report", "nowhere"]) == 2


def test_a_result_that_is_not_read_keeps_the_status_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.cli.main._models", lambda asked: output.show(asked, "no answer", str) or 2)
    monkeypatch.setattr(sys, "stdout", _Refusing(GONE))
    assert main(["finetune", "--show"]) == 0
    assert main(["models"]) == 2


def test_a_pipe_to_a_process_of_ours_that_broke_is_not_called_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(asked: argparse.Namespace) -> int:
        raise GONE

    monkeypatch.setattr("sdsdemo.cli.main._models", broken)
    with pytest.raises(BrokenPipeError):
        main(["models"])
