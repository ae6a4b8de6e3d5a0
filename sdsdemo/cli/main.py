"""The workbench without a browser: `python -m sdsdemo COMMAND`. Results go to stdout, progress and errors to stderr.

Each verb is a parser and a short handler, which imports the module that does the work only when it runs: so `--help` is
fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdsdemo.cli.encodings import make_printable
from sdsdemo.cli.export import add_export
from sdsdemo.cli.finetuning import add_finetune
from sdsdemo.cli.machine import add_machine
from sdsdemo.cli.mini import add_mini
from sdsdemo.cli.output import Verbs, columns, end_progress, note, progress, show, silent, verb
from sdsdemo.cli.space import add_space
from sdsdemo.cli.usage_errors import Parser
from sdsdemo.errors import UserError, no_package_words
from sdsdemo.runtime import homes
from sdsdemo.runtime.disk_errors import disk_words
from sdsdemo.settings import (
    ADAPTIVE,
    ANTITHETIC,
    NOISES,
    REGION_WORDS,
    REGIONS,
    SEED,
    TIMESTEP_RANGE,
    TIMESTEPS,
)

STOPPED = 130
"""The exit status of a program stopped with Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 the user must change something, 1 our bug (with a traceback), 130 stopped by Ctrl-C."""
    make_printable()
    with suppress(OSError):  # what needs no folder runs without one
        homes.settle()
    try:
        asked = _parser().parse_args(arguments)
        status: int = asked.run(asked)
        return status
    except UserError as error:
        note(str(error))
        return 2
    except ModuleNotFoundError as error:
        if not (words := no_package_words(error)):
            raise
        note(words)
        return 2
    except OSError as error:
        if not (words := disk_words(error)):
            raise
        note(words)
        return 2
    except KeyboardInterrupt:
        note("Stopped.")
        return STOPPED
    finally:
        end_progress()  # above a traceback too


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sdsdemo",
        description="Which caption belongs to the picture? CLIP, the diffusion score and SDS-CLIP, side by side.",
        epilog="Help on a command: python -m sdsdemo score --help. Help on the page: python app.py --help.",
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_score(verbs)
    _add_evaluate(verbs)
    _add_report(verbs)
    add_finetune(verbs)
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
        help="add the blind baseline of one-image sets for every model, not only CLIPs (32 times as long)",
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


def _add_models_and_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="a card or a spec; for several, repeat --model"
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
    return _status_of(answer["models"])


def _status_of(entries: Sequence[Mapping[str, Any]]) -> int:
    """Of models' answers: a bug of ours is one, whoever else answered. Where none answered, stderr says why."""
    is_answered = any("scores" in entry for entry in entries)
    for problem in () if is_answered else dict.fromkeys(entry["problem"] for entry in entries):
        note(problem)
    if any(entry.get("fault") for entry in entries):
        return 1
    return 0 if is_answered else 2


def _evaluate(asked: argparse.Namespace) -> int:
    from sdsdemo.app import calls
    from sdsdemo.app.kept import kept_workbench
    from sdsdemo.evaluation.tables import as_table, expected_lines
    from sdsdemo.runtime import distributed

    processes = distributed.find()
    spend = calls.spend_of(
        asked.timesteps,
        asked.noises,
        asked.seed,
        timestep_range=asked.timestep_range,
        region=asked.region,
        empty_prompt=asked.empty_prompt,
        antithetic=asked.antithetic,
        adaptive=asked.adaptive,
    )
    result = calls.evaluate(
        asked.benchmark,
        asked.model,
        spend,
        limit=asked.limit,
        out=asked.out,
        blind=asked.blind,
        progress=progress if processes.is_main else silent,
        remark=note if processes.is_main else silent,
    )
    if not processes.is_main:
        return 0
    for line in expected_lines(result, kept_workbench().card):
        note(line)
    return show(asked, result, as_table)


def _report(asked: argparse.Namespace) -> int:
    from sdsdemo.evaluation.report import report
    from sdsdemo.evaluation.tables import as_table

    results = report(asked.runs, asked.out, note, progress)
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
