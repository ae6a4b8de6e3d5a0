"""What scoring a benchmark with one model would take here: `doctor --model NAME` measures for a minute and says it.

A model whose weights are not here is measured by its shape, with random weights, where that shape ships with us.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.wrapping import wrapped
from sdsdemo.core.number_format import duration
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.cost import MINUTE, measure
from sdsdemo.models.memory import peak_bytes
from sdsdemo.models.random_weights import read_shape, shape_names, shape_of, write_model
from sdsdemo.settings import Knob, budget
from sdsdemo.types import Card

EXAMPLES = Knob(default=400, low=1, high=100_000_000, meaning="Examples of the benchmark that is estimated.")
NOT_HERE = (
    "The weights of {title} are not here, and no shape of it ships with us: fetch them (`python -m sdsdemo fetch "
    "{name}`), or measure one of the shapes {shapes}."
)


def estimate(
    name: str,
    workbench: Workbench,
    *,
    examples: int = EXAMPLES.default,
    limit: float = MINUTE,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The dict of `doctor --model NAME --json`, for examples of two pictures and two captions, as Winoground's.

    name: a card, a spec or a shape. limit: seconds to measure in. Raises `UserError`.
    """
    examples = EXAMPLES.check(examples, "Examples")
    use = workbench.settings
    with _found(name, workbench, progress) as (card, is_random):
        start = time.perf_counter()
        scorer = open_scorer(card, device="cpu" if card.mini else use.device, precision=use.precision)
        loading = time.perf_counter() - start
        progress(f"measuring {name}")
        cost = replace(measure(scorer, limit), loading=loading)
        model = getattr(scorer, "model", None)
        spend = budget()
        return {
            "model": name,
            "random_weights": is_random,
            "device": model.device.type if model is not None else "cpu",
            "precision": _precision(model),
            "cost": {part: _short(value) for part, value in asdict(cost).items()},
            "examples": examples,
            "pairs": 4 * examples,
            "evaluations": spend.evaluations if cost.denoises else 1,
            "seconds": _short(cost.seconds(examples, spend)),
            **_peaks_mb(model),
        }


def as_text(found: Mapping[str, Any], width: int) -> str:
    """The estimate for people, wrapped to `width`."""
    cost, weights = found["cost"], ", random weights of its shape" if found["random_weights"] else ""
    peak = f"{found['peak_memory_mb'] / 1000:.1f} GB"
    if "peak_gpu_memory_mb" in found:
        peak += f", of the GPU {found['peak_gpu_memory_mb'] / 1000:.1f} GB"
    lines = [
        f"{found['model']}{weights}: {found['precision']} on {found['device']}",
        f"a picture {cost['picture']:.3g} s, a caption {cost['caption']:.3g} s, an evaluation "
        f"{cost['evaluation']:.3g} s, loading {cost['loading']:.3g} s; peak memory {peak}",
        f"{found['examples']:,} examples of two pictures and two captions, {found['evaluations']} evaluations a pair: "
        f"about {duration(found['seconds'])} in one process",
    ]
    return "\n".join(wrapped(line, width, "", "    ") for line in lines)


@contextmanager
def _found(name: str, workbench: Workbench, progress: Callable[[str], None]) -> Iterator[tuple[Card, bool]]:
    """The card of a model that is here, and whether its weights are random. Raises `UserError`."""
    is_shape = name in shape_names() and name not in cards.all_cards()
    card = None if is_shape else workbench.card(name)
    if card is not None and _is_here(card):
        yield card, False
        return
    shape = name if card is None else shape_of(card.name)
    if shape is None:
        assert card is not None
        raise UserError(NOT_HERE.format(title=card.title, name=card.name, shapes=", ".join(shape_names())))
    with tempfile.TemporaryDirectory() as place:
        progress(f"writing {shape} with random weights")
        spec, _ = write_model(read_shape(shape), Path(place) / shape)
        yield cards.resolve(spec), True


def _is_here(card: Card) -> bool:
    """Whether loading it needs no download; a broken folder counts, since loading says what is wrong with it."""
    base = cards.resolve(card.base) if card.family == "sds-clip" and card.base else card
    return not base.download or cards.is_downloaded(base)


def _precision(model: Any) -> str:
    return str(getattr(model, "dtype", "float32")).removeprefix("torch.")


def _short(value: float) -> float:
    """Four digits."""
    return value if isinstance(value, bool) else float(f"{value:.4g}")


def _peaks_mb(model: Any) -> dict[str, float]:
    """Of the process, and of the GPU where the model is on one whose memory torch counts."""
    from sdsdemo.cli.bench import MEGABYTE, peak_memory_mb

    found, device = {"peak_memory_mb": peak_memory_mb()}, getattr(model, "device", None)
    if device is not None and device.type == "cuda":
        found["peak_gpu_memory_mb"] = round(peak_bytes(device) / MEGABYTE, 1)
    return found
