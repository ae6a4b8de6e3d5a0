"""Trains our own models from scratch."""
