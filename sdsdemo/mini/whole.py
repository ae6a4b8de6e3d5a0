"""How long everything from scratch takes on this machine, by its parts. Keeps nothing that it trains.

    hours  =  drawing and encoding  +  sum over courses of steps x (seconds a step)
              + sum over trainings of the studies of (their seconds) + askings of a teacher
              + sum over runs of (seconds a look), by processes

Every course is timed by some of its steps; a training of the studies takes what the quickest run of its cell took, as
the lines were made beside other work. A training that several studies need counts once. The quickest run of a cell has
found the teacher's answers on the disk, so that asking is counted apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from sdsdemo.data.mini_stream import MiniStream
from sdsdemo.mini import autoencoder, clips, denoiser, making, prompts, students, variants
from sdsdemo.mini.experiment import BENCHMARK, look_at
from sdsdemo.mini.preferring import CELL
from sdsdemo.mini.studies import STUDIES
from sdsdemo.models.clip import ClipModel
from sdsdemo.recipes import Recipe
from sdsdemo.training import Course, LossesAt, Step, train

STEPS = 8
"""Of each course; the first two, which are slow, do not count."""
PICTURES = 500
"""That are drawn and encoded, to see how long one takes."""
HOUR = 3600.0


def hours(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    cells: Mapping[str, Mapping[str, float]],
    workbench: Any,
    processes: int,
    note: Callable[[str], None],
) -> dict[str, float]:
    """Hours of `models`, `variants`, `studies` and of the `whole`.

    rows: the lines of the studies, by name. cells: the costs of the declared objectives, which the shipped students are
    runs of. processes: that share the studies, a core each.
    """
    note("timing some steps of every course")
    with TemporaryDirectory() as folder:
        second = dict(_seconds(Path(folder)))
    unet = sum(stage.course.steps for stage in (*denoiser.STAGES.values(), *denoiser.LONGER.values()))
    models = (
        making.PICTURES * (second["drawing"] + 2 * second["encoding"])
        + len(clips.BASES) * clips.COURSE.steps * second["clip"]
        + autoencoder.COURSE.steps * second["autoencoder"]
        + prompts.COURSE.steps * second["prompts"]
        + unet * second["denoiser"]
        + students.COURSE.steps * (cells["sds"]["step_seconds"] + cells["clip"]["step_seconds"])
        + cells[CELL]["run_seconds"]
    )
    lessons = [making_.lesson for making_ in variants.TEACHERS.values()]
    others = len(clips.SWEEP) * clips.COURSE.steps * second["clip"] + variants.COURSE.steps * sum(
        second["denoiser" if lesson else "both"] for lesson in lessons
    )
    note("timing a look at every set")
    look = {larger: _look_seconds(workbench, larger) for larger in (True, False)}
    looks = sum(look[study.larger] for study in STUDIES.values() for _ in study.runs())
    trained, asked = sum(training_seconds(rows).values()), sum(asking_seconds(rows).values())
    studied = (trained + asked + looks) / processes
    found = {"models": models, "variants": others, "studies": studied, "whole": models + others + studied}
    return {name: round(seconds / HOUR, 2) for name, seconds in found.items()}


def training_seconds(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[Recipe, float]:
    """Seconds of each training of the studies that have lines, once: those of the quickest run of its cell."""
    found: dict[Recipe, float] = {}
    for name, study in STUDIES.items():
        quickest: dict[str, float] = {}
        for row in rows.get(name, ()):
            cell = row["run"].rsplit(" ", 2)[0]
            quickest[cell] = min(row["seconds"], quickest.get(cell, math.inf))
        for run, recipe in study.runs():
            cell, training = run.rsplit(" ", 2)[0], replace(recipe, wise_ft=1.0)
            if cell in quickest:
                found[training] = min(quickest[cell], found.get(training, math.inf))
    return found


def asking_seconds(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[tuple[str, int, float], float]:
    """Of each teacher, seed and share of wrong labels, whose pairs are their own, the longest asking of a line."""
    found: dict[tuple[str, int, float], float] = {}
    for name, study in STUDIES.items():
        recipes = dict(study.runs())
        for row in rows.get(name, ()):
            told = row.get("preferences", {})
            if told.get("asked") and row["run"] in recipes:
                recipe = recipes[row["run"]]
                key = recipe.teacher, recipe.seed, recipe.mislabelled
                found[key] = max(told["seconds"], found.get(key, 0.0))
    return found


def _seconds(work: Path) -> Iterator[tuple[str, float]]:
    """Name and seconds of a picture, and of a step of each course."""
    began = time.monotonic()
    stream = MiniStream(making.STREAM_SEED, PICTURES, work)
    yield "drawing", (time.monotonic() - began) / PICTURES
    vae = autoencoder.fresh()
    yield "autoencoder", _step_seconds(vae, autoencoder.losses_at(vae, stream), autoencoder.COURSE)
    began = time.monotonic()
    latent_N = autoencoder.encode_all(vae, stream.pictures_N).clone()
    yield "encoding", (time.monotonic() - began) / PICTURES
    clip = clips.fresh()
    yield "clip", _step_seconds(clip, clips.losses_at(clip, stream, clips.BASES["mini-clip"]), clips.COURSE)
    encoder = prompts.fresh()
    yield "prompts", _step_seconds(encoder, prompts.losses_at(encoder, stream), prompts.COURSE)
    unet, stage = denoiser.fresh(), denoiser.STAGES["denoiser"]
    losses = denoiser.losses_at(unet, encoder, stream, latent_N, stage)
    yield "both", _step_seconds(nn.ModuleList([unet, encoder]), losses, stage.course)
    encoder.requires_grad_(False)
    yield "denoiser", _step_seconds(unet, losses, stage.course)


def _step_seconds(module: nn.Module, losses: LossesAt, course: Course) -> float:
    """Of a step in the middle of some, whose rate is too small to lead anywhere."""
    short = replace(course, steps=STEPS, learning_rate=1e-8, warm_up=1)
    marks = [event.seconds for event in train(module, losses, short) if isinstance(event, Step)]
    return (marks[-1] - marks[1]) / (len(marks) - 2)


def _look_seconds(workbench: Any, larger: bool) -> float:
    """Of a look that a run's line needs, on one core; the sets are drawn before. larger: at the larger sets too."""
    model = ClipModel.load(workbench.card("mini-clip").spec)
    look_at(model, BENCHMARK, larger=larger)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.monotonic()
        look_at(model, BENCHMARK, larger=larger)
        return time.monotonic() - began
    finally:
        torch.set_num_threads(threads)
