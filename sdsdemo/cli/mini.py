"""The subcommands of `python -m sdsdemo mini`, which rebuild the Mini world and its models from scratch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdsdemo.cli.output import Verbs, note, progress, show, verb
from sdsdemo.errors import UserError
from sdsdemo.settings import ASSETS, CHECKPOINTS, SEED, TRAIN_MINUTES, VARIANTS_MINUTES, Settings

DEFAULT_WORK = Path("runs/mini")
STUDY_LINES = ASSETS / "mini" / "results" / "experiment"


def add_mini(verbs: Verbs) -> None:
    """Adds `mini` and its subcommands."""
    mini = verbs.add_parser("mini", help="rebuild the Mini world and its models from scratch")
    deeds = mini.add_subparsers(required=True, metavar="COMMAND")
    draw = verb(deeds, "draw", "draw a benchmark, a validation set and examples", "mini draw --seed 7", _mini_draw)
    draw.add_argument("--seed", type=int, help="seed of the pictures (default: that of the shipped ones)")
    draw.add_argument("--out", type=Path, metavar="DIR", help="default: runs/mini/seed-N, or assets/mini with no seed")
    draw.add_argument("--sheets", action="store_true", help="draw only contact sheets, to check by eye")
    train = verb(
        deeds, "train",
        f"train the Mini models; all together take about {TRAIN_MINUTES} minutes on two cores, and some more with "
        "mini-clip-lesson",
        "mini train all", _mini_train,
    )  # fmt: skip
    train.add_argument("parts", nargs="+", metavar="PART", help="the names of Mini models; all: those shipped")
    train.add_argument("--out", type=Path, default=CHECKPOINTS, metavar="DIR", help="default: checkpoints/")
    train.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, metavar="DIR",
        help=f"unfinished runs, continued on the next call (default: {DEFAULT_WORK})",
    )  # fmt: skip
    variants = verb(
        deeds, "variants",
        "train and evaluate CLIPs with other tag shares and ablated teachers, about "
        f"{VARIANTS_MINUTES} minutes on two cores, and longer since one of these learns from captioned pictures",
        "mini variants", _mini_variants,
    )  # fmt: skip
    variants.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, metavar="DIR", help="unfinished runs, continued on the next call"
    )
    _add_lesson(deeds)
    verb(deeds, "costs", "time a step of every objective, and everything from scratch", "mini costs", _mini_costs)
    _add_study(deeds)
    _add_race(deeds)
    maps = verb(
        deeds, "maps", "test whether the map of where a caption fits better points at the right things", "mini maps",
        _mini_maps,
    )  # fmt: skip
    maps.add_argument("--part", default="0/1", metavar="K/N", help="score the K-th of N shares of the scenes, K from 0")
    maps.add_argument("--out", type=Path, default=STUDY_LINES, metavar="DIR", help="where to write one line per scene")
    _add_noise(deeds)
    check = verb(
        deeds, "verify", "check that the shipped weights reproduce the shipped Mini figures", "mini verify",
        _mini_verify,
    )  # fmt: skip
    check.add_argument(
        "--from-scratch", action="store_true", help="train and run everything again; takes hours, resumable"
    )
    check.add_argument("--work", type=Path, default=DEFAULT_WORK / "verify", metavar="DIR", help="unfinished work")
    verb(deeds, "document", "write the experiment's results into the documents", "mini document", _mini_document)
    verb(deeds, "opening", "compute the answer that the page opens with", "mini opening", _mini_opening)


def _add_lesson(deeds: Verbs) -> None:
    lesson = verb(
        deeds, "lesson",
        "train and evaluate CLIPs and denoisers with and without the text encoder's pretraining; an hour, resumable",
        "mini lesson", _mini_lesson,
    )  # fmt: skip
    lesson.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, metavar="DIR", help="unfinished runs, continued on the next call"
    )


def _add_noise(deeds: Verbs) -> None:
    noise = verb(
        deeds, "noise", "measure what ways to spend noise and timesteps are worth; hours, resumable", "mini noise",
        _mini_noise,
    )  # fmt: skip
    noise.add_argument(
        "--work", type=Path, default=DEFAULT_WORK / "noise", metavar="DIR", help="unfinished work, continued next time"
    )


def _add_race(deeds: Verbs) -> None:
    race = verb(
        deeds,
        "race",
        "run each objective once, evaluated often: the curves of the Fine-tune tab",
        "mini race",
        _mini_race,
    )
    race.add_argument(
        "--work", type=Path, default=DEFAULT_WORK / "race", metavar="DIR", help="unfinished runs, continued next time"
    )


def _add_study(deeds: Verbs) -> None:
    study = verb(
        deeds, "study", "make the missing runs of a study of the experiment", "mini study control",
        _mini_study,
    )  # fmt: skip
    study.add_argument(
        "names",
        nargs="+",
        metavar="STUDY",
        help="a study of the experiment, such as confirm or preference-controls; or all",
    )
    study.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N",
        help="share the runs among N processes of one core each (default: as many as this machine has cores)",
    )  # fmt: skip
    study.add_argument(
        "--part", metavar="K/N", help="make only the K-th of N shares of the runs in this process, K from 0"
    )
    study.add_argument(
        "--out", type=Path, default=STUDY_LINES, metavar="DIR",
        help="where to write one line per run; a new folder makes every run again (default: the shipped lines)",
    )  # fmt: skip
    study.add_argument(
        "--commands", action="store_true", help="instead: print the `finetune` command of each cell, with seed 0"
    )
    study.add_argument("--work", type=Path, default=DEFAULT_WORK / "studies", metavar="DIR", help="unfinished runs")
    study.add_argument("--checkpoints", type=Path, metavar="DIR", help="use the Mini models of another folder")


def _mini_draw(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.experiments.draw_assets import SEED as SHIPPED
    from sdsdemo.mini.experiments.draw_assets import draw, draw_sheets

    seed = SHIPPED if asked.seed is None else SEED.check(asked.seed, "Seed")
    out = asked.out or (ASSETS / "mini" if asked.seed is None else DEFAULT_WORK / f"seed-{seed}")
    written = [str(path) for path in (draw_sheets(seed, out) if asked.sheets else draw(seed, out, progress))]
    return show(asked, {"seed": seed, "written": written}, lambda done: "\n".join(done["written"]))


def _mini_train(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.experiments.train_all import PARTS, train

    parts = _named(asked.parts, PARTS)
    train(parts, asked.out, asked.work, progress)
    return show(asked, {"parts": parts, "out": str(asked.out)}, lambda done: f"written to {done['out']}")


def _named(asked: Sequence[str], everything: Iterable[str]) -> list[str]:
    """What is asked for, each once; `all` stands for everything, also beside other names."""
    return list(dict.fromkeys(one for name in asked for one in (everything if name == "all" else (name,))))


def _mini_variants(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.mini.experiments.ablations import make_variants

    make_variants(CHECKPOINTS, STUDY_LINES, asked.work, Workbench(), progress)
    return show(asked, {"out": str(STUDY_LINES)}, lambda done: f"one line per run in {done['out']}")


def _mini_lesson(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.mini.experiments.lesson import make_lesson

    make_lesson(CHECKPOINTS, STUDY_LINES, asked.work, Workbench(), progress)
    return show(asked, {"out": str(STUDY_LINES)}, lambda done: f"one line per model in {done['out']}")


def _mini_costs(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.mini.experiments.costs import measured, write
    from sdsdemo.mini.experiments.study_store import read_rows
    from sdsdemo.mini.experiments.total_timing import hours
    from sdsdemo.mini.experiments.verdict import costs_words, whole_words
    from sdsdemo.mini.experiments.verify import COSTS, PROCESSES

    found = measured(read_rows(STUDY_LINES / "confirm.jsonl"), Workbench(), note)
    found["whole"] = hours(found, PROCESSES, note)
    write(COSTS, found)
    return show(asked, found, lambda costs: f"{costs_words(costs)}\n{whole_words(costs)}")


def _mini_study(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.mini.experiments.declared import STUDIES, STUDY_ALIASES, study_commands
    from sdsdemo.mini.experiments.sharing import FOLDER
    from sdsdemo.mini.experiments.verify import make_studies, share
    from sdsdemo.mini.models.from_folder import RelocatedWorkbench, WithFurtherBases

    names = _named([STUDY_ALIASES.get(name, name) for name in asked.names], STUDIES)
    if asked.commands:
        found = {name: study_commands(name) for name in names}
        return show(asked, found, lambda told: "\n".join(_command_lines(told)))
    plain, where = Workbench(), {"--out": asked.out, "--work": asked.work}
    bases: Path = asked.checkpoints or plain.settings.cache / FOLDER
    workbench: Any = WithFurtherBases(plain, bases)
    if asked.checkpoints is not None:
        where["--checkpoints"] = asked.checkpoints
        workbench = RelocatedWorkbench(plain, asked.checkpoints)
    if asked.part is None:
        share(names, where, bases, workbench, asked.processes, note)
    else:
        make_studies(names, asked.out, asked.work, workbench, progress, _part(asked.part))
    return show(asked, {"studies": names, "out": str(asked.out)}, lambda done: f"one line per run in {done['out']}")


def _command_lines(found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Studies, cells and their commands, as a shell can read them."""
    for name, commands in found.items():
        for cell, command in commands.items():
            yield f"# {name}: {cell}\n{command}"


