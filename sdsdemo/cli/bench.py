"""Speed and memory of the Mini scorer on this machine, as ratios of paths timed in turn in one run. Judges nothing.

ours     picture file and two captions to a verdict: read, checked, encoded, scored, decided
floor    nothing but the denoiser on ready tensors: the same calls, precision and threads; keys and values of the
         captions are made in each of them, which ours makes once
plain    as one writes it first: a caption at a time, a timestep at a time, a noise at a time; the picture and the
         caption are encoded once a caption

shown    ours, and all that Compare shows of the denoising; `shown, one timestep` decodes that of one timestep alone

over_floor_mini = ours / floor     plain_over_ours = plain / ours     shown_over_ours = shown / ours

And a fine-tuning step of 32 images with the denoiser in it (`sds`) against one of `preference`, with both towers and
with the text tower alone, where the image features are computed beforehand. Asking the teacher once is in no step.

Between two answers nothing of the question is kept but its captions' token rows, as between two calls of
`sdsdemo.score`: picture and captions are encoded anew each time.

`precision` says how many of 400 decisions change in bfloat16. `two_processes` is of one run shared by two processes
(`bench_processes`); `growth_over_50_mb` what a run of 10,000 examples adds to memory (`bench_memory`), once each, the
latter on Linux alone.
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.bench_memory import ALLOWED_MB, growths_mb
from sdsdemo.cli.bench_noise import saved_by_noise
from sdsdemo.cli.bench_precision import EXAMPLES, compare_precisions, differing
from sdsdemo.cli.bench_processes import rates
from sdsdemo.core.decision import decide
from sdsdemo.core.losses import denoising_error
from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import draw
from sdsdemo.errors import UserError, quoted
from sdsdemo.finetuning.events import Step, result_of
from sdsdemo.finetuning.loop import TrainingConfig, train
from sdsdemo.finetuning.prepare import prepare
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.setup import load, plan
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.device_clock import Clock
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.images import open_image
from sdsdemo.models.memory import peak_bytes
from sdsdemo.models.noise_grid import draw_noise, spread_timesteps
from sdsdemo.settings import CHECKPOINTS, budget
from sdsdemo.types import Answer, Budget, Scorer
from sdsdemo.ui.denoising_view import denoising_html

CARD = "mini-diffusion"
SHOWN = ("mini-clip", CARD, "mini-sds-clip")
"""The models of the page's first view."""
SHARED = Recipe(batch=32, steps=1_000, pool=256, fitted_on=64)
TRAINED = {
    "sds": replace(SHARED, objective="sds"),
    "preference": replace(SHARED, objective="labels"),
    "preference, text": replace(SHARED, objective="labels", towers="text"),
}
"""Recipes whose steps are timed; `labels` is the step of `preference` without having asked the teacher."""
SEED = 20_003
ENDLESS = 600.0
"""Seconds that decoding never reaches."""
MICRO_BATCHES = (1, 8, 64)
MEGABYTE = 1e6


@dataclass(frozen=True, kw_only=True)
class Question:
    """What every path answers."""

    path: Path
    captions: tuple[str, str]
    spend: Budget


