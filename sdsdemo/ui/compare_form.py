"""The form of the Compare tab, as a visitor or a URL fills it in. `ui/compare_logic.py` checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.settings import typed_range
from sdsdemo.ui import answer_file
from sdsdemo.ui.examples import ShownExample


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a visitor filled in, unchecked."""

    image: str | None
    """Path of a file in Gradio's cache."""
    captions: Sequence[object]
    models: Sequence[object]
    timesteps: Any
    noises: Any
    seed: Any
    region: Any = "crop"
    timestep_range: Any = None
    """Two numbers, or a text with them; empty for the range on each model's card."""
    remarks: tuple[str, ...] = ()
    """Notes to show with the answer, where the URL asked for something else."""


def form_of_address(
    workbench: Workbench,
    examples: Sequence[ShownExample],
    query: Mapping[str, str],
    of_run: Callable[..., ShownExample] | None = None,
) -> tuple[Form, ShownExample | None] | None:
    """The form that a URL describes; None for a URL that asks for nothing."""
    if query.get("tab", "compare") != "compare" or not query.keys() & {"example", "a", "b", "models"}:
        return None
    request = answer_file.read_address(query, workbench.settings)
    captions, spend = request.captions, request.spend
    example = _of_run(query, of_run) or next((one for one in examples if one.name == request.example), None)
    if example and not any(captions):
        captions = example.captions
    form = Form(
        image=str(example.path) if example else None,
        captions=captions,
        models=request.models,
        timesteps=spend.timesteps,
        noises=spend.noises,
        seed=spend.seed,
        region=spend.region,
        timestep_range=typed_range(spend.timestep_range),
        remarks=request.dropped,
    )
    return form, example


def _of_run(query: Mapping[str, str], of_run: Callable[..., ShownExample] | None) -> ShownExample | None:
    """The picture of a stored run that a URL names; None if it names none, or the run is not here.

    For one image with many captions, the URL also gives the indices of two of them.
    """
    if of_run is None or not {"run", "example", "picture"} <= query.keys():
        return None
    places = [query[name][:6] for name in ("picture", "true", "rival") if name in query]
    if not all(place.isdecimal() for place in places):
        return None
    try:
        return of_run(query["run"], query["example"], *map(int, places))
    except UserError:
        return None
