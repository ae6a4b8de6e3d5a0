"""The workbench without a browser: `python -m sdsdemo VERB`. Results go to stdout; progress and trouble to stderr.

Each verb is a parser and a handler of a few lines; what it does lives in the module that it imports when it runs, so
that `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from sdsdemo.arguments import Parser
from sdsdemo.errors import UserError
from sdsdemo.recipes import PRESET_WORDS, Recipe, called, headings, made
from sdsdemo.settings import ASSETS, CHECKPOINTS, NOISES, SEED, TIMESTEPS, Settings, budget

Handler = Callable[[argparse.Namespace], int]
STOPPED = 130
"""What a shell reports for a program stopped with Ctrl-C."""
DEFAULT_WORK = Path("runs/mini")
STUDY_LINES = ASSETS / "mini" / "results" / "experiment"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 the user must change something, 1 our bug (by its traceback), 130 stopped with Ctrl-C."""
    try:
        asked = _parser().parse_args(arguments)
        status: int = asked.run(asked)
        return status
    except UserError as error:
        _note(str(error))
        return 2
    except KeyboardInterrupt:
        _note("Stopped.")
        return STOPPED
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sdsdemo",
        description="Which caption belongs to the picture? CLIP, the diffusion score and SDS-CLIP, side by side.",
        epilog="Each verb explains itself: python -m sdsdemo score --help. The page: python app.py --help.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_score(verbs)
    _add_evaluate(verbs)
    _add_report(verbs)
    _add_finetune(verbs)
    _add_mini(verbs)
    _verb(verbs, "models", "every model, and whether it can run here", "models --json", _models)
    _verb(verbs, "benchmarks", "every benchmark, and whether it is here", "benchmarks", _benchmarks)
    fetch = _verb(verbs, "fetch", "download a model or a benchmark", "fetch clip-vit-b-32", _fetch)
    fetch.add_argument("what", metavar="NAME", help="a card or a spec; winoground, winoground-labels")
    bench = _verb(verbs, "bench", "speed and memory on this machine", "bench --json", _bench)
    bench.add_argument("--repeats", type=int, default=5, metavar="N", help="how often each path is timed (default 5)")
    _verb(verbs, "doctor", "what is here, what is missing, what to do", "doctor", _doctor)
    return parser


def _verb(verbs: Any, name: str, says: str, example: str, run: Handler) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=says, description=f"{says[0].upper()}{says[1:]}.", epilog=f"example: python -m sdsdemo {example}"
    )
    parser.add_argument("--json", action="store_true", help="for machines, on stdout")
    parser.set_defaults(run=run)
    return parser


def _add_score(verbs: Any) -> None:
    example = 'score cat.png "a cat on a mat" "a mat on a cat" --model mini-clip --model mini-diffusion'
    score = _verb(verbs, "score", "what each model says about a picture", example, _score)
    score.add_argument("image", help="a picture: PNG, JPEG or WebP")
    score.add_argument("captions", nargs="+", metavar="CAPTION", help="two or more captions to choose from")
    _add_models_and_budget(score)


def _add_evaluate(verbs: Any) -> None:
    evaluate = _verb(verbs, "evaluate", "score a whole benchmark", "evaluate mini --model mini-clip", _evaluate)
    evaluate.add_argument(
        "benchmark",
        help="a name that `benchmarks` lists, such as mini, winoground or folder:PATH",
    )
    evaluate.add_argument("--limit", type=int, metavar="N", help="score only N examples, an even share of each tag")
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="keep every score there; a run that was stopped goes on from it"
    )
    evaluate.add_argument(
        "--blind",
        action="store_true",
        help="the blind row of one-image sets for denoising models too (32 times as long)",
    )
    evaluate.add_argument(
        "--empty-prompt",
        action="store_true",
        help="keep the empty prompt's losses too, which image scores can be corrected by (half as much again to do)",
    )
    _add_models_and_budget(evaluate)


