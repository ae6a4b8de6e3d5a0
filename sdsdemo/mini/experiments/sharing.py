"""Shares studies among processes of one core each, which first train the bases that are missing.

The bases that are not shipped are trained by `mini train`, like the others, into a folder outside of the repository.
Everything is resumable: finished bases and runs are kept, unfinished ones go on from their checkpoints.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdsdemo.core.number_format import duration
from sdsdemo.core.wording import count_of
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.cells import NORMS
from sdsdemo.mini.experiments.declared import STUDIES
from sdsdemo.mini.experiments.study import missing_runs
from sdsdemo.mini.experiments.study_store import StudyStore
from sdsdemo.mini.experiments.train_all import stream_of
from sdsdemo.mini.models import clip
from sdsdemo.settings import ROOT

FOLDER = "bases"
"""Of the further bases in the cache, and of their unfinished trainings in the work folder."""
OVERHEAD = 1.3
"""Time of a run over that of its steps: 14 runs of the confirmation took 1,334 s, their steps alone 1,047."""
Note = Callable[[str], None]

EVERY_LINE = "Every run has a line: nothing is left to make. To make the runs again, name a new folder with --out."


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What is left to make for some studies."""

    bases: tuple[str, ...]
    """To be trained."""
    runs: tuple[Recipe, ...]

    def seconds(self, costs: Mapping[str, Any], processes: int) -> float:
        """A rough estimate from the seconds per step that `mini costs` measured."""
        cells = costs["cells"]
        steps = sum(
            recipe.steps * cells["sds" if recipe.teacher_in_loop else "clip"]["step_seconds"] for recipe in self.runs
        )
        base = clip.TRAINING.steps * clip.BATCH / NORMS.batch * cells["clip"]["step_seconds"]
        return float((OVERHEAD * steps + len(self.bases) * base) / processes)

    def words(self, costs: Mapping[str, Any], processes: int) -> str:
        """What is left, and about how long it takes."""
        if not (self.bases or self.runs):
            return EVERY_LINE
        return (
            f"{count_of(len(self.bases), 'base')} to train and {count_of(len(self.runs), 'run')} to make: about "
            f"{duration(self.seconds(costs, processes))} in {count_of(processes, 'process', 'processes')}, by the "
            "steps that `mini costs` timed."
        )


def missing(names: Sequence[str], store: StudyStore, workbench: Models) -> Missing:
    """What these studies lack. Raises `UserError` for lines of a base with other weights than here."""
    runs = [recipe for name in names for recipe in missing_runs(name, STUDIES[name], store, workbench).values()]
    measured = {row.get("base") for row in store.lines("bases").rows}
    wanted = {recipe.base for recipe in runs}
    wanted |= {base for name in names for base in STUDIES[name].bases if base not in measured}
    untrained = [base for base in clip.FURTHER if base in wanted and not _is_here(base, workbench)]
    return Missing(bases=tuple(untrained), runs=tuple(runs))


def _is_here(base: str, workbench: Models) -> bool:
    return workbench.availability(workbench.card(base)).can_run


def train_bases(bases: Sequence[str], folder: Path, work: Path, processes: int, note: Note) -> None:
    """Train these bases into `folder`, shared by processes. Raises `UserError` if one fails."""
    if not bases:
        return
    note("drawing the pictures that every Mini model is trained on")
    stream_of(work)
    where = options({"--out": folder, "--work": work})
    shares = [share for k in range(processes) if (share := bases[k::processes])]
    run_all([["mini", "train", *share, *where] for share in shares])


def share_studies(names: Sequence[str], where: Sequence[str], processes: int) -> None:
    """Make the missing runs of these studies, shared by processes. where: options of `mini study`."""
    run_all([["mini", "study", *names, *where, "--part", f"{k}/{processes}"] for k in range(processes)])


def options(where: Mapping[str, Path]) -> list[str]:
    """Options of a command, with whole paths: its process starts in another folder."""
    return [word for flag, path in where.items() for word in (flag, str(path.resolve()))]


def run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run `python -m sdsdemo` with each of these arguments, in a process of one core each, until all have ended.

    They are stopped if this process is. Their results are not printed: this process has its own. Raises `UserError` if
    one fails.
    """
    begin, environment = [sys.executable, "-m", "sdsdemo"], {**os.environ, "OMP_NUM_THREADS": "1"}
    with _ended_by_sigterm():
        running = [
            subprocess.Popen([*begin, *command], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
            for command in commands
        ]
        try:
            codes = [process.wait() for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.terminate()
    if any(codes):
        raise UserError("A process failed: see the reason above. Run this again to resume.")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM raises `SystemExit`, so that what is running can be stopped."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
