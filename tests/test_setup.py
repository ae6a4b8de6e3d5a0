"""The set-up script with a fake pip: when it does nothing, when it starts anew, and what it says when it cannot."""

from __future__ import annotations

import ast
import errno
import ntpath
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import setup_env
from sdsdemo.settings import ROOT


class Machine:
    """A folder with requirement files, where making an environment and installing into it is only noted."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.installed: list[str] = []
        self.made = 0
        self.version = "3.11"
        for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt"):
            (folder / name).write_text(f"{name} 1\n")
        patch.setattr(setup_env, "ROOT", str(folder))
        patch.setattr(setup_env, "VENV", str(folder / ".venv"))
        patch.setattr(setup_env, "STAMP", str(folder / ".venv" / "ready"))
        patch.setattr(setup_env, "make_venv", self.make)
        patch.setattr(setup_env, "install", lambda wanted, start: self.installed.append(wanted))
        patch.setattr(setup_env, "venv_version", lambda: self.version)

    def make(self) -> None:
        self.made += 1
        (self.folder / ".venv").mkdir(exist_ok=True)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_second_start_does_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup_env.main([]) == 0
    said = capsys.readouterr().out
    assert [line[11:17] for line in said.splitlines()] == ["1 of 3", "2 of 3", "3 of 3", "ready"]
    assert setup_env.main([]) == 0
    assert machine.installed == ["run"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("argument", ["--help", "-h", "--dve", "dev", ""])
def test_a_question_or_a_misspelt_flag_downloads_nothing(
    machine: Machine, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup_env.main([argument]) == (0 if "h" in argument else 2)
    said = capsys.readouterr()
    assert "--dev" in said.out + said.err
    assert (machine.made, machine.installed) == (0, [])


def test_requirements_of_the_tests_include_the_page_s(machine: Machine) -> None:
    setup_env.main([])
    setup_env.main(["--dev"])
    setup_env.main([])
    assert machine.installed == ["run", "dev"]


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt"])
def test_changed_requirements_are_installed(machine: Machine, name: str) -> None:
    setup_env.main([])
    (machine.folder / name).write_text("other\n")
    setup_env.main([])
    assert machine.installed == ["run", "run"]


@pytest.mark.parametrize("version", ["", "3.12"], ids=["it does not start", "its Python is another"])
def test_an_environment_that_was_overtaken_is_looked_at_anew(machine: Machine, version: str) -> None:
    setup_env.main([])
    machine.version = version
    setup_env.main([])
    assert machine.made == 2


def test_two_set_ups_at_once_work_one_after_the_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup_env, "WAITED_EVERY", 0.01)
    both = [threading.Thread(target=setup_env.main, args=([],)) for _ in range(2)]
    installed, is_told, say = list[str](), threading.Event(), setup_env.say

    def told(start: float, line: str) -> None:
        say(start, line)
        if "waiting for it" in line:
            is_told.set()

    def install(wanted: str, start: float) -> None:
        assert is_told.wait(60), "the other one does not wait"
        installed.append(wanted)

    monkeypatch.setattr(setup_env, "install", install)
    monkeypatch.setattr(setup_env, "say", told)
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert (machine.made, installed) == (1, ["run"])  # the second found all done
    assert capsys.readouterr().out.count("waiting for it") == 1


def test_an_older_stamp_does_not_vouch_for_a_broken_install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(wanted: str, start: float) -> None:
        raise setup_env.SetupError("pip failed")

    requirements = machine.folder / "requirements.txt"
    setup_env.main([])
    before = requirements.read_text()
    requirements.write_text("other\n")
    with monkeypatch.context() as patch:
        patch.setattr(setup_env, "install", broken)
        assert setup_env.main([]) == 2
    requirements.write_text(before)
    setup_env.main([])
    assert machine.installed == ["run", "run"]


def test_a_full_disk_is_a_sentence_with_both_numbers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2.5e9))
    assert setup_env.main([]) == 2
    said = capsys.readouterr().err
    assert "8 GB" in said
    assert "2.5 GB" in said
    assert machine.installed == []


def test_an_old_python_is_a_sentence_or_gives_way_to_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(setup_env.SetupError, match=r"needs Python 3\.11 or newer; this is 3\.9"):
        setup_env.newest_python((3, 9, 2), "python3")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == "python3.12" else None)
    monkeypatch.setattr(setup_env, "can_run", lambda python, code: True)
    assert setup_env.newest_python((3, 9, 2), "python3") == "/usr/bin/python3.12"
    assert setup_env.newest_python((3, 11, 0), "python3") == "python3"


@pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")
def test_a_python_that_only_seems_to_be_there_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def python(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    python("python3.14", "exit 127")  # a shim of a version that is not active
    python("python3.13", 'case "$2" in *ensurepip*) exit 1;; esac')  # without the module for environments
    python("python3.12", "exit 0")
    assert setup_env.newest_python((3, 9, 2), "python3") == str(tmp_path / "python3.12")
    (tmp_path / "python3.12").unlink()
    assert setup_env.newest_python((3, 9, 2), "python3") == str(tmp_path / "python3.13")
    (tmp_path / "python3.13").unlink()
    with pytest.raises(setup_env.SetupError, match="needs Python"):
        setup_env.newest_python((3, 9, 2), "python3")


def test_an_old_python_ends_the_script_before_anything_is_made(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 2))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert setup_env.main([]) == 2
    assert "needs Python 3.11 or newer" in capsys.readouterr().err
    assert machine.made == 0


def test_an_old_python_can_read_the_script() -> None:
    tree = ast.parse((ROOT / "setup_env.py").read_text(), feature_version=(3, 6))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    types = [kind for f in functions for kind in (f.returns, *(arg.annotation for arg in f.args.args))]
    assert all(isinstance(kind, ast.Name | ast.Constant) for kind in types), "quote a type that it cannot evaluate"


def test_on_windows_the_environments_python_lies_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "VENV", r"C:\here\.venv")
    monkeypatch.setattr(setup_env, "os", SimpleNamespace(name="nt", path=ntpath))
    assert setup_env.venv_python() == r"C:\here\.venv\Scripts\python.exe"


def fake_pip(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Runs `script` where pip would run."""
    real = subprocess.Popen
    monkeypatch.setattr(setup_env, "ROOT", str(folder))
    monkeypatch.setattr("subprocess.Popen", lambda command, **options: real([sys.executable, "-c", script], **options))


