"""Six fixed pictures of the validation set, and whether a run gets them right at each of its evaluations.

The rule: in the order of the set, three that Mini CLIP is wrong about and three that it is right about, taken in turn,
no two with the same kind of swap. So a run can both gain and lose. Which those are follows from the stored race.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sdsdemo.app.job_states import EvaluationPoint
from sdsdemo.core.bits import unpacked
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.finetuning.objective_race import Race
from sdsdemo.types import Example
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import THUMB, Thumbnails

COUNT = 6
MOST_TICKS = 12
"""Most ticks of a picture; of more evaluations, some between the first and the last are left out."""
KIND = "tag"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One picture of an example of the validation set."""

    place: int
    """Of the example in its set."""
    picture: int
    example: Example


@cache
def examples_of(benchmark: str) -> tuple[Example, ...]:
    """A Mini set, read once. Raises `UserError` if it is missing."""
    return tuple(read_benchmark(benchmark))


def watched_pictures(race: Race) -> list[Watched]:
    """The six pictures. Raises `UserError` if the set is missing."""
    examples = examples_of(race.benchmark)
    start_EI = right_pictures(next(iter(race.pictures.values()))[0][1], len(examples))
    found: list[Watched] = []
    for number in range(COUNT):
        kinds = {one.example.tags[KIND] for one in found}
        found += _first(examples, start_EI, number % 2 == 1, kinds)
    return found


def _first(examples: Sequence[Example], right_EI: np.ndarray, is_right: bool, kinds: set[str]) -> list[Watched]:
    """The first picture that the base is right or wrong about, of a kind that is not among `kinds`."""
    for place, picture in np.argwhere(right_EI == is_right):
        if examples[place].tags[KIND] not in kinds:
            return [Watched(place=int(place), picture=int(picture), example=examples[place])]
    return []


def right_pictures(bits: str, count: int) -> np.ndarray:
    """right_EI of `count` pairs of pairs. Raises `ValueError` for bits of another number."""
    return unpacked(bits, 2 * count).reshape(count, 2)


def decisions(watched: Sequence[Watched], own: Sequence[EvaluationPoint], count: int) -> list[list[tuple[int, bool]]]:
    """By picture: step, and whether its own caption was preferred, at each evaluation that says so.

    count: examples of the set.
    """
    laps: list[tuple[int, np.ndarray]] = []
    for point in own:
        with suppress(ValueError):  # of an earlier version, or of another set
            laps.append((point.step, right_pictures(point.pictures, count)))
    return [[(step, bool(right_EI[one.place, one.picture])) for step, right_EI in thinned(laps)] for one in watched]


def thinned(laps: Sequence[Any]) -> list[Any]:
    """At most MOST_TICKS of them, with the first and the last."""
    if len(laps) <= MOST_TICKS:
        return list(laps)
    return [laps[round(k * (len(laps) - 1) / (MOST_TICKS - 1))] for k in range(MOST_TICKS)]


def pictures_html(race: Race, own: Sequence[EvaluationPoint], thumbs: Thumbnails) -> str:
    """The six pictures with both captions, and a tick or a cross for each evaluation of the run."""
    watched = watched_pictures(race)
    before = [EvaluationPoint(step=0, value=0, low=0, high=0, n=race.n, metric="text", pictures=_start(race))]
    rows = decisions(watched, own or before, race.n)
    return render(
        "race.pictures",
        cards=[_card(one, row, thumbs) for one, row in zip(watched, rows, strict=True)],
        is_own=bool(own),
    )


def _start(race: Race) -> str:
    return next(iter(race.pictures.values()))[0][1]


def _card(one: Watched, row: Sequence[tuple[int, bool]], thumbs: Thumbnails) -> dict[str, Any]:
    captions = one.example.captions
    return {
        "source": thumbs.of(one.example.images[one.picture], THUMB),
        "captions": captions,
        "true": one.picture,
        "ticks": [{"step": f"{step:,}", "right": is_right} for step, is_right in row],
        "flipped": "" if len(row) < 2 or row[0][1] == row[-1][1] else "gained" if row[-1][1] else "lost",
    }


def changed_picture(own: Sequence[EvaluationPoint], race: Race) -> tuple[Watched, str] | None:
    """The picture that shows best what a run changed, and how: "gained", "lost" or "same".

    One that is right at the end and was wrong at the start, or else the reverse; of the six if it can be, else of the
    whole set. None if the run has no evaluation that says so.
    """
    laps = [right_EI for point in own if (right_EI := _readable(point, race.n)) is not None]
    if not laps:
        return None
    six, examples = watched_pictures(race), examples_of(race.benchmark)
    first_EI, last_EI = laps[0], laps[-1]
    for how, changed_EI in (("gained", last_EI & ~first_EI), ("lost", first_EI & ~last_EI)):
        for one in six:
            if changed_EI[one.place, one.picture]:
                return one, how
        for place, picture in np.argwhere(changed_EI):
            return Watched(place=int(place), picture=int(picture), example=examples[place]), how
    return six[0], "same"


def _readable(point: EvaluationPoint, count: int) -> np.ndarray | None:
    try:
        return right_pictures(point.pictures, count)
    except ValueError:
        return None
