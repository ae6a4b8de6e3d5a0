"""What processes that share a run print. That they share it: evaluation/test_winners and finetuning/test_processes."""

from __future__ import annotations

import subprocess
import sys

from sdsdemo.settings import ROOT


def test_library_output_stays_out_of_the_results() -> None:
    code = (
        "import os; from sdsdemo.runtime.distributed import _stdout_to_stderr\n"
        "with _stdout_to_stderr(): os.write(1, b'[Gloo] Rank 0 is connected')\n"
        "print('results')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("results\n", "[Gloo] Rank 0 is connected")
