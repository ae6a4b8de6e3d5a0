"""The objectives in plain words, for the page. Knows no recipe."""

from __future__ import annotations

OBJECTIVE_NAMES: dict[str, str] = {
    "preference": "Ask the teacher once",
    "sds": "The paper's: L_CLIP + λ·L_SDS",
    "clip": "No teacher: the control",
    "labels": "No teacher, true labels",
    "negatives": "No teacher, hard negatives",
    "features": "Copy the teacher's features",
}
"""Each objective by a plain name, in the order of the page."""
OBJECTIVE_MEANINGS: dict[str, str] = {
    "preference": "Before training, the diffusion model says whether it prefers a caption or its swap; CLIP learns to "
    "agree.",
    "sds": "In every step, CLIP's view of a picture must help the frozen diffusion model to denoise it.",
    "clip": "CLIP's own contrastive loss alone: what more training does without a teacher.",
    "labels": "CLIP is told which of a caption and its swap is true: labels instead of a teacher.",
    "negatives": "CLIP's own loss with swapped captions in every batch, as in NegCLIP.",
    "features": "CLIP's own loss, and a regression onto what the diffusion model computes inside.",
}
"""What each objective does, in a line."""
