"""What Python calls without a workbench of its own: a benchmark scored, a CLIP fine-tuned. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdsdemo.app.kept import kept_workbench
from sdsdemo.errors import UserError, quoted
from sdsdemo.settings import SEED, TIMESTEPS, budget, usual_noises
from sdsdemo.types import Budget

if TYPE_CHECKING:
    from sdsdemo.evaluation.result_schema import Result
    from sdsdemo.finetuning.recipe import Recipe

KINDS: dict[type, str] = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
"""What a setting takes, by the type of its default."""


def evaluate(
    benchmark: str,
    models: Sequence[str],
    spend: Budget,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    blind: bool = False,
    progress: Callable[[str], None] | None = None,
    remark: Callable[[str], None] | None = None,
) -> Result:
    """The dict of `evaluate --json`. models: none means those of the settings. Raises `UserError`."""
    from sdsdemo.evaluation import run

    workbench = kept_workbench()
    names = named(models) or workbench.settings.models
    workbench.check(names)
    return run.evaluate(
        benchmark,
        names,
        workbench=workbench,
        budget=spend,
        limit=limit,
        out=None if out is None else Path(out),
        blind=blind,
        progress=progress or _unheard,
        remark=remark or _unheard,
    )


def finetune(
    out: str | Path,
    preset: str,
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Mapping[str, Any]:
    """The dict of `finetune --json`; empty beside the main process. Raises `UserError`, also for a run that failed."""
    recipe = recipe_of(preset, settings)
    workbench = kept_workbench()
    for name in (recipe.base, recipe.teacher):
        workbench.card(name)  # refuse an unknown one before loading anything heavy
    from sdsdemo.finetuning.console_report import run_in_shell

    says: Any = {"progress": progress or _unheard, "note": progress or _unheard}
    record = run_in_shell(recipe, Path(out), workbench=workbench, resume=resume, **says) or {}
    if record.get("state") == "failed":
        raise UserError(str(record["reason"]))
    return record


def recipe_of(preset: str, settings: Mapping[str, Any]) -> Recipe:
    """A preset with some settings changed. Raises `UserError` for an unknown setting, or a value of another kind."""
    from sdsdemo.finetuning.recipe import Recipe, from_preset

    first = {entry.name: getattr(Recipe(), entry.name) for entry in fields(Recipe)}
    for name, value in settings.items():
        if name not in first:
            close = get_close_matches(name, first, n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"Fine-tuning has no setting {quoted(name)}{guess}: it has {', '.join(first)}.")
        kind = type(first[name])
        is_kind = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not is_kind or isinstance(value, bool) != (kind is bool):
            raise UserError(f"The setting {name} takes {KINDS[kind]}; it was {quoted(value)}.")
    return from_preset(preset, settings)


def named(models: Sequence[str]) -> tuple[str, ...]:
    """The models' names. Raises `UserError` for a single text, which is a sequence of letters too."""
    if isinstance(models, str):
        raise UserError(f"Give the models as a list of names: [{quoted(models)}].")
    return tuple(models)


def spend_of(timesteps: int | None, noises: int | None, seed: int | None, *, adaptive: bool, **options: Any) -> Budget:
    """What is not given has the default of the settings. Raises `UserError`."""
    return budget(
        TIMESTEPS.default if timesteps is None else timesteps,
        usual_noises(adaptive) if noises is None else noises,
        SEED.default if seed is None else seed,
        adaptive=adaptive,
        **options,
    )


def _unheard(line: str) -> None:
    """Discards a line."""
