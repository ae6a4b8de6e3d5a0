"""The places that write: what runs there, what must be there after a cut, and when its end counts as the same.

Each place has a folder of its own for each cut. `work` runs as the user would run it, again after a cut, and says what
it has saved as soon as a user could know it. `faults` looks at what a cut left; `differs` compares the end with that of
a whole run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.main import main
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import HEADER, RunFolder, read_run
from sdsdemo.finetuning import before_after, checkpoints, teacher_preferences, training
from sdsdemo.finetuning.events import Done, Event, WeightsSaved
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import ENDED, MODEL, FineTuningFolder
from sdsdemo.finetuning.teacher_preferences import Preferences
from sdsdemo.mini.experiments import draw_assets
from sdsdemo.models.delta import read_delta
from sdsdemo.runtime.files import forget_unfinished
from sdsdemo.settings import budget
from sdsdemo.types import Scores
from tests.finetuning.test_teacher_preferences import BUDGET, Judge, pairs

Say = Callable[[str], None]
MODELS = ("mini-clip", "mini-diffusion")
SPEND = budget(2, 1, 0, empty_prompt=False)
SETS = ("benchmark", "validation")
REFUSED = 2
"""The exit status of a command that says what to change."""
STEPS, CHECKPOINTS, ANSWERS, DRAWN = 5, 12, 24, 3
WEIGHTS = 20_000
"""Numbers in the checkpoint that is written without training."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place that writes."""

    work: Callable[[Path, Say], None]
    faults: Callable[[Path, Sequence[str]], list[str]]
    """What is wrong after a cut. Of what was said: all of it must be there."""
    differs: Callable[[Path, Path], bool]


@cache
def workbench() -> Workbench:
    """With its models loaded, for all forks."""
    found = Workbench()
    for name in MODELS:
        found.scorer(name)
    return found


def shorten() -> None:
    """Makes runs of this process short."""
    torch.set_num_threads(1)
    before_after.ZERO_SHOT, before_after.RETRIEVAL = 3, (1, 3)
    draw_assets.EXAMPLES = DRAWN
    really = draw_assets.ambiguous_pairs
    draw_assets.ambiguous_pairs = lambda seed: really(seed)[:DRAWN]
    teacher_preferences.AT_ONCE = 2
    training.KEEP_SECONDS = 0.0


# ------------------------------------------------------------------------------------------------------ evaluate --out


def run_evaluate(folder: Path, say: Say) -> None:
    really = RunFolder.add

    def add(run: RunFolder, model: str, example: str, *rest: Any, **options: Any) -> Scores:
        found = really(run, model, example, *rest, **options)
        say(f"{model} {example}")
        return found

    pytest.MonkeyPatch().setattr(RunFolder, "add", add)  # for the rest of this process
    evaluate(_pairs(folder), MODELS, workbench=workbench(), budget=SPEND, out=folder / "run")


def evaluate_faults(folder: Path, said: Sequence[str]) -> list[str]:
    if not (folder / "run" / HEADER).is_file():
        return ["no run.json"] if said else []
    held = {f"{model} {example}" for model, example, _ in read_run(folder / "run").scores}
    return [f"not stored: {one}" for one in said if one not in held]


def evaluate_differs(whole: Path, cut: Path) -> bool:
    a, b = (read_run(folder / "run").scores for folder in (whole, cut))
    return list(a) != list(b) or not all(np.allclose(a[key].score_IC, b[key].score_IC, atol=1e-5) for key in a)


# ------------------------------------------------------------------------------------------------------------ finetune


def run_finetune(folder: Path, say: Say) -> None:
    say_checkpoints(say)
    recipe = Recipe(
        objective="clip", steps=STEPS, batch=4, pool=16, keep_every=1, measure=_pairs(folder), measure_every=10_000
    )
    for event in finetune(recipe, folder / "run", workbench=workbench(), resume=True):
        _say_event(event, say)


def finetune_faults(folder: Path, said: Sequence[str]) -> list[str]:
    run = FineTuningFolder(folder / "run")
    if not run.exists:
        return ["no run.json"] if said else []
    state = run.read()["state"]
    run.log()
    faults = [] if state in ENDED else [f"shown as {state}"]
    if "weights" in said:
        read_delta(run.model)
    return faults + lost_steps(run.checkpoint, said)


def finetune_differs(whole: Path, cut: Path) -> bool:
    return differ(whole / "run", cut / "run")


def differ(one: Path, other: Path) -> bool:
    """Whether the weights of two runs differ."""
    (a, _), (b, _) = (read_delta(folder / MODEL) for folder in (one, other))
    return a.keys() != b.keys() or not all(torch.equal(a[name], b[name]) for name in a)


def say_checkpoints(say: Say) -> None:
    really = checkpoints.save

    def save(path: Path, state: checkpoints.State) -> None:
        really(path, state)
        say(f"checkpoint {state['done']}")

    pytest.MonkeyPatch().setattr(checkpoints, "save", save)  # for the rest of this process


