"""The laboratory: `models/` trains our own models from nothing, `experiments/` asks what helps. Downloads nothing."""
