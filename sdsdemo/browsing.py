"""A stored run with its pictures, to be filtered and sorted: which examples, how each model did on them. No page.

Only pair-of-pairs benchmarks. `right` by text, image, group or group-match as in `metrics`; a *margin* is how clearly
the two text picks go the right way, min( s(i0,c0) - s(i0,c1), s(i1,c1) - s(i1,c0) ), in the model's own units: margins
of two models have no common scale, so that their *disagreement* is the distance of their ranks.

Shape suffixes: E example, I image, C caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.deciding import decide
from sdsdemo.errors import UserError
from sdsdemo.freshness import current
from sdsdemo.judging import judge
from sdsdemo.metrics import MODES, Proportion, proportion, verdict
from sdsdemo.runs import StoredRun
from sdsdemo.summaries import tag_rows, tags_of, transitions
from sdsdemo.types import Example, Scores

TAG_KINDS = ("collapsed_tag", "tag")
SECONDARY_KINDS = ("secondary_tag", "num_main_preds")
CATEGORY = "category"
ANY, ALL = "any", "all"
WHO = {
    ANY: "anyone, right or wrong",
    "right": "the first model is right",
    "wrong": "the first model is wrong",
    "fixed": "first wrong, second right (fixed)",
    "broken": "first right, second wrong (broken)",
    "still wrong": "both wrong",
    "always right": "both right",
}
OF_SEVERAL = {ANY: "any of the tags", ALL: "all of the tags"}
"""For kinds of which an example may have more than one."""
DECIDED = {ANY: "decided or not", "decided": "decided both times", "undecided": "undecided at least once"}
ORDER = {
    "benchmark": "as in the benchmark",
    "closest": "closest call first",
    "worst": "clearest mistake first",
    "best": "clearest success first",
    "disagreement": "largest disagreement first",
}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What is to be seen. Several values of one field widen it, several fields narrow it; `of_several` may differ."""

    model: str
    against: str
    metric: str = "text"
    tags: tuple[str, ...] = ()
    """Each `kind=tag`."""
    secondary: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    of_several: str = ANY
    """Whether `any` of the secondary tags and of the categories will do, or an example must have `all` of them."""
    modes: tuple[str, ...] = ()
    who: str = ANY
    decided: str = ANY
    words: str = ""
    order: str = "benchmark"


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """One run, ready to be looked through."""

    name: str
    """Of the benchmark."""
    examples: Sequence[Example]
    scores: Mapping[str, Sequence[Scores]]
    """By model, in the order of the examples."""
    right: Mapping[str, Mapping[str, np.ndarray]] = field(repr=False)
    finite: Mapping[str, np.ndarray] = field(repr=False)
    """Whether a model says anything about an example; where not, it is neither right nor wrong."""
    modes: Mapping[str, Sequence[str]] = field(repr=False)
    decided: Mapping[str, np.ndarray] = field(repr=False)
    margin: Mapping[str, np.ndarray] = field(repr=False)
    captions: Sequence[str] = field(repr=False)
    """Both captions of each example in lower case, to be searched."""
    notes: Sequence[str] = ()
    """What is left out since it no longer fits, in sentences."""

    @property
    def models(self) -> list[str]:
        return list(self.scores)

    def place(self, example: str) -> int | None:
        """Where an example of this id is; None where there is none."""
        return next((e for e, found in enumerate(self.examples) if found.id == example), None)

    def tag_choices(self, kinds: Sequence[str]) -> list[str]:
        """`kind=tag` of all tags that occur."""
        return [f"{kind}={tag}" for kind in kinds for tag in tag_rows(self.examples, kind)]


def read_catalogue(run: StoredRun, reader: Callable[[str], list[Example]] = read_benchmark) -> Catalogue:
    """A run with the examples that it scored; without rows of models and examples that have changed since.

    Raises `UserError` where the benchmark is not here any more or has changed, where it is not one of pairs of pairs,
    and where no model has scored all of it.
    """
    if any((example.images, example.captions) != (2, 2) for example in run.examples):
        raise UserError(f"'{run.benchmark}' has one image an example: its figures are under Results.")
    known = {example.id: example for example in reader(run.benchmark)}
    missing = [example.id for example in run.examples if example.id not in known]
    if missing:
        raise UserError(f"'{run.benchmark}' has no example {missing[0]} any more: evaluate it again.")
    run = current(run, lambda name: list(known.values()))
    scores = {model: found for model in run.models if (found := run.of(model)) is not None}
    if not scores:
        raise UserError(f"No model in '{run.path.name}' has scored every example yet: run evaluate again first.")
    examples = [known[example.id] for example in run.examples]
    judged = {model: judge(found) for model, found in scores.items()}
    return Catalogue(
        name=run.benchmark,
        examples=examples,
        scores=scores,
        right={model: found.right for model, found in judged.items()},
        finite={model: found.finite for model, found in judged.items()},
        modes={model: [verdict(one.score_IC, one.resolution).mode for one in found] for model, found in scores.items()},
        decided={model: np.array([_both_decided(one) for one in found]) for model, found in scores.items()},
        margin={model: found.margin["text"] for model, found in judged.items()},
        captions=["\n".join(example.captions).casefold() for example in examples],
        notes=run.notes,
    )


