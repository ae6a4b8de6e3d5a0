"""app.py with short fine-tuning runs, for test_browser_finetune: small sets, checkpoints often, no estimate.

python -m tests.app_of_short_runs --port PORT
"""

from __future__ import annotations

import runpy

import pytest

from sdsdemo.finetuning import before_after, training
from sdsdemo.settings import ROOT
from sdsdemo.ui.run_estimate import RunEstimates

before_after.ZERO_SHOT, before_after.RETRIEVAL = 6, (1, 5)
training.KEEP_SECONDS = 0.2
pytest.MonkeyPatch().setattr(RunEstimates, "_estimated", lambda estimates, recipe: "About a minute.")

runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
