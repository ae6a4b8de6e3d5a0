"""The study of noise: what pairs, shifted timesteps and weights are worth, and how early a difference is decided.

Every choice is made on validation pictures; nothing here sees the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.core.adaptive import LOOKS
from sdsdemo.core.number_format import points_words, share_words
from sdsdemo.mini.experiments.adaptive_findings import calibrated, error_and_cost
from sdsdemo.mini.experiments.noise_accuracy import METRICS, accuracy_findings
from sdsdemo.mini.experiments.noise_draws import FIFTHS, TIMESTEPS, collect
from sdsdemo.mini.experiments.noise_findings import findings
from sdsdemo.mini.experiments.noise_timesteps import RULES, timestep_findings, weights_of
from sdsdemo.mini.experiments.tables import as_markdown
from sdsdemo.runtime.files import write_json
from sdsdemo.settings import ASSETS

NOISE_FILE = ASSETS / "mini" / "results" / "experiment" / "noise.json"
DIGITS = 4
PARTS = ("tried_ETRP", "reference_ET")
WAYS = {
    "even": "two pairs at 8 timesteps",
    "shifted": "a pair at 16 timesteps",
    "noise": "weights 1 / noise",
    "signal": "weights signal / noise",
}
"""How each way of spending 32 evaluations is called."""


def run_noise(work: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Collect what is missing in `work`, and compute what is shown. Two cores need about three hours for all of it."""
    draws = {teacher: collect(teacher, work, progress) for teacher in FIFTHS}
    weights = {name: {rule: weights_of(found)[rule] for rule in RULES} for name, found in draws.items()}
    found: dict[str, Any] = _rounded(
        {
            "teachers": {name: findings(found) for name, found in draws.items()},
            "timesteps": {
                name: timestep_findings(name, found, work, progress)
                | {"accuracy": accuracy_findings(name, weights[name], work, progress)}
                for name, found in draws.items()
            },
            "adaptive": {name: error_and_cost(found) for name, found in draws.items()},
            "bounds": calibrated(*(np.concatenate([getattr(one, part) for one in draws.values()]) for part in PARTS)),
        }
    )
    return found


def write_noise(found: Mapping[str, Any]) -> Path:
    """Write the shipped figures."""
    write_json(NOISE_FILE, found)
    return NOISE_FILE


def noise_markdown(found: Mapping[str, Any]) -> str:
    """The three tables, for the document and the shell."""
    return "\n\n".join(as_markdown(grid(found)) for grid in (_noise_grid, _timestep_grid, _adaptive_grid))


def _noise_grid(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["teacher", "n", "noise", "variance", "interval holds the reference, %", "sign of the reference, %"]]
    for teacher, one in found["teachers"].items():
        for noise in ("plain", "antithetic"):
            ratio = one["variance"]
            variance = "1" if noise == "plain" else f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            shares = [share_words(one[noise][name]) for name in ("coverage", "agreement")]
            rows.append([teacher, str(one["pictures"]), noise, variance, *shares])
    return rows


def _timestep_grid(found: Mapping[str, Any]) -> list[list[str]]:
    shares = ["interval holds the reference, %", "sign of the reference, %"]
    rows = [["teacher", "n", "32 evaluations as", "noise", *shares, *(f"{metric}, points" for metric in METRICS)]]
    for teacher, one in found["timesteps"].items():
        everything = found["teachers"][teacher]["pictures"]
        for way, words in WAYS.items():
            own, ratio = _of_way(one, way)
            noise = "1" if way == "even" else f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            count = one["pictures"] if way == "shifted" else everything
            held = [share_words(own[name]) for name in ("coverage", "agreement")]
            right = [_points(one["accuracy"][way][metric], way) for metric in METRICS]
            rows.append([teacher, str(count), words, noise, *held, *right])
    return rows


def _of_way(one: Mapping[str, Any], way: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Figures of a way, and its noise as a share of that of `even`."""
    if way == "shifted":
        return one["grids"]["shifted"], one["grids"]["square"]
    return one["weights"][way], one["weights"][way]["noise"]


def _points(found: Mapping[str, Any], way: str) -> str:
    """The level of `even`, the change of any other."""
    return share_words(found) if way == "even" else points_words(found["change"])


def _adaptive_grid(found: Mapping[str, Any]) -> list[list[str]]:
    budgets = [str(look * TIMESTEPS) for look in LOOKS]
    head = ["teacher", "n", "evaluations, adaptive", "errors, %", "promised, %"]
    rows = [[*head, *(f"errors of {b}, %" for b in budgets)]]
    for teacher, one in found["adaptive"].items():
        shares = [_error(one["fixed"][spent]) for spent in budgets]
        spent, wrong = f"{one['evaluations']:.1f}", _error(one["error"])
        rows.append([teacher, str(one["pictures"]), spent, wrong, f"{100 * one['promised']:g}", *shares])
    return rows


def _error(share: float) -> str:
    """In percent; a share below one in a thousand is not shown as nothing."""
    return f"{100 * share:.2f}" if 0 < share < 0.001 else f"{100 * share:.1f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
