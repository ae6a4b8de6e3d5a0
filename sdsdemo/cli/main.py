"""The workbench without a browser: `python -m sdsdemo VERB`. Results go to stdout, progress and errors to stderr.

Each verb is a parser and a short handler, which imports the module that does the work only when it runs: so `--help` is
fast.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from sdsdemo.cli.encodings import make_printable
from sdsdemo.cli.export import add_export
from sdsdemo.cli.machine import add_machine
from sdsdemo.cli.mini import add_mini
from sdsdemo.cli.output import Verbs, columns, note, progress, show, silent, verb
from sdsdemo.cli.space import add_space
from sdsdemo.cli.usage_errors import Parser
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import PRESET_WORDS, USUAL_PRESET, Recipe, cli_flag, from_preset, headings
from sdsdemo.settings import (
    ADAPTIVE,
    ANTITHETIC,
    NOISES,
    REGION_WORDS,
    REGIONS,
    SEED,
    TIMESTEP_RANGE,
    TIMESTEPS,
    budget,
    usual_noises,
)

STOPPED = 130
"""The exit status of a program stopped with Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 the user must change something, 1 our bug (with a traceback), 130 stopped by Ctrl-C."""
    make_printable()
    try:
        asked = _parser().parse_args(arguments)
        status: int = asked.run(asked)
        return status
    except UserError as error:
        note(str(error))
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        note(f"No file or folder can have a name as long as '{str(error.filename)[:40]}…': check the name.")
        return 2
    except KeyboardInterrupt:
        note("Stopped.")
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sdsdemo",
        description="Which caption belongs to the picture? CLIP, the diffusion score and SDS-CLIP, side by side.",
        epilog="Help on a verb: python -m sdsdemo score --help. Help on the page: python app.py --help.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_score(verbs)
    _add_evaluate(verbs)
    _add_report(verbs)
    _add_finetune(verbs)
    add_mini(verbs)
    verb(verbs, "models", "list every model and whether it can run here", "models --json", _models)
    verb(verbs, "benchmarks", "list every benchmark and whether its data is here", "benchmarks", _benchmarks)
    fetch = verb(verbs, "fetch", "download a model or a benchmark", "fetch clip-vit-b-32", _fetch)
    fetch.add_argument("what", metavar="NAME", help="a card or a spec; winoground, winoground-labels")
    add_export(verbs)
    add_space(verbs)
    add_machine(verbs)
    return parser


def _add_score(verbs: Verbs) -> None:
    example = 'score cat.png "a cat on a mat" "a mat on a cat" --model mini-clip --model mini-diffusion'
    score = verb(verbs, "score", "ask each model which caption fits a picture", example, _score)
    score.add_argument("image", help="a picture: PNG, JPEG or WebP")
    score.add_argument("captions", nargs="+", metavar="CAPTION", help="two or more captions to choose from")
    _add_models_and_budget(score)


def _add_evaluate(verbs: Verbs) -> None:
    evaluate = verb(verbs, "evaluate", "score a whole benchmark", "evaluate mini --model mini-clip", _evaluate)
    evaluate.add_argument(
        "benchmark",
        help="a name listed by `benchmarks`, such as mini, winoground or folder:PATH",
    )
    evaluate.add_argument("--limit", type=int, metavar="N", help="score only N examples, spread evenly over the tags")
    evaluate.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="store every score there: an interrupted run resumes, concurrent runs add up, and examples that have "
        "changed since are scored again",
    )
    evaluate.add_argument(
        "--blind",
        action="store_true",
        help="add the blind baseline of one-image sets for every model, not CLIPs alone (32 times as long)",
    )
    evaluate.add_argument(
        "--empty-prompt",
        action="store_true",
        help="also store the losses of the empty prompt, which can correct image scores (half as much work again)",
    )
    _add_models_and_budget(evaluate)


def _add_report(verbs: Verbs) -> None:
    report = verb(verbs, "report", "tabulate and plot stored runs", "report runs/mini --out report", _report)
    report.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders written by `evaluate --out`")
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.json, results.csv and figures (PNG, SVG) there"
    )


def _add_finetune(verbs: Verbs) -> None:
    example = "finetune --preset quick --objective preference --out runs/try"
    tune = verb(verbs, "finetune", "fine-tune a CLIP model, with or without a teacher", example, _finetune)
    tune.usage, tune.epilog = f"%(prog)s --out DIR [options]\n{tune.epilog}", None
    tune.description = f"{tune.description} A preset may override the defaults below: see --show."
    tune.add_argument("--out", type=Path, metavar="DIR", help="folder for weights, log and checkpoints")
    presets = "; ".join(f"{name}: {words}" for name, words in PRESET_WORDS.items())
    tune.add_argument("--preset", default=USUAL_PRESET, metavar="NAME", help=f"settings to start from ({presets})")
    tune.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --out, also to more --steps; if there is none, start it",
    )
    tune.add_argument("--show", action="store_true", help="print the full recipe as JSON without training")
    for heading, settings in headings().items():
        group = tune.add_argument_group(heading)
        for setting in settings:
            _add_setting(group, setting)


def _add_setting(group: Any, setting: Field[Any]) -> None:
    default: Any = setting.default
    says = setting.metadata["meaning"] + (f" Default: {default}." if default != "" else "")
    options: dict[str, Any] = {"dest": setting.name, "default": None, "help": says.replace("%", "%%")}
    if isinstance(default, bool):
        options["action"] = argparse.BooleanOptionalAction
    else:
        options |= {"type": type(default), "metavar": _letter(default)}
    group.add_argument(cli_flag(setting.name), **options)


def _letter(default: object) -> str:
    return "NAME" if isinstance(default, str) else "X" if isinstance(default, float) else "N"


def _add_models_and_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="a card or a spec; may be repeated"
    )
    for name, knob in (("timesteps", TIMESTEPS), ("noises", NOISES), ("seed", SEED)):
        says = f"{knob.meaning} From {knob.low} to {knob.high}, default {knob.default}."
        default = None if name == "noises" else knob.default
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=says)
    parser.add_argument("--region", choices=list(REGIONS), default="crop", help=REGION_WORDS)
    parser.add_argument("--timestep-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help=TIMESTEP_RANGE)
    parser.add_argument("--antithetic", action=argparse.BooleanOptionalAction, help=ANTITHETIC)
    parser.add_argument("--adaptive", action="store_true", help=ADAPTIVE)


def _score(asked: argparse.Namespace) -> int:
    from sdsdemo.cli.commands import as_text, ask

    answer = ask(
        asked.image,
        asked.captions,
        asked.model,
        timesteps=asked.timesteps,
        noises=asked.noises,
        seed=asked.seed,
        timestep_range=asked.timestep_range,
        region=asked.region,
        antithetic=asked.antithetic,
        adaptive=asked.adaptive,
    )
    show(asked, answer, as_text)
    return 0 if any("scores" in entry for entry in answer["models"]) else 2


def _evaluate(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.evaluation.run import evaluate
    from sdsdemo.evaluation.tables import as_table, expected_lines
    from sdsdemo.runtime import distributed

    processes, workbench = distributed.find(), Workbench()
    models = asked.model or list(workbench.settings.models)
    workbench.check(models)
    result = evaluate(
        asked.benchmark,
        models,
        workbench=workbench,
        budget=budget(
            asked.timesteps,
            usual_noises(asked.adaptive) if asked.noises is None else asked.noises,
            asked.seed,
            timestep_range=asked.timestep_range,
            region=asked.region,
            empty_prompt=asked.empty_prompt,
            antithetic=asked.antithetic,
            adaptive=asked.adaptive,
        ),
        limit=asked.limit,
        out=asked.out,
        blind=asked.blind,
        progress=progress if processes.is_main else silent,
        remark=note if processes.is_main else silent,
    )
    if not processes.is_main:
        return 0
    for line in expected_lines(result, workbench.card):
        note(line)
    return show(asked, result, as_table)


def _finetune(asked: argparse.Namespace) -> int:
    changes = {s.name: value for s in fields(Recipe) if (value := getattr(asked, s.name)) is not None}
    recipe = from_preset(asked.preset, changes)
    if asked.show:
        print(json.dumps(recipe.as_dict(), indent=1))
        return 0
    if asked.out is None:
        raise UserError("Name a folder for the run with --out.")
    from sdsdemo.app.workbench import Workbench

    workbench = Workbench()
    for name in (recipe.base, recipe.teacher):
        workbench.card(name)  # refuse an unknown one before loading anything heavy
    from sdsdemo.finetuning.console_report import as_text, run_in_shell

    record = run_in_shell(recipe, asked.out, workbench=workbench, resume=asked.resume, progress=progress, note=note)
    if record is None:
        return 0
    if record["state"] == "failed" and not asked.json:
        note(as_text(record, asked.out))
        return 2
    show(asked, record, lambda found: as_text(found, asked.out))
    return 2 if record["state"] == "failed" else 0


def _report(asked: argparse.Namespace) -> int:
    from sdsdemo.evaluation.report import report
    from sdsdemo.evaluation.tables import as_table

    results = report(asked.runs, asked.out, note)
    return show(asked, results, lambda found: "\n\n\n".join(as_table(result) for result in found))


def _models(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.cli.commands import list_models, models_as_text

    return show(asked, list_models(Workbench()), lambda rows: models_as_text(rows, columns()))


def _fetch(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.cli.commands import fetch_benchmark, fetch_model

    fetched = fetch_benchmark(asked.what, note) or fetch_model(Workbench(), asked.what, note)
    return show(asked, fetched, lambda done: done["message"])


def _benchmarks(asked: argparse.Namespace) -> int:
    from sdsdemo.cli.commands import benchmarks_as_text
    from sdsdemo.data.benchmarks import list_benchmarks

    return show(asked, list_benchmarks(), lambda rows: benchmarks_as_text(rows, columns()))