def select(catalogue: Catalogue, wanted: Filter) -> np.ndarray:
    """Places of the examples that pass the filter, in the order asked for."""
    keep_E = np.ones(len(catalogue.examples), dtype=bool)
    if wanted.tags:
        keep_E &= _has_tag(catalogue.examples, wanted.tags, any)
    for kinds in (wanted.secondary, tuple(f"{CATEGORY}={tag}" for tag in wanted.categories)):
        if kinds:
            keep_E &= _has_tag(catalogue.examples, kinds, all if wanted.of_several == ALL else any)
    if wanted.modes:
        keep_E &= np.array([mode in wanted.modes for mode in catalogue.modes[wanted.model]])
    if wanted.who != ANY:
        keep_E &= went(catalogue, wanted)[wanted.who]
    if wanted.decided != ANY:
        keep_E &= catalogue.decided[wanted.model] == (wanted.decided == "decided")
    for word in wanted.words.casefold().split():
        keep_E &= np.array([word in text for text in catalogue.captions])
    return _ordered(catalogue, wanted, np.flatnonzero(keep_E))


def went(catalogue: Catalogue, wanted: Filter) -> dict[str, np.ndarray]:
    """By each of `WHO`, whether an example is so, for the two models and the metric of a filter."""
    a_E, b_E = (catalogue.right[model][wanted.metric] for model in (wanted.model, wanted.against))
    says_E = catalogue.finite[wanted.model]
    both_E = says_E & catalogue.finite[wanted.against]
    ways = {way: which_E & both_E for way, which_E in transitions(a_E, b_E).items()}
    return {"right": a_E, "wrong": ~a_E & says_E, **ways}


def by_tag(catalogue: Catalogue, wanted: Filter) -> dict[str, tuple[Proportion, Proportion]]:
    """By `kind=tag`, how often either model is right, among what passes the filter without its tags."""
    rest = np.zeros(len(catalogue.examples), dtype=bool)
    rest[select(catalogue, replace(wanted, tags=()))] = True
    shares = {}
    for kind in TAG_KINDS:
        for tag, places in tag_rows(catalogue.examples, kind).items():
            kept = places[rest[places]]
            if len(kept):
                a, b = (_share(catalogue, m, wanted.metric, kept) for m in (wanted.model, wanted.against))
                shares[f"{kind}={tag}"] = (a, b)
    return shares


def by_mode(catalogue: Catalogue, wanted: Filter) -> dict[str, int]:
    """How many examples the first model fails in each way, among what passes the filter without its modes."""
    rest = select(catalogue, replace(wanted, modes=()))
    found = [catalogue.modes[wanted.model][place] for place in rest]
    return {mode: found.count(mode) for mode in MODES if mode in found}


def by_transition(catalogue: Catalogue, wanted: Filter) -> dict[str, int]:
    """How many examples went each way from the first model to the second, among what passes without `who`."""
    rest, ways = select(catalogue, replace(wanted, who=ANY)), went(catalogue, wanted)
    return {way: int(ways[way][rest].sum()) for way in ("fixed", "broken", "still wrong", "always right")}


def facts(catalogue: Catalogue, place: int, kinds: Sequence[str]) -> list[str]:
    """The tags of one example, each once."""
    return list(dict.fromkeys(tag for kind in kinds for tag in tags_of(catalogue.examples[place], kind)))


def _share(catalogue: Catalogue, model: str, metric: str, places: np.ndarray) -> Proportion:
    """Of the examples at these places on which the model says something."""
    says = places[catalogue.finite[model][places]]
    return proportion(int(catalogue.right[model][metric][says].sum()), len(says))


def _has_tag(
    examples: Sequence[Example], wanted: Sequence[str], how_many: Callable[[Iterable[bool]], bool]
) -> np.ndarray:
    """how_many: `any` or `all` of the tags wanted, each `kind=tag`."""
    pairs = [text.partition("=")[::2] for text in wanted]
    return np.array([how_many(tag in tags_of(example, kind) for kind, tag in pairs) for example in examples])


def _ordered(catalogue: Catalogue, wanted: Filter, places: np.ndarray) -> np.ndarray:
    margin_E = catalogue.margin[wanted.model]
    keys: dict[str, Any] = {
        "closest": lambda: np.abs(margin_E),
        "worst": lambda: margin_E,
        "best": lambda: -margin_E,
        "disagreement": lambda: -np.abs(_ranks(margin_E) - _ranks(catalogue.margin[wanted.against])),
    }
    if wanted.order not in keys:
        return places
    return places[np.argsort(keys[wanted.order]()[places], kind="stable")]


def _ranks(value_E: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(value_E, kind="stable"), kind="stable")


def _both_decided(scores: Scores) -> bool:
    return all(decide(scores, image).decided for image in range(2))
