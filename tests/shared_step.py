"""One training step as `torchrun` starts it, for test_finetuning_processes: prints losses and a sum of the gradient."""

from __future__ import annotations

import json

from sdsdemo import processes
from sdsdemo.objectives import Aim, Objective
from sdsdemo.training import Course, Step, train
from tests.test_objectives import SIZE, Drawn, TinyTeacher, student


def main() -> None:
    team = processes.find()
    found = {}
    for name in ("clip", "sds", "negatives", "preference"):
        model = student()
        aim = Objective(model, Drawn(), Aim(name=name), teacher=TinyTeacher(), team=team)  # type: ignore[arg-type]
        course = Course(steps=3, learning_rate=1e-3, warm_up=1)
        steps = [event for event in train(model, aim, course, team=team) if isinstance(event, Step)]
        weights = sum(float(p.detach().double().abs().sum()) for p in model.parameters())
        found[name] = {"losses": [dict(s.losses) for s in steps], "norm": steps[0].gradient_norm, "weights": weights}
    rows = team.gather([[r.start, r.stop] for r in aim.rows])
    if team.is_main:
        print(json.dumps({"world": team.count, "rows": rows, "size": SIZE, "found": found}))


main()
