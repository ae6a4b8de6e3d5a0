"""A long run takes no more memory than its scores: measured on a shorter one, through `evaluate` and its folder."""

from __future__ import annotations

from sdsdemo.cli import bench_memory
from sdsdemo.cli.bench_memory import ALLOWED_MB, EXAMPLES, WARM_UP, growths_mb, held_mb
from sdsdemo.data import benchmarks

SHORT, WARM = 1_500, 500


def test_a_run_of_10000_examples_grows_by_less_than_50_mb() -> None:
    share = (EXAMPLES - WARM_UP) / (SHORT - WARM)
    for kind, grown in growths_mb(SHORT, WARM).items():
        assert share * grown < ALLOWED_MB, f"{kind}: {grown:.1f} MB by {SHORT - WARM} examples"
    assert bench_memory.SYNTHETIC not in benchmarks.NAMED


def test_what_a_process_holds_is_seen_to_grow() -> None:
    before = held_mb()
    kept = bytearray(b"x" * 30_000_000)
    assert held_mb() - before > 25 or before == 0.0
    assert kept
