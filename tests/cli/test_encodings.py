"""Every terminal can print what we say: a character that it lacks gets a plain stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdsdemo.cli.encodings import PLAIN, plain
from sdsdemo.settings import ASSETS, ROOT

PICTURE = sorted((ASSETS / "mini" / "examples").glob("*.png"))[0]


def said(encoding: str, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "sdsdemo", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "utf-8"])
def test_a_score_is_printed_in_every_encoding(encoding: str) -> None:
    captions = ("a red star left of a blue circle", "a blue circle left of a red star")
    status, out, error = said(encoding, "score", str(PICTURE), *captions, "--model", "mini-diffusion")
    assert (status, error.count("Traceback")) == (0, 0)
    assert ("+-" if encoding == "ascii" else "±") in out


def test_a_refusal_that_quotes_other_letters_is_printed_too(tmp_path: Path) -> None:
    status, _, error = said("ascii", "score", str(tmp_path / "žluť.png"), "a 😀 b", "ž")
    assert status == 2
    assert "Traceback" not in error
    assert "zlut.png" in error


def test_stand_ins_are_plain_and_nothing_else_is_changed() -> None:
    assert all(stand_in.isascii() for stand_in in PLAIN.values())
    assert plain("0.1 ± 0.2 − “é”…") == '0.1 +- 0.2 - "e"...'
    assert plain("日 😀") == "? ?"
    assert plain("plain text") == "plain text"
