"""Whether a stored run still matches the models and benchmark on this machine. Scores nothing.

Rows of a model or benchmark that is not on this machine are shown as they are. Whatever is here and has changed since
is left out and named, so that no old score is shown for a new picture or new weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.evaluation.progress import Digests
from sdsdemo.evaluation.store import StoredExample, StoredRun, differs, hash_of, named, retagged, stored_of
from sdsdemo.models import cards
from sdsdemo.types import Example

Reader = Callable[[str], list[Example]]
Digested = Callable[[Sequence[Example]], Mapping[str, str]]
"""Gives the digests of examples by id."""
OTHER_BENCHMARK = (
    "'{run}' was scored on an older '{benchmark}': {count} of its {total} examples have changed or are gone. "
    "Evaluate it again with a new --out."
)
CHANGED_EXAMPLES = "{count} of {total} examples have changed and are left out ({names}): evaluate again."
CHANGED_MODEL = "{model} is left out because its {what} changed after scoring: evaluate it again with a new --out."
UNREADABLE_MODEL = "{model} is left out because it can no longer be read: {why}"


@dataclass(frozen=True)
class Stale:
    """The outdated part of a run."""

    models: tuple[tuple[str, str], ...] = ()
    """Each with a sentence: what changed, or why it cannot be read."""
    examples: tuple[str, ...] = ()
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By example, its current tags if these are not the stored ones."""

    def __bool__(self) -> bool:
        return bool(self.models or self.examples or self.tags)


def current(run: StoredRun, reader: Reader | None = None, digested: Digested | None = None) -> StoredRun:
    """The run without its outdated part, which its `notes` name. Raises `UserError` if too little is left.

    reader: gives the examples of a benchmark by name, by default those that are here. digested: gives their digests.
    """
    return without(run, stale(run, reader, digested))


def read_once() -> Reader:
    """A `Reader` for several runs, which reads each benchmark that is here once."""
    return cache(read_benchmark)


def nothing_here(benchmark: str) -> list[Example]:
    """A `Reader` of a machine without any benchmark. Raises `UserError`."""
    raise UserError(f"'{benchmark}' is not shown here.")


def stale(run: StoredRun, reader: Reader | None = None, digested: Digested | None = None) -> Stale:
    """The part of a run that no longer matches the models and benchmark on this machine."""
    changed = {model: _changed(model, run) for model in run.header["models"]}
    models = tuple((model, said) for model, said in changed.items() if said)
    try:
        now = {example.id: example for example in (reader or read_benchmark)(run.benchmark)}
    except UserError:
        return Stale(models=models)
    return Stale(
        models=models, examples=_changed_examples(run, now, digested or Digests().of), tags=_new_tags(run, now)
    )


def without(run: StoredRun, found: Stale) -> StoredRun:
    """A run without its stale part and with its current tags. Raises `UserError` if most examples, or all models, would
    be gone."""
    if not found:
        return run
    total, count = len(run.every), len(found.examples)
    if 2 * count > total:
        raise UserError(OTHER_BENCHMARK.format(run=run.path, benchmark=run.benchmark, count=count, total=total))
    notes = [said for _, said in found.models]
    gone = {model for model, _ in found.models}
    models = {model: key for model, key in run.header["models"].items() if model not in gone}
    if gone and not models:
        raise UserError(f"'{run.path}' has nothing left to show. {' '.join(notes)}")
    if count:
        notes.append(CHANGED_EXAMPLES.format(count=count, total=total, names=named(found.examples)))
    return replace(
        run,
        header={**run.header, "models": models},
        every=_tagged(run.every, found),
        examples=_tagged([example for example in run.examples if example.id not in found.examples], found),
        notes=(*run.notes, *notes),
    )


def _changed(model: str, run: StoredRun) -> str:
    """Why a model's scores are hidden, in a sentence; empty if nothing changed or it is not here."""
    try:
        card = cards.resolve(model)
    except UserError:
        return ""
    try:
        parts = cards.fingerprint_parts(card)
        if parts and run.header["models"][model] in (cards.fingerprint(card), cards.weights_fingerprint(card)):
            return ""
    except (UserError, OSError):
        parts = {}
    if why := cards.why_unreadable(card):
        return UNREADABLE_MODEL.format(model=model, why=why)
    if not parts:
        return ""
    what = cards.what_changed(run.header.get("model_facts", {}).get(model, parts), parts)
    return CHANGED_MODEL.format(model=model, what=what or "weights or config")


def _tagged(examples: Sequence[StoredExample], found: Stale) -> tuple[StoredExample, ...]:
    return tuple(replace(example, tags=found.tags.get(example.id, example.tags)) for example in examples)


def _new_tags(run: StoredRun, now: Mapping[str, Example]) -> dict[str, dict[str, str]]:
    here = [(example, now[example.id].tags) for example in run.every if example.id in now]
    tags = retagged((example.tags for example in run.every), (current for _, current in here))
    found = {example.id: (example.tags, tags(example.tags, current)) for example, current in here}
    return {id_: current for id_, (stored, current) in found.items() if current != stored}


def _changed_examples(run: StoredRun, now: Mapping[str, Example], digested: Digested) -> tuple[str, ...]:
    here = [now[example.id] for example in run.every if example.id in now]
    has_digests = all(example.made_of for example in run.every)
    if not has_digests and hash_of(here) != run.header["benchmark_hash"]:
        return tuple(example.id for example in run.every)  # older versions stored nothing to tell which
    made_of = digested(here)
    return tuple(
        stored.id
        for stored in run.every
        if stored.id not in now or differs(stored, stored_of(now[stored.id], made_of[stored.id]))
    )
