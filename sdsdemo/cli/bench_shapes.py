"""What a model of real size costs on this machine, without its weights: `bench --shape NAME`. Judges nothing.

A pipeline of random weights is written into a temporary folder and scored by the ordinary path at native resolution.

ours     a picture file and two captions to a verdict
floor    the bare denoiser on ready tensors: as many evaluations, the same batches
step     L_SDS of one sample, backwards to the latent: through the denoiser, or with its Jacobian left out

over_floor_NAME = ours / floor

Peak memory is that of the process: so a shape is measured in a process of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sdsdemo.cli.bench import (
    MEGABYTE,
    Clock,
    Question,
    answer,
    make_question,
    peak_memory_mb,
    ratio,
    summary,
    timed,
)
from sdsdemo.core.losses import sds_loss
from sdsdemo.errors import UserError, quoted
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.random_weights import read_shape, write_pipeline
from sdsdemo.settings import budget

SPEND = budget(2, 2)
"""Eight evaluations: minutes at real size on two cores."""


def bench_shape(
    name: str,
    *,
    repeats: int = 5,
    device: str = "auto",
    precision: str = "auto",
    progress: Callable[[str], None] = lambda line: None,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """The dict of `bench --shape NAME --json`. Raises `UserError` for a shape that there is not."""
    if repeats < 1:
        raise UserError(f"Repeats must be at least 1; it was {quoted(repeats)}.")
    shape = read_shape(name)
    with tempfile.TemporaryDirectory() as place:
        progress(f"writing {name} with random weights")
        stored = write_pipeline(shape, Path(place) / name)
        before, start = peak_memory_mb(), clock()
        card = cards.resolve(f"diffusers:{Path(place) / name}")
        scorer = open_scorer(card, device=device, precision=precision)
        assert isinstance(scorer, DiffusionScorer)
        loaded, loading = peak_memory_mb(), clock() - start
        question = replace(make_question(Path(place)), spend=SPEND)
        memory = {"before_mb": before, "after_loading_mb": loaded, "weights_mb": weights_mb(scorer)}
        seconds = timed(_paths(scorer, question), repeats, progress, clock)
        memory["after_scoring_mb"] = peak_memory_mb()
    steps = _steps(scorer, progress, clock)
    memory["after_training_mb"] = peak_memory_mb()
    evaluations = 2 * SPEND.evaluations
    return {
        "shape": name,
        "ratios": {f"over_floor_{name.replace('-', '_')}": ratio(seconds["ours"], seconds["floor"])},
        "seconds": {path: summary(values) for path, values in seconds.items()},
        "seconds_an_evaluation": summary([value / evaluations for value in seconds["floor"]]),
        "loading_seconds": round(loading, 2),
        "step_seconds": steps,
        "stored_mb": round(stored / MEGABYTE, 1),
        "memory": memory,
        "evaluations": evaluations,
        "micro_batch": scorer.micro_batch,
        "pixels": scorer.model.pixels,
        "precision": str(scorer.model.dtype).removeprefix("torch."),
        "device": scorer.model.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def as_text(result: Mapping[str, Any]) -> str:
    """The result for people."""
    memory = result["memory"]
    lines = [
        f"{result['shape']}, random weights, {result['pixels']} px, {result['precision']} on {result['device']}, "
        f"{result['threads']} threads, torch {result['torch']}"
    ]
    for name, found in {**result["seconds"], "one evaluation": result["seconds_an_evaluation"]}.items():
        lines.append(f"{name:26} {found['median']:8.2f} s   ({found['low']:.2f} to {found['high']:.2f})")
    lines += [f"{'step, ' + name:26} {value:8.2f} s" for name, value in result["step_seconds"].items()]
    for name, found in result["ratios"].items():
        spread = f"({found['low']:.3f} to {found['high']:.3f}, {found['repeats']} repeats)"
        lines.append(f"{name:26} {found['median']:8.3f}     {spread}")
    lines.append(
        f"loading took {result['loading_seconds']:.1f} s; weights {memory['weights_mb']:.0f} MB; peak memory "
        f"{memory['after_loading_mb']:.0f} MB after loading, {memory['after_scoring_mb']:.0f} after scoring, "
        f"{memory['after_training_mb']:.0f} after training, of which {memory['before_mb']:.0f} before any model"
    )
    return "\n".join(lines)


def weights_mb(scorer: DiffusionScorer) -> float:
    """All weights at the precision that they run in."""
    model = scorer.model
    parts = (model.denoiser, model.vae, *model.text_encoders)
    held = sum(int(weight.nbytes) for part in parts for weight in part.parameters())
    return round(held / MEGABYTE, 1)


def _paths(scorer: DiffusionScorer, question: Question) -> dict[str, Callable[[], object]]:
    return {"ours": lambda: answer(scorer, question), "floor": floor_of_any(scorer)}


def floor_of_any(scorer: DiffusionScorer) -> Callable[[], None]:
    """A loop over what a family calls its denoiser with, on tensors made beforehand."""
    model, total = scorer.model, 2 * SPEND.evaluations
    noisy_B = torch.randn(total, *model.latent_shape).to(model.device, model.dtype)
    timestep_B = torch.randint(model.schedule.steps, (total,)).to(model.device)
    with torch.inference_mode():
        condition = model.encode_prompts(["a red star"])
        condition_B = model.take(condition, torch.zeros(total, dtype=torch.long))

    def loop() -> None:
        with torch.inference_mode():
            for k in range(0, total, scorer.micro_batch):
                part = torch.arange(k, min(total, k + scorer.micro_batch))
                model.predict(noisy_B[part], timestep_B[part], model.take(condition_B, part))

    return loop


def _steps(scorer: DiffusionScorer, progress: Callable[[str], None], clock: Clock) -> dict[str, float]:
    """Seconds of one step of a batch of 1; of what does not fit nothing is said."""
    model, seconds = scorer.model, {}
    noise_B = torch.randn(1, *model.latent_shape, device=model.device)
    with torch.no_grad():
        condition_B = model.encode_prompts(["a red star"])
    for name, jacobian in (("Jacobian dropped", False), ("Jacobian kept", True)):
        progress(f"a step of L_SDS, {name}")
        latent_B = torch.randn(1, *model.latent_shape, device=model.device, requires_grad=True)
        start = clock()
        timestep_B = torch.tensor([500], device=model.device)
        loss_B = sds_loss(model.denoise, model.schedule, latent_B, noise_B, timestep_B, condition_B, jacobian=jacobian)
        torch.autograd.backward(loss_B.sum())
        seconds[name] = round(clock() - start, 3)
    return seconds
