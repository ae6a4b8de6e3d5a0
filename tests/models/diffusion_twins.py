"""The scorer on a twin of a real pipeline, and what is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionPipeline

from sdsdemo.models import cards, open_scorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.types import Budget, Evidence, Scores

CAPTIONS = ["a red star left of a blue circle", "a blue star left of a red circle", "a cat"]
BUDGET = Budget(timesteps=3, noises=2, seed=5)


def scorer_of(folder: Path) -> DiffusionScorer:
    scorer = open_scorer(cards.resolve(f"diffusers:{folder}"), device="cpu")
    assert isinstance(scorer, DiffusionScorer)
    return scorer


def losses(scores: Scores) -> np.ndarray:
    return evidence(scores).loss_ICTN


def evidence(scores: Scores) -> Evidence:
    assert scores.evidence is not None
    return scores.evidence


def pipeline(folder: Path, **options: Any) -> Any:
    """The twin as diffusers loads it."""
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, **options)
