"""Makes `.venv` with what requirements.txt names, or leaves it as it is when it is up to date. Standard library only.

    python3 setup_env.py            what the page needs
    python3 setup_env.py --dev      and what the tests need

It is written so that an old Python can still read it, and say that it is too old: the types that such a Python does not
know are in quotes.
"""

import collections
import contextlib
import errno
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "sdsdemo-ready")
OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
NEEDED_GB = 8
USED_GB = 7
"""Disk that must be free before, and that the packages take in the end."""
FILES = {"run": "requirements.txt", "dev": "requirements-dev.txt"}
CONSTRAINTS = "constraints.txt"
LOCK = ".venv-setup.lock"
"""Held by the set-up that is at work in this folder; it ends with its process."""
WAITED_EVERY = 1.0
SAID_EVERY = 20.0
"""Seconds between two lines while pip works."""

TOO_OLD = (
    "sdsdemo needs Python {0}.{1} or newer; this is {2}.{3}. Install a newer one, then run: python3.12 setup_env.py"
)
DISK_FULL = "The packages need about {needed} GB, and this disk has {free:.1f} GB left. Free some space and try again."
NOT_WRITTEN = (
    "'{0}' cannot be written ({1}): free some space, let this user write there, or work in a copy of the project that "
    "is yours."
)
UNKNOWN = "setup_env.py does not know {0}: run it alone for the page, or with --dev for the tests too."
NO_PIP = (
    "The environment in .venv has no pip and cannot get one: install pip there (uv pip install pip), or delete the "
    "folder .venv, and run the same command again."
)
NO_VENV = (
    "The virtual environment could not be made. On Debian and Ubuntu, install the module for it and try again: "
    "apt install python3-venv"
)
NO_PACKAGES = (
    "The packages could not be installed: see the lines above. Most often the network is down or the disk is full; fix "
    "that and try again. What was downloaded is kept."
)
INTEL_MAC = (
    "The packages could not be installed: see the lines above. PyTorch 2.8 and newer has none for Intel Macs. On a Mac "
    "with Apple silicon, use a Python that is built for it (arm64); otherwise use Linux or Windows."
)


class SetupError(Exception):
    """A sentence that says what to do."""


def main(arguments: "list[str]") -> int:
    """Exit status 0, or 2 after a sentence on stderr."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(f"{__doc__}")
        return 0
    wanted = "dev" if "--dev" in arguments else "run"
    try:
        for argument in arguments:
            if argument != "--dev":
                raise SetupError(UNKNOWN.format(argument))
        python = newest_python(sys.version_info, sys.executable)
        if python != sys.executable:
            return subprocess.call([python, os.path.abspath(__file__), *arguments])
        set_up(wanted)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the same command again to go on.\n")
        return 130
    return 0


def newest_python(version: "tuple[int, int, int, str, int]", running: str) -> str:
    """The Python to use: this one when it is new enough, else another one that is on the path."""
    if tuple(version[:2]) >= OLDEST:
        return running
    found = [place for place in map(shutil.which, NEWER) if place]
    for needs in ("ensurepip, sys", "sys"):
        for place in found:
            if can_run(place, f"import {needs}; sys.exit(sys.version_info < {OLDEST})"):
                return place
    raise SetupError(TOO_OLD.format(*(OLDEST + tuple(version[:2]))))


def can_run(python: str, code: str) -> bool:
    """Whether a Python starts and runs this code to its end; a pyenv shim may have none behind it."""
    try:
        return subprocess.call([python, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def set_up(wanted: str) -> None:
    """Bring `.venv` up to date; nothing is done, and no network is needed, where it is already."""
    if is_ready(wanted):
        return
    start = time.time()
    with alone(start):
        if not is_ready(wanted):  # by another one, meanwhile
            bring_up_to_date(wanted, start)


def bring_up_to_date(wanted: str, start: float) -> None:
    """Every step; call it alone."""
    say(start, "1 of 3: room on the disk")
    check_disk()
    say(start, "2 of 3: virtual environment in .venv")
    make_venv()
    say(start, f"3 of 3: packages; about 3 minutes and {USED_GB} GB the first time, with a fast network")
    if os.path.exists(STAMP):
        write_stamp("unfinished")  # until pip is through, no older stamp may vouch for what is there
    install(wanted, start)
    write_stamp(f"{wanted} {venv_version()} {digest(wanted)}")
    say(start, "ready")


@contextlib.contextmanager
def alone(start: float) -> "Iterator[None]":
    """Waits until no other set-up is at work in this folder."""
    with lock_file() as file:
        if not is_locked(file):
            say(start, "another set-up is at work in this folder: waiting for it")
            while not is_locked(file):
                time.sleep(WAITED_EVERY)
        yield


def lock_file() -> "IO[str]":
    """The file that is locked; one that another user has made can be locked without being written."""
    place = os.path.join(ROOT, LOCK)
    try:
        return open(place, "a")
    except OSError as error:
        if not os.path.exists(place):
            raise SetupError(NOT_WRITTEN.format(ROOT, error.strerror)) from error
    return open_or_say(place, "r")


def open_or_say(place: str, mode: str) -> "IO[str]":
    """As `open`, with a sentence for an error."""
    try:
        return open(place, mode)
    except OSError as error:
        raise SetupError(NOT_WRITTEN.format(place, error.strerror)) from error


def is_locked(file: "IO[str]") -> bool:
    """Takes the lock of a file; False where another process holds it. A disk that knows no locks counts as taken."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def is_ready(wanted: str) -> bool:
    """Whether the stamp fits the requirement files and the environment still runs."""
    try:
        with open(STAMP) as file:
            kind, version, found = file.read().split()
    except (OSError, ValueError):
        return False
    enough = kind == "dev" or (kind == "run" and wanted == "run")
    return enough and found == digest(kind) and version == venv_version()


