"""CLIP variants and ablated teachers of the Mini world, trained to measure its design choices. Not shipped.

    CLIPs      trained with larger shares of tag-like captions than the bases
    teachers   four denoisers, trained for a third of the steps with the autoencoder, pictures and batches of
               mini-diffusion-short: by its own recipe; on the captions of mini-clip, some of them tags; without
               pretraining the text encoder, which learns with the UNet from the denoising loss alone; and so, but
               pretrained on captioned pictures, without labels

One line per model in `tags.jsonl` and `teachers.jsonl`. Models with a line are skipped; interrupted runs resume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import DistilBertModel

from sdsdemo.core.bits import packed
from sdsdemo.core.outcomes import judge
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.mini.scenes import Scene
from sdsdemo.data.mini.sentences import PLACES, Sentence, describe
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import LossesAt, TrainingConfig
from sdsdemo.mini.experiments import train_all
from sdsdemo.mini.experiments.study import BENCHMARK, TEACHER, base_row
from sdsdemo.mini.experiments.study_store import Lines
from sdsdemo.mini.models import caption_pictures, clip, text_encoder, tokenizer, train_loop, unet
from sdsdemo.mini.models.from_folder import RelocatedWorkbench
from sdsdemo.settings import budget

TRAINING = TrainingConfig(steps=1500, learning_rate=1e-3, warm_up=100, decay="late", ema=0.998)
"""Half of the first stage of mini-diffusion-short."""
READ, ASKED = 3_000, 1_000
"""Sentences that the linear probe of places is fitted on, and others that it is tested on."""
RIDGE = 1e-3


@dataclass(frozen=True, kw_only=True)
class TeacherVariant:
    """How a teacher is trained."""

    tag_share: float = 0.0
    """Share of tag-like captions that the UNet is trained on."""
    lesson: bool = True
    """Whether the text encoder is pretrained on text alone, then frozen. Otherwise it learns with the UNet."""
    pictures: bool = False
    """Whether the text encoder is pretrained on captioned pictures."""
    seed: int = 0
    """Of the weights and the batches."""


SHORT = "as it is made"
TEACHERS = {
    SHORT: TeacherVariant(),
    "captions of mini-clip": TeacherVariant(tag_share=clip.BASES["mini-clip"].tag_share),
    "without the lesson": TeacherVariant(lesson=False),
    "from pictures": TeacherVariant(lesson=False, pictures=True),
}

KINDS = {
    "places": ("Noun left/right", "Noun above/below"),
    "inside": ("Noun inside",),
    "colours": ("Adjective-Colour", "Adjective-Colour in a relation"),
    "sizes": ("Adjective-Size",),
    "numbers": ("Determiner-Number",),
}
"""Kinds of swap that models are compared on -> the benchmark's tags."""


def make_variants(checkpoints: Path, lines: Path, work: Path, workbench: Any, progress: train_loop.Progress) -> None:
    """Train and measure the models that have no line yet. checkpoints: folder of mini-diffusion-short and the bases."""
    tags, teachers = Lines(lines / "tags.jsonl"), Lines(lines / "teachers.jsonl")
    if not all(tags.has("tag_share", base.tag_share) for base in clip.SWEEP.values()):
        train_sweep(work / "sweep", work, progress)
    measure_sweep(work / "sweep", tags, workbench)
    for name in TEACHERS:
        make_teacher(name, checkpoints, teachers, work, workbench, progress)


# ------------------------------------------------------------------------------------------------------- the CLIPs


def train_sweep(out: Path, work: Path, progress: train_loop.Progress) -> None:
    """Train the CLIPs for the curve of text score against tag share; those already in `out` are skipped."""
    missing = {name: base for name, base in clip.SWEEP.items() if not (out / name).is_dir()}
    if missing:
        stream = train_all.stream_of(work)
        for name, base in missing.items():
            train_all.train_clip(name, base, stream, out, work, progress)


def measure_sweep(sweep: Path, lines: Lines, workbench: Any) -> None:
    """Add a line for each tag share: those of the sweep, and the two that are shipped."""
    models = {base.tag_share: f"open_clip:local-dir:{sweep / name}" for name, base in clip.SWEEP.items()}
    models |= {clip.BASES[name].tag_share: name for name in ("mini-clip-clean", "mini-clip")}
    for share, model in sorted(models.items()):
        if not lines.has("tag_share", share):
            lines.add({"tag_share": share, **base_row(model, workbench)})


# ---------------------------------------------------------------------------------------------------- the teachers


def make_teacher(
    name: str, checkpoints: Path, lines: Lines, work: Path, workbench: Any, progress: train_loop.Progress
) -> None:
    """Train one of TEACHERS and measure it, unless it has a line."""
    if lines.has("teacher", name):
        return
    kind, stream, folder = (
        TEACHERS[name],
        train_all.stream_of(work),
        work / "teachers" / name.replace(" ", "-") / TEACHER,
    )
    if not (folder / "model_index.json").is_file():
        train_teacher(kind, checkpoints / TEACHER, folder, stream, work, progress)
    progress(f"measuring {name}")
    line = {"teacher": name, "steps": TRAINING.steps, "tag_share": kind.tag_share, "lesson": kind.lesson}
    lines.add(line | measured_teacher(folder, stream, workbench))


