"""A 2 x 2 of the lesson: CLIP or denoiser, with or without the text encoder's pretraining. Not shipped.

                     without                               with
    CLIP             L_CLIP trains all of it               first blocks of its text tower taught, then frozen
    denoiser         encoder and UNet learn together       encoder taught, then frozen

The lesson says which words describe which thing, and its place, colour, shape, size and number; it reads sentences, and
no pictures. Every model meets the same pictures with the same sentences in the same batches: 1,500 steps of 64, as the
ablated teachers of `ablations`, whose two runs are the first seed here. Each seed has its own weights and batches; the
lesson itself is one per text encoder and seed of CLIP, and that of mini-diffusion-short for denoisers.

So a difference between columns is the lesson's. One between rows is that of L_CLIP against denoising on equal captions,
and of the networks: a denoiser starts with the autoencoder of mini-diffusion-short, which has seen the pictures, and
misses some captions; CLIP's image tower starts from nothing.
Declared before the first run beside those two. One line per model in `lesson.jsonl`; models with a line are skipped,
and interrupted runs resume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from open_clip import CLIP

from sdsdemo.core.number_format import duration
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig
from sdsdemo.mini.experiments import ablations, train_all
from sdsdemo.mini.experiments.study import BENCHMARK, TEACHER, evaluate_clip
from sdsdemo.mini.experiments.study_store import Lines
from sdsdemo.mini.models import clip, lesson_clip, text_encoder, train_loop, unet
from sdsdemo.models.clip import ClipModel

SEEDS = (0, 1, 2)
CLIP_TRAINING = TrainingConfig(steps=ablations.TRAINING.steps, learning_rate=1e-3, warm_up=50, weight_decay=0.05)
"""As `mini-clip` is trained, with the steps of the ablated teachers."""
FILE = "lesson.jsonl"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the 2 x 2."""

    model: Literal["clip", "denoiser"]
    lesson: bool


CELLS = {
    "clip": Cell(model="clip", lesson=False),
    "clip, lesson": Cell(model="clip", lesson=True),
    "denoiser": Cell(model="denoiser", lesson=False),
    "denoiser, lesson": Cell(model="denoiser", lesson=True),
}
SAME_AS = {"denoiser": "without the lesson", "denoiser, lesson": ablations.SHORT}
"""Cell -> the ablated teacher that is its first seed."""


def make_lesson(checkpoints: Path, lines: Path, work: Path, workbench: Any, progress: train_loop.Progress) -> None:
    """Train and measure the models that have no line yet, after saying how long that takes.

    checkpoints: folder of mini-diffusion-short. Raises `UserError` for a run that fails.
    """
    own = Lines(lines / FILE)
    _take_over(own, Lines(lines / "teachers.jsonl"))
    missing = [(cell, seed) for seed in SEEDS for cell in CELLS if not own.has("run", f"{cell} {seed}")]
    if not missing:
        return
    stream = train_all.stream_of(work)
    progress(cost_words(missing, stream, checkpoints, work, progress))
    for cell, seed in missing:
        if CELLS[cell].model == "clip":
            made = _clip(cell, seed, stream, work, progress)
        else:
            made = _denoiser(cell, seed, stream, checkpoints, work, workbench, progress)
        own.add(_line(cell, seed) | made)


def _take_over(own: Lines, teachers: Lines) -> None:
    """Add the lines of the ablated teachers that are cells of the first seed."""
    measured = {row["teacher"]: row for row in teachers.rows}
    for cell, name in SAME_AS.items():
        if name in measured and not own.has("run", f"{cell} {SEEDS[0]}"):
            row = measured[name]
            own.add(_line(cell, SEEDS[0]) | {key: row[key] for key in ("right", "n", "places_read")})


def _line(cell: str, seed: int) -> dict[str, Any]:
    kind = CELLS[cell]
    trained = {"steps": ablations.TRAINING.steps, "batch": unet.BATCH}
    return {"run": f"{cell} {seed}", "cell": cell, "seed": seed, "lesson": kind.lesson, **trained}


