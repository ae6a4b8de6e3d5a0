"""Before and after: what a run changed, on data that it never trained on, with its uncertainty.

    pairs       text, image, group on a pair-of-pairs benchmark; of free data, each held-out caption against its swap
    choices     zero-shot classification and retrieval: does CLIP keep its skills?
    cosine      median cosine between an example's two captions, and its two images: which tower separates them?

Non-inferior (stored as `kept`): the lower end of the change's 95 % interval is above -2 points, on a set where the base
is right 50 to 90 % of the time. All comparisons are paired: the same examples before and after. Examples with a
non-finite score, before or after, are excluded from every figure and counted in `not_finite`; a set that has one
afterwards is not non-inferior.

Shape suffixes: E example, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdsdemo.core.intervals import Change, paired_change, proportion
from sdsdemo.core.outcomes import judge
from sdsdemo.data.benchmarks import read_benchmark, retrieval, zero_shot
from sdsdemo.data.mini.benchmarks import SWAPS
from sdsdemo.data.mini.drawing import MODEL_PIXELS
from sdsdemo.errors import UserError
from sdsdemo.evaluation.summary import by_chance, tag_rows
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.training_pairs import Pair, Source
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.precision import as_stored
from sdsdemo.runtime.files import finite
from sdsdemo.types import Example, Picture, Scores

NON_INFERIORITY_MARGIN = 0.02
"""Non-inferiority margin, as a share: how far the interval's lower end may lie below zero."""
MEANT_FOR = (0.5, 0.9)
"""Range of base accuracy where non-inferiority is meaningful: neither at chance nor at the ceiling."""
HELD_BYTES = 300_000_000
"""Total size of cached CLIP inputs, each image once; those of larger sets are opened again at each evaluation."""
ZERO_SHOT = 500
"""Examples of zero-shot classification."""
RETRIEVAL = (5, 100)
"""Retrieval sets, and captions per set."""
AT_ONCE = 64
AMONG = 100
"""Candidate captions for retrieval on the user's own data."""
FLIPPED = 24
"""How many changed examples the record lists, each way."""
NO_CHANGE = Change(value=math.nan, low=-1.0, high=1.0, n=0, gained=0, lost=0, p=1.0)
"""The change over no examples: unknown."""
MINI_TAGS = {
    recipe.tag: "both" if recipe.turned else "noun" if recipe.swapped == "things" else recipe.swapped
    for recipe in SWAPS.values()
}
"""Tag of the Mini benchmarks -> kind of swap."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A model's results on each set, at one step."""

    right: Mapping[str, Mapping[str, np.ndarray]]
    """By set and metric: right or not, by example."""
    finite: Mapping[str, np.ndarray]
    """By set: whether every score of an example is a finite number."""
    cosine: Mapping[str, float] = field(default_factory=dict)
    """`captions` and `images`: median over the examples of the first set."""
    own: np.ndarray | None = None
    """own_EI of the first set, if it is a pair-of-pairs one: whether a picture's own caption scores higher."""

    @property
    def headline(self) -> tuple[str, np.ndarray]:
        """The metric tracked during the run (text score, or share of captions preferred to their swaps), and right_E.

        right_E covers the examples whose scores are finite.
        """
        name = next(iter(self.right))
        metric = next(iter(self.right[name]))
        return metric, self.right[name][metric][self.finite[name]]