def measured_teacher(folder: Path, stream: MiniStream, workbench: Any) -> dict[str, Any]:
    """What a pipeline gets right on the benchmark, and how well its text encoder tells places."""
    scorer, examples = RelocatedWorkbench(workbench, folder.parent).scorer(TEACHER), read_benchmark(BENCHMARK)
    right = judge(list(scorer.score_examples(examples, budget(antithetic=False)))).right
    encoder = DistilBertModel.from_pretrained(folder / "text_encoder").float()
    return {
        "right": {BENCHMARK: {metric: packed(right_E) for metric, right_E in right.items()}},
        "n": {BENCHMARK: len(examples)},
        "places_read": round(places_read(encoder, stream), 4),
    }


def train_teacher(
    kind: TeacherVariant, teacher: Path, folder: Path, stream: MiniStream, work: Path, progress: train_loop.Progress
) -> None:
    """Save a pipeline in `folder` with the autoencoder of `teacher`, and its text encoder where that is pretrained."""
    both, losses, vae = untrained(kind, teacher, stream, work, progress)
    denoiser, encoder = both
    if kind.pictures:
        latent_N = scaled_latents(vae, stream, work, progress)
        name = f"captions-{folder.parent.name}"
        caption_pictures.teach(encoder, stream, latent_N, kind.seed, name=name, work=work, progress=progress)
    train_loop.run(f"teacher-{folder.parent.name}", both, losses, TRAINING, work=work, progress=progress)
    unet.save_pipeline(folder, vae, encoder, denoiser)


def untrained(
    kind: TeacherVariant, teacher: Path, stream: MiniStream, work: Path, progress: train_loop.Progress
) -> tuple[nn.ModuleList, LossesAt, AutoencoderKL]:
    """UNet and text encoder before training, their loss, and the autoencoder of `teacher`."""
    vae = AutoencoderKL.from_pretrained(teacher / "vae").float().requires_grad_(False)
    latent_N = scaled_latents(vae, stream, work, progress)
    encoder, denoiser = text_encoder.fresh(kind.seed), unet.fresh(kind.seed)
    if kind.lesson:
        encoder = DistilBertModel.from_pretrained(teacher / "text_encoder").float().requires_grad_(False)
    stage = replace(unet.STAGES["denoiser"], training=TRAINING)
    losses = unet.losses_at(denoiser, encoder, stream, latent_N, stage, kind.tag_share, kind.seed)
    return nn.ModuleList([denoiser, encoder]), losses, vae


def scaled_latents(vae: AutoencoderKL, stream: MiniStream, work: Path, progress: train_loop.Progress) -> torch.Tensor:
    """Latents of every picture, of unit variance."""
    latent_N: torch.Tensor = train_all.latents(vae, stream, work, progress) * vae.config.scaling_factor
    return latent_N


@torch.inference_mode()
def places_read(encoder: Callable[[torch.Tensor], Any], stream: MiniStream) -> float:
    """Accuracy of a linear probe that reads an object's place from the states of its words, on held-out sentences.

    Ridge regression onto the places of two objects beside or above one another, so chance is 25 %.
    """
    rng = np.random.default_rng(stream.seed)
    placed = [scene for scene in stream.scenes if scene.family in unet.PLACED][: READ + ASKED]
    said = [describe(rng, scene) for scene in placed]
    state_BLD = encoder(tokenizer.token_ids(said)).last_hidden_state.double()
    parts = [
        _object_states(placed[own], said[own], state_BLD[own]) for own in (slice(0, READ), slice(READ, READ + ASKED))
    ]
    (x_ND, place_N), (asked_MD, place_M) = parts
    y_NP = nn.functional.one_hot(place_N, len(PLACES)).double()
    mean_D = x_ND.mean(0)
    square_DD = (x_ND - mean_D).T @ (x_ND - mean_D)
    square_DD += RIDGE * square_DD.diagonal().mean() * torch.eye(len(square_DD), dtype=torch.float64)
    weight_DP = torch.linalg.solve(square_DD, (x_ND - mean_D).T @ (y_NP - y_NP.mean(0)))
    found_M = ((asked_MD - mean_D) @ weight_DP + y_NP.mean(0)).argmax(1)
    return float((found_M == place_M).double().mean())


def _object_states(
    scenes: Sequence[Scene], said: Sequence[Sentence], state_BLD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """state_ND of every word that describes an object with a place, and the index of that place."""
    states, places = [], []
    for scene, sentence, state_LD in zip(scenes, said, state_BLD, strict=True):
        for word, owner in enumerate(sentence.owner):
            if owner >= 0 and scene.things[owner].place:
                states.append(state_LD[word + 1])
                places.append(PLACES.index(scene.things[owner].place))
    return torch.stack(states), torch.tensor(places)
