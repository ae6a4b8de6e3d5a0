"""What a model of real size costs on this machine, without its weights: `bench --shape NAME`. Judges nothing.

A model of random weights is written into a temporary folder and scored by the ordinary path at native resolution. For a
diffusion pipeline (for a CLIP, see `bench_clip`):

ours      a picture file and two captions to a verdict, in as few evaluations as `SPEND` says
encoding  of that, what comes once however many evaluations follow: the picture opened and checked, all encoded
floor     the bare denoiser on ready tensors: as many evaluations as ours, the same batches
step      L_SDS backwards to the latent: through the denoiser, or with its Jacobian left out

over_floor_NAME = (encoding + E (ours - encoding) / e) / (E floor / e)

with e the evaluations that were timed and E those of two captions at the default budget: 64, which would take minutes.

loading_over_weights_NAME = growth of peak memory by loading / weights in the precision that they run in

Peak memory is that of the process: so a shape is measured in a process of its own. On CUDA it is given twice: of the
process, and of the GPU as torch counts it (`gpu_...`), by which loading is then compared. Clocks wait for the GPU.
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
    Question,
    answer,
    make_question,
    peaks_mb,
    ratio,
    summary,
    timed,
)
from sdsdemo.cli.bench_clip import clip_as_text, measured_clip
from sdsdemo.cli.bench_compiled import compiled_as_text, measured_compiled
from sdsdemo.core.losses import sds_loss
from sdsdemo.errors import UserError, quoted
from sdsdemo.models import cards, open_scorer, pick_device
from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.device_clock import Clock, clock_of
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.images import open_image
from sdsdemo.models.memory import free_bytes
from sdsdemo.models.precision import exactly
from sdsdemo.models.random_weights import read_shape, write_model
from sdsdemo.settings import budget

SPEND = budget(2, 2)
"""Eight evaluations: minutes at real size on two cores."""
Progress = Callable[[str], None]


def bench_shape(
    name: str,
    *,
    repeats: int = 5,
    device: str = "auto",
    precision: str = "auto",
    compiles: bool = False,
    progress: Progress = lambda line: None,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """The dict of `bench --shape NAME --json`. Raises `UserError` for a shape that there is not.

    compiles: whether to measure too what `torch.compile` gains a denoiser, at the end.
    """
    if repeats < 1:
        raise UserError(f"Repeats must be at least 1; it was {quoted(repeats)}.")
    shape, runs_on = read_shape(name), pick_device(device)
    with tempfile.TemporaryDirectory() as place:
        progress(f"writing {name} with random weights")
        spec, stored = write_model(shape, Path(place) / name)
        clock = clock_of(runs_on, clock)
        memory, start = peaks_mb("before", runs_on), clock()
        scorer = open_scorer(cards.resolve(spec), device=device, precision=precision)
        loading = clock() - start
        memory |= peaks_mb("after_loading", runs_on)
        question = replace(make_question(Path(place)), spend=SPEND)
        if isinstance(scorer, ClipScorer):
            measured = measured_clip(scorer, question, shape["short"], repeats, progress, clock)
        else:
            assert isinstance(scorer, DiffusionScorer)
            measured = _measured(scorer, question, shape["short"], repeats, progress, clock)
            if compiles:
                paths = scorer.model.denoiser, floor_of_any(scorer), 2 * SPEND.evaluations
                measured["compiled"] = measured_compiled(*paths, repeats, progress, clock)
    memory |= measured["memory"]
    held_by = "gpu_" if "gpu_before_mb" in memory else ""
    grown = memory[f"{held_by}after_loading_mb"] - memory[f"{held_by}before_mb"]
    loaded = ratio([grown], [memory["weights_mb"]])
    return {
        "shape": name,
        **measured,
        "ratios": measured["ratios"] | {f"loading_over_weights_{shape['short']}": loaded},
        "loading_seconds": round(loading, 2),
        "stored_mb": round(stored / MEGABYTE, 1),
        "memory": memory,
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
    seconds = result["seconds"] | {f"step, {name}": found for name, found in result["step_seconds"].items()}
    for name, found in seconds.items():
        lines.append(f"{name:34} {found['median']:8.2f} s   ({found['low']:.2f} to {found['high']:.2f})")
    lines += clip_as_text(result) if "a_second" in result else []
    lines += [compiled_as_text(result["compiled"])] if "compiled" in result else []
    for name, found in result["ratios"].items():
        spread = f"({found['low']:.3f} to {found['high']:.3f}, {found['repeats']} repeats)"
        lines.append(f"{name:34} {found['median']:8.3f}     {spread}")
    lines.append(f"loading took {result['loading_seconds']:.1f} s; weights {memory['weights_mb']:.0f} MB; peak memory:")
    lines += [f"  {name.removesuffix('_mb').replace('_', ' '):32} {memory[name]:8.0f} MB" for name in _peaks(memory)]
    return "\n".join(lines)


def _peaks(memory: Mapping[str, float]) -> list[str]:
    return [name for name in memory if name != "weights_mb"]


def weights_mb(scorer: DiffusionScorer) -> float:
    """All weights at the precision that they run in."""
    model = scorer.model
    parts = (model.denoiser, model.vae, *model.text_encoders)
    held = sum(int(weight.nbytes) for part in parts for weight in part.parameters())
    return round(held / MEGABYTE, 1)


def _measured(
    scorer: DiffusionScorer, question: Question, short: str, repeats: int, progress: Progress, clock: Clock
) -> dict[str, Any]:
    """What is measured of a pipeline: scoring, then steps, since peak memory only grows."""
    memory = {"weights_mb": weights_mb(scorer)}
    micro_batch, scorer.micro_batch = scorer.micro_batch, 1
    progress("one sample at a time")
    answer(scorer, replace(question, spend=budget(1, 1)))
    memory |= peaks_mb("after_scoring_one_at_a_time", scorer.model.device)
    scorer.micro_batch = micro_batch
    seconds = timed(_paths(scorer, question), repeats, progress, clock)
    memory |= peaks_mb(f"after_scoring_{micro_batch}_at_a_time", scorer.model.device)
    steps = timed(_steps(scorer), repeats, lambda line: progress(f"steps of L_SDS, {line}"), clock)
    memory |= peaks_mb("after_training", scorer.model.device)
    evaluations = 2 * question.spend.evaluations
    one = [value / evaluations for value in seconds["floor"]]
    return {
        "ratios": {
            f"over_floor_{short}": over_floor(seconds, evaluations),
            f"sds_kept_over_dropped_{short}": ratio(steps[_named(True, 1)], steps[_named(False, 1)]),
        },
        "seconds": {path: summary(values) for path, values in (seconds | {"one evaluation": one}).items()},
        "step_seconds": {step: summary(values) for step, values in steps.items()},
        "memory": memory,
        "evaluations": evaluations,
        "micro_batch": micro_batch,
        "pixels": scorer.model.pixels,
        "precision": str(scorer.model.dtype).removeprefix("torch."),
    }


def over_floor(seconds: Mapping[str, list[float]], evaluations: int) -> dict[str, float]:
    """Ours over the floor at the default budget, from what was timed at fewer evaluations; see the module's formula."""
    usual = 2 * budget().evaluations
    ours = [
        encoding + usual * (whole - encoding) / evaluations
        for whole, encoding in zip(seconds["ours"], seconds["encoding"], strict=True)
    ]
    return ratio(ours, [usual * value / evaluations for value in seconds["floor"]])


