"""A server writes into a folder of its own, which others sweep after its end and never before."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from sdsdemo.errors import UserError
from sdsdemo.runtime import homes, server_environment
from sdsdemo.runtime.ages import Ages
from sdsdemo.settings import ROOT, Settings, expanded

SERVER = """
import sys, time
from pathlib import Path
from sdsdemo.runtime import homes
folder = homes.own_folder(Path(sys.argv[1]))
(folder / "picture.png").write_bytes(b"1")
print(folder, flush=True)
sys.stdin.read()
"""
IS_WINDOWS = os.name == "nt"


def server(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(parent)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_servers_folder_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    killed, left = server(tmp_path)
    living, kept = server(tmp_path)
    killed.kill()
    killed.wait()
    assert left.is_dir()
    third, _ = server(tmp_path)
    assert not left.exists()
    assert (kept / "picture.png").is_file()
    for process in (living, third):
        process.communicate("", timeout=20)
    assert not kept.exists(), "one that ends by itself deletes its own"
    assert [path for path in kept.parent.iterdir() if path.is_dir()] == []


def test_a_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    folder = homes.users_folder(tmp_path)
    assert homes.users_folder(tmp_path) == folder
    if not IS_WINDOWS:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(IS_WINDOWS, reason="needs symbolic links")
def test_a_name_that_another_has_taken_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    name = homes.users_folder(tmp_path).name
    (tmp_path / name).rmdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    assert homes.users_folder(tmp_path).name.startswith(f"{name}-")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    monkeypatch.setattr(homes.os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    assert not homes._is_ours(tmp_path / name)


def aged(folder: Path, name: str, seconds: float, size: int = 10) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_old_files_are_deleted_and_young_ones_stay(tmp_path: Path) -> None:
    old, young = aged(tmp_path, "a/old", 5_000), aged(tmp_path, "b/young", 50)
    assert homes.trim(tmp_path, seconds=1_000, most_bytes=10**9, spared=10) == 10
    assert (old.exists(), young.exists()) == (False, True)


def test_what_weighs_too_much_goes_oldest_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    files = [aged(tmp_path, f"{age}", age) for age in (400, 300, 200, 5)]
    homes.trim(tmp_path, seconds=1_000, most_bytes=25, spared=10)
    assert [path.exists() for path in files] == [False, False, True, True]
    homes.trim(tmp_path, seconds=1_000, most_bytes=0, spared=10)
    assert [path.exists() for path in files] == [False, False, False, True]


def test_empty_folders_go_once_they_are_old(tmp_path: Path) -> None:
    aged(tmp_path, "deep/er/file", 5_000)
    (tmp_path / "new").mkdir()
    homes.trim(tmp_path, seconds=1_000, most_bytes=10**9, spared=60, ages=Ages(lambda: time.time() + 100))
    homes.trim(tmp_path, seconds=1_000, most_bytes=10**9, spared=60, ages=Ages(lambda: time.time() + 300))
    assert list(tmp_path.iterdir()) == []


def test_use_is_noted_in_ones_own_folder_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = aged(tmp_path, "own/file", 5_000), aged(tmp_path, "other/file", 5_000)
    monkeypatch.setattr(homes, "_own", [own.parent])
    before = other.stat().st_mtime
    homes.note_use(own)
    homes.note_use(other)
    assert time.time() - own.stat().st_mtime < 60
    assert other.stat().st_mtime == before


def test_a_file_below_a_relative_folder_is_seen_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk", target_is_directory=True)
    environment = {"GRADIO_TEMP_DIR": "link"}
    folder = server_environment.prepare(environment)
    file = aged(folder, "picture.png", 5_000)
    homes.note_use(Path(os.path.abspath(file)))  # Gradio makes paths absolute, and leaves links
    assert time.time() - file.stat().st_mtime < 60
    assert environment["GRADIO_TEMP_DIR"] == str(folder)
    assert folder.is_relative_to(tmp_path / "link")


def homeless(*_: object) -> NoReturn:
    raise RuntimeError("Could not determine home directory.")


def test_who_has_no_home_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes.tempfile, "gettempdir", lambda: str(tmp_path))
    environment: dict[str, str] = {}
    homes.settle(environment)
    assert environment == {}, "who has one keeps it"
    monkeypatch.setattr(homes.Path, "home", homeless)
    homes.settle(environment)
    assert Path(environment["HOME"]).is_dir()
    assert Path(environment["HOME"]).is_relative_to(tmp_path)


def test_a_home_that_is_not_there_is_a_path_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert expanded("~nobody/x") == Path("~nobody/x")
    assert Settings.from_environment({"SDSDEMO_CACHE": "~/c"}).cache == Path("~/c")


@pytest.mark.skipif(IS_WINDOWS or os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_known_as_such(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not homes.can_write(tmp_path / "below" / "it")


def test_what_can_be_written_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert homes.can_write(tmp_path / "not" / "there" / "yet")
    assert list(tmp_path.iterdir()) == []

    def full(**_: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(homes.tempfile, "NamedTemporaryFile", full)
    assert not homes.can_write(tmp_path)


def test_the_environment_is_what_the_user_set_and_else_ours(tmp_path: Path) -> None:
    environment = {"GRADIO_TEMP_DIR": str(tmp_path / "not" / "there" / "yet"), "GRADIO_SERVER_NAME": "1.2.3.4"}
    folder = server_environment.prepare(environment)
    assert folder.is_relative_to(tmp_path)
    assert environment["GRADIO_TEMP_DIR"] == str(folder)
    assert environment["GRADIO_SERVER_NAME"] == "1.2.3.4"
    assert "FORWARDED_ALLOW_IPS" not in environment
    in_space = {"GRADIO_TEMP_DIR": str(tmp_path), "SPACE_ID": "me/mine"}
    server_environment.prepare(in_space)
    assert in_space["GRADIO_SERVER_NAME"] == "0.0.0.0"


def test_in_a_space_the_address_of_a_visitor_is_not_what_it_says_itself(tmp_path: Path) -> None:
    in_space = {"GRADIO_TEMP_DIR": str(tmp_path), "SPACE_ID": "me/mine"}
    server_environment.prepare(in_space)
    trusted = _TrustedHosts(in_space["FORWARDED_ALLOW_IPS"])
    assert "10.16.3.4" in trusted, "the Space's proxy"
    for said in ("203.0.113.7", "6.6.6.6, 203.0.113.7", "6.6.6.6, 203.0.113.7, 10.16.3.9"):
        assert trusted.get_trusted_client_address(said)[0] == "203.0.113.7"


def test_the_variable_that_names_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="set GRADIO_TEMP_DIR to one"):
        server_environment.prepare({"GRADIO_TEMP_DIR": str(tmp_path / "file/below"), "TMPDIR": str(tmp_path)})


def test_no_server_waits_while_another_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = homes.users_folder(tmp_path)
    (home / "page-1-a").mkdir()
    (home / "page-1-a.lock").touch()
    deleting = []

    def delete(folder: Path, ignore_errors: bool) -> None:
        if folder.name.startswith(homes.PUT_AWAY):  # and not at the end of this process
            deleting.append(folder.name)
            with homes.files.hold(home / homes.CREATING):  # which is free
                pass

    monkeypatch.setattr(homes.shutil, "rmtree", delete)
    homes.own_folder(tmp_path)
    assert deleting == ["deleted-page-1-a"]


def test_a_server_that_waits_in_vain_gets_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "WAIT", 0.01)
    creating = homes.users_folder(tmp_path) / homes.CREATING
    with homes.files.hold(creating), pytest.raises(UserError, match="another server holds"):
        server_environment.prepare({"GRADIO_TEMP_DIR": str(tmp_path)})


def test_nowhere_to_write_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(homes.tempfile, "gettempdir", none)
    with pytest.raises(UserError, match=r"No usable temporary directory found.*set TMPDIR"):
        server_environment.prepare({})
