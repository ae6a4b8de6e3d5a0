"""Estimates how long everything takes from scratch on this machine, by part. Keeps nothing that it trains.

    hours  =  drawing and encoding  +  sum over training runs of steps x (seconds per step)
              +  the studies (see `study_timing`)

A few steps of every training run are timed on all cores, since these runs take place one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig
from sdsdemo.mini.experiments import ablations, lesson, study_timing, train_all
from sdsdemo.mini.experiments.preference_clip import CELL
from sdsdemo.mini.experiments.study import BENCHMARK
from sdsdemo.mini.models import (
    autoencoder,
    caption_pictures,
    clip,
    lesson_clip,
    sds_clip,
    text_encoder,
    train_loop,
    unet,
)
from sdsdemo.settings import budget

STEPS = train_loop.TIMED
"""Steps timed for each training run; the first two are slow and do not count."""
PICTURES = 500
"""Pictures drawn and encoded to time one."""
HOUR = 3600.0


def hours(costs: Mapping[str, Any], processes: int, note: Callable[[str], None]) -> dict[str, float]:
    """Hours for `models`, `variants`, the 2 x 2 of the `lesson` and `studies`, and for the `whole`.

    costs: from `costs.measured`; the shipped students are runs of its cells. processes: how many share the studies.
    """
    cells = costs["cells"]
    note("timing some steps of every training run")
    with TemporaryDirectory() as folder:
        second = dict(_seconds(Path(folder)))
    unet_steps = sum(stage.training.steps for stage in (*unet.STAGES.values(), *unet.LONGER.values()))
    models = (
        train_all.PICTURES * (second["drawing"] + 2 * second["encoding"])
        + len(clip.BASES | clip.FURTHER) * clip.TRAINING.steps * second["clip"]
        + clip.TRAINING.steps * second["taught clip"]
        + text_encoder.TRAINING.steps * second["clip's prompts"]
        + autoencoder.TRAINING.steps * second["autoencoder"]
        + text_encoder.TRAINING.steps * second["prompts"]
        + unet_steps * second["denoiser"]
        + sds_clip.TRAINING.steps * (cells["sds"]["step_seconds"] + cells["clip"]["step_seconds"])
        + cells[CELL]["run_seconds"]
    )
    note("timing some steps of every kind of run")
    times = study_timing.measured(processes)
    taught = [variant.lesson for variant in ablations.TEACHERS.values()]
    others = len(clip.SWEEP) * clip.TRAINING.steps * second["clip"] + ablations.TRAINING.steps * sum(
        second["denoiser" if has_lesson else "both"] for has_lesson in taught
    )
    pictured = sum(variant.pictures for variant in ablations.TEACHERS.values())
    others += pictured * caption_pictures.STAGE.training.steps * second["captions"]
    scoring = study_timing.scoring_seconds(times, budget(), len(read_benchmark(BENCHMARK)))
    others += len(taught) * scoring
    others += len(clip.SWEEP) * times.evaluation[True]
    studied = study_timing.study_seconds(times, costs["cheaper"]["pairs"], processes)
    found = {"models": models, "variants": others, "lesson": _lesson_seconds(second, scoring), "studies": studied}
    found["whole"] = sum(found.values())
    return {name: round(seconds / HOUR, 2) for name, seconds in found.items()}


def _lesson_seconds(second: Mapping[str, float], scoring: float) -> float:
    """The models of the 2 x 2 of the lesson that are not ablated teachers. scoring: seconds to score a denoiser."""
    seeds, steps = len(lesson.SEEDS), ablations.TRAINING.steps
    clips_each = steps * (second["clip of the 2 x 2"] + second["taught clip of the 2 x 2"])
    clips_each += text_encoder.TRAINING.steps * second["clip's prompts"]
    denoisers_each = steps * (second["both"] + second["denoiser"]) + 2 * scoring
    return seeds * clips_each + (seeds - 1) * denoisers_each


def _seconds(work: Path) -> Iterator[tuple[str, float]]:
    """Names and seconds: per picture, and per step of each training run."""
    began = time.monotonic()
    stream = MiniStream(train_all.STREAM_SEED, PICTURES, work)
    yield "drawing", (time.monotonic() - began) / PICTURES
    vae = autoencoder.fresh()
    yield "autoencoder", _step_seconds(vae, autoencoder.losses_at(vae, stream), autoencoder.TRAINING)
    began = time.monotonic()
    latent_N = autoencoder.encode_all(vae, stream.pictures_N).clone()
    yield "encoding", (time.monotonic() - began) / PICTURES
    model = clip.fresh()
    yield "clip", _step_seconds(model, clip.losses_at(model, stream, clip.BASES["mini-clip"]), clip.TRAINING)
    yield from _lesson_clip_seconds(stream)
    encoder = text_encoder.fresh()
    yield "prompts", _step_seconds(encoder, text_encoder.losses_at(encoder, stream), text_encoder.TRAINING)
    decoder = caption_pictures.PictureDecoder(latent_N.shape[1:])
    captions = caption_pictures.losses_at(encoder, decoder, stream, latent_N)
    yield "captions", _step_seconds(nn.ModuleList([encoder, decoder]), captions, caption_pictures.STAGE.training)
    denoiser, stage = unet.fresh(), unet.STAGES["denoiser"]
    losses = unet.losses_at(denoiser, encoder, stream, latent_N, stage)
    yield "both", _step_seconds(nn.ModuleList([denoiser, encoder]), losses, stage.training)
    encoder.requires_grad_(False)
    yield "denoiser", _step_seconds(denoiser, losses, stage.training)


def _lesson_clip_seconds(stream: MiniStream) -> Iterator[tuple[str, float]]:
    """Of the CLIPs that take the lesson, and of the one of the 2 x 2 that does not."""
    model, losses = lesson.fresh_clip(0, stream)
    yield "clip of the 2 x 2", _step_seconds(model, losses, lesson.CLIP_TRAINING)
    states = lesson_clip.WordStates(model)
    yield "clip's prompts", _step_seconds(states, text_encoder.losses_at(states, stream), text_encoder.TRAINING)
    states.requires_grad_(False)
    yield "taught clip of the 2 x 2", _step_seconds(model, losses, lesson.CLIP_TRAINING)
    shipped = clip.losses_at(model, stream, clip.BASES["mini-clip-clean"])
    yield "taught clip", _step_seconds(model, shipped, clip.TRAINING)


def _step_seconds(module: nn.Module, losses: LossesAt, config: TrainingConfig) -> float:
    return train_loop.step_seconds(module, losses, config, STEPS)
