"""Trains our own models from nothing."""
