"""Fine-tuning CLIP with a diffusion teacher, its rivals and controls: from a recipe to a file with its story.

`run.finetune` is the deed; importing this package alone loads nothing heavy.
"""