def _add_report(verbs: Any) -> None:
    report = _verb(verbs, "report", "tables and plots of stored runs", "report runs/mini --out report", _report)
    report.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders that `evaluate --out` wrote")
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.json, results.csv and figures (PNG, SVG) there"
    )


def _add_finetune(verbs: Any) -> None:
    example = "finetune --preset quick --objective preference --out runs/try"
    tune = _verb(verbs, "finetune", "fine-tune a CLIP, with or without a teacher", example, _finetune)
    tune.usage, tune.epilog = f"%(prog)s --out DIR [options]\n{tune.epilog}", None
    tune.description = f"{tune.description} A preset may set other values than the defaults below: see --show."
    tune.add_argument("--out", type=Path, metavar="DIR", help="where weights, log and checkpoint go")
    presets = "; ".join(f"{name}: {words}" for name, words in PRESET_WORDS.items())
    tune.add_argument("--preset", default="mini", metavar="NAME", help=f"settings to start from ({presets})")
    tune.add_argument("--resume", action="store_true", help="go on with the run in --out, which was stopped")
    tune.add_argument("--show", action="store_true", help="print the whole recipe, as JSON, and train nothing")
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
    group.add_argument(called(setting.name), **options)


def _letter(default: object) -> str:
    return "NAME" if isinstance(default, str) else "X" if isinstance(default, float) else "N"


def _add_mini(verbs: Any) -> None:
    mini = verbs.add_parser("mini", help="make the Mini world and its models from nothing")
    deeds = mini.add_subparsers(required=True, metavar="DEED")
    draw = _verb(deeds, "draw", "draw a benchmark, a validation set and examples", "mini draw --seed 7", _mini_draw)
    draw.add_argument("--seed", type=int, help="another seed draws other pictures (default: that of what is shipped)")
    draw.add_argument("--out", type=Path, metavar="DIR", help="default: runs/mini/seed-N, or assets/mini with no seed")
    draw.add_argument("--sheets", action="store_true", help="contact sheets to check by eye, and nothing else")
    train = _verb(
        deeds, "train", "train the Mini models; all together, an hour and a half", "mini train all", _mini_train
    )
    train.add_argument("parts", nargs="+", metavar="PART", help="all, or names of Mini models")
    train.add_argument("--out", type=Path, default=CHECKPOINTS, metavar="DIR", help="default: checkpoints/")
    train.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, metavar="DIR",
        help=f"unfinished runs, continued when asked again (default: {DEFAULT_WORK})",
    )  # fmt: skip
    variants = _verb(
        deeds, "variants", "train and measure CLIPs of other tag shares and teachers of other making", "mini variants",
        _mini_variants,
    )  # fmt: skip
    variants.add_argument("--work", type=Path, default=DEFAULT_WORK, metavar="DIR", help="unfinished runs, continued")
    _verb(deeds, "costs", "time a step of every declared objective on this machine", "mini costs", _mini_costs)
    study = _verb(
        deeds, "study", "make the runs of a study of the experiment that are not made yet", "mini study control",
        _mini_study,
    )  # fmt: skip
    study.add_argument("names", nargs="+", metavar="STUDY", help="control, screen, confirm; or all")
    study.add_argument("--part", default="0/1", metavar="K/N", help="make the K-th of N shares of the runs (from 0)")
    study.add_argument("--out", type=Path, default=STUDY_LINES, metavar="DIR", help="a line a run goes there")
    study.add_argument("--work", type=Path, default=DEFAULT_WORK / "studies", metavar="DIR", help="unfinished runs")
    study.add_argument("--checkpoints", type=Path, metavar="DIR", help="Mini models of another folder")
    check = _verb(
        deeds, "verify", "check that the shipped Mini figures are what the shipped weights give", "mini verify",
        _mini_verify,
    )  # fmt: skip
    check.add_argument(
        "--from-scratch", action="store_true", help="train and run everything again, some hours; resumable"
    )
    check.add_argument("--work", type=Path, default=DEFAULT_WORK / "verify", metavar="DIR", help="what is being made")
    _verb(deeds, "document", "write the experiment's tables into docs/mini.md", "mini document", _mini_document)
    _verb(deeds, "opening", "compute the answer that the page opens on", "mini opening", _mini_opening)


