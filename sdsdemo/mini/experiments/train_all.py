"""Trains the Mini models in order of dependency, and writes the folders that are shipped.

    mini-clip, -2, -3, -clean      L_CLIP on partly tag-like captions, from three seeds; and on clean captions
    mini-clip-lesson               as -clean, its text tower first taught as the text encoder of the diffusion models is
    mini-diffusion-short           autoencoder, then text encoder, then UNet
    mini-diffusion                 its UNet after two longer training stages
    mini-sds-clip, -clip-control   mini-clip fine-tuned, with mini-diffusion as the teacher and without it
    mini-preference-clip           mini-clip fine-tuned on the preferences of mini-diffusion-short between captions
    mini-clip-4 to -10             further seeds of mini-clip, not shipped and not among `all`

An interrupted run resumes from its file in the work folder. Learning curves are written to the output.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import DistilBertModel

from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.errors import UserError
from sdsdemo.mini.experiments import preference_clip
from sdsdemo.mini.experiments.study import TEACHER as SHORT
from sdsdemo.mini.models import autoencoder, clip, lesson_clip, sds_clip, text_encoder, train_loop, unet
from sdsdemo.mini.models.domain_file import write_knows
from sdsdemo.models.delta import hash_of_weights
from sdsdemo.runtime.files import put_folder, write_aside, write_whole

STREAM_SEED = 0
PICTURES = 48_000
CURVES = "curves"
"""Folder of learning curves, beside the models."""


def train(parts: Sequence[str], out: Path, work: Path, progress: train_loop.Progress) -> None:
    """Train these parts in order of dependency and write them to `out`; `work` holds pictures and unfinished runs.

    Raises `UserError` for an unknown part, a part whose base or teacher is not in `out` yet, or a run that fails.
    """
    _check(parts, out)
    progress(f"drawing {PICTURES} pictures, or reading them from {work.name}")
    stream = stream_of(work)
    for part in [name for name in _MAKERS if name in parts]:
        _MAKERS[part](part, stream, out, work, progress)


def stream_of(work: Path) -> MiniStream:
    """The pictures and scenes that every Mini model is trained on; `work` keeps the pictures."""
    work.mkdir(parents=True, exist_ok=True)
    return MiniStream(STREAM_SEED, PICTURES, work)


def _check(parts: Sequence[str], out: Path) -> None:
    unknown = [part for part in parts if part not in _MAKERS]
    if unknown:
        raise UserError(f"There is no part called '{unknown[0]}'. Choose from: {', '.join(_MAKERS)}; or all.")
    for part in parts:
        missing = [need for need in NEEDS.get(part, ()) if need not in parts and not (out / need).is_dir()]
        if missing:
            raise UserError(f"{part} needs {' and '.join(missing)}: train that first, or choose all.")


def _clip(name: str, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress) -> None:
    train_clip(name, (clip.BASES | clip.FURTHER)[name], stream, out, work, progress)


def train_clip(
    name: str, base: clip.Base, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress
) -> None:
    """Train a Mini CLIP and write its learning curve and its folder, atomically, to `out`."""
    model = clip.fresh(base.seed)
    losses = clip.losses_at(model, stream, base)
    curve = train_loop.run(name, model, losses, clip.TRAINING, work=work, progress=progress)
    _keep(curve, out, name)
    _write_folder(out / name, lambda aside: clip.save_folder(aside, model))


def _lesson_clip(name: str, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress) -> None:
    model = lesson_clip.fresh()
    _, taught = lesson_clip.teach(f"{name}-prompts", model, stream, work=work, progress=progress)
    losses = clip.losses_at(model, stream, clip.BASES["mini-clip-clean"])
    curve = train_loop.run(name, model, losses, clip.TRAINING, work=work, progress=progress)
    _keep(taught, out, f"{name}-prompts")
    _keep(curve, out, f"{name}-pictures")
    _write_folder(out / name, lambda aside: clip.save_folder(aside, model, lesson_clip.config()))


def _diffusion(name: str, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress) -> None:
    vae = autoencoder.fresh()
    curves = {
        "autoencoder": train_loop.run(
            "autoencoder", vae, autoencoder.losses_at(vae, stream), autoencoder.TRAINING, work=work, progress=progress
        )
    }
    latent_N = latents(vae, stream, work, progress)
    vae.register_to_config(scaling_factor=round(1 / float(latent_N.std()), 5))
    latent_N = latent_N * vae.config.scaling_factor

    encoder = text_encoder.fresh()
    curves["prompts"] = train_loop.run(
        "prompts", encoder, text_encoder.losses_at(encoder, stream), text_encoder.TRAINING, work=work, progress=progress
    )
    denoiser = unet.fresh()
    curves |= _stages(unet.STAGES, denoiser, encoder, stream, latent_N, work, progress)
    _write_pipeline(out / name, vae, encoder, denoiser)
    for part, curve in curves.items():
        _keep(curve, out, f"{name}-{part}")


def _longer(name: str, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress) -> None:
    """Continues from the files of the shorter training alone, so that need not be run again."""
    vae, encoder, denoiser = unet.read_pipeline(out / SHORT)
    latent_N = latents(vae, stream, work, progress) * vae.config.scaling_factor
    curves = _stages(unet.LONGER, denoiser, encoder, stream, latent_N, work, progress)
    _write_pipeline(out / name, vae, encoder, denoiser)
    for part, curve in curves.items():
        _keep(curve, out, f"{name}-{part}")


def _stages(
    stages: Mapping[str, unet.Stage],
    denoiser: UNet2DConditionModel,
    encoder: DistilBertModel,
    stream: MiniStream,
    latent_N: Tensor,
    work: Path,
    progress: train_loop.Progress,
) -> dict[str, train_loop.Curve]:
    """Train the UNet stage by stage; returns the curve of each stage."""
    curves = {}
    for stage, what in stages.items():
        losses = unet.losses_at(denoiser, encoder, stream, latent_N, what)
        denoiser.requires_grad_(True).train()
        curves[stage] = train_loop.run(stage, denoiser, losses, what.training, work=work, progress=progress)
    return curves


def _write_pipeline(folder: Path, vae: AutoencoderKL, encoder: DistilBertModel, denoiser: UNet2DConditionModel) -> None:
    _write_folder(folder, lambda aside: unet.save_pipeline(aside, vae, encoder, denoiser))


def _write_folder(folder: Path, save: Callable[[Path], None]) -> None:
    """Saved to a temporary folder, then put in the place of an earlier one, which is kept until then."""
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    save(aside)
    write_knows(aside)
    put_folder(aside, folder)


def latents(vae: torch.nn.Module, stream: MiniStream, work: Path, progress: train_loop.Progress) -> Tensor:
    """Unscaled latents of every picture, encoded once per autoencoder and stream, and cached in `work`."""
    path = work / f"latents-{stream.seed}-{len(stream)}-{hash_of_weights(vae)[:16]}.pt"
    if not path.exists():
        progress(f"encoding {len(stream)} pictures")
        with write_aside(path) as aside:
            torch.save(autoencoder.encode_all(vae, stream.pictures_N), aside)
    latent_N: Tensor = torch.load(path, weights_only=True)
    return latent_N


def _student(name: str, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress) -> None:
    curve = sds_clip.fine_tune(name, stream, out, work, progress)
    _keep(curve, out, name)


def _preference(name: str, stream: MiniStream, out: Path, work: Path, progress: train_loop.Progress) -> None:
    _keep(preference_clip.fine_tune(out, work, progress), out, name)


def _keep(curve: train_loop.Curve, out: Path, name: str) -> None:
    folder = out / CURVES
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f" {json.dumps(point)}" for point in curve)
    write_whole(folder / f"{name}.json", f"[\n{lines}\n]\n")


Maker = Callable[[str, MiniStream, Path, Path, train_loop.Progress], None]
_MAKERS: dict[str, Maker] = {
    **dict.fromkeys((*clip.BASES, *clip.FURTHER), _clip),
    lesson_clip.NAME: _lesson_clip,
    SHORT: _diffusion,
    sds_clip.TEACHER: _longer,
    "mini-sds-clip": _student,
    "mini-clip-control": _student,
    preference_clip.NAME: _preference,
}
PARTS = tuple(part for part in _MAKERS if part not in clip.FURTHER)
"""What `all` means."""
NEEDS = {
    sds_clip.TEACHER: (SHORT,),
    **dict.fromkeys(sds_clip.LAMBDAS, (sds_clip.BASE, sds_clip.TEACHER)),
    preference_clip.NAME: (sds_clip.BASE, SHORT),
}
"""Part -> the models that it is trained from."""
