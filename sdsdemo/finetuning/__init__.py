"""Fine-tuning CLIP with a diffusion teacher, its rivals and controls: from a recipe to a file with its story."""

from __future__ import annotations

from sdsdemo.finetuning.run import finetune

__all__ = ["finetune"]