def _add_models_and_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="a card or a spec; may be repeated"
    )
    for name, knob in (("timesteps", TIMESTEPS), ("noises", NOISES), ("seed", SEED)):
        says = f"{knob.meaning} From {knob.low} to {knob.high}, default {knob.default}."
        parser.add_argument(f"--{name}", type=int, default=knob.default, metavar="N", help=says)


def _score(asked: argparse.Namespace) -> int:
    from sdsdemo.shell import as_text, ask

    answer = ask(
        asked.image, asked.captions, asked.model, timesteps=asked.timesteps, noises=asked.noises, seed=asked.seed
    )
    _show(asked, answer, as_text)
    return 0 if any("scores" in entry for entry in answer["models"]) else 2


def _evaluate(asked: argparse.Namespace) -> int:
    from sdsdemo import processes
    from sdsdemo.evaluation import evaluate
    from sdsdemo.reports import as_table, expected_lines
    from sdsdemo.workbench import Workbench

    team, workbench = processes.find(), Workbench()
    models = asked.model or list(workbench.settings.models)
    workbench.check(models)
    result = evaluate(
        asked.benchmark,
        models,
        workbench=workbench,
        budget=budget(asked.timesteps, asked.noises, asked.seed, empty_prompt=asked.empty_prompt),
        limit=asked.limit,
        out=asked.out,
        blind=asked.blind,
        progress=_progress if team.is_main else _silent,
        remark=_note if team.is_main else _silent,
    )
    if not team.is_main:
        return 0
    for line in expected_lines(result, workbench.card):
        _note(line)
    return _show(asked, result, as_table)


def _finetune(asked: argparse.Namespace) -> int:
    changes = {s.name: value for s in fields(Recipe) if (value := getattr(asked, s.name)) is not None}
    recipe = made(asked.preset, changes)
    if asked.show:
        print(json.dumps(recipe.as_dict(), indent=1))
        return 0
    if asked.out is None:
        raise UserError("Name a folder for the run with --out.")
    from sdsdemo.workbench import Workbench

    workbench = Workbench()
    for name in (recipe.base, recipe.teacher):
        workbench.card(name)  # an unknown one is refused before anything heavy is loaded
    from sdsdemo.finetuning.telling import as_text, run_in_shell

    record = run_in_shell(recipe, asked.out, workbench=workbench, resume=asked.resume, progress=_progress, note=_note)
    if record is None:
        return 0
    _show(asked, record, lambda found: as_text(found, asked.out))
    return 2 if record["state"] == "failed" else 0


def _report(asked: argparse.Namespace) -> int:
    from sdsdemo.reporting import report
    from sdsdemo.reports import as_table

    results = report(asked.runs, asked.out, _note)
    return _show(asked, results, lambda found: "\n\n\n".join(as_table(result) for result in found))


def _models(asked: argparse.Namespace) -> int:
    from sdsdemo.shell import list_models, models_as_text
    from sdsdemo.workbench import Workbench

    return _show(asked, list_models(Workbench()), lambda rows: models_as_text(rows, _columns()))


def _fetch(asked: argparse.Namespace) -> int:
    from sdsdemo.shell import fetch_benchmark, fetch_model
    from sdsdemo.workbench import Workbench

    fetched = fetch_benchmark(asked.what, _note) or fetch_model(Workbench(), asked.what, _note)
    return _show(asked, fetched, lambda done: done["message"])


def _benchmarks(asked: argparse.Namespace) -> int:
    from sdsdemo.data.benchmarks import list_benchmarks
    from sdsdemo.shell import benchmarks_as_text

    return _show(asked, list_benchmarks(), lambda rows: benchmarks_as_text(rows, _columns()))


def _bench(asked: argparse.Namespace) -> int:
    from sdsdemo.bench import as_text, bench

    return _show(asked, bench(repeats=asked.repeats, progress=_progress), as_text)


