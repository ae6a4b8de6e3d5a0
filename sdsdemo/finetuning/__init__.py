"""Fine-tuning CLIP with a diffusion teacher, with baselines and controls: from a recipe to a documented checkpoint.

`run.finetune` runs it; importing this package alone loads nothing heavy.
"""
