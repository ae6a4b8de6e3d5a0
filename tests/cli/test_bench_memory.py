"""A long run takes no more memory than its scores: measured on a shorter one, through `evaluate` and its folder."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from sdsdemo.cli import bench_memory
from sdsdemo.cli.bench_memory import ALLOWED_MB, EXAMPLES, WARM_UP, growths_mb, held_mb
from sdsdemo.data import benchmarks
from sdsdemo.models import clip
from sdsdemo.models.random_weights import read_shape

SHORT, WARM = 1_000, 200


@pytest.mark.slow
@pytest.mark.long
def test_a_run_of_10000_examples_grows_by_less_than_50_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Python and NumPy allocate, which is exact in a short run; beside remembered features."""
    monkeypatch.setattr(clip, "REMEMBERED", WARM)
    monkeypatch.setattr(bench_memory, "held_mb", lambda: 1.0 + tracemalloc.get_traced_memory()[0] / 1e6)  # never 0
    share = (EXAMPLES - WARM_UP) / (SHORT - WARM)
    tracemalloc.start()
    try:
        growths = growths_mb(SHORT, WARM)
    finally:
        tracemalloc.stop()
    assert set(growths) == {"clip", "denoiser"}
    for kind, grown in growths.items():
        assert share * grown < ALLOWED_MB, f"{kind}: {grown:.1f} MB by {SHORT - WARM} examples"
    assert bench_memory.SYNTHETIC not in benchmarks.NAMED


def test_features_that_are_remembered_take_half_of_the_50_mb() -> None:
    width = read_shape("clip-vit-l-14")["parts"]["clip"]["config"]["embed_dim"]
    assert 2 * clip.REMEMBERED * width * 4 < ALLOWED_MB / 2 * 1e6


def test_what_a_process_holds_is_seen_to_grow() -> None:
    before = held_mb()
    kept = bytearray(b"x" * 30_000_000)
    assert held_mb() - before > 25 or before == 0.0
    assert kept


@pytest.mark.parametrize("size", [4096, 65536])
def test_pages_are_as_large_as_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    (tmp_path / "statm").write_text("300 200 100 1 0 50 0\n")
    monkeypatch.setattr(bench_memory, "STATM", tmp_path / "statm")
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": size}[name], raising=False)
    assert held_mb() == pytest.approx(200 * size / 1e6)


def test_growth_that_was_not_measured_is_not_given_as_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_memory, "STATM", tmp_path / "not-there")
    monkeypatch.setattr(bench_memory, "evaluate", lambda *_, **__: pytest.fail("a run that tells nothing"))
    assert growths_mb() == {}