def _say_event(event: Event, say: Say) -> None:
    if isinstance(event, WeightsSaved):
        say("weights")
    if isinstance(event, Done) and event.state != "finished":
        raise UserError(event.reason)


def lost_steps(path: Path, said: Sequence[str]) -> list[str]:
    done = max((int(one.split()[1]) for one in said if one.startswith("checkpoint")), default=0)
    kept = checkpoints.newest(path)
    held = kept[0]["done"] if kept else 0
    return [f"checkpoint {done} was said, {held} is there"] if held < done else []


# ------------------------------------------------------------------------------------------------- checkpoints, quickly


def run_checkpoint(folder: Path, say: Say) -> None:
    say_checkpoints(say)
    forget_unfinished(folder)  # as a run does that holds its folder's lock
    path = folder / "checkpoint.run"
    kept = checkpoints.newest(path)
    for done in range(kept[0]["done"] + 1 if kept else 1, CHECKPOINTS + 1):
        weights = {"weight": torch.full([WEIGHTS], float(done))}
        try:
            checkpoints.save(path, {"done": done, "parameters": weights, "average": {}, "optimiser": {"state": {}}})
        except checkpoints.UnwritableError as error:
            raise UserError(str(error)) from error


def checkpoint_faults(folder: Path, said: Sequence[str]) -> list[str]:
    kept = checkpoints.newest(folder / "checkpoint.run")
    torn = kept is not None and not bool((kept[0]["parameters"]["weight"] == kept[0]["done"]).all())
    return (["half of it is of another step"] if torn else []) + lost_steps(folder / "checkpoint.run", said)


def checkpoint_differs(whole: Path, cut: Path) -> bool:
    states = [checkpoints.newest(folder / "checkpoint.run") for folder in (whole, cut)]
    return any(state is None or state[0]["done"] != CHECKPOINTS for state in states)


# ---------------------------------------------------------------------------------------------------- teacher's answers


def run_cache(folder: Path, say: Say) -> None:
    kept, asked = Preferences(folder, "weights", BUDGET), pairs(ANSWERS)
    for count in kept.ask(Judge(), asked, lambda: False):
        say(f"answers {count}")


def cache_faults(folder: Path, said: Sequence[str]) -> list[str]:
    held, asked = Preferences(folder, "weights", BUDGET), pairs(ANSWERS)
    missing, count = len(held.missing(asked)), sum(1 for _ in said)
    return [f"{count} batches were said, {missing} answers are missing"] if ANSWERS - missing < 2 * count else []


def cache_differs(whole: Path, cut: Path) -> bool:
    return Preferences(whole, "weights", BUDGET)._gaps != Preferences(cut, "weights", BUDGET)._gaps


# ---------------------------------------------------------------------------------------------------------- mini draw


def run_draw(folder: Path, say: Say) -> None:
    """Over an earlier drawing, which stays whole until the new one takes its place."""
    done = folder / "drawn once"
    for seed in ("7",) if done.exists() else ("6", "7"):
        if main(["mini", "draw", "--seed", seed, "--out", str(folder / "drawn")]) == REFUSED:
            raise UserError("The command has said why.")
        done.touch()
        say("drawn")


def draw_faults(folder: Path, said: Sequence[str]) -> list[str]:
    return (
        [fault for name in SETS for fault in _set_faults(folder / "drawn" / name)] + _listing_faults(folder / "drawn")
        if said
        else []
    )


def _set_faults(folder: Path) -> list[str]:
    if not folder.is_dir():  # killed just before the new one takes its place: the earlier one is kept beside it
        return [] if folder.with_name(f"{folder.name}.old").is_dir() else [f"no {folder.name}"]
    try:
        examples = read_benchmark(f"folder:{folder}")
        for example in examples:
            for picture in example.images:
                picture.open()
    except UserError as error:
        return [str(error)]
    return [] if len(examples) == DRAWN else [f"{folder.name} has {len(examples)} examples"]


def _listing_faults(folder: Path) -> list[str]:
    if not (folder / "examples").is_dir():
        return [] if (folder / "examples.old").is_dir() else ["no examples"]
    json.loads((folder / "examples.json").read_text())
    return [f"{path.name} is empty" for path in (folder / "examples").iterdir() if not path.stat().st_size]


def draw_differs(whole: Path, cut: Path) -> bool:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return content(whole / "drawn") != content(cut / "drawn")


def _pairs(folder: Path) -> str:
    """The benchmark beside all folders of a campaign."""
    return f"folder:{folder.parent / 'pairs'}"


PLACES = {
    "evaluate": Place(work=run_evaluate, faults=evaluate_faults, differs=evaluate_differs),
    "finetune": Place(work=run_finetune, faults=finetune_faults, differs=finetune_differs),
    "checkpoint": Place(work=run_checkpoint, faults=checkpoint_faults, differs=checkpoint_differs),
    "cache": Place(work=run_cache, faults=cache_faults, differs=cache_differs),
    "draw": Place(work=run_draw, faults=draw_faults, differs=draw_differs),
}
