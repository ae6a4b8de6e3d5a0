"""A visitor's picture is decoded once, however many ask for it, and what is kept of it stays small."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from sdsdemo.models.images import NO_FILE, Opened, PictureError, open_picture
from sdsdemo.runtime.computed_once import ComputedOnce
from sdsdemo.ui import compare_address, compare_logic, uploads
from sdsdemo.ui.compare_address import CompareAddress
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.scene_pictures import ScenePictures
from tests.conftest import fake_workbench

CAPTIONS = ["a red square left of a blue square", "a blue square left of a red square"]
WAIT = 10.0


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of what is decoded, each time."""
    paths: list[str] = []

    def count(path: Path | str, *, seconds: float) -> Opened:
        paths.append(str(path))
        return open_picture(path, seconds=seconds)

    monkeypatch.setattr(uploads, "open_picture", count)
    monkeypatch.setattr(uploads, "_opened", ComputedOnce(uploads.MOST, uploads.bytes_of))
    return paths


def a_picture(path: Path, size: tuple[int, int] = (40, 30), colour: str = "red") -> str:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    path.write_bytes(file.getvalue())
    return str(path)


def test_a_picture_is_decoded_once_from_upload_to_answer(decoded: list[str], tmp_path: Path) -> None:
    path, workbench = a_picture(tmp_path / "mine.png"), fake_workbench()
    form = Form(image=path, captions=CAPTIONS, models=["mini-clip"], timesteps=2, noises=2, seed=0)
    assert compare_logic.check_picture(path) == ""
    CompareAddress(workbench, [], None, ScenePictures()).example_at(path)
    *_, last = compare_logic.score(workbench, [], form)
    assert 'class="verdict' in last.answer
    assert decoded == [path]


def test_two_who_ask_at_once_wait_for_one_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_picture(tmp_path / "mine.png")
    go, begun = threading.Event(), []

    def slow(path: Path | str, *, seconds: float) -> Opened:
        begun.append(path)
        assert go.wait(WAIT)
        return open_picture(path)

    monkeypatch.setattr(uploads, "open_picture", slow)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(uploads.open_upload, path) for _ in range(3)]
        go.set()
        found = [one.result(WAIT) for one in asked]
    assert len(begun) == 1
    assert all(one is found[0] for one in found)


def test_another_picture_of_the_same_name_is_another_picture(decoded: list[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    first = uploads.open_upload(a_picture(path)).digest
    path.unlink()
    a_picture(tmp_path / "between.png")  # may take the place of the first one on the disk
    second = uploads.open_upload(a_picture(path, (48, 30), "blue")).digest
    assert first != second
    assert len(decoded) == 2


def test_a_picture_that_was_deleted_is_found_no_more(decoded: list[str], tmp_path: Path) -> None:
    path = a_picture(tmp_path / "mine.png")
    uploads.open_upload(path)
    Path(path).unlink()
    assert "no such picture" in compare_logic.check_picture(path)


def test_a_picture_that_could_not_be_read_may_be_read_next_time(
    decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(path: Path | str, *, seconds: float) -> Opened:
        raise PictureError(NO_FILE)

    path = a_picture(tmp_path / "mine.png")
    with monkeypatch.context() as full:
        full.setattr(uploads, "open_picture", busy)
        assert compare_logic.check_picture(path) == NO_FILE
    assert compare_logic.check_picture(path) == ""


def test_large_pictures_are_not_kept(decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_opened", ComputedOnce(40 * 30 * 3, uploads.bytes_of))
    small, large = a_picture(tmp_path / "small.png"), a_picture(tmp_path / "large.png", (41, 30))
    for path in (small, large, small, large):
        uploads.open_upload(path)
    assert decoded == [small, large, large]


def test_an_example_is_looked_for_once_by_all_who_ask_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, example = a_picture(tmp_path / "mine.png"), object()
    address = CompareAddress(fake_workbench(), [], None, ScenePictures())
    go, begun = threading.Event(), threading.Semaphore(0)
    looked = list[str]()

    def slow(examples: object, path: Path) -> object:
        looked.append(path.name)
        begun.release()
        assert go.wait(10)
        return example

    monkeypatch.setattr(compare_address, "find_example", slow)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(address.example_at, path) for _ in range(2)]
        assert begun.acquire(timeout=10)
        begun.acquire(timeout=0.1)  # where each looks for itself, the other one begins too
        go.set()
        assert [one.result(10) for one in asked] == [example, example]
    assert looked == ["mine.png"]
