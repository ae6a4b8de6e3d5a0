"""Fine-tuning and the benchmark of a tuned model, for bases that need a GPU lent for the call (ZeroGPU).

Weights and scores leave the fork as files; only events and paths are pickled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from sdsdemo.app.gpu_time import RUN_SAVES, reserved, reserved_for_run
from sdsdemo.app.workbench import Workbench
from sdsdemo.evaluation.store import read_run
from sdsdemo.finetuning.events import Event
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.runtime import zerogpu
from sdsdemo.settings import budget
from sdsdemo.types import Card

RUN_CUT_OFF = "The GPU was taken back before the run had ended: press Resume, and it goes on from its last checkpoint."


class GpuJobs:
    """The jobs of a server on a lent GPU. Made before the page is launched, for a workbench with a `gpu`."""

    def __init__(self, workbench: Workbench, runner: Callable[..., Iterator[Event]]) -> None:
        """runner: `finetuning.finetune`, or a stand-in with the same events."""
        assert workbench.gpu is not None
        self._workbench, self._shared, self._runner = workbench, workbench.gpu, runner
        self._finetune = zerogpu.on_gpu(self._finetune_in_fork, _given_seconds, RUN_CUT_OFF)
        self._evaluate = zerogpu.on_gpu(self._evaluate_in_fork, self._evaluation_seconds)

    def takes(self, card: Card) -> bool:
        """Whether runs from a base, or the benchmark of a tuned model, belong on the GPU; its teacher follows."""
        return self._shared.takes(card)

    def run_seconds(self, recipe: Recipe) -> tuple[float, int]:
        """Seconds that a run is expected to take, which may be cut short, and those that it reserves."""
        expected = self._shared.times.of_run(recipe, *self._cards(recipe))
        seconds = reserved_for_run(expected)
        return min(expected, seconds), seconds

    def finetune(self, recipe: Recipe, folder: Path, resume: bool) -> Iterator[Event]:
        """The events of a run, which ends before its loan of the GPU does. Raises `UserError` where there is none."""
        return self._finetune(recipe, folder, resume, self.run_seconds(recipe)[1])

    def _cards(self, recipe: Recipe) -> tuple[Card, Card | None]:
        """Base and teacher."""
        teacher = self._workbench.card(recipe.teacher) if recipe.uses_teacher else None
        return self._workbench.card(recipe.base), teacher

    def evaluate(self, card: Card, folder: Path) -> None:
        """Add a tuned model's scores of the Mini benchmark to a run. Raises `UserError`."""
        deque(self._evaluate(card, folder), maxlen=0)

    def _finetune_in_fork(self, recipe: Recipe, folder: Path, resume: bool, seconds: int) -> Iterator[Event]:
        left = seconds - RUN_SAVES
        yield from self._runner(recipe, folder, workbench=self._workbench, resume=resume, seconds=left)

    def _evaluate_in_fork(self, card: Card, folder: Path) -> Iterator[None]:
        workbench = Workbench(self._workbench.settings, opener=self._shared.opened)
        workbench.lend(card)
        evaluate_on_mini(workbench, card.name, folder)
        yield

    def _evaluation_seconds(self, card: Card, folder: Path) -> int:
        return reserved(self._shared.times.of_benchmark(card, len(read_run(folder).examples)))


def evaluate_on_mini(workbench: Workbench, name: str, folder: Path) -> None:
    """Add a model's scores of the Mini benchmark to a run. Raises `UserError`."""
    from sdsdemo.evaluation.run import evaluate

    evaluate("mini", [name], workbench=workbench, budget=budget(empty_prompt=True), out=folder)


def _given_seconds(recipe: Recipe, folder: Path, resume: bool, seconds: int) -> int:
    return seconds
