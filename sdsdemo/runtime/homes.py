"""Where a server may write: a home, and a temporary folder of its own, which others sweep after its end.

    TMPDIR/sdsdemo-USER/page-PID-RANDOM         a server's folder, for its user alone
    TMPDIR/sdsdemo-USER/page-PID-RANDOM.lock    held while the server lives, however it ends

Nothing here knows what is kept in such a folder.
"""

from __future__ import annotations

import atexit
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import ExitStack, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from sdsdemo.runtime import files
from sdsdemo.runtime.ages import Ages

CREATING = "creating.lock"
"""Held while a folder is created or swept, so that none is swept before its lock is held."""
WAIT = 10.0
"""Seconds to wait for another server that creates or sweeps."""
PUT_AWAY = "deleted-"
"""How the folders begin that nobody uses, until they are deleted."""
_held = ExitStack()
"""Locks of this process's folders, until it ends."""
atexit.register(_held.close)
_own: list[Path] = []
"""Folders of this process."""


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Gives a process without a home one in the temporary folder: libraries would write into a folder called `~`.

    Call it before libraries are imported. Raises `OSError` where nothing can be written.
    """
    with suppress(RuntimeError):
        Path.home()
        return
    home = users_folder() / "home"
    home.mkdir(exist_ok=True)
    environment["HOME"] = str(home)


def users_folder(parent: Path | None = None) -> Path:
    """This user's folder in the temporary folder, which nobody else can read. Raises `OSError`.

    Where another user has taken its name, it gets another one.
    """
    parent = parent or Path(tempfile.gettempdir())
    folder = parent / f"sdsdemo-{_user()}"
    parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if _is_ours(folder):
        return folder
    return Path(tempfile.mkdtemp(prefix=f"sdsdemo-{_user()}-", dir=parent))


def own_folder(parent: Path | None = None) -> Path:
    """A new folder for this process, deleted when it ends; those of servers that were killed are deleted now.

    Its path is absolute, with links left as they are: so are those that Gradio gives to `note_use`.
    Raises `OSError` where none can be created.
    """
    home = Path(os.path.abspath(users_folder(parent)))
    folder = home / f"page-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with files.hold(home / CREATING, wait=WAIT):
            _put_away(home)
            _held.enter_context(files.hold(_lock_of(folder)))
            folder.mkdir(mode=0o700)
    except files.BusyError as error:
        raise OSError(errno.EBUSY, f"another server holds {CREATING} in it") from error
    for left in home.glob(f"{PUT_AWAY}*"):  # gigabytes, perhaps, so no other server waits for it
        shutil.rmtree(left, ignore_errors=True)
    _own.append(folder)
    _held.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def trim(folder: Path, *, seconds: float, most_bytes: int, spared: float, ages: Ages | None = None) -> int:
    """Deletes files unused for so many seconds, and then the oldest until no more than `most_bytes` are left.

    spared: files used within so many seconds are in use, and stay whatever they weigh. A file is used when it is
    written, or by `note_use`. ages: kept from call to call, so that no clock that is set deletes anything early.
    Returns how many bytes were deleted.
    """
    state_of = dict(_below(folder))
    age_of = (ages or Ages()).of({path: state.st_mtime for path, state in state_of.items()})
    found = [path for path in sorted(age_of, key=lambda path: -age_of[path]) if not S_ISDIR(state_of[path].st_mode)]
    left = sum(state_of[path].st_size for path in found)
    deleted = 0
    for path in found:
        size, age = state_of[path].st_size, age_of[path]
        if age < spared or (age < seconds and left - deleted <= most_bytes):
            continue
        with suppress(OSError):
            path.unlink()
            deleted += size
    _delete_empty(path for path, age in age_of.items() if age >= spared and path not in found)
    return deleted


def note_use(path: Path) -> None:
    """Notes that a file is in use, if it lies in a folder of this process; others are not touched."""
    if any(path.is_relative_to(folder) for folder in _own):
        with suppress(OSError):
            os.utime(path)


def nearest(folder: Path) -> Path:
    """The path itself, or what is there of it: a folder above it, or a file where a folder should be."""
    return next((place for place in (folder, *folder.absolute().parents) if os.path.exists(place)), folder)


def can_write(folder: Path) -> bool:
    """Whether a file can be created in a folder, or in the nearest folder above it that is there."""
    there = nearest(folder)
    if not there.is_dir():
        return False
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".sdsdemo-") as file:
            file.write(b"1")
            file.flush()
    except OSError:
        return False
    return True


def _put_away(home: Path) -> None:
    """Renames the folders of servers that live no more, to be deleted; call it alone."""
    for lock in home.glob("page-*.lock"):
        if not files.is_held(lock):
            folder = lock.with_suffix("")
            with suppress(FileNotFoundError):
                folder.rename(folder.with_name(PUT_AWAY + folder.name))
            lock.unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _is_ours(folder: Path) -> bool:
    """Whether a folder is no link, belongs to this user, and can be written to."""
    try:
        state = folder.lstat()
    except OSError:
        return False
    is_own = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    return is_own and folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK | os.X_OK)


def _below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file and folder with its state; no links."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            state = path.lstat()
            if S_ISREG(state.st_mode) or S_ISDIR(state.st_mode):
                yield path, state


def _delete_empty(folders: Iterable[Path]) -> None:
    """Deletes those that are empty, the deepest first."""
    for path in sorted(folders, key=lambda path: -len(path.parts)):
        with suppress(OSError):
            path.rmdir()
