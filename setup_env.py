"""Makes `.venv` with what requirements.txt names, or leaves it as it is when it is up to date. Standard library only.

    python3 setup_env.py            what the page needs
    python3 setup_env.py --dev      and what the tests need

It is written so that an old Python can still read it, and say that it is too old.
"""

import collections
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "sdsdemo-ready")
OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
NEEDED_GB = 8
FILES = {"run": "requirements.txt", "dev": "requirements-dev.txt"}
CONSTRAINTS = "constraints.txt"
SAID_EVERY = 20.0
"""Seconds between two lines while pip works."""

TOO_OLD = (
    "sdsdemo needs Python {0}.{1} or newer; this is {2}.{3}. Install a newer one, then run: python3.12 setup_env.py"
)
DISK_FULL = "The packages need about {needed} GB, and this disk has {free:.1f} GB left. Free some space and try again."
NO_VENV = (
    "The virtual environment could not be made. On Debian and Ubuntu, install the module for it and try again: "
    "apt install python3-venv"
)
NO_PACKAGES = (
    "The packages could not be installed: see the lines above. Most often the network is down or the disk is full; try "
    "again when that is mended. What was downloaded is kept."
)


class SetupError(Exception):
    """A sentence that says what to do."""


def main(arguments):
    """Exit status 0, or 2 after a sentence on stderr."""
    wanted = "dev" if "--dev" in arguments else "run"
    try:
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


def newest_python(version, running):
    """The Python to use: this one when it is new enough, else another one that is on the path."""
    if tuple(version[:2]) >= OLDEST:
        return running
    for name in NEWER:
        found = shutil.which(name)
        if found:
            return found
    raise SetupError(TOO_OLD.format(*(OLDEST + tuple(version[:2]))))


def set_up(wanted):
    """Bring `.venv` up to date; nothing is done, and no network is needed, where it is already."""
    if is_ready(wanted):
        return
    start = time.time()
    say(start, "1 of 3: room on the disk")
    check_disk()
    say(start, "2 of 3: virtual environment in .venv")
    make_venv()
    say(start, "3 of 3: packages; about 3 minutes and 6 GB the first time, with a fast network")
    install(wanted, start)
    with open(STAMP, "w") as file:
        file.write(f"{wanted} {digest(wanted)}\n")
    say(start, "ready")


def is_ready(wanted):
    """Whether the stamp fits the requirement files and the environment still runs."""
    try:
        with open(STAMP) as file:
            kind, found = file.read().split()
    except (OSError, ValueError):
        return False
    enough = kind == "dev" or wanted == "run"
    return enough and found == digest(kind) and runs()


def digest(wanted):
    """A hash of the requirement files that were installed."""
    total = hashlib.sha256()
    for name in sorted({FILES["run"], FILES[wanted], CONSTRAINTS}):
        with open(os.path.join(ROOT, name), "rb") as file:
            total.update(file.read())
    return total.hexdigest()


def venv_python():
    """The environment's Python, on Windows too."""
    parts = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(VENV, *parts)


def runs():
    """Whether the environment's Python starts, is the one of this folder, and is new enough."""
    code = f"import sys; print(sys.prefix); sys.exit(sys.version_info < {OLDEST})"
    try:
        done = subprocess.run([venv_python(), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0 and os.path.realpath(done.stdout.decode().strip()) == os.path.realpath(VENV)


def check_disk():
    """Room for the packages, where they are not there yet."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDED_GB and not os.path.exists(STAMP):
        raise SetupError(DISK_FULL.format(needed=NEEDED_GB, free=free))


def make_venv():
    """A new environment, unless one is there that runs; a half-made or moved one is made anew."""
    if runs() and subprocess.call([venv_python(), "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.call([sys.executable, "-m", "venv", VENV]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(NO_VENV)


def install(wanted, start):
    """pip, with a line now and then about what it is at, and its last lines when it fails."""
    command = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-r", os.path.join(ROOT, FILES[wanted]), "-c", os.path.join(ROOT, CONSTRAINTS)]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    last = collections.deque(maxlen=12)
    lines = (line.strip() for line in pip.stdout)
    reader = threading.Thread(target=last.extend, args=(lines,), daemon=True)
    reader.start()
    while wait(pip) is None:
        say(start, "  " + (last[-1] if last else "pip is starting")[:90])
    reader.join()
    if pip.returncode != 0:
        sys.stderr.write("\n".join(last) + "\n")
        raise SetupError(NO_PACKAGES)


def wait(process):
    """Its exit status, or None when it is still at work after SAID_EVERY seconds."""
    try:
        return process.wait(timeout=SAID_EVERY)
    except subprocess.TimeoutExpired:
        return None


def say(start, line):
    """A line of progress with the minutes since the start."""
    sys.stdout.write(f"[{(time.time() - start) / 60:4.1f} min] {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
