"""Scoring benchmarks: runs, storage, summaries, reports, figures."""
