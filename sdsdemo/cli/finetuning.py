"""`python -m sdsdemo finetune`: the recipe as flags, the run in the shell, its commands for other machines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

from sdsdemo.cli.output import Verbs, note, progress, put, show, verb
from sdsdemo.core.wording import and_list
from sdsdemo.errors import UserError
from sdsdemo.finetuning import elsewhere, tracking
from sdsdemo.finetuning.recipe import (
    PRESET_WORDS,
    PRESETS,
    STUDIED,
    USUAL_PRESET,
    Recipe,
    cli_flag,
    from_preset,
    from_stored,
    headings,
)
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.models import cards
from sdsdemo.runtime import distributed

SHOWN = ("recipe", "jobs", "gpus", "slurm")
"""What `--show` may be followed by; alone, it means the recipe."""
OWN_DATA = {
    "learning_rate": "--learning-rate {value:g}",
    "lam": "--lambda {value:g}",
    "pool": "--pool {value} (at most so many images; 0 takes all)",
}
"""Settings that Mini's preset has for small models and small images, and how a note names them."""

NOTHING_TO_RESUME = (
    "There is no run in '{out}' to resume: check --out. To start one there, leave out --resume, or also give its "
    "settings, such as --preset {preset}."
)


def add_finetune(verbs: Verbs) -> None:
    example = "finetune --preset quick --objective preference --out runs/try"
    tune = verb(verbs, "finetune", "fine-tune a CLIP model, with or without a teacher", example, _finetune)
    tune.usage, tune.epilog = f"%(prog)s --out DIR [options]\n{tune.epilog}", None
    tune.description = (
        f"{tune.description} The defaults below are those of the preset {USUAL_PRESET}; others: see --show."
    )
    tune.add_argument("--out", type=Path, metavar="DIR", help="folder for weights, log and checkpoints")
    presets = "; ".join(f"{name}: {words}" for name, words in PRESET_WORDS.items())
    tune.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings to start from ({presets}). Default: {USUAL_PRESET}.",
    )
    tune.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --out with its own settings, also to more --steps; if there is none, and settings are "
        "given, start it",
    )
    says = "without training, print the full recipe as JSON, or the commands that run it on another machine"
    tune.add_argument("--show", nargs="?", const="recipe", choices=SHOWN, help=f"{says}: {', '.join(SHOWN)}")
    tracked = "also log losses, gradient and evaluations with this tracker, once it is installed: "
    tune.add_argument("--track", choices=tracking.TRACKERS, help=tracked + ", ".join(tracking.TRACKERS))
    for heading, settings in headings().items():
        group = tune.add_argument_group(heading)
        for setting in settings:
            _add_setting(group, setting)


def _add_setting(group: Any, setting: Field[Any]) -> None:
    default: Any = getattr(PRESETS[USUAL_PRESET], setting.name)
    says = setting.metadata["meaning"] + (f" Default: {default}." if default != "" else "")
    shown = argparse.SUPPRESS if setting.name in STUDIED else says.replace("%", "%%")
    options: dict[str, Any] = {"dest": setting.name, "default": None, "help": shown}
    if isinstance(default, bool):
        options["action"] = argparse.BooleanOptionalAction
    else:
        options |= {"type": type(default), "metavar": _letter(default)}
    group.add_argument(cli_flag(setting.name), **options)


def _letter(default: object) -> str:
    return "NAME" if isinstance(default, str) else "X" if isinstance(default, float) else "N"


def _shown(recipe: Recipe, what: str, out: str) -> str:
    """What `--show` prints. Raises `UserError` for an unknown base."""
    if what == "jobs":
        return elsewhere.on_jobs(recipe, mini=cards.resolve(recipe.base).mini, out=out)
    if what == "gpus":
        return elsewhere.on_gpus(recipe, out=out)
    if what == "slurm":
        return elsewhere.on_slurm(recipe, out=out)
    note("For another machine: --show jobs (Hugging Face Jobs), --show gpus (torchrun), or --show slurm (a cluster).")
    return json.dumps(recipe.as_dict(), indent=1)


def _mini_settings(recipe: Recipe, preset: str, changes: Mapping[str, Any]) -> str:
    """What data of one's own are trained with because nobody chose otherwise; empty if all of it was chosen."""
    if recipe.is_mini or preset != USUAL_PRESET:
        return ""
    unchosen = [words.format(value=getattr(recipe, name)) for name, words in OWN_DATA.items() if name not in changes]
    if not unchosen:
        return ""
    return f"These settings suit Mini's small models, and may not suit yours: {and_list(unchosen)}."


def _recipe(asked: argparse.Namespace, changes: Mapping[str, Any]) -> Recipe:
    """The preset with some settings changed; for `--resume` without a preset, the recipe of the run that is there.

    Raises `UserError` for a bad value, and for `--resume` without any setting if there is no run.
    """
    if not asked.resume or asked.preset is not None or asked.out is None:
        return from_preset(asked.preset or USUAL_PRESET, changes)
    folder = FineTuningFolder(asked.out)
    if not folder.exists and not changes:
        raise UserError(NOTHING_TO_RESUME.format(out=asked.out, preset=USUAL_PRESET))
    stored = folder.read() if folder.exists else None
    if stored is None or (changes and _is_free(stored, folder)):
        return from_preset(USUAL_PRESET, changes)
    return replace(from_stored(stored["recipe"]), **changes).check()


def _is_free(stored: Mapping[str, Any], folder: FineTuningFolder) -> bool:
    """Whether a run has no step to continue from, so that settings that are given begin another."""
    from sdsdemo.finetuning.run_record import is_free

    return is_free(stored, folder)


def _finetune(asked: argparse.Namespace) -> int:
    changes = {s.name: value for s in fields(Recipe) if (value := getattr(asked, s.name)) is not None}
    recipe = _recipe(asked, changes)
    if asked.show:
        put(_shown(recipe, asked.show, elsewhere.OUT if asked.out is None else str(asked.out)))
        return 0
    if asked.out is None:
        raise UserError("Name a folder for the run with --out.")
    module = None if asked.track is None else tracking.find(asked.track)
    from sdsdemo.app.workbench import Workbench

    preset = asked.preset or ("" if asked.resume else USUAL_PRESET)
    if words := _mini_settings(recipe, preset, changes):
        note(words)
    workbench = Workbench()
    for name in (recipe.base, recipe.teacher):
        workbench.card(name)  # refuse an unknown one before loading anything heavy
    from sdsdemo.finetuning.console_report import as_text, run_in_shell

    tracker = None if module is None else tracking.Tracker(module, recipe, asked.out, note)
    says: Any = {"progress": progress, "note": note, "tracker": tracker}
    record = run_in_shell(recipe, asked.out, workbench=workbench, resume=asked.resume, **says)
    if record is None:
        return 0
    if record["state"] == "failed" and not (asked.json and distributed.find().is_main):
        note(as_text(record, asked.out))
        return 2
    show(asked, record, lambda found: as_text(found, asked.out))
    return 2 if record["state"] == "failed" else 0
