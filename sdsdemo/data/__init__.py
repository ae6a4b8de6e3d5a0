"""Benchmarks and the Mini world. Reads and draws; never scores."""
