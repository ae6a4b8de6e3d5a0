"""Summarises scores with their uncertainty: shares, tags, pairs of models, modes, and variants from stored losses.

Computes no scores. Pair of pairs (two images, two captions): text, image, group, group-match. One image and k captions,
the first of them true (or the first few, if the set says so): accuracy, and *blind* accuracy, from each caption's mean
score over unrelated images, which shows how much can be won without seeing the image. Also the averages that the set's
authors report, and SugarCrepe++'s text-only task.

All metrics are strict: a tie is a failure, and also counted separately. An example with a non-finite score is excluded
from shares and comparisons and counted separately. `below_chance` names shares whose whole interval is below chance.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Protocol

import numpy as np

from sdsdemo.core import score_variants
from sdsdemo.core.intervals import mcnemar_exact, proportion
from sdsdemo.core.metrics import ACCURACY, CHANCE, verdict
from sdsdemo.core.outcomes import Outcomes, caveat_counts, judge, judge_matrices
from sdsdemo.data.published.averages import averages
from sdsdemo.data.published.sets import TRUE
from sdsdemo.evaluation import text_only
from sdsdemo.evaluation.result_schema import Entry, Pair, Share, Shares, Summary, TextOnly
from sdsdemo.types import DENOISING_RESOLUTION, Evidence, Scores

TAG_KINDS = ("collapsed_tag", "tag", "secondary_tag", "num_main_preds", "category")
SEVERAL = ("secondary_tag", "category")
"""Kinds of tag that an example may have several of, separated by commas."""
NO_TAG = "no tag"


class Tagged(Protocol):
    """Anything with tags: a `types.Example`, or a run's record of one."""

    @property
    def tags(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One model's scores on every example, in order."""

    scores_E: Sequence[Scores]
    blind_E: Sequence[Scores] | None = None
    """score_IC [1, C]: means over unrelated images."""
    text_E: Sequence[Scores] | None = None
    """score_IC [1, 3]: similarity of every two captions; only for a set with a text-only task."""

    @property
    def losses(self) -> list[Evidence] | None:
        """The losses of every example; None for similarities, and where adaptive scoring left draws out."""
        found = [scores.evidence for scores in self.scores_E if scores.evidence is not None]
        is_whole = len(found) == len(self.scores_E) and all(one.rounds_IC is None for one in found)
        return found if found and is_whole else None


def summarise(examples: Sequence[Tagged], scored: Mapping[str, Scored]) -> Summary:
    """`chance`, `models` and `paired` of `evaluate --json`. All examples have the shape of the first."""
    shapes = [scores.score_IC.shape for scores in next(iter(scored.values())).scores_E]
    true_E = true_captions(examples)
    chances = by_chance(shapes, true_E)
    chance = {metric: CHANCE.get(metric, float(chance_E.mean())) for metric, chance_E in chances.items()}
    judged = {name: judge(found.scores_E, true_E) for name, found in scored.items()}
    return {
        "chance": chance,
        "models": {name: _summary(examples, found, judged[name], chance) for name, found in scored.items()},
        "paired": list(_paired(judged)),
    }


def tags_of(example: Tagged, kind: str) -> list[str]:
    """An example's tags of one kind; `NO_TAG` for none, if the kind is one of SEVERAL."""
    text = example.tags.get(kind, "").strip()
    if kind not in SEVERAL:
        return [text] if text else []
    return [part.strip() for part in text.split(",") if part.strip()] or [NO_TAG]


def tag_rows(examples: Sequence[Tagged], kind: str) -> dict[str, np.ndarray]:
    """Tag -> indices of its examples, sorted by tag; empty if no example has one."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        for tag in tags_of(example, kind):
            rows[tag].append(number)
    if set(rows) <= {NO_TAG}:
        return {}
    return {tag: np.array(rows[tag]) for tag in sorted(rows, key=lambda tag: (tag == NO_TAG, tag))}


def true_captions(examples: Sequence[Tagged]) -> list[int]:
    """How many captions of each example are true."""
    said = [example.tags.get(TRUE, "") for example in examples]
    return [max(1, int(text)) if text.isdecimal() and len(text) < 4 else 1 for text in said]


def by_chance(shapes: Sequence[tuple[int, ...]], true_E: Sequence[int]) -> dict[str, np.ndarray]:
    """Chance level of each example, by metric. shapes: (images, captions) of each; the first decides the metrics."""
    if tuple(shapes[0]) == (2, 2):
        return {metric: np.full(len(shapes), chance) for metric, chance in CHANCE.items()}
    orders = [comb(captions, true) for (_, captions), true in zip(shapes, true_E, strict=True)]
    return {ACCURACY: np.array([1 / max(1, count) for count in orders])}


def transitions(a_E: np.ndarray, b_E: np.ndarray) -> dict[str, np.ndarray]:
    """Which examples only b gets right (fixed), only a (broken), neither, and both."""
    return {"fixed": ~a_E & b_E, "broken": a_E & ~b_E, "still wrong": ~a_E & ~b_E, "always right": a_E & b_E}


def _summary(examples: Sequence[Tagged], scored: Scored, judged: Outcomes, chance: Mapping[str, float]) -> Entry:
    shares = _shares(judged)
    return {
        **shares,
        "apart": caveat_counts(scored.scores_E, judged),
        "below_chance": [metric for metric, share in shares.items() if share["n"] and share["high"] < chance[metric]],
        **_blind(examples, scored),
        **_official(examples, scored, judged),
        **_text_only(examples, scored),
        "by_tag": _by_tag(examples, judged),
        **(_modes(scored) if len(judged.metrics) > 1 else {}),
        **_cost(scored),
        **({} if scored.losses is None else {"losses": _from_losses(examples, scored, scored.losses)}),
    }


def _modes(scored: Scored) -> dict[str, dict[str, int]]:
    modes = [verdict(scores.score_IC, scores.resolution).mode for scores in scored.scores_E]
    return {"modes": {mode: modes.count(mode) for mode in sorted(set(modes))}}


def _blind(examples: Sequence[Tagged], scored: Scored) -> dict[str, Shares]:
    return {} if scored.blind_E is None else {"blind": _shares(judge(scored.blind_E, true_captions(examples)))}


def _official(examples: Sequence[Tagged], scored: Scored, judged: Outcomes) -> dict[str, dict[str, dict[str, object]]]:
    """The authors' averages, over examples with finite scores."""
    places = np.flatnonzero(judged.finite).tolist()
    found = averages(
        [examples[place].tags for place in places],
        {metric: right_E[places] for metric, right_E in judged.right.items()},
        [scored.scores_E[place].score_IC for place in places],
        judged.resolution_E[places],
    )
    return {"official": found} if found else {}


def _text_only(examples: Sequence[Tagged], scored: Scored) -> dict[str, TextOnly]:
    """The text-only task of a set that has one (the first similarity must be the largest), or why it has no score."""
    tags = [example.tags for example in examples]
    if not text_only.has_task(tags):
        return {}
    name = text_only.name_of(tags)
    if not text_only.has_embedding(scored.scores_E[0]):
        return {"text_only": {"name": name, "missing": text_only.NO_EMBEDDING}}
    if scored.text_E is None:
        return {"text_only": {"name": name, "missing": text_only.NOT_KEPT}}
    judged = judge(scored.text_E)
    by_tag = {tag: _shares(judged, places) for tag, places in tag_rows(examples, "tag").items()}
    counts = {"n": len(tags), "not_finite": int((~judged.finite).sum()), "ties": int(judged.tied[ACCURACY].sum())}
    found: TextOnly = {
        "name": name,
        "rule": text_only.RULE,
        "chance": text_only.CHANCE,
        "accuracy": _shares(judged)[ACCURACY],
        "by_tag": by_tag,
        "apart": counts,
    }
    return {"text_only": found}


def _cost(scored: Scored) -> dict[str, float]:
    """Model seconds and denoiser calls per example."""
    n = len(scored.scores_E)
    calls = [scores.evidence.evaluations for scores in scored.scores_E if scores.evidence]
    return {
        "seconds_per_example": round(sum(scores.seconds for scores in scored.scores_E) / n, 4),
        "evaluations_per_example": round(sum(calls) / n, 2),
    }


def _from_losses(
    examples: Sequence[Tagged], scored: Scored, evidence_E: Sequence[Evidence]
) -> dict[str, dict[str, Shares]]:
    """The same examples by score variants of the same losses: fewer timesteps, ranges of them, other norms."""
    readings: dict[str, Callable[[Evidence], Mapping[Any, np.ndarray]]] = {
        "by_timesteps": score_variants.by_count,
        "by_range": score_variants.by_range,
        "normalisations": score_variants.normalised,
    }
    true_E, share_E = true_captions(examples), [DENOISING_RESOLUTION[s.precision] for s in scored.scores_E]

    def shares(read_E: Sequence[Mapping[Any, np.ndarray]], key: Any) -> Shares:
        resolution_E = [
            score_variants.resolution_of(read, key, share) for read, share in zip(read_E, share_E, strict=True)
        ]
        return _shares(judge_matrices([read[key] for read in read_E], resolution_E, true_E))

    found = {}
    for name, read in readings.items():
        read_E = [read(one) for one in evidence_E]
        found[name] = {_label(key): shares(read_E, key) for key in read_E[0]}
    return found


def _label(key: Any) -> str:
    return f"{key[0]} to {key[1]}" if isinstance(key, tuple) else str(key)


def _by_tag(examples: Sequence[Tagged], judged: Outcomes) -> dict[str, dict[str, Shares]]:
    kinds = {kind: tag_rows(examples, kind) for kind in TAG_KINDS}
    return {kind: {tag: _shares(judged, rows) for tag, rows in tags.items()} for kind, tags in kinds.items() if tags}


def _paired(judged: Mapping[str, Outcomes]) -> Iterator[Pair]:
    """Every two models by every metric, on the examples where both have finite scores."""
    for a, b in itertools.combinations(judged, 2):
        rows = np.flatnonzero(judged[a].finite & judged[b].finite)
        for metric in judged[a].metrics:
            ways = transitions(judged[a].right[metric][rows], judged[b].right[metric][rows])
            counts = {name: int(which_E.sum()) for name, which_E in ways.items()}
            yield {
                "a": a,
                "b": b,
                "metric": metric,
                "n": len(rows),
                "both": counts["always right"],
                "only_a": counts["broken"],
                "only_b": counts["fixed"],
                "neither": counts["still wrong"],
                "transitions": counts,
                "p": mcnemar_exact(counts["broken"], counts["fixed"]),
            }


def _shares(judged: Outcomes, rows: np.ndarray | None = None) -> Shares:
    """Share of right examples by metric, among all examples (or these rows) with finite scores."""
    kept = np.flatnonzero(judged.finite) if rows is None else rows[judged.finite[rows]]
    return {metric: _share(int(right_E[kept].sum()), len(kept)) for metric, right_E in judged.right.items()}


def _share(right: int, n: int) -> Share:
    found = proportion(right, n)
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