def _paths(scorer: DiffusionScorer, question: Question) -> dict[str, Callable[[], object]]:
    return {
        "ours": lambda: answer(scorer, question),
        "encoding": lambda: encoded(scorer, question),
        "floor": floor_of_any(scorer),
    }


def encoded(scorer: DiffusionScorer, question: Question) -> None:
    """What comes before the first evaluation."""
    image = open_image(question.path)
    scorer.concerns([image], question.captions)
    with exactly(scorer.model.device):
        scorer.model.encode_images([image], question.spend.region)
        scorer.model.encode_prompts(question.captions)


def floor_of_any(scorer: DiffusionScorer) -> Callable[[], None]:
    """A loop over what a family calls its denoiser with, on tensors made beforehand."""
    model, total = scorer.model, 2 * SPEND.evaluations
    noisy_B = torch.randn(total, *model.latent_shape).to(model.device, model.dtype)
    timestep_B = torch.randint(model.schedule.steps, (total,)).to(model.device)
    with torch.inference_mode():
        condition = model.encode_prompts(["a red star"])
        condition_B = model.take(condition, torch.zeros(total, dtype=torch.long))

    size = min(scorer.micro_batch, SPEND.evaluations)  # ours calls it for one caption at a time

    def loop() -> None:
        with torch.inference_mode():
            for k in range(0, total, size):
                part = torch.arange(k, min(total, k + size))
                model.predict(noisy_B[part], timestep_B[part], model.take(condition_B, part))

    return loop


def _steps(scorer: DiffusionScorer) -> dict[str, Callable[[], object]]:
    """A step of a batch of 1 and one of what fits, each with the Jacobian dropped and kept."""
    fits = {False: scorer.micro_batch, True: fitting_batch(scorer)}
    asked = dict.fromkeys([(False, 1), (True, 1), *fits.items()])
    return {_named(jacobian, batch): _step(scorer, batch, jacobian) for jacobian, batch in asked}


def _named(jacobian: bool, batch: int) -> str:
    return f"Jacobian {'kept' if jacobian else 'dropped'}, batch {batch}"


def _step(scorer: DiffusionScorer, batch: int, jacobian: bool) -> Callable[[], None]:
    """L_SDS of a batch, backwards to the latent."""
    model = scorer.model
    noise_B = torch.randn(batch, *model.latent_shape, device=model.device)
    latent_B = torch.randn(batch, *model.latent_shape, device=model.device, requires_grad=True)
    timestep_B = torch.full((batch,), model.schedule.steps // 2, device=model.device)
    with torch.no_grad():
        condition_B = model.take(model.encode_prompts(["a red star"]), torch.zeros(batch, dtype=torch.long))

    def step() -> None:
        given = (model.denoise, model.schedule, latent_B, noise_B, timestep_B, condition_B)
        torch.autograd.backward(sds_loss(*given, jacobian=jacobian).sum())

    return step


def fitting_batch(scorer: DiffusionScorer) -> int:
    """Samples of a step that half of the free memory holds, at most a batch of scoring; 1 where it is not known."""
    return max(1, min(scorer.micro_batch, free_bytes(scorer.model.device) // 2 // held_bytes(scorer, 1)))


def held_bytes(scorer: DiffusionScorer, batch: int) -> int:
    """What a step through the denoiser keeps for its way back, beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in scorer.model.denoiser.parameters()}
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _step(scorer, batch, jacobian=True)()
    return sum(size for place, size in held.items() if place not in weights)