def bench(
    *, repeats: int = 5, progress: Callable[[str], None] = lambda line: None, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """The dict of `bench --json`: `ratios` with median, low, high and repeats each, the seconds behind them, memory.

    The paths are timed in turn, once unmeasured and then `repeats` times, so that a machine that grows slower does so
    for all of them. clock: of the scoring paths.

    Raises `UserError` for repeats below 1, and for weights that are not here.
    """
    if repeats < 1:
        raise UserError(f"Repeats must be at least 1; it was {quoted(repeats)}.")
    scorer = open_scorer(cards.resolve(CARD), device="cpu")
    assert isinstance(scorer, DiffusionScorer)
    with tempfile.TemporaryDirectory() as folder:
        question = make_question(Path(folder))
        peaks = peak_by_micro_batch(scorer, question)
        seconds = timed(_paths(scorer, question), repeats, progress, clock)
        page = _page_seconds(question, clock)
    precision, parts = compare_precisions(
        CARD, repeats=repeats, examples=EXAMPLES, spend=question.spend, progress=progress
    )
    steps = timed(steppers(), repeats, lambda line: progress(f"fine-tuning steps, {line}"), time.perf_counter)
    by_processes = rates(repeats, progress=progress)
    progress("a run of 10,000 examples")
    growths = growths_mb()
    return {
        "ratios": {
            **_path_ratios(seconds),
            **_noise_ratios(scorer, repeats),
            "bfloat16_over_float32_mini": ratio(parts["bfloat16"], parts["float32"]),
            **{f"sds_over_{name}": ratio(steps["sds"], steps[name]) for name in steps if name != "sds"},
            "two_processes": ratio(by_processes[2], by_processes[1]),
            **{f"growth_over_50_mb_{kind}": ratio([grown], [ALLOWED_MB]) for kind, grown in growths.items()},
        },
        "precision": precision,
        "step_seconds": {name: summary(values) for name, values in steps.items()},
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "answer_seconds": page,
        "evaluations": 2 * question.spend.evaluations,
        "micro_batch": scorer.micro_batch,
        "evaluations_a_second": {str(count): summary(values) for count, values in by_processes.items()},
        "peak_memory_mb": peak_memory_mb(),
        "peak_memory_mb_by_micro_batch": peaks,
        "weights_mb": round(sum(p.stat().st_size for p in CHECKPOINTS.rglob("*") if p.is_file()) / MEGABYTE, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _paths(scorer: DiffusionScorer, question: Question) -> dict[str, Callable[[], object]]:
    return {
        "ours": lambda: answer(scorer, question),
        "floor": floor(scorer, question.spend),
        "plain": lambda: plain(scorer, question),
        "shown": lambda: shown(scorer, question, free=ENDLESS),
        "shown, one timestep": lambda: shown(scorer, question, free=0.0),
    }


def _path_ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    return {
        "over_floor_mini": ratio(seconds["ours"], seconds["floor"]),
        "plain_over_ours": ratio(seconds["plain"], seconds["ours"]),
        **{f"{name}_over_ours": ratio(seconds[name], seconds["ours"]) for name in seconds if "shown" in name},
    }


def _noise_ratios(scorer: DiffusionScorer, repeats: int) -> dict[str, dict[str, float]]:
    found = [saved_by_noise(scorer, repeat) for repeat in range(repeats)]
    return {name: {**summary([one[name] for one in found]), "repeats": repeats} for name in found[0]}


def answer(scorer: Scorer, question: Question) -> int | None:
    """Our whole path, from the file to the preferred caption."""
    image = open_image(question.path)
    if any(concern.blocking for concern in scorer.concerns([image], question.captions)):
        raise UserError("The bench's own picture is not known to the models: the shipped files do not fit together.")
    return decide(scorer.score([image], question.captions, question.spend)).preferred


def shown(scorer: DiffusionScorer, question: Question, *, free: float) -> str:
    """Our whole path, with what Compare shows of the denoising. free: seconds of decoding that are never too many."""
    image = open_image(question.path)
    if any(concern.blocking for concern in scorer.concerns([image], question.captions)):
        raise UserError("The bench's own picture is not known to the models: the shipped files do not fit together.")
    scores, denoised = scorer.score_and_show(image, question.captions, question.spend, most=0.0, free=free)
    answer = Answer(card=scorer.card, scores=scores, preference=decide(scores), denoised=denoised)
    return denoising_html(question.captions, [answer])


def floor(scorer: DiffusionScorer, spend: Budget) -> Callable[[], None]:
    """A loop over the denoiser alone, on tensors made beforehand."""
    model, total = scorer.model, 2 * spend.evaluations
    noisy_B = torch.randn(total, *model.latent_shape)
    timestep_B = torch.randint(model.schedule.steps, (total,))
    with torch.inference_mode():
        condition_B = model.encode_prompts(["a red star"]).expand(total, -1, -1).contiguous()
    size = min(scorer.micro_batch, spend.evaluations)  # ours calls it for one caption at a time
    parts = [slice(k, k + size) for k in range(0, total, size)]

    def loop() -> None:
        with torch.inference_mode():
            for part in parts:
                model.denoiser(
                    noisy_B[part], timestep_B[part], encoder_hidden_states=condition_B[part], return_dict=False
                )

    return loop


def plain(scorer: DiffusionScorer, question: Question) -> int:
    """The same answer, one denoiser evaluation a call."""
    model, spend = scorer.model, question.spend
    image: Image = open_image(question.path)
    timestep_T = torch.from_numpy(spread_timesteps(spend.timesteps, scorer.card.timestep_range, model.schedule.steps))
    noise_TN = draw_noise(spend, model.latent_shape)
    means = []
    with torch.inference_mode():
        for caption in question.captions:
            latent, condition = model.encode_images([image]), model.encode_prompts([caption])
            errors = [
                denoising_error(model.denoise, model.schedule, latent, noise[None], timestep[None], condition)
                for timestep, noise_N in zip(timestep_T, noise_TN, strict=True)
                for noise in noise_N
            ]
            means.append(float(torch.cat(errors).mean()))
    return means.index(min(means))


def steppers() -> dict[str, Callable[[], object]]:
    """A step of each recipe of `TRAINED`, one more at each call."""
    return {name: stepper(recipe) for name, recipe in TRAINED.items()}


def stepper(recipe: Recipe) -> Callable[[], object]:
    """A step of the recipe, one more at each call."""
    run = result_of(prepare(result_of(load(plan(recipe, Workbench())))))
    events = train(run.student, run.objective, TrainingConfig(steps=recipe.steps, learning_rate=1e-8))
    return lambda: next(event for event in events if isinstance(event, Step))


def as_text(result: Mapping[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"two captions, {result['evaluations']} denoiser evaluations, {result['threads']} threads, "
        f"torch {result['torch']}"
    ]
    for name, found in (result["seconds"] | {f"step, {k}": v for k, v in result["step_seconds"].items()}).items():
        low, high = 1000 * found["low"], 1000 * found["high"]
        lines.append(f"{name:26} {1000 * found['median']:8.1f} ms  ({low:.1f} to {high:.1f})")
    for name, found in result["ratios"].items():
        spread = f"({found['low']:.2f} to {found['high']:.2f}, {found['repeats']} repeats)"
        lines.append(f"{name:26} {found['median']:8.2f}     {spread}")
    lines += [f"warm answer of {name}: {1000 * value:.0f} ms" for name, value in result["answer_seconds"].items()]
    lines.append(differing(result["precision"]))
    peaks = ", ".join(f"{peak:.0f} at {size}" for size, peak in result["peak_memory_mb_by_micro_batch"].items())
    lines.append(f"peak memory by micro-batch: {peaks} MB")
    lines.append(f"peak memory {result['peak_memory_mb']:.0f} MB, shipped weights {result['weights_mb']} MB")
    return "\n".join(lines)


def make_question(folder: Path) -> Question:
    pair = benchmark_pairs(SEED, "validation", 40)[0]
    path = folder / "picture.png"
    draw(pair.scenes[0]).save(path)
    return Question(path=path, captions=(pair.sentences[0].text, pair.sentences[1].text), spend=budget())


def timed(
    paths: Mapping[str, Callable[[], object]], repeats: int, progress: Callable[[str], None], clock: Clock
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(repeats + 1):
        progress(f"turn {turn} of {repeats}" if turn else "warming up")
        for name, path in paths.items():
            start = clock()
            path()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def _page_seconds(question: Question, clock: Clock) -> dict[str, float]:
    """Warm seconds of each model of the page's first view that can run here."""
    seconds = {}
    for name in SHOWN:
        try:
            scorer = open_scorer(cards.resolve(name), device="cpu")
        except UserError:
            continue
        answer(scorer, question)
        start = clock()
        answer(scorer, question)
        seconds[name] = round(clock() - start, 4)
    return seconds


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Of the pairs timed in one turn."""
    return {**summary([a / b for a, b in zip(over, under, strict=True)]), "repeats": len(over)}


def summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 5),
        "low": round(min(values), 5),
        "high": round(max(values), 5),
    }


def peak_by_micro_batch(scorer: DiffusionScorer, question: Question) -> dict[str, float]:
    """Peak memory of the process after an answer at each micro-batch, from the smallest, since it only grows."""
    usual, peaks = scorer.micro_batch, {}
    for scorer.micro_batch in MICRO_BATCHES:
        answer(scorer, question)
        peaks[str(scorer.micro_batch)] = peak_memory_mb()
    scorer.micro_batch = usual
    return peaks


def peak_memory_mb() -> float:
    """Largest resident size of this process so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE, 1)


def peaks_mb(when: str, device: torch.device) -> dict[str, float]:
    """Peak memory so far, by name: of the process, and of the GPU where torch counts it."""
    peaks = {f"{when}_mb": peak_memory_mb()}
    if device.type == "cuda":
        peaks[f"gpu_{when}_mb"] = round(peak_bytes(device) / MEGABYTE, 1)
    return peaks
