"""A stored run with its pictures, to filter and sort: which examples, how each model did on them. No page.

`right` as in `metrics`: by text, image, group or group-match where two images have two captions; by accuracy where one
image has k captions. The *margin* is that of the first of these: how clearly the two text picks go the right way, or by
how much the weakest true caption beats the strongest rival, in the model's own units. Margins of two models have no
common scale, so their *disagreement* is the difference of their ranks.

Shape suffixes: E example, I image, C caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from sdsdemo.core.decision import decide, of_captions
from sdsdemo.core.intervals import Proportion, proportion
from sdsdemo.core.metrics import ACCURACY, MODES, margins, verdict
from sdsdemo.core.outcomes import contest, judge
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.evaluation.freshness import current, nothing_here
from sdsdemo.evaluation.margin_box import MarginBox
from sdsdemo.evaluation.numbers_alone import NOT_SHOWN, examples_of
from sdsdemo.evaluation.orders import apart, varied
from sdsdemo.evaluation.store import StoredRun
from sdsdemo.evaluation.summary import by_chance, tag_rows, tags_of, transitions, true_captions
from sdsdemo.types import Example, Scores

TAG_KINDS = ("collapsed_tag", "tag")
SECONDARY_KINDS = ("secondary_tag", "num_main_preds")
CATEGORY = "category"
ANY, ALL = "any", "all"
WHO = {
    ANY: "any outcome",
    "right": "first model right",
    "wrong": "first model wrong",
    "tied": "first model tied",
    "no number": "first model without a finite score",
    "fixed": "fixed: first wrong, second right",
    "broken": "broken: first right, second wrong",
    "still wrong": "both wrong",
    "always right": "both right",
}
OF_SEVERAL = {ANY: "any of the tags", ALL: "all of the tags"}
"""For kinds of tags that an example may have several of."""
DECIDED = {ANY: "either", "decided": "decided for every picture", "undecided": "undecided for at least one picture"}
ORDER = {
    "varied": "varied",
    "benchmark": "the benchmark's order",
    "closest": "closest call first",
    "worst": "clearest mistake first",
    "best": "clearest success first",
    "disagreement": "largest disagreement first",
}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which examples to show. Several values in a field widen it, several fields narrow it; `of_several` may differ."""

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
    box: MarginBox | None = None
    """Which margins of the two models to keep; None keeps every example."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """One run, ready to browse."""

    name: str
    """Of the benchmark."""
    examples: Sequence[Example]
    scores: Mapping[str, Sequence[Scores]]
    """By model, in the order of the examples."""
    right: Mapping[str, Mapping[str, np.ndarray]] = field(repr=False)
    tied: Mapping[str, Mapping[str, np.ndarray]] = field(repr=False)
    """Whether the margin is within rounding, which counts as wrong."""
    finite: Mapping[str, np.ndarray] = field(repr=False)
    """Whether a model scores an example; if not, it is neither right nor wrong."""
    modes: Mapping[str, Sequence[str]] = field(repr=False)
    """Of pairs of pairs; empty for one image an example."""
    decided: Mapping[str, np.ndarray] = field(repr=False)
    margin: Mapping[str, np.ndarray] = field(repr=False)
    captions: Sequence[str] = field(repr=False)
    """All captions of each example in lower case, to be searched."""
    true: Sequence[int] = field(repr=False)
    """For one image: how many of the first captions are true."""
    chance: Mapping[str, np.ndarray] = field(repr=False)
    """By metric, how often random scores are right on each example."""
    notes: Sequence[str] = ()
    """What was left out as outdated or not shown, in sentences."""
    numbers_alone: bool = False
    """Whether there are grey squares and numbers in place of pictures and captions."""

    @property
    def models(self) -> list[str]:
        return list(self.scores)

    @property
    def metrics(self) -> list[str]:
        """What "right" may mean here; the margins are those of the first."""
        return list(self.chance)

    @property
    def one_image(self) -> bool:
        """Whether an example is one image and its captions, and not a pair of pairs."""
        return self.metrics == [ACCURACY]

    def place(self, example: str) -> int | None:
        """The place of the example with this id; None if absent."""
        return next((e for e, found in enumerate(self.examples) if found.id == example), None)

    def usual_margin(self, model: str) -> float:
        """The median size of a model's finite margins, in its own units; NaN if there is none."""
        size_E = np.abs(self.margin[model][np.isfinite(self.margin[model])])
        return float(np.median(size_E)) if len(size_E) else float("nan")

    def tag_choices(self, kinds: Sequence[str]) -> list[str]:
        """`kind=tag` of all tags that occur."""
        return [f"{kind}={tag}" for kind in kinds for tag in tag_rows(self.examples, kind)]


