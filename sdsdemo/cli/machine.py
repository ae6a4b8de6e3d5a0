"""The subcommands about this machine: `bench` measures it, `doctor` says what is here and what is missing."""

from __future__ import annotations

import argparse

from sdsdemo.cli.output import Verbs, columns, progress, show, verb
from sdsdemo.errors import UserError


def add_machine(verbs: Verbs) -> None:
    """Adds `bench` and `doctor`."""
    bench = verb(verbs, "bench", "measure speed and memory on this machine", "bench --json", _bench)
    bench.add_argument("--repeats", type=int, default=5, metavar="N", help="repeats of each timing (default 5)")
    bench.add_argument("--shape", metavar="NAME", help="a model of real size with random weights, such as sd-v1-4")
    bench.add_argument("--compile", action="store_true", help="with --shape: what torch.compile gains the denoiser")
    doctor = verb(verbs, "doctor", "report what is installed, what is missing and what to do", "doctor", _doctor)
    doctor.add_argument(
        "--model",
        metavar="NAME",
        help="instead: measure a card, a spec or a shape of `bench` for a minute, and say what a benchmark would take",
    )
    doctor.add_argument(
        "--examples", type=int, metavar="N", help="of that benchmark, of two pictures and two captions (default 400)"
    )
    doctor.add_argument("--report", action="store_true", help="Markdown for an issue, without your paths and secrets")


def _bench(asked: argparse.Namespace) -> int:
    from sdsdemo.cli import bench_shapes
    from sdsdemo.cli.bench import as_text, bench
    from sdsdemo.settings import Settings

    if asked.shape is not None:
        use = Settings.of_the_shell()
        found = bench_shapes.bench_shape(
            asked.shape,
            repeats=asked.repeats,
            device=use.device,
            precision=use.precision,
            compiles=asked.compile,
            progress=progress,
        )
        return show(asked, found, bench_shapes.as_text)
    if asked.compile:
        raise UserError("--compile measures the denoiser of a shape: name one with --shape too, such as sd-v1-4.")
    return show(asked, bench(repeats=asked.repeats, progress=progress), as_text)


def _doctor(asked: argparse.Namespace) -> int:
    from sdsdemo.app.workbench import Workbench
    from sdsdemo.cli.doctor import as_report, as_text, examine, examine_for_issue

    if asked.model is not None:
        if asked.report:
            raise UserError("--report is about the machine, --model about one model: leave out one of them.")
        from sdsdemo.cli import doctor_costs

        count = doctor_costs.EXAMPLES.default if asked.examples is None else asked.examples
        found = doctor_costs.estimate(asked.model, Workbench(), examples=count, progress=progress)
        return show(asked, found, lambda told: doctor_costs.as_text(told, columns()))
    if asked.examples is not None:
        raise UserError("--examples counts the examples of an estimate: name a model with --model too.")
    if asked.report:
        return show(asked, examine_for_issue(Workbench()), as_report)
    return show(asked, examine(Workbench()), lambda found: as_text(found, columns()))