def test_when_pip_fails_its_last_lines_and_a_sentence_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pip(monkeypatch, tmp_path, "print('Collecting torch'); print('no route to host'); raise SystemExit(1)")
    with pytest.raises(setup_env.SetupError, match="network is down or the disk is full"):
        setup_env.install("run", 0.0)
    assert "no route to host" in capsys.readouterr().err


def test_on_an_intel_mac_the_network_is_not_blamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_pip(monkeypatch, tmp_path, "raise SystemExit(1)")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    for machine, sentence in (("x86_64", "PyTorch .* has none for Intel Macs"), ("arm64", "network is down")):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        with pytest.raises(setup_env.SetupError, match=sentence):
            setup_env.install("run", 0.0)


def test_while_pip_works_it_is_said_what_it_is_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said, lines = tmp_path / "said", list[str]()
    monkeypatch.setattr(setup_env, "SAID_EVERY", 0.01)

    def say(start: float, line: str) -> None:
        lines.append(line)
        if "torch" in line:
            said.touch()

    monkeypatch.setattr(setup_env, "say", say)
    wait = f"for _ in range(6_000): os.path.exists({str(said)!r}) and exit() or time.sleep(0.01)"
    fake_pip(monkeypatch, tmp_path, f"import os, time\nprint('Collecting torch', flush=True)\n{wait}")
    setup_env.install("run", 0.0)
    assert "  Collecting torch" in lines


def test_odd_characters_in_what_pip_says_do_not_stop_the_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pip(monkeypatch, tmp_path, r"import sys; sys.stdout.buffer.write(b'caf\xe9\nthe end\n'); raise SystemExit(1)")
    with pytest.raises(setup_env.SetupError):
        setup_env.install("run", 0.0)
    assert capsys.readouterr().err == "caf?\nthe end\n"


