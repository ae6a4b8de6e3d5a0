"""Many cuts from a seed, each in a process of its own: run, cut, look, run again, compare with a run that was whole."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sdsdemo.app.job_states import REQUEST
from sdsdemo.errors import UserError
from sdsdemo.mini.experiments.draw_assets import write_benchmark
from tests.faults import places
from tests.faults.page import PAGE
from tests.faults.places import shorten, workbench
from tests.faults.writes import Writes, die, disk_is_full

How = Literal["at any time", "inside a write", "full disk"]
PLACES = {**places.PLACES, "page": PAGE}
USER, OURS, PATIENCE = 2, 1, 120.0
"""Exit statuses, and seconds after which a run hangs."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut and what came of it."""

    place: str
    how: How
    moment: str
    """Where it was cut: the moment of a write, or the seconds since the start."""
    faults: list[str] = field(default_factory=list)
    """What was lost, half read, or did not go on."""
    has_traceback: bool = False


class Campaign:
    """Cuts of every place below a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self._draw = folder, random.Random(seed)
        self._measured: dict[str, tuple[list[str], float]] = {}
        """Moments and seconds of a whole run, by place."""
        self._count = 0
        shorten()
        workbench()
        write_benchmark(folder / "pairs", seed=3, split="validation", count=5)

    def cut(self, place: str, how: How) -> Cut:
        """Cut a run of a place somewhere, and run it again to its end."""
        moments, seconds = self._whole(place)
        self._count += 1
        folder = self.folder / f"{place}-{self._count}"
        folder.mkdir()
        if how == "at any time":
            after = self._draw.uniform(0, seconds)
            moment, ended = f"{after:.2f} s", self._run(place, folder, kill_after=after)
        else:
            at = self._moment(moments)
            act = die if how == "inside a write" else disk_is_full
            moment, ended = f"{moments[at - 1]}, {at} of {len(moments)}", self._run(place, folder, at=at, act=act)
        faults = self._faults(place, folder, how, ended)
        again = self._run(place, folder)
        faults += [] if again == 0 else [f"does not go on: {self._said(folder)[-300:]}"]
        if again == 0 and PLACES[place].differs(self._whole_folder(place), folder):
            faults.append("another end than that of a whole run")
        left = [path for end in (".part", ".old") for path in folder.rglob(f"*{end}")]
        faults += [f"left behind: {path.name}" for path in left if not _is_of_no_run(path)]
        has_traceback = "Traceback" in self._said(folder)
        return Cut(place=place, how=how, moment=moment, faults=faults, has_traceback=has_traceback)

    def _moment(self, moments: Sequence[str]) -> int:
        """The number of one, each kind as likely as the other."""
        kind = self._draw.choice(sorted(set(moments)))
        return self._draw.choice([number for number, name in enumerate(moments, start=1) if name == kind])

    def _faults(self, place: str, folder: Path, how: How, ended: int) -> list[str]:
        expected = (0, USER) if how == "full disk" else (0, -signal.SIGKILL)
        faults = [] if ended in expected else [f"ended with {ended}: {self._said(folder)[-300:]}"]
        try:
            return faults + PLACES[place].faults(folder, _lines(folder))
        except Exception as error:  # whatever it is, it is a fault of the place
            return [*faults, f"cannot be read: {error!r}"]

    def _whole(self, place: str) -> tuple[list[str], float]:
        if place not in self._measured:
            folder = self._whole_folder(place)
            folder.mkdir()
            began = time.monotonic()
            assert self._run(place, folder) == 0, self._said(folder)
            moments = json.loads(folder.with_suffix(".moments").read_text())
            self._measured[place] = moments, time.monotonic() - began
        return self._measured[place]

    def _whole_folder(self, place: str) -> Path:
        return self.folder / f"{place}-whole"

    def _said(self, folder: Path) -> str:
        return folder.with_suffix(".printed").read_text(errors="replace")

    def _run(
        self, place: str, folder: Path, *, at: int = 0, act: Callable[[str], None] = die, kill_after: float = PATIENCE
    ) -> int:
        """Exit status of a fork that does a place's work; minus the signal that ended it."""
        child = os.fork()
        if not child:
            _in_child(place, folder, Writes(folder, at, act))
        deadline = time.monotonic() + kill_after
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _in_child(place: str, folder: Path, writes: Writes) -> None:
    """Does the work and ends this process."""
    status = OURS
    try:
        printed = os.open(folder.with_suffix(".printed"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        said = os.open(folder.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        writes.install()
        PLACES[place].work(folder, lambda line: os.write(said, f"{line}\n".encode()) and None)
        status = 0
    except UserError as error:
        print(error, file=sys.stderr)
        status = USER
    except BaseException:
        traceback.print_exc()
    finally:
        moments = os.open(folder.with_suffix(".moments"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(moments, json.dumps(writes.names).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _is_of_no_run(path: Path) -> bool:
    """Whether the page was killed while it was asked: nobody was told of that run, and its folder goes with age."""
    return path.name.startswith(REQUEST) and not (path.parent / REQUEST).exists()


def _lines(folder: Path) -> list[str]:
    path = folder.with_suffix(".said")
    return path.read_text().splitlines() if path.is_file() else []


def table(cuts: list[Cut]) -> str:
    """A line per place and way, and one per fault."""
    rows: dict[tuple[str, str], list[Cut]] = {}
    for cut in cuts:
        rows.setdefault((cut.place, cut.how), []).append(cut)
    lines = [f"{'place':<12}{'cut':<16}{'cuts':>6}{'with faults':>13}{'tracebacks':>12}"]
    for (place, how), found in rows.items():
        lines.append(_row(place, how, found))
    lines.append(_row("all", "", cuts))
    faulty = [cut for cut in cuts if cut.faults or cut.has_traceback]
    return "\n".join([*lines, *(f"{c.place}, {c.how} ({c.moment}): {'; '.join(c.faults)}" for c in faulty)])


def _row(place: str, how: str, found: list[Cut]) -> str:
    faulty, traced = sum(bool(cut.faults) for cut in found), sum(cut.has_traceback for cut in found)
    return f"{place:<12}{how:<16}{len(found):>6}{faulty:>13}{traced:>12}"


def all_ways(count: int, names: Sequence[str]) -> list[tuple[str, How]]:
    """`count` kills, of which half are inside a write, and half as many full disks, over all places in turn."""
    kills: list[tuple[str, How]] = [
        (names[n % len(names)], "at any time" if (n // len(names)) % 2 else "inside a write") for n in range(count)
    ]
    return kills + [(names[n % len(names)], "full disk") for n in range(count // 2)]
