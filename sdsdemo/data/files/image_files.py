"""The pictures of a benchmark by name, in its folders and zip files. Opens none until it is asked for.

A name is found as written; else without its suffix, with another system's accents or suffix case, with
folders that are not there or without some that are, or as an absolute path inside the folder: whatever leads to one
file alone. Folders go before zip files. No name leads out of the folder, or from one split's folder to another's.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from sdsdemo.data.files import picture_digest
from sdsdemo.data.files.folders import SPLITS, files_in
from sdsdemo.data.files.image_place import Box, Place, cut_out, read, stream
from sdsdemo.data.files.image_search import SUFFIXES, Claims, ends, pictures_below, stem_of, tails, the_one
from sdsdemo.data.files.names import FilesBelow, alike
from sdsdemo.data.files.quoting import listed, shown
from sdsdemo.data.files.zip_members import IMAGES, folders_in, is_locked, members_by_tail, the_member, with_slashes
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import state_of
from sdsdemo.types import Picture

LONGEST_NAME = 1000
"""Characters. What is longer is no name, and each of its trailing parts would be kept in memory."""
NAMED = 3
"""How many missing names a message lists."""
OUTSIDE = (
    " Images elsewhere are not read, whatever path names them: put them into its folder images, or link theirs there."
)

Note = Callable[[str], None]


def silent(line: str) -> None:
    """Discards a note."""


class ImageFiles:
    """The places that hold a benchmark's pictures."""

    def __init__(
        self,
        roots: Iterable[Path],
        archives: Iterable[Path] = (),
        *,
        own: Iterable[Path] = (),
        home: Path | None = None,
        any_suffix: bool = False,
    ) -> None:
        """roots, archives: folders and zip files, the likeliest first. A file as named goes before one in a zip file,
        and that before one deeper in the folders.

        own: those of the roots that hold only pictures; a file deeper in these goes before one in a zip file.
        home: the folder that a name such as ../images/1.png starts from; the first of the roots by default.
        any_suffix: accept x.jpg for x.png, for sets published in both.
        """
        self.roots = list(dict.fromkeys(roots))
        self.archives = list(dict.fromkeys(archives))
        self._own = tuple(own)
        self._home = self.roots[0] if home is None else home
        self._any_suffix = any_suffix
        self._below = {root: FilesBelow(root) for root in self.roots}
        self._found: dict[str, Place] = {}
        self._elsewhere: dict[str, str] = {}
        """Names found in a folder of another name, and where."""
        self._deep: dict[tuple[Path, ...], dict[str, list[str]]] = {}
        self._asked: dict[str, None] = {}
        self._claims: Claims | None = None
        """How many of the requested names may mean a file."""

    def picture(self, name: str, where: str = "", box: Box | None = None) -> Picture:
        """The named picture. where: its row, in words; box: the crop, clipped to the picture.

        Raises `UserError` for a picture as text, such as base64, instead of a name.
        """
        if len(name) > LONGEST_NAME or name.lstrip().startswith("data:"):
            raise UserError(
                f"{where or 'A row'} holds a picture as text, not a file name: write it to a file, or as bytes into "
                "Parquet."
            )
        self._asked[name] = None
        return Picture(
            name=name,
            open=partial(self._open, name, where, box),
            key=f"{self.roots[0]}/{name} {box or ''}".rstrip(),
            content=partial(self._content, name, str(box or "")),
            content_before=partial(self._content_before, name, str(box or "")),
        )

    def note_places(self, note: Note) -> None:
        """Reports how many requested names have no file, a file in another folder, or one in a zip file beside their
        folder."""
        places = {name: self.find(name) for name in self._asked}
        if missing := [name for name, place in places.items() if place is None]:
            some = f"{listed(missing, NAMED)}.{_outside(missing)}"
            note(f"{len(missing):,} of {len(self._asked):,} images are missing in {self._called}: {some}")
        there = {name: place for name, place in places.items() if place is not None}
        packed = [name for name, place in there.items() if place.member]
        if packed and self._own:
            archives = listed(dict.fromkeys(there[name].path.name for name in packed))
            note(f"{len(packed):,} of {len(self._asked):,} images are read from {archives}, as the folder "
                 f"{self._own[0].name} does not have them: {listed(packed, NAMED)}.")  # fmt: skip
        if other := [name for name in there if name in self._elsewhere]:
            note(f"{len(other):,} of {len(self._asked):,} images are taken from other folders than named, such as "
                 f"{shown(self._elsewhere[other[0]])} for {shown(other[0])}.")  # fmt: skip

    def find(self, name: str) -> Place | None:
        """Where the named picture is; None if it is missing or ambiguous.

        Raises `UserError` for a zip file that cannot be read.
        """
        place = self._found.get(name) or self._looked_for(name)
        if place is not None:
            self._found[name] = place
        return place

    def _looked_for(self, name: str) -> Place | None:
        ways = self._ways(name)
        for looked in (self._as_named, self._in_own, self._packed, self._anywhere):
            for way in ways:
                place = looked(way)
                if place is not None and (way == ways[0] or self._may_be(name, place)):
                    return place
        return None

    def _as_named(self, way: str) -> Place | None:
        path = self._file_of(way)
        return None if path is None else Place(path=path)

    def _in_own(self, way: str) -> Place | None:
        return self._deeper(self._own, way) if self._own and self.archives else None

    def _packed(self, way: str) -> Place | None:
        for archive in self.archives:
            members = members_by_tail(archive, state_of(archive))
            if (member := the_member(self._ending(members, way), way)) is not None:
                if is_locked(archive, state_of(archive), member):
                    raise UserError(
                        f"{archive.name} has a password: unpack it into a folder of its name, and remove it."
                    )
                return Place(path=archive, member=member)
        return None

    def _anywhere(self, way: str) -> Place | None:
        return self._deeper(tuple(self.roots), way)

    def _deeper(self, roots: tuple[Path, ...], way: str) -> Place | None:
        if roots not in self._deep:
            self._deep[roots] = tails(pictures_below(roots))
        found = the_one(self._ending(self._deep[roots], way))
        return None if found is None else Place(path=Path(found))

    def _may_be(self, name: str, place: Place) -> bool:
        """Whether a file found without the name's first folders may be meant: not train/1.png by test/1.png.

        One of the two folders is often an end of the other. Where it is not, that is kept, to be reported.
        """
        inside = self._inside(place)
        named = [alike(part) for part in self._parts(name)[:-1]]
        there = [alike(part) for part in inside.split("/")[:-1]]
        while named and there and named[-1] == there[-1]:
            named.pop()
            there.pop()
        if not named or not there:
            return True
        if any(part.casefold() in SPLITS for part in (*named, *there)):
            return False
        self._elsewhere[name] = inside
        return True

    def _inside(self, place: Place) -> str:
        """The path of a picture in its zip file, or in the innermost of the folders that hold it."""
        if place.member:
            return with_slashes(place.member).removeprefix(IMAGES)
        ways = [os.path.relpath(place.path, root).replace(os.sep, "/") for root in self.roots]
        return min((way for way in ways if not way.startswith("../")), key=len, default=place.path.name)

    def _ways(self, name: str) -> list[str]:
        """The name as written, then without its first folder, and so on; nothing for one that leads outside.

        A folder is dropped only if it does not exist and no other name could then mean the same file.
        """
        parts = self._parts(name)
        ways = list(ends(parts))
        if len(ways) < 2 or self._file_of(ways[0]) is not None:
            return ways[:1]
        if any(self._has_folder("/".join(parts[:n])) for n in range(1, len(parts))):
            return ways[:1]
        if self._claims is None:
            self._claims = Claims(map(self._parts, self._asked), any_suffix=self._any_suffix)
        return [ways[0], *(way for way in ways[1:] if self._claims.on(way) <= 1)]

    def _has_folder(self, name: str) -> bool:
        if any(os.path.isdir(root / name) for root in self.roots):
            return True
        return any(name in folders_in(archive, state_of(archive)) for archive in self.archives)

    def _parts(self, name: str) -> list[str]:
        """The folders and the name, below one of the roots; nothing for a name that leads out of all of them."""
        path = posixpath.normpath(name.strip().replace("\\", "/"))
        whole = os.path.abspath(os.path.join(self._home, path)) if path.startswith("../") else path
        if os.path.isabs(whole):
            path = next((os.path.relpath(whole, root) for root in self.roots if _inside(whole, root)), path)
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        return [] if ".." in parts or "\0" in path else parts

    def _file_of(self, way: str) -> Path | None:
        return next((path for root in self.roots if (path := self._file(root, way)) is not None), None)

    def _file(self, root: Path, way: str) -> Path | None:
        """A file below a folder, by its name as written, else by the one suffix with which it is there."""
        if os.path.isfile(as_written := os.path.join(root, way)):
            return Path(as_written)
        folder, name = posixpath.split(way)
        if (home := self._below[root].find(folder)) is None:
            return None
        names = (self._below[root].named(home, wanted) for wanted in self._wanted(name))
        paths = (root / home / found for found in dict.fromkeys(names) if found is not None)
        there = [path for path in paths if os.path.isfile(path)]
        return there[0] if len(there) == 1 else None

    def _ending(self, paths: dict[str, list[str]], way: str) -> list[str]:
        """The paths that end this way; if none does, those that do with another suffix."""
        as_written = paths.get(alike(way), [])
        return as_written or [path for wanted in self._wanted(way) for path in paths.get(alike(wanted), [])]

    def _wanted(self, way: str) -> Iterator[str]:
        yield way
        yield from (f"{way}{suffix}" for suffix in SUFFIXES)
        stem, suffix = stem_of(way)
        if self._any_suffix and suffix:
            yield from (f"{stem}{other}" for other in SUFFIXES)

    @property
    def _called(self) -> str:
        """In words: the zip file, or the folder, or both."""
        places = [f"the folder {self.roots[0].name}"] if self._own or not self.archives else []
        return " and ".join([*places, *(archive.name for archive in self.archives[:1])])

    def _open(self, name: str, where: str, box: Box | None) -> Image.Image:
        place = self.find(name)
        if place is None:
            raise UserError(f"{shown(name)} is missing in {self._called}{f': {where} names it' if where else ''}.")
        return read(place, name, None if box is None else partial(cut_out, box=box, name=name, where=where))

    def _content(self, name: str, part: str) -> str:
        place = self.find(name)
        if place is None:
            return picture_digest.MISSING
        if place.member:
            return picture_digest.of_member(place.path, place.member, partial(stream, place), part)
        return picture_digest.of_file(place.path, part)

    def _content_before(self, name: str, part: str) -> str:
        place = self.find(name)
        if place is None or not place.member:
            return ""
        return picture_digest.of_member_before(place.path, place.member, part)