class Environment:
    """A `.venv` with something in it, whose Python and pip answer as they are told."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, version: str, made_for: str) -> None:
        self.rest = folder / ".venv" / "rest"
        self.rest.parent.mkdir()
        self.rest.touch()
        (folder / ".venv/pyvenv.cfg").write_text(f"home = /usr/bin\n{made_for}\n")
        self.has_pip = self.gets_pip = False
        self.calls: list[list[str]] = []
        patch.setattr(setup_env, "VENV", str(self.rest.parent))
        patch.setattr(setup_env, "venv_version", lambda: version)
        patch.setattr("subprocess.call", self.call)

    def call(self, command: list[str], **_: object) -> int:
        self.calls.append(command[1:])
        return not (self.has_pip if "pip" in command else self.gets_pip if "ensurepip" in command else True)


@pytest.mark.parametrize(
    ("version", "made_for"), [("", "version = 3.12.1"), ("3.12", "version = 3.11.7")], ids=["broken", "overtaken"]
)
def test_a_broken_environment_is_removed_and_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, made_for: str
) -> None:
    environment = Environment(tmp_path, monkeypatch, version, made_for)
    setup_env.make_venv()
    assert environment.calls[-1] == ["-m", "venv", str(environment.rest.parent)]
    assert not environment.rest.exists()


@pytest.mark.parametrize("made_for", ["version_info = 3.12.1", "version = 3.12", ""], ids=["uv", "venv", "unknown"])
def test_an_environment_without_pip_gets_it_and_keeps_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made_for: str
) -> None:
    environment = Environment(tmp_path, monkeypatch, "3.12", made_for)
    with pytest.raises(setup_env.SetupError, match="has no pip"):
        setup_env.make_venv()
    environment.gets_pip = True
    setup_env.make_venv()
    assert environment.calls[-1] == ["-m", "ensurepip"]
    environment.has_pip = True
    setup_env.make_venv()
    assert environment.calls[-1] == ["-m", "pip", "--version"]
    assert environment.rest.exists()


def test_without_the_module_for_environments_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup_env, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr("subprocess.call", lambda *_, **__: 1)
    with pytest.raises(setup_env.SetupError, match="python3-venv"):
        setup_env.make_venv()


def test_an_environment_that_was_moved_here_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv = tmp_path / "now" / ".venv"
    venv.mkdir(parents=True)
    monkeypatch.setattr(setup_env, "VENV", str(venv))
    for made, moved in ((venv, False), (tmp_path / "before" / ".venv", True)):
        (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv {made}\n")
        assert setup_env.was_moved() == moved
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert not setup_env.was_moved()


def test_an_environment_of_another_folder_does_not_count_as_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup_env, "venv_python", lambda: sys.executable)
    monkeypatch.setattr(setup_env, "VENV", str(tmp_path))
    assert setup_env.venv_version() == ""
    monkeypatch.setattr(setup_env, "VENV", sys.prefix)
    assert setup_env.venv_version() == f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(setup_env, "was_moved", lambda: True)
    assert setup_env.venv_version() == ""


def _refuse(what: str, patch: pytest.MonkeyPatch) -> None:
    """Writing a file of this name is refused, as to another user; root may write everywhere."""

    def opened(place: str, mode: str = "r", **options: Any) -> Any:
        if mode != "r" and place.endswith(what):
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return open(place, mode, **options)

    patch.setattr(setup_env, "open", opened, raising=False)


@pytest.mark.parametrize("what", [setup_env.LOCK, "ready"])
def test_what_cannot_be_written_is_a_sentence(
    machine: Machine, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _refuse(what, monkeypatch)
    assert setup_env.main([]) == 2
    assert "cannot be written (Permission denied)" in capsys.readouterr().err


def test_a_lock_that_another_user_has_made_is_locked_all_the_same(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.folder / setup_env.LOCK).touch()
    _refuse(setup_env.LOCK, monkeypatch)
    assert setup_env.main([]) == 0
    assert machine.installed == ["run"]


def test_a_folder_of_another_user_is_said_before_anything_is_made(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup_env.os, "access", lambda place, how: False)
    assert setup_env.main([]) == 2
    assert str(machine.folder) in capsys.readouterr().err
    assert (machine.made, machine.installed) == (0, [])
