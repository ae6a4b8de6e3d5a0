"""What `mini verify` compares of the study: every figure of the file, not the values of its contrasts alone."""

from __future__ import annotations

import copy
import json

import pytest

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.mini.experiments import results
from sdsdemo.mini.experiments.verify import as_text, unlike
from tests.mini.test_study import BASE_ROWS, confirmed


def test_every_figure_that_differs_is_named_whichever_side_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the values of shipped contrasts alone: intervals, skills, groups, and a study that was never written."""
    few = tuple(read_benchmark("mini"))[:40]
    monkeypatch.setattr(results, "_examples", lambda name: few)
    now = json.loads(json.dumps(results.findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.2})})))
    assert unlike(now, copy.deepcopy(now), "f") == []
    for change, named in (
        (lambda f: f["confirm"]["contrasts"][3].update(high=0.9), "f: confirm: contrasts, 3: high"),
        (lambda f: f["confirm"].update(seeds=[0]), "f: confirm: seeds"),
        (lambda f: f.pop("seed_noise"), "f: seed_noise"),
        (
            lambda f: f["confirm"]["cells"]["sds"]["retrieval"].update(kept=None),
            "f: confirm: cells: sds: retrieval: kept",
        ),
    ):
        before = copy.deepcopy(now)
        change(before)
        for rows in (unlike(before, now, "f"), unlike(now, before, "f")):
            assert [(row["what"], row["same"]) for row in rows] == [(named, False)]
        assert f"{named}" in as_text({"rows": rows, "same": False})
    almost = copy.deepcopy(now)
    almost["confirm"]["contrasts"][0]["low"] += 1e-4
    assert unlike(almost, now, "f") == [], "the last digit is rounding"
