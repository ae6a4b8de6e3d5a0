"""A name leads to its own picture, wherever below the folder it lies, and never to another one's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

import pytest

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.files.image_files import ImageFiles, images_beside
from sdsdemo.data.files.image_search import SUFFIXES
from sdsdemo.errors import UserError
from tests import set_twins


def put(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(files: ImageFiles, names: Iterable[str]) -> dict[str, str]:
    """Where each picture is, by the last two parts of its path; "" for one that is missing."""
    for name in names:
        files.picture(name)
    places = {name: files.find(name) for name in names}
    return {
        name: "" if place is None else place.member or "/".join(place.path.parts[-2:]) for name, place in places.items()
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_of_every_kind_is_found_in_subfolders(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, [f"images/sub/a{suffix}"])
    assert found(ImageFiles([tmp_path / "images", tmp_path]), [f"a{suffix}"]) == {f"a{suffix}": f"sub/a{suffix}"}


def test_pictures_are_found_from_inside_of_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_twins.valse(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert all(picture.open() for example in read_benchmark("valse:.") for picture in example.images)


def test_links_to_folders_are_followed_and_circles_left(tmp_path: Path) -> None:
    put(tmp_path, ["elsewhere/val2014/b.jpg", "set/images/here/a.jpg"])
    os.symlink(tmp_path / "elsewhere" / "val2014", tmp_path / "set" / "images" / "linked")
    os.symlink(tmp_path / "set", tmp_path / "set" / "images" / "here" / "circle")
    os.symlink(tmp_path / "set" / "images" / "here" / "a.jpg", tmp_path / "set" / "a link.jpg")
    os.symlink(tmp_path / "set" / "images" / "here", tmp_path / "set" / "twice")
    names = ("a.jpg", "b.jpg", "a link.jpg")
    expected = {"a.jpg": "here/a.jpg", "b.jpg": "linked/b.jpg", "a link.jpg": "set/a link.jpg"}
    assert found(ImageFiles([tmp_path / "set" / "images", tmp_path / "set"]), names) == expected


def test_one_file_by_two_links_is_one_picture(tmp_path: Path) -> None:
    put(tmp_path, ["raw/a.jpg", "raw/b.jpg", "other/b.jpg"])
    (tmp_path / "images").mkdir()
    os.symlink(tmp_path / "raw" / "a.jpg", tmp_path / "images" / "a.jpg")
    assert found(ImageFiles([tmp_path]), ["a.jpg", "b.jpg"]) == {"a.jpg": "images/a.jpg", "b.jpg": ""}


@pytest.mark.parametrize(
    ("names", "there", "any_suffix"),
    [
        (("film/v1/f0.npy", "drawn/a/f0.png"), "drawn/a/f0.png", True),
        (("x/7", "val/7.png"), "val/7.png", False),
        (("x/7.png", "val/7"), "val/7.png", False),
        (("x/7.PNG", "val/7.png"), "val/7.png", False),
    ],
)
def test_no_picture_is_taken_that_another_name_means(
    tmp_path: Path, names: tuple[str, str], there: str, any_suffix: bool
) -> None:
    """The first is missing, with its folder; the second is deep in other folders, or as written."""
    for home in ("deep/er", "."):
        root = tmp_path / home.replace(".", "flat")
        put(root / home, [there])
        where = "/".join(Path(there).parts[-2:])
        assert found(ImageFiles([root], any_suffix=any_suffix), names) == {names[0]: "", names[1]: where}


def test_names_of_two_suffixes_are_two_pictures(tmp_path: Path) -> None:
    put(tmp_path, ["1.png", "1.jpg"])
    names = ("gone/a/1.png", "gone/b/1.jpg")
    home = tmp_path.name
    assert found(ImageFiles([tmp_path]), names) == {names[0]: f"{home}/1.png", names[1]: f"{home}/1.jpg"}


@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_picture_of_a_zip_is_taken_as_written_beside_its_thumbnail(tmp_path: Path, folder: str) -> None:
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in ("1.png", "thumbs/1.png", "thumbs/2.png", "masks/3.png", "thumbs/3.png"):
            archive.writestr(f"{folder}{name}", b"")
    names = ("1.png", "2.png", "3.png", "thumbs/1.png")
    expected = {"1.png": f"{folder}1.png", "2.png": f"{folder}thumbs/2.png", "3.png": ""}
    assert found(images_beside(tmp_path, tmp_path), names) == expected | {"thumbs/1.png": f"{folder}thumbs/1.png"}


@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_folder_that_a_zip_has_is_not_dropped_from_a_name(tmp_path: Path, folder: str) -> None:
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr(f"{folder}a/1.png", b"")
        archive.writestr(f"{folder}b/2.png", b"")
    expected = {"a/2.png": "", "gone/1.png": f"{folder}a/1.png"}
    assert found(images_beside(tmp_path, tmp_path), tuple(expected)) == expected


def test_eqben_is_read_from_the_folder_of_its_authors_subset(tmp_path: Path) -> None:
    set_twins.eqben(tmp_path)
    (tmp_path / "images").rename(tmp_path / "image_subset")
    put(tmp_path, ["older copy/eqbenyoucook2/0_0.npy"])
    examples = read_benchmark(f"eqben:{tmp_path}")
    assert all(picture.open() for example in examples for picture in example.images)


def packed(path: Path, names: Iterable[str]) -> None:
    with ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize("name", ["backup-2025.zip", "images.zip"])
@pytest.mark.parametrize("inside", ["", "images/", "mine/images/"])
@pytest.mark.parametrize("folder", ["images", "images/deep/er"])
def test_a_zip_file_gives_only_what_the_folder_lacks(tmp_path: Path, name: str, inside: str, folder: str) -> None:
    put(tmp_path, [f"{folder}/a.png"])
    packed(tmp_path / name, [f"{inside}{one}.png" for one in "ab"])
    files, notes = images_beside(tmp_path, tmp_path), []
    where = "/".join(Path(folder, "a.png").parts[-2:])
    assert found(files, ("a.png", "b.png")) == {"a.png": where, "b.png": f"{inside}b.png"}
    files.note_places(notes.append)
    assert notes == [f"1 of 2 images are read from {name}, as the folder images does not have them: b.png."]


@pytest.mark.parametrize("is_packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize(
    ("named", "there", "is_found"),
    [
        ("test/0.png", "train/0.png", False),
        ("data/test/x/0.png", "train/x/0.png", False),
        ("Validation/0.png", "photos/0.png", False),
        ("test/0.png", "0.png", True),
        ("0.png", "train/0.png", True),
        ("me/test/0.png", "set/test/0.png", True),
        ("mine/0.png", "photos/0.png", True),
    ],
)
def test_a_picture_of_another_split_is_not_meant(
    tmp_path: Path, named: str, there: str, is_found: bool, is_packed: bool
) -> None:
    (tmp_path / "images").mkdir()
    packed(tmp_path / "images.zip", [f"images/{there}"]) if is_packed else put(tmp_path / "images", [there])
    files, notes = images_beside(tmp_path, tmp_path), []
    assert bool(found(files, [named])[named]) == is_found
    files.note_places(notes.append)
    assert any("missing" in note for note in notes) != is_found
    apart = len(Path(named).parts) > 1 < len(Path(there).parts)
    assert any(f"other folders than named, such as {there} for {named}." in n for n in notes) == (is_found and apart)


def test_hidden_files_of_a_mac_are_no_tables_and_no_pictures(tmp_path: Path) -> None:
    """macOS writes ._NAME beside each file on a disk of another system."""
    for name, make in (("sugarcrepe", set_twins.sugarcrepe), ("valse", set_twins.valse), ("eqben", set_twins.eqben)):
        home = tmp_path / name
        make(home)
        before = read_benchmark(f"{name}:{home}")
        for path in [path for path in home.rglob("*") if path.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
        after = read_benchmark(f"{name}:{home}")
        assert [example.captions for example in after] == [example.captions for example in before]
        assert after.notes == before.notes
        assert all(picture.open() for example in after for picture in example.images)


def test_a_hidden_file_beside_a_zip_file_is_no_second_one(tmp_path: Path) -> None:
    packed(tmp_path / "pics.zip", ["a.png"])
    put(tmp_path, ["._pics.zip"])
    assert found(images_beside(tmp_path, tmp_path), ["a.png"]) == {"a.png": "a.png"}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("../images/a.png", "images/a.png"),
        ("..\\images\\a.png", "images/a.png"),
        ("../images/x/../a.png", "images/a.png"),
        ("../b.png", "set/b.png"),
        ("../../c.png", ""),
        ("../../set/images/a.png", "images/a.png"),
        ("x/../../../c.png", ""),
    ],
)
def test_a_name_may_go_up_but_not_out_of_the_folder(tmp_path: Path, name: str, where: str) -> None:
    put(tmp_path, ["set/data/examples.csv", "set/images/a.png", "set/b.png", "c.png", "set/data/c.png"])
    assert found(images_beside(tmp_path / "set" / "data", tmp_path / "set"), [name]) == {name: where}


@pytest.mark.parametrize("text", ["iVBORw0KGgo/" * 100, "data:image/png;base64,iVBORw0KGgo="])
def test_a_picture_as_text_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"Line 1 of t\.csv holds a picture as text, not a file name"):
        ImageFiles([tmp_path]).picture(text, "Line 1 of t.csv")


def test_a_zip_file_with_backslashes_is_read(tmp_path: Path) -> None:
    members = ["images\\a.png", "images\\thumbs\\a.png", "images\\sub\\b.png"]
    packed(tmp_path / "images.zip", members)
    expected = {"a.png": members[0], "sub/b.png": members[2], "sub/a.png": ""}
    assert found(images_beside(tmp_path, tmp_path), tuple(expected)) == expected


def test_a_zip_file_with_a_password_is_called_so(tmp_path: Path) -> None:
    packed(tmp_path / "images.zip", ["a.png"])
    content = bytearray((tmp_path / "images.zip").read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "images.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"images\.zip has a password: unpack it"):
        found(images_beside(tmp_path, tmp_path), ["a.png"])
    put(tmp_path, ["images/a.png"])
    assert found(images_beside(tmp_path, tmp_path), ["a.png"]) == {"a.png": "images/a.png"}