def _doctor(asked: argparse.Namespace) -> int:
    from sdsdemo.doctor import as_text, examine
    from sdsdemo.workbench import Workbench

    return _show(asked, examine(Workbench()), lambda found: as_text(found, _columns()))


def _mini_draw(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.drawing import SEED as SHIPPED
    from sdsdemo.mini.drawing import draw, draw_sheets

    seed = SHIPPED if asked.seed is None else SEED.check(asked.seed, "Seed")
    out = asked.out or (ASSETS / "mini" if asked.seed is None else DEFAULT_WORK / f"seed-{seed}")
    written = [str(path) for path in (draw_sheets(seed, out) if asked.sheets else draw(seed, out, _progress))]
    return _show(asked, {"seed": seed, "written": written}, lambda done: "\n".join(done["written"]))


def _mini_train(asked: argparse.Namespace) -> int:
    from sdsdemo.mini import PARTS, train

    parts = list(PARTS) if asked.parts == ["all"] else asked.parts
    train(parts, asked.out, asked.work, _progress)
    return _show(asked, {"parts": parts, "out": str(asked.out)}, lambda done: f"written to {done['out']}")


def _mini_variants(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.variants import make_variants
    from sdsdemo.workbench import Workbench

    make_variants(CHECKPOINTS, STUDY_LINES, asked.work, Workbench(), _progress)
    return _show(asked, {"out": str(STUDY_LINES)}, lambda done: f"lines are in {done['out']}")


def _mini_costs(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.costs import measured, write
    from sdsdemo.mini.experiment import read_rows
    from sdsdemo.mini.verify import COSTS
    from sdsdemo.study_tables import costs_words
    from sdsdemo.workbench import Workbench

    found = measured(read_rows(STUDY_LINES / "confirm.jsonl"), Workbench(), _note)
    write(COSTS, found)
    return _show(asked, found, costs_words)


def _mini_study(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.elsewhere import Elsewhere
    from sdsdemo.mini.studies import STUDIES
    from sdsdemo.mini.verify import make_studies
    from sdsdemo.workbench import Workbench

    names = [*STUDIES] if asked.names == ["all"] else asked.names
    workbench: Any = Workbench() if asked.checkpoints is None else Elsewhere(Workbench(), asked.checkpoints)
    make_studies(names, asked.out, asked.work, workbench, _progress, _part(asked.part))
    return _show(asked, {"studies": names, "out": str(asked.out)}, lambda done: f"lines are in {done['out']}")


def _part(text: str) -> tuple[int, int]:
    """`K/N` with 0 <= K < N. Raises `UserError`."""
    part, _, of = text.partition("/")
    if not (part.isdecimal() and of.isdecimal() and int(part) < int(of)):
        raise UserError(f"--part takes a share such as 0/2, the first of two; it was '{text}'.")
    return int(part), int(of)


def _mini_verify(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.verify import as_text, from_scratch, verify
    from sdsdemo.workbench import Workbench

    found = (from_scratch if asked.from_scratch else verify)(asked.work, Workbench(), _progress)
    _show(asked, found, as_text)
    return 0 if found["same"] else 2


def _mini_document(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.document import write

    return _show(asked, {"written": str(write())}, lambda done: f"written to {done['written']}")


def _mini_opening(asked: argparse.Namespace) -> int:
    from sdsdemo.ui.record import OPENING_FILE, as_json, opening_answer
    from sdsdemo.workbench import Workbench

    path = ASSETS / OPENING_FILE
    record = opening_answer(Workbench(Settings.from_environment({})))
    path.write_text(as_json(record) + "\n")
    return _show(asked, record, lambda _: f"written to {OPENING_FILE}")


def _show(asked: argparse.Namespace, result: Any, as_text: Callable[[Any], str]) -> int:
    print(json.dumps(result) if asked.json else as_text(result), flush=True)
    return 0


def _columns() -> int:
    """Of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def _silent(line: str) -> None:
    """What the processes beside the main one say."""


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _progress(line: str) -> None:
    """One line that is written over itself on a terminal, and a line each elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
    else:
        _note(line)
