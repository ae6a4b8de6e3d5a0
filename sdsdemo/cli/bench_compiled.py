"""What `torch.compile` gains a denoiser on this machine: `bench --shape NAME --compile`. Judges nothing.

    pays_after = compile_seconds / (plain - compiled)      evaluations; none where compiled is not quicker
    compile_seconds = first call - a later one             plain, compiled: seconds an evaluation, timed in turn

Each size of batch may be compiled anew, so a run with many sizes pays later; code that torch's own cache holds of an
earlier process takes less.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from sdsdemo.cli.bench import ratio, summary, timed
from sdsdemo.models.compiled import compile_calls
from sdsdemo.models.device_clock import Clock
from sdsdemo.settings import budget


def measured_compiled(
    denoiser: Any,
    loop: Callable[[], None],
    evaluations: int,
    repeats: int,
    progress: Callable[[str], None],
    clock: Clock,
) -> dict[str, Any]:
    """The dict under `compiled` of `bench --shape NAME --compile --json`; `works` alone where nothing compiles.

    loop: so many evaluations of the denoiser, in inference mode.
    """
    compiled = compile_calls(denoiser, "The denoiser")
    progress("torch.compile")
    start = clock()
    loop()
    first = clock() - start
    compiled.is_on = False
    if not compiled.works:
        return {"works": False}

    def through() -> None:
        compiled.is_on = True
        loop()
        compiled.is_on = False

    taken = timed({"plain": loop, "compiled": through}, repeats, lambda line: progress(f"compiled, {line}"), clock)
    one = {name: [value / evaluations for value in values] for name, values in taken.items()}
    spent = max(0.0, first - statistics.median(taken["compiled"]))
    gain = statistics.median(one["plain"]) - statistics.median(one["compiled"])
    return {
        "works": True,
        "compile_seconds": round(spent, 2),
        "seconds": {name: summary(values) for name, values in one.items()},
        "plain_over_compiled": ratio(one["plain"], one["compiled"]),
        "pays_after": math.ceil(spent / gain) if gain > 0 else None,
    }


def compiled_as_text(found: Mapping[str, Any]) -> str:
    """One line for people."""
    if not found["works"]:
        return "torch.compile does not work here: leave SDSDEMO_COMPILE off"
    plain, compiled = (found["seconds"][name]["median"] for name in ("plain", "compiled"))
    took = f"torch.compile took {found['compile_seconds']:.1f} s"
    said = f"{took}; an evaluation takes {compiled:.3f} s, without it {plain:.3f} s"
    if found["pays_after"] is None:
        return f"{said}: it gains nothing here"
    questions = math.ceil(found["pays_after"] / (2 * budget().evaluations))
    return f"{said}: it pays after {found['pays_after']:,} evaluations, {questions:,} answers of two captions"
