"""Files that survive a kill, locks that end with their process, and JSON as data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NotRequired

import pytest
from typing_extensions import TypedDict

from sdsdemo.runtime import files
from sdsdemo.runtime.shapes import shaped
from sdsdemo.settings import ROOT


class Header(TypedDict):
    models: dict[str, str]
    n: NotRequired[int]


def fail_half_way(path: Path) -> None:
    with files.write_aside(path) as aside:
        aside.write_text("new")
        raise TypeError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "below" / "kept.txt"
    files.write_whole(path, "old")
    with pytest.raises(TypeError):
        fail_half_way(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_lines_end_at_line_feeds_alone_and_cut_ones_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    files.append(path, ["a\u2028b", "c\x85d\r"])
    with path.open("a") as file:
        file.write("cut")
    assert files.whole_lines(path) == ["a\u2028b", "c\x85d\r"]
    files.cut_unfinished_line(path)
    files.append(path, ["e"])
    assert files.whole_lines(path)[-2:] == ["c\x85d\r", "e"]


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "[1e999]", "1" * 5000, "[" * 100_000, "{", "", b"\xff", '{"a": -1' + "0" * 500 + "}"]
)
def test_json_that_is_no_data_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 the kind is the promise; the words are the reader's
        files.from_json(text)


def test_strict_json_is_written_and_old_nan_can_still_be_read() -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.to_json({"loss": float("nan")})
    assert files.from_json("[NaN, 1, 2.5]", allow_nan=True)[1:] == [1, 2.5]


def test_a_json_file_with_nan_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    files.write_json(tmp_path / "new" / "found.json", {"loss": 1})
    assert (tmp_path / "new" / "found.json").read_text(encoding="utf-8") == '{\n "loss": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "new" / "found.json", {"loss": float("nan")})
    assert files.from_json((tmp_path / "new" / "found.json").read_bytes()) == {"loss": 1}


def test_a_number_that_is_not_finite_becomes_null_wherever_it_is() -> None:
    nan, inf = float("nan"), float("inf")
    assert files.finite({"a": [1, nan, (inf, "NaN")], "b": None}) == {"a": [1, None, [None, "NaN"]], "b": None}


@pytest.mark.parametrize("value", [[], {}, {"models": 3}, {"models": {"a": 1}}, {"models": {}, "n": "3"}])
def test_another_shape_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        shaped(value, Header)


def test_a_key_that_a_shape_does_not_name_stays() -> None:
    assert shaped({"models": {"a": "b"}, "more": [1]}, Header) == {"models": {"a": "b"}, "more": [1]}


def test_a_lock_is_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from sdsdemo.runtime import files\n"
        "with files.hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert files.is_held(lock)
    with pytest.raises(files.BusyError), files.hold(lock):
        pass
    holder.kill()
    holder.wait()
    assert not files.is_held(lock)
    with files.hold(lock):
        assert lock.is_file()


def test_what_killed_processes_left_goes_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "run.json.123-abcdef.part").touch()
    (tmp_path / "run.json").touch()
    (tmp_path / "drawn.part").mkdir()
    files.forget_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "drawn.part"}


def test_a_folder_takes_anothers_place_which_is_kept_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside, folder, really = tmp_path / "aside", tmp_path / "folder", Path.rename
    for place in (aside, folder):
        place.mkdir()
        (place / place.name).touch()

    def refuse(path: Path, target: Path) -> Path:
        if path == aside:
            raise OSError(28, "No space left on device")
        return really(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="No space"):
            files.put_folder(aside, folder)
    assert (tmp_path / "folder.old" / "folder").exists()
    files.put_folder(aside, folder)
    assert (folder / "aside").exists()
    assert not aside.exists()
