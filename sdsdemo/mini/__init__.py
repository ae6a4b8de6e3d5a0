"""The laboratory: `models/` trains our own models from scratch, `experiments/` asks what helps. Downloads nothing."""
