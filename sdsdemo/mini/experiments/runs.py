"""Fine-tuning runs of the experiment, each trained once: a run that another study has trained is reused.

Recipes that differ only in the interpolation afterwards (WiSE-FT) share one training: any interpolation can be computed
from a run that kept the fine-tuned weights in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sdsdemo.errors import UserError
from sdsdemo.finetuning.cache import MiniCache
from sdsdemo.finetuning.events import Done, Evaluated, Event, Notice, Step, Working
from sdsdemo.finetuning.recipe import Recipe, with_defaults
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.setup import Models
from sdsdemo.mini.experiments.study_store import TrainedRuns
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import CLIP, interpolate_weights, read_delta, write_delta

Progress = Callable[[str], None]
EVERY = 100
"""Steps between progress lines: a study has hundreds of runs."""


def tuned(
    recipe: Recipe, out: Path, trained: TrainedRuns, workbench: Models, progress: Progress, cache: MiniCache
) -> tuple[Mapping[str, Any], Path]:
    """Record and weights of a recipe's run: reused from `trained` where possible, else trained in `out`.

    Raises `UserError` if the run fails.
    """
    own = FineTuningFolder(out)
    found = None if own.exists else trained.like(recipe, workbench)
    if found is None:
        return trained_run(recipe, out, workbench, progress, cache), own.model
    other, record = found
    progress(f"{out.name}  already trained as {other.path.parent.name} {other.path.name}")
    if with_defaults(record["recipe"]) == recipe.as_dict():
        return record, other.model
    _write_part(recipe, other.model, own.model, workbench)
    return record, own.model


def trained_run(
    recipe: Recipe, out: Path, workbench: Models, progress: Progress, cache: MiniCache | None = None
) -> dict[str, Any]:
    """The record of a finished run; starts or resumes it if needed. Raises `UserError` if it fails."""
    folder = FineTuningFolder(out)
    if not folder.exists or folder.read()["state"] != "finished":
        for event in finetune(recipe, out, workbench=workbench, resume=folder.exists, cache=cache):
            for line in _lines(event, recipe.steps):
                progress(f"{out.name}  {line}")
            if isinstance(event, Done) and event.state != "finished":
                raise UserError(f"{out.name}: {event.reason or event.state}")
    return folder.read()


def _lines(event: Event, steps: int) -> list[str]:
    """Log lines for an event; none for most events, since a study runs for hours."""
    if isinstance(event, Notice) or (isinstance(event, Working) and event.done == event.total):
        return [event.text]
    if isinstance(event, Evaluated):
        return [f"step {event.step}  {event.metric} {100 * event.share.value:.1f}, n = {event.share.n}"]
    if isinstance(event, Step) and (event.step % EVERY == 0 or event.step == steps):
        return [f"step {event.step} of {steps}  loss {event.losses['loss']:.4f}"]
    return []


def _write_part(recipe: Recipe, whole: Path, out: Path, workbench: Models) -> None:
    """Write the delta that interpolates between the base and a run that kept the fine-tuned weights in full."""
    tensors, header = read_delta(whole)
    before = ClipModel.load(workbench.card(recipe.base).spec).module.state_dict()
    after = {name.removeprefix(CLIP): tensor for name, tensor in tensors.items() if name.startswith(CLIP)}
    part = interpolate_weights(before, after, recipe.wise_ft)
    tensors |= {f"{CLIP}{name}": tensor for name, tensor in part.items()}
    story = {key: value for key, value in header.items() if key != "measured"}
    write_delta(out, tensors, story | {"recipe": recipe.as_dict()})
