"""mini-preference-clip: mini-clip fine-tuned on the teacher's preferences between captions and their swaps.

It is the confirmation's `preference, every parameter` run with this base and the first seed (see `declared`). So its
matched control is that study's `clip, every parameter` at the same base and seed, not mini-clip-control.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

from sdsdemo.finetuning.run_folder import LOG, FineTuningFolder
from sdsdemo.mini.experiments.declared import CONFIRM
from sdsdemo.mini.experiments.runs import trained_run
from sdsdemo.mini.models import sds_clip, train_loop
from sdsdemo.models import cards
from sdsdemo.models.delta import read_delta, write_delta
from sdsdemo.settings import Settings
from sdsdemo.types import Availability, Card

NAME = "mini-preference-clip"
CELL = "preference, every parameter"
RECIPE = replace(CONFIRM.cells[CELL], base=sds_clip.BASE, seed=CONFIRM.seeds[0])
NO_LOSS = ("step", "gradient", "s")


def fine_tune(out: Path, work: Path, progress: train_loop.Progress) -> train_loop.Curve:
    """Train from the base and the teacher in `out`, write `out/NAME.safetensors` in half precision, return the curve.

    Raises `UserError` for a base or teacher that cannot be read, and for a run that fails.
    """
    folder = work / NAME
    trained_run(RECIPE, folder, Trained(out), progress)
    tensors, header = read_delta(folder / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    write_delta(out / f"{NAME}.safetensors", halves, header | {"base": sds_clip.BASE_SPEC})
    return _curve(folder / LOG)


class Trained:
    """Implements `finetuning.setup.Models`: the Mini cards, with their weights in a given folder."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.of_the_shell()
        self._folder = folder.resolve()

    def card(self, name_or_spec: str) -> Card:
        """The card, with its weights in the folder."""
        card = cards.resolve(name_or_spec)
        return replace(card, spec=card.spec.replace(":checkpoints/", f":{self._folder}/"))

    def availability(self, card: Card) -> Availability:
        """Always available: loading reports files that cannot be read."""
        return Availability(can_run=True)


def _curve(log: Path) -> train_loop.Curve:
    """Means over every `train_loop.EVERY` steps. A step that was repeated after an interruption counts once."""
    lines = FineTuningFolder(log.parent).log()
    steps = sorted({line["step"]: line for line in lines if "loss" in line}.values(), key=lambda line: line["step"])
    curve = []
    for _, part in groupby(steps, key=lambda line: (line["step"] - 1) // train_loop.EVERY):
        points = list(part)
        names = [name for name in points[0] if name not in NO_LOSS]
        means = {name: round(sum(point[name] for point in points) / len(points), 6) for name in names}
        curve.append({"step": points[-1]["step"], **means})
    return curve