def write_stamp(line: str) -> None:
    """The one line of the stamp: what was installed, for which Python, and the digest of the requirement files."""
    try:
        with open_or_say(STAMP, "w") as file:
            file.write(line + "\n")
    except OSError as error:  # a full disk says so when the file is closed
        raise SetupError(NOT_WRITTEN.format(STAMP, error.strerror)) from error


def digest(wanted: str) -> str:
    """A hash of the requirement files that were installed."""
    total = hashlib.sha256()
    for name in sorted({FILES["run"], FILES[wanted], CONSTRAINTS}):
        with open(os.path.join(ROOT, name), "rb") as file:
            total.update(file.read())
    return total.hexdigest()


def venv_python() -> str:
    """The environment's Python, on Windows too."""
    parts = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(VENV, *parts)


def venv_version() -> str:
    """Such as "3.11" where the environment was made here and its Python starts and is new enough; else empty.

    The version counts because packages lie in a folder of that name: after the system's Python went from 3.11 to 3.12
    the environment still starts, and has no packages.
    """
    code = (
        "import os, sys; here = os.path.realpath(sys.prefix) == os.path.realpath(sys.argv[1]); "
        f"print('%d.%d' % sys.version_info[:2] if here and sys.version_info >= {OLDEST} else '')"
    )
    command = [venv_python(), "-c", code, VENV]
    if was_moved():
        return ""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.decode("ascii").strip() if done.returncode == 0 else ""


def was_moved() -> bool:
    """Whether the environment says that it was made elsewhere: its Python still starts, its other programs do not."""
    try:
        with open(os.path.join(VENV, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            made_by = [os.path.normcase(line.strip()) for line in file if line.startswith("command = ")]
    except OSError:
        return False
    here = (os.path.normcase(VENV), os.path.normcase(os.path.realpath(VENV)))
    return not all(command.endswith(here) for command in made_by)


def made_for() -> str:
    """The Python that the environment was made for, such as "3.11"; empty where it does not say.

    Once its Python was replaced by a newer one, it starts and has none of its packages.
    """
    try:
        with open(os.path.join(VENV, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            lines = [line.partition("=") for line in file]
    except OSError:
        return ""
    found = [value.strip() for name, _, value in lines if name.strip() in ("version", "version_info")]
    return ".".join(found[0].split(".")[:2]) if found else ""


def check_disk() -> None:
    """Room for the packages, where they are not there yet, and leave to write them."""
    place = VENV if os.path.isdir(VENV) else ROOT
    if not os.access(place, os.W_OK):
        raise SetupError(NOT_WRITTEN.format(place, os.strerror(errno.EACCES)))
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDED_GB and not os.path.exists(STAMP):
        raise SetupError(DISK_FULL.format(needed=NEEDED_GB, free=free))


def make_venv() -> None:
    """A new environment, unless one is there that runs; one that does not, or that was moved, is made anew.

    One that runs and has no pip, half-made here or made by uv, gets it: what was installed there stays.
    """
    version = venv_version()
    if version and made_for() in ("", version):
        if not has_pip() and subprocess.call([venv_python(), "-m", "ensurepip"]) != 0:
            raise SetupError(NO_PIP)
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.call([sys.executable, "-m", "venv", VENV]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(NO_VENV)


def has_pip() -> bool:
    """Whether the environment's Python finds its packages; in a half-made environment it does not."""
    command = [venv_python(), "-m", "pip", "--version"]
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def install(wanted: str, start: float) -> None:
    """pip, with a line now and then about what it is at, and its last lines when it fails."""
    command = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-r", os.path.join(ROOT, FILES[wanted]), "-c", os.path.join(ROOT, CONSTRAINTS)]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    last: collections.deque[bytes] = collections.deque(maxlen=12)  # bytes: an odd character must not end the reading
    reader = threading.Thread(target=last.extend, args=(pip.stdout,), daemon=True)
    reader.start()
    while wait(pip) is None:
        say(start, "  " + (as_text(last[-1]) if last else "pip is starting")[:90])
    reader.join()
    if pip.returncode != 0:
        sys.stderr.write("\n".join(as_text(line) for line in last) + "\n")
        raise SetupError(INTEL_MAC if (platform.system(), platform.machine()) == ("Darwin", "x86_64") else NO_PACKAGES)


def as_text(line: bytes) -> str:
    """A line of pip's, with a question mark where a terminal might not know the character."""
    return line.decode("ascii", "replace").strip().replace("\ufffd", "?")


def wait(process: "subprocess.Popen[bytes]") -> "int | None":
    """Its exit status, or None when it is still at work after SAID_EVERY seconds."""
    try:
        return process.wait(timeout=SAID_EVERY)
    except subprocess.TimeoutExpired:
        return None


def say(start: float, line: str) -> None:
    """A line of progress with the minutes since the start."""
    sys.stdout.write(f"[{(time.time() - start) / 60:4.1f} min] {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
