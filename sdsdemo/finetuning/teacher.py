"""The teacher of a run: a diffusion model, or for `preference` a CLIP that is asked in its place. Trains nothing."""

from __future__ import annotations

import torch

from sdsdemo.models.clip import ClipModel, ClipScorer
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.families import load_diffusion
from sdsdemo.settings import Settings
from sdsdemo.types import Card, Scorer

Teacher = LatentDiffusion | ClipModel


def load_teacher(card: Card, device: torch.device, settings: Settings) -> Teacher:
    """The model of a card. Raises `UserError` for weights that are missing or cannot be used."""
    if card.family == "clip":
        return ClipModel.load(card.spec, device=device, allow_download=settings.allow_download)
    return load_diffusion(
        card.spec,
        revision=card.revision,
        device=device,
        precision=settings.precision,
        allow_download=settings.allow_download,
    )


def as_scorer(card: Card, teacher: Teacher) -> Scorer:
    """The teacher as what scores captions; higher is better for either kind."""
    if isinstance(teacher, ClipModel):
        return ClipScorer(card, teacher)
    return DiffusionScorer(card, teacher)
