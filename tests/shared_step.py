"""Training as `torchrun` starts it, for finetuning/test_processes: prints losses and a sum of the weights.

python -m tests.shared_step FOLDER BENCHMARK
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed

from sdsdemo.app.workbench import Workbench
from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.events import Done, Step
from sdsdemo.finetuning.loop import TrainingConfig, train
from sdsdemo.finetuning.objectives import Objective, ObjectiveConfig
from sdsdemo.finetuning.recipe import Name, Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.runtime import distributed
from sdsdemo.settings import Settings
from tests.finetuning.tiny_teacher import SIZE, Drawn, TinyTeacher, student

NOT_PARTED = 3
NAMES: tuple[Name, ...] = ("clip", "sds", "negatives", "preference")
WHOLE_RUNS: tuple[Name, ...] = ("preference", "sds")


def main() -> None:
    atexit.register(parted)
    processes = distributed.find()
    tuned = run(processes, Path(sys.argv[1]), sys.argv[2])
    found = {}
    for name in NAMES:
        model = student()
        aim = Objective(model, Drawn(), ObjectiveConfig(name=name), teacher=TinyTeacher(), processes=processes)
        config = TrainingConfig(steps=3, learning_rate=1e-3, warm_up=1)
        steps = [event for event in train(model, aim, config, processes=processes) if isinstance(event, Step)]
        weights = sum(float(p.detach().double().abs().sum()) for p in model.parameters())
        found[name] = {"losses": [dict(s.losses) for s in steps], "norm": steps[0].gradient_norm, "weights": weights}
    rows = processes.gather([[r.start, r.stop] for r in aim.rows])
    if processes.is_main:
        print(json.dumps({"world": processes.count, "rows": rows, "size": SIZE, "found": found, "tuned": tuned}))


def run(processes: distributed.Processes, folder: Path, benchmark: str) -> list[dict[str, Any]]:
    """A whole run of `preference`, and one of `sds`: their logs."""
    before_after.ZERO_SHOT, before_after.RETRIEVAL = 3, (1, 3)
    workbench = Workbench(Settings.from_environment({"SDSDEMO_CACHE": str(folder / "cache")}))
    found = []
    for objective in WHOLE_RUNS:
        recipe = Recipe(objective=objective, steps=3, batch=4, pool=8, fitted_on=8, warm_up=1, measure=benchmark)
        out = folder / objective
        *_, last = finetune(recipe, out, workbench=workbench, processes=processes)
        assert isinstance(last, Done)
        assert last.state == "finished", last.reason
        if processes.is_main:
            found.append({"log": FineTuningFolder(out).log(), "preferences": last.record.get("preferences", {})})
    return found


def parted() -> None:
    """End with NOT_PARTED where the processes still hold on to each other when everything else is over."""
    if torch.distributed.is_initialized():
        os._exit(NOT_PARTED)


if __name__ == "__main__":
    main()