def images_beside(table: Path, folder: Path, *others: str) -> ImageFiles:
    """The pictures of a table in a benchmark's folder: in `images/`, in `images.zip` or beside the table.

    others: more folders to search. A zip file of any name will do if it is the only one. What the folder of pictures
    has is not read from a zip file, which may be an older copy.
    """
    homes = list(dict.fromkeys((table, folder)))
    own = [home / name for home in homes for name in ("images", *others) if (home / name).is_dir()]
    zips = [path for home in homes for path in files_in(home) if path.suffix.lower() == ".zip"]
    archives = [path for path in zips if path.stem.lower() == "images"] or (zips if len(zips) == 1 else [])
    return ImageFiles([*own, *homes], archives, own=own, home=table)


def _inside(path: str, root: Path) -> bool:
    """Whether an absolute path lies in a folder, as written or with links resolved."""
    ways = ((os.path.normpath(path), os.path.abspath(root)), (os.path.realpath(path), os.path.realpath(root)))
    return any(own.startswith(home.rstrip(os.sep) + os.sep) for own, home in ways)


def _outside(names: Sequence[str]) -> str:
    """What to do about absolute paths; empty if there are none."""
    return OUTSIDE if any(way(name).is_absolute() for name in names for way in (PurePosixPath, PureWindowsPath)) else ""