def read_catalogue(
    run: StoredRun, reader: Callable[[str], list[Example]] = read_benchmark, *, numbers_alone: bool = False
) -> Catalogue:
    """A run with its scored examples, without models and examples that have changed since.

    numbers_alone: without pictures and captions, and without reading the benchmark.
    Raises `UserError` if the benchmark is gone or has changed, if its examples have unsuitable or mixed shapes,
    or if no model has scored all of it.
    """
    _check_shapes(run)
    known = {example.id: example for example in (examples_of(run) if numbers_alone else reader(run.benchmark))}
    missing = [example.id for example in run.examples if example.id not in known]
    if missing:
        raise UserError(f"'{run.benchmark}' no longer has example {missing[0]}: evaluate it again.")
    run = current(run, nothing_here if numbers_alone else lambda name: list(known.values()))
    scores = {model: found for model in run.models if (found := run.of(model)) is not None}
    if not scores:
        raise UserError(f"No model in '{run.path.name}' has scored every example yet: run evaluate again first.")
    examples = [known[example.id] for example in run.examples]
    true_E = [min(true, len(e.captions)) for true, e in zip(true_captions(examples), examples, strict=True)]
    judged = {model: judge(found, true_E) for model, found in scores.items()}
    chance = by_chance([(len(e.images), len(e.captions)) for e in examples], true_E)
    return Catalogue(
        name=run.benchmark,
        examples=examples,
        scores=scores,
        right={model: found.right for model, found in judged.items()},
        tied={model: found.tied for model, found in judged.items()},
        finite={model: found.finite for model, found in judged.items()},
        modes={} if ACCURACY in chance else {model: _modes(found) for model, found in scores.items()},
        decided={
            model: np.array([is_decided(one, true) for one, true in zip(found, true_E, strict=True)])
            for model, found in scores.items()
        },
        margin={model: found.margin[found.metrics[0]] for model, found in judged.items()},
        captions=["\n".join(example.captions).casefold() for example in examples],
        true=true_E,
        chance=chance,
        notes=(*run.notes, NOT_SHOWN) if numbers_alone else run.notes,
        numbers_alone=numbers_alone,
    )


def _check_shapes(run: StoredRun) -> None:
    """Raises `UserError` unless all examples are pairs of pairs, or all have one image."""
    if not run.examples:
        raise UserError(f"No picture of '{run.benchmark}' could be opened: put its images back and evaluate again.")
    shapes = sorted({(example.images, example.captions) for example in run.examples})
    if shapes == [(2, 2)] or {images for images, _ in shapes} == {1}:
        return
    found = " and ".join(f"{images} x {captions}" for images, captions in shapes[:3])
    raise UserError(
        f"Browse shows examples of two images and two captions, or of one image and its captions; '{run.benchmark}' "
        f"has {found}. Its figures are under Results."
    )


def _modes(scores_E: Sequence[Scores]) -> list[str]:
    return [verdict(scores.score_IC, scores.resolution).mode for scores in scores_E]


def select(catalogue: Catalogue, wanted: Filter) -> np.ndarray:
    """Places of the examples that pass the filter, in the order asked for."""
    keep_E = np.ones(len(catalogue.examples), dtype=bool)
    if wanted.tags:
        keep_E &= _has_tag(catalogue.examples, wanted.tags, any)
    for kinds in (wanted.secondary, tuple(f"{CATEGORY}={tag}" for tag in wanted.categories)):
        if kinds:
            keep_E &= _has_tag(catalogue.examples, kinds, all if wanted.of_several == ALL else any)
    if wanted.modes and catalogue.modes:
        keep_E &= np.array([mode in wanted.modes for mode in catalogue.modes[wanted.model]])
    if wanted.who != ANY:
        keep_E &= outcome_masks(catalogue, wanted)[wanted.who]
    if wanted.decided != ANY:
        keep_E &= catalogue.decided[wanted.model] == (wanted.decided == "decided")
    for word in wanted.words.casefold().split():
        keep_E &= np.array([word in text for text in catalogue.captions])
    if wanted.box is not None:
        keep_E &= wanted.box.holds(catalogue.margin[wanted.model], catalogue.margin[wanted.against])
    return _ordered(catalogue, wanted, np.flatnonzero(keep_E))


def outcome_masks(catalogue: Catalogue, wanted: Filter) -> dict[str, np.ndarray]:
    """For each key of `WHO`, which examples match, by the filter's two models and metric."""
    a_E, b_E = (catalogue.right[model][wanted.metric] for model in (wanted.model, wanted.against))
    says_E = catalogue.finite[wanted.model]
    both_E = says_E & catalogue.finite[wanted.against]
    ways = {way: which_E & both_E for way, which_E in transitions(a_E, b_E).items()}
    tied_E = catalogue.tied[wanted.model][wanted.metric]
    return {"right": a_E, "wrong": ~a_E & says_E, "tied": tied_E, "no number": ~says_E, **ways}


class Tally(NamedTuple):
    """How one model did on some examples."""

    share: Proportion
    """Right, among the examples that the model scores."""
    ties: int
    """Within rounding: counted in the share, as wrong."""
    not_finite: int
    """A score is not finite: excluded from the share."""