def _clip(cell: str, seed: int, stream: MiniStream, work: Path, progress: train_loop.Progress) -> dict[str, Any]:
    folder = work / "lesson" / f"{cell}-{seed}".replace(", ", "-")
    model, losses = fresh_clip(seed, stream)
    states = lesson_clip.WordStates(model)
    if CELLS[cell].lesson:
        states, _ = lesson_clip.teach(f"lesson-{seed}", model, stream, work=work, progress=progress)
    train_loop.run(folder.name, model, losses, CLIP_TRAINING, work=work, progress=progress)
    clip.save_folder(folder, model, lesson_clip.config())
    progress(f"measuring {folder.name}")
    found = evaluate_clip(ClipModel.load(f"open_clip:local-dir:{folder}"), BENCHMARK)
    read = ablations.places_read(states.eval(), stream)
    return {"right": found["right"], "n": found["n"], "places_read": round(read, 4)}


def fresh_clip(seed: int, stream: MiniStream) -> tuple[CLIP, LossesAt]:
    """An untrained CLIP of the 2 x 2, and its loss on the denoisers' pictures and sentences."""
    model = lesson_clip.fresh(seed)
    samples = unet.Samples(stream, unet.STAGES["denoiser"], seed=seed)
    return model, lesson_clip.losses_at(model, stream, samples)


def _denoiser(
    cell: str, seed: int, stream: MiniStream, checkpoints: Path, work: Path, workbench: Any,
    progress: train_loop.Progress,
) -> dict[str, Any]:  # fmt: skip
    folder = work / "lesson" / f"{cell}-{seed}".replace(", ", "-") / TEACHER
    kind = ablations.TeacherVariant(lesson=CELLS[cell].lesson, seed=seed)
    if not (folder / "model_index.json").is_file():
        ablations.train_teacher(kind, checkpoints / TEACHER, folder, stream, work, progress)
    progress(f"measuring {folder.parent.name}")
    return ablations.measured_teacher(folder, stream, workbench)


# ------------------------------------------------------------------------------------------------------- the cost


def cost_words(
    missing: list[tuple[str, int]], stream: MiniStream, checkpoints: Path, work: Path, progress: train_loop.Progress
) -> str:
    """How long the missing models take here, in a sentence, from a few steps of each cell."""
    second = dict(_step_seconds({cell for cell, _ in missing}, stream, checkpoints, work, progress))
    seconds = ablations.TRAINING.steps * sum(second[cell] for cell, _ in missing)
    lessons = sum(cell == "clip, lesson" for cell, _ in missing)
    if lessons:
        model = lesson_clip.WordStates(lesson_clip.fresh())
        seconds += lessons * text_encoder.TRAINING.steps * train_loop.step_seconds(
            model, text_encoder.losses_at(model, stream), text_encoder.TRAINING
        )  # fmt: skip
    each = ", ".join(f"{cell} {second[cell]:.2f} s" for cell in CELLS if cell in second)
    return f"{len(missing)} models to train, about {duration(seconds)}, and their scoring. A step: {each}."


def _step_seconds(
    cells: set[str], stream: MiniStream, checkpoints: Path, work: Path, progress: train_loop.Progress
) -> Iterator[tuple[str, float]]:
    for cell in sorted(cells):
        if CELLS[cell].model == "clip":
            model, losses = fresh_clip(0, stream)
            if CELLS[cell].lesson:
                lesson_clip.WordStates(model).requires_grad_(False)
            yield cell, train_loop.step_seconds(model, losses, CLIP_TRAINING)
        else:
            kind = ablations.TeacherVariant(lesson=CELLS[cell].lesson)
            both, losses = ablations.untrained(kind, checkpoints / TEACHER, stream, work, progress)[:2]
            yield cell, train_loop.step_seconds(both, losses, ablations.TRAINING)
