"""The example that opens the document of the Python API: it runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sdsdemo
from sdsdemo.settings import ROOT
from tests.finetuning.runs import TINY


@pytest.mark.slow
def test_the_documented_example_runs(
    benchmark: str,
    small_sets: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With fewer steps and examples."""
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(import sdsdemo\n.*?)```", (ROOT / "docs/python-api.md").read_text(), re.DOTALL)
    finetune = sdsdemo.finetune
    tiny = TINY.as_dict() | {"objective": "labels", "measure": benchmark, "steps": 1, "warm_up": 0}
    monkeypatch.setattr(sdsdemo, "finetune", lambda out, **asked: finetune(out, **{**asked, **tiny}))
    found: dict = {}
    exec(block.replace("limit=40", "limit=3").replace('"mini-validation"', repr(benchmark)), found)
    assert found["run"]["state"] == "finished"
    assert list(found["both"]["models"]) == found["models"]
    assert found["both"]["paired"]
    assert "step 1 of 1" in capsys.readouterr().out