def tally(catalogue: Catalogue, model: str, metric: str, places: np.ndarray) -> Tally:
    """How a model did on the examples at these places."""
    return Tally(
        share=_share(catalogue, model, metric, places),
        ties=int(catalogue.tied[model][metric][places].sum()),
        not_finite=int((~catalogue.finite[model][places]).sum()),
    )


class TagShares(NamedTuple):
    """How often each model, and a random scorer, is right on one tag's examples."""

    first: Proportion
    second: Proportion
    chance: float


def by_tag(catalogue: Catalogue, wanted: Filter) -> dict[str, TagShares]:
    """By `kind=tag`, how often each model is right, among what passes the filter without its tags."""
    rest = np.zeros(len(catalogue.examples), dtype=bool)
    rest[select(catalogue, replace(wanted, tags=(), order="benchmark"))] = True
    shares = {}
    for kind in TAG_KINDS:
        for tag, places in tag_rows(catalogue.examples, kind).items():
            kept = places[rest[places]]
            if len(kept):
                a, b = (_share(catalogue, m, wanted.metric, kept) for m in (wanted.model, wanted.against))
                shares[f"{kind}={tag}"] = TagShares(a, b, float(catalogue.chance[wanted.metric][kept].mean()))
    return shares


def by_mode(catalogue: Catalogue, wanted: Filter) -> dict[str, int]:
    """How many examples the first model fails in each way, among what passes the filter without its modes.

    Empty for examples of one image: they are right or not.
    """
    if not catalogue.modes:
        return {}
    rest = select(catalogue, replace(wanted, modes=(), order="benchmark"))
    found = [catalogue.modes[wanted.model][place] for place in rest]
    return {mode: found.count(mode) for mode in MODES if mode in found}


def by_transition(catalogue: Catalogue, wanted: Filter) -> dict[str, int]:
    """How many examples went each way from the first model to the second, among what passes without `who`."""
    rest, ways = select(catalogue, replace(wanted, who=ANY, order="benchmark")), outcome_masks(catalogue, wanted)
    return {way: int(ways[way][rest].sum()) for way in ("fixed", "broken", "still wrong", "always right")}


def facts(catalogue: Catalogue, place: int, kinds: Sequence[str]) -> list[str]:
    """The tags of one example, each once."""
    return list(dict.fromkeys(tag for kind in kinds for tag in tags_of(catalogue.examples[place], kind)))


def _share(catalogue: Catalogue, model: str, metric: str, places: np.ndarray) -> Proportion:
    """Those of the examples at these places that the model scores."""
    says = places[catalogue.finite[model][places]]
    return proportion(int(catalogue.right[model][metric][says].sum()), len(says))


def _has_tag(
    examples: Sequence[Example], wanted: Sequence[str], how_many: Callable[[Iterable[bool]], bool]
) -> np.ndarray:
    """how_many: `any` or `all` of the tags wanted, each `kind=tag`."""
    pairs = [text.partition("=")[::2] for text in wanted]
    return np.array([how_many(tag in tags_of(example, kind) for kind, tag in pairs) for example in examples])


def _ordered(catalogue: Catalogue, wanted: Filter, places: np.ndarray) -> np.ndarray:
    if wanted.order == "varied":
        places = places[varied(*_kinds(catalogue, wanted, places))]
        lost_E = ~(catalogue.finite[wanted.model] & catalogue.finite[wanted.against])
        return places[np.argsort(lost_E[places], kind="stable")]
    margin_E = catalogue.margin[wanted.model]
    keys: dict[str, Any] = {
        "closest": lambda: np.abs(margin_E),
        "worst": lambda: margin_E,
        "best": lambda: -margin_E,
        "disagreement": lambda: -apart(margin_E, catalogue.margin[wanted.against]),
    }
    if wanted.order not in keys:
        return places
    return places[np.argsort(keys[wanted.order]()[places], kind="stable")]


def _kinds(catalogue: Catalogue, wanted: Filter, places: np.ndarray) -> tuple[list[str], list[tuple[bool, bool]]]:
    """The tag, and which of the two models is right, on the examples at these places."""
    a_E, b_E = (catalogue.right[model][wanted.metric] for model in (wanted.model, wanted.against))
    tags = [" ".join(facts(catalogue, int(place), ("tag",))) for place in places]
    return tags, [(bool(a_E[place]), bool(b_E[place])) for place in places]


def is_decided(scores: Scores, true: int = 1) -> bool:
    """Whether the noise draws decide every pick behind an example's right or wrong.

    Of two images, either's best caption against the other; of one, the weakest true one against the strongest rival.
    """
    if len(scores.score_IC) > 1:
        return all(decide(scores, image).decided for image in range(len(scores.score_IC)))
    margin, met = margins(scores.score_IC, true)[ACCURACY], contest(scores.score_IC[0], true)
    if met is None:
        return not np.isnan(margin)
    return bool(abs(margin) > scores.resolution) and decide(of_captions(scores, met)).decided