class Evaluator:
    """The evaluation sets of a run; evaluates its model on them."""

    def __init__(
        self, sets: Mapping[str, list[Example]], base: ClipModel, inputs: dict[str, Tensor] | None = None
    ) -> None:
        """sets: from `sets_of`; the first is tracked during the run and compared by tag.

        inputs: cached CLIP inputs by image key, shared by models with the same preprocessing; new ones are added.
        """
        self._base = base
        self.sets = dict(sets)
        self.first = next(iter(self.sets))
        self._inputs: dict[str, Tensor] = {} if inputs is None else inputs
        pictures = len({_key(e, i) for examples in self.sets.values() for e in examples for i in range(len(e.images))})
        side = base.preprocess(_any_picture(self.sets).open()).numel() * 4
        self._keep = inputs is not None or pictures * side <= HELD_BYTES

    def evaluate(self, sets: Sequence[str] = (), check: Callable[[], None] = lambda: None) -> Evaluation:
        """Evaluates the current model on these sets, or on all. check: called often, and may raise."""
        right: dict[str, dict[str, np.ndarray]] = {}
        is_finite: dict[str, np.ndarray] = {}
        cosine: dict[str, float] = {}
        own: np.ndarray | None = None
        for name in sets or self.sets:
            examples = self.sets[name]
            image_ED, text_ED = self._features(examples, check)
            scores = [100 * i @ t.T for i, t in zip(image_ED, text_ED, strict=True)]
            outcomes = judge([Scores(kind="similarity", score_IC=score_IC) for score_IC in scores])
            right[name], is_finite[name] = outcomes.right, outcomes.finite
            if name == self.first and all(len(example.captions) == 2 for example in examples):
                cosine["captions"] = float(np.median([t[0] @ t[1] for t in text_ED]))
                if len(examples[0].images) == 2:
                    cosine["images"] = float(np.median([i[0] @ i[1] for i in image_ED]))
                    own = np.array([[s[0, 0] > s[0, 1], s[1, 1] > s[1, 0]] for s in scores])
        return Evaluation(right=right, finite=is_finite, cosine=cosine, own=own)

    def _features(
        self, examples: Sequence[Example], check: Callable[[], None]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Normalised features of each example's images and captions, as a scorer computes them: without TF32.

        Every caption and image is encoded once.
        """
        base, device = self._base, self._base.device
        captions = list(dict.fromkeys(c for example in examples for c in example.captions))
        pictures = {_key(example, i): p for example in examples for i, p in enumerate(example.images)}

        def cut(items: Sequence[str]) -> Iterator[Sequence[str]]:
            for start in range(0, len(items), AT_ONCE):
                check()
                yield items[start : start + AT_ONCE]

        with torch.no_grad(), as_stored(device):
            text = [base.module.encode_text(base.tokenize(part).to(device), normalize=True) for part in cut(captions)]
            keys = list(pictures)
            image = [
                base.module.encode_image(
                    torch.stack([self._input(key, pictures[key]) for key in part]).to(device), normalize=True
                )
                for part in cut(keys)
            ]
        text_of = dict(zip(captions, torch.cat(text).cpu().double().numpy(), strict=True))
        image_of = dict(zip(keys, torch.cat(image).cpu().double().numpy(), strict=True))
        return (
            [np.stack([image_of[_key(e, i)] for i in range(len(e.images))]) for e in examples],
            [np.stack([text_of[caption] for caption in e.captions]) for e in examples],
        )

    def _input(self, key: str, picture: Picture) -> Tensor:
        found = self._inputs.get(key)
        if found is None:
            found = self._base.preprocess(picture.open())
            if self._keep:
                self._inputs[key] = found
        return found

    def compare(self, before: Evaluation, after: Evaluation, recipe: Recipe) -> dict[str, Any]:
        """What changed, JSON-ready: None for a missing number."""
        record: dict[str, Any] = {"benchmark": self.first, "sets": {}, "cosine": {}}
        for name, found in before.right.items():
            finite_E = before.finite[name] & after.finite[name]
            rows = {metric: _row(found[metric], after.right[name][metric], finite_E) for metric in found}
            shapes = [(len(example.images), len(example.captions)) for example in self.sets[name]]
            chance = {metric: float(found_E.mean()) for metric, found_E in by_chance(shapes, [1] * len(shapes)).items()}
            record["sets"][name] = {"n": len(shapes), "metrics": rows, "chance": chance} | _apart(before, after, name)
            if name != self.first:
                record["sets"][name] |= _kept(next(iter(rows.values())), after.finite[name])
        metric, finite_E = next(iter(before.right[self.first])), before.finite[self.first] & after.finite[self.first]
        was_E, is_E = before.right[self.first][metric], after.right[self.first][metric]
        record["by_tag"] = self._by_tag(was_E, is_E, finite_E)
        record["withheld"] = self._withheld(was_E, is_E, finite_E, recipe)
        record["cosine"] = {
            name: [round(before.cosine[name], 4), round(after.cosine[name], 4)] for name in before.cosine
        }
        ids = [example.id for example in self.sets[self.first]]
        record["flipped"] = {
            "metric": metric,
            "fixed": [ids[e] for e in np.flatnonzero(is_E & ~was_E & finite_E)[:FLIPPED]],
            "broken": [ids[e] for e in np.flatnonzero(was_E & ~is_E & finite_E)[:FLIPPED]],
        }
        return dict(finite(record))

    def _by_tag(self, was_E: np.ndarray, is_E: np.ndarray, finite_E: np.ndarray) -> dict[str, Any]:
        """The tracked metric by tag: exploratory, as no test was declared for it."""
        rows = tag_rows(self.sets[self.first], "tag")
        return {tag: _row(was_E[places], is_E[places], finite_E[places]) for tag, places in rows.items()}

    def _withheld(self, was_E: np.ndarray, is_E: np.ndarray, finite_E: np.ndarray, recipe: Recipe) -> dict[str, Any]:
        """Swaps withheld from training by the recipe: of a kind, or in captions with certain words."""
        return {
            what: {
                "withheld": getattr(recipe, f"withheld_{what}"),
                **_row(was_E[chosen_E], is_E[chosen_E], finite_E[chosen_E]),
            }
            for what, chosen_E in withheld_rows(self.sets[self.first], recipe).items()
        }


def withheld_rows(examples: Sequence[Example], recipe: Recipe) -> dict[str, np.ndarray]:
    """chosen_E of the examples whose swap the recipe withholds, by `kind` and by `words`; empty ones are left out."""
    kind_E = np.array([_kind(example) == recipe.withheld_kind != "" for example in examples])
    words = f" {recipe.withheld_words.strip().lower()} "
    words_E = np.array([bool(words.strip()) and words in f" {e.captions[0].lower()} " for e in examples])
    return {what: chosen_E for what, chosen_E in (("kind", kind_E), ("words", words_E)) if chosen_E.any()}


def mini_measure(recipe: Recipe) -> str:
    """The pair-of-pairs set that evaluates a run on the Mini world."""
    return recipe.measure or "mini-validation"


def mini_sets(name: str) -> dict[str, list[Example]]:
    """A pair-of-pairs set of the Mini world, and the two that test retained skills."""
    return {
        name: _with_pairs(name),
        "mini-zero-shot": zero_shot(count=ZERO_SHOT, pixels=MODEL_PIXELS),
        "mini-retrieval": retrieval(sets=RETRIEVAL[0], size=RETRIEVAL[1], pixels=MODEL_PIXELS),
    }


def sets_of(recipe: Recipe, source: Source) -> dict[str, list[Example]]:
    """A run's evaluation sets, the tracked one first.

    Raises `UserError` for a benchmark that is missing or unsuitable.
    """
    if recipe.is_mini:
        return mini_sets(mini_measure(recipe))
    held_out = source.held_out
    swaps = [pair for pair in held_out if pair.twin is not None]
    sets = {recipe.measure: _with_pairs(recipe.measure)} if recipe.measure else {}
    if len(swaps) >= 2:
        sets["held-out swaps"] = [_choice(k, pair, (pair.twin or "",)) for k, pair in enumerate(swaps)]
    others = _distinct(held_out)[:AMONG]
    if len(others) >= 2:
        sets[f"retrieval among {len(others)}"] = [
            _choice(k, pair, tuple(o.caption for o in others if o is not pair)) for k, pair in enumerate(others)
        ]
    if not sets:
        raise UserError("Too few images are left to evaluate before and after: give more data, or name a --measure.")
    return sets


def _with_pairs(name: str) -> list[Example]:
    examples = read_benchmark(name)
    if not examples or any((len(e.images), len(e.captions)) != (2, 2) for e in examples):
        raise UserError(f"'{name}' is not a benchmark of two images and two captions: name another one with --measure.")
    return examples


def _choice(number: int, pair: Pair, others: tuple[str, ...]) -> Example:
    return Example(id=str(number), images=(pair.picture,), captions=(pair.caption, *others), tags={"tag": pair.kind})


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    return list({pair.caption.lower(): pair for pair in pairs}.values())


def _any_picture(sets: Mapping[str, Sequence[Example]]) -> Picture:
    return next(iter(sets.values()))[0].images[0]


def _key(example: Example, image: int) -> str:
    return example.images[image].key or f"{example.id}/{image}"


def _row(was_E: np.ndarray, is_E: np.ndarray, finite_E: np.ndarray) -> dict[str, Any]:
    """Before, after and change of one metric, over the examples whose scores are finite both times."""
    was_E, is_E = was_E[finite_E], is_E[finite_E]
    return {
        "before": asdict(proportion(int(was_E.sum()), len(was_E))),
        "after": asdict(proportion(int(is_E.sum()), len(is_E))),
        "change": asdict(paired_change(was_E, is_E) if len(was_E) else NO_CHANGE),
    }


def _apart(before: Evaluation, after: Evaluation, name: str) -> dict[str, Any]:
    """How many examples of a set have a non-finite score; empty if none."""
    counts = {"before": int((~before.finite[name]).sum()), "after": int((~after.finite[name]).sum())}
    return {"not_finite": counts} if any(counts.values()) else {}


def _kept(row: Mapping[str, Any], finite_E: np.ndarray) -> dict[str, Any]:
    """Whether a choice set shows non-inferiority: True, False, or None if the set does not suit the base.

    finite_E: whether an example's scores are finite afterwards; if any is not, the result is False.
    """
    low, high = MEANT_FOR
    if not finite_E.all():
        return {"kept": False}
    if not low <= row["before"]["value"] <= high:
        return {"kept": None}
    return {"kept": row["change"]["low"] > -NON_INFERIORITY_MARGIN}


def _kind(example: Example) -> str:
    return MINI_TAGS.get(example.tags.get("tag", ""), example.tags.get("tag", ""))