def _mini_race(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.finetuning.objective_race import RACE_FILE
    from sdsdemo.mini.experiments.race import run_race, write_race

    race = run_race(asked.work, Workbench(), progress)
    write_race(race)
    return show(asked, {"out": str(RACE_FILE), "runs": [*race["runs"]]}, lambda done: f"written to {done['out']}")


def _mini_maps(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.mini.experiments.map_words import as_text
    from sdsdemo.mini.experiments.maps import findings, read_lines, run_maps, write_findings

    lines = asked.out / "maps.jsonl"
    run_maps(lines, progress, Workbench(), _part(asked.part))
    write_findings(lines)
    return show(asked, findings(read_lines(lines)), as_text)


def _mini_noise(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.experiments.noise import noise_markdown, run_noise, write_noise

    found = run_noise(asked.work, progress)
    write_noise(found)
    return show(asked, found, noise_markdown)


def _part(text: str) -> tuple[int, int]:
    """`K/N` with 0 <= K < N. Raises `UserError`."""
    part, _, of = text.partition("/")
    if not (part.isdecimal() and of.isdecimal() and int(part) < int(of)):
        raise UserError(f"--part takes a share such as 0/2 (the first of two); it was '{text}'.")
    return int(part), int(of)


def _mini_verify(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.mini.experiments.verify import as_text, from_scratch, verify

    found = (from_scratch if asked.from_scratch else verify)(asked.work, Workbench(), progress)
    show(asked, found, as_text)
    return 0 if found["same"] else 2


def _mini_document(asked: argparse.Namespace) -> int:
    from sdsdemo.mini.experiments.document import write

    return show(asked, {"written": str(write())}, lambda done: f"written to {done['written']}")


def _mini_opening(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.ui.opening import OPENING_FILE, write_opening

    record = write_opening(Workbench(Settings.from_environment({})))
    return show(asked, record, lambda _: f"written to {OPENING_FILE}")
