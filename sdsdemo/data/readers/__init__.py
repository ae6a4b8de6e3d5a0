"""Readers of benchmarks in their published layouts, one file each."""
