"""What a set of scores says, with its doubt: shares, tags, pairs of models, modes, and what the stored losses tell.

Takes scores as they are and computes none. Pair of pairs (two images, two captions): text, image, group, group-match.
One image and k captions, the first of them true (or the first few, where the set says so): accuracy, and the *blind*
accuracy: each caption's mean score over images that have nothing to do with it, which says how much can be won without
looking. Beside them every average that the authors of the set report. All strict: a tie is a failure.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import comb
from typing import Any, Protocol

import numpy as np

from sdsdemo import evidence
from sdsdemo.data.official import averages
from sdsdemo.data.sets import TRUE
from sdsdemo.metrics import CHANCE, METRICS, Proportion, benchmark_scores, mcnemar_exact, proportion, verdict
from sdsdemo.types import Evidence, Scores

TAG_KINDS = ("collapsed_tag", "tag", "secondary_tag", "num_main_preds", "category")
SEVERAL = ("secondary_tag", "category")
"""Kinds of which an example may have more than one, with commas between them."""
NO_TAG = "no tag"
TRANSITIONS = {
    "fixed": "wrong with the first, right with the second",
    "broken": "right with the first, wrong with the second",
    "still wrong": "wrong with both",
    "always right": "right with both",
}


class Tagged(Protocol):
    """What is to be known of an example: a `types.Example`, or what a run keeps of one."""

    @property
    def tags(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One model's scores on every example, in their order."""

    scores_E: Sequence[Scores]
    blind_E: Sequence[Scores] | None = None
    """score_IC [1, C]: means over unrelated images."""

    @property
    def matrices(self) -> list[np.ndarray]:
        return [scores.score_IC for scores in self.scores_E]

    @property
    def losses(self) -> list[Evidence] | None:
        """The losses of every example; None for a similarity."""
        found = [scores.evidence for scores in self.scores_E if scores.evidence is not None]
        return found if found and len(found) == len(self.scores_E) else None


def summarise(examples: Sequence[Tagged], scored: Mapping[str, Scored]) -> dict[str, Any]:
    """`chance`, `models` and `paired` of `evaluate --json`. The shape of the first example is that of all."""
    first = next(iter(scored.values())).matrices[0]
    pairs = first.shape == (2, 2)
    right_of = pair_right if pairs else partial(choice_right, true_E=true_captions(examples))
    model = _pair_summary if pairs else _choice_summary
    lengths = [score_IC.shape[1] for score_IC in next(iter(scored.values())).matrices]
    by_chance = [1 / max(1, comb(k, true)) for k, true in zip(lengths, true_captions(examples), strict=True)]
    return {
        "chance": dict(CHANCE) if pairs else {"accuracy": float(np.mean(by_chance))},
        "models": {name: model(examples, found) for name, found in scored.items()},
        "paired": list(_paired({name: right_of(found.matrices) for name, found in scored.items()})),
    }


def tags_of(example: Tagged, kind: str) -> list[str]:
    """The tags of one kind; one without any is `NO_TAG` where the others may have several."""
    text = example.tags.get(kind, "")
    if kind not in SEVERAL:
        return [text] if text else []
    return [part.strip() for part in text.split(",") if part.strip()] or [NO_TAG]


def tag_rows(examples: Sequence[Tagged], kind: str) -> dict[str, np.ndarray]:
    """By tag, the places of its examples, in the order of the tags' names; nothing where no example has one."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        for tag in tags_of(example, kind):
            rows[tag].append(number)
    if set(rows) <= {NO_TAG}:
        return {}
    return {tag: np.array(rows[tag]) for tag in sorted(rows, key=lambda tag: (tag == NO_TAG, tag))}


def pair_right(score_E: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """By metric, which examples are right."""
    verdicts = [verdict(score_IC) for score_IC in score_E]
    return {metric: np.array([getattr(v, metric) for v in verdicts]) for metric in METRICS}


def choice_right(score_E: Sequence[np.ndarray], true_E: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """Right where every true caption beats all others; a tie is a failure, and so is a score that is not a number.

    true_E: how many captions of an example are true, the first ones; 1 where it is not given.
    """
    counts = true_E or [1] * len(score_E)
    beaten = [bool((s[0, :n, None] > s[0, None, n:]).all()) for s, n in zip(score_E, counts, strict=True)]
    return {"accuracy": np.array(beaten)}


def true_captions(examples: Sequence[Tagged]) -> list[int]:
    """How many captions of each example are true."""
    said = [example.tags.get(TRUE, "") for example in examples]
    return [max(1, int(text)) if text.isdecimal() and len(text) < 4 else 1 for text in said]


def transitions(a_E: np.ndarray, b_E: np.ndarray) -> dict[str, np.ndarray]:
    """By each of `TRANSITIONS`, which examples went that way from model a to model b."""
    return {"fixed": ~a_E & b_E, "broken": a_E & ~b_E, "still wrong": ~a_E & ~b_E, "always right": a_E & b_E}


def _pair_summary(examples: Sequence[Tagged], scored: Scored) -> dict[str, Any]:
    right = pair_right(scored.matrices)
    modes = [verdict(score_IC).mode for score_IC in scored.matrices]
    return {
        **_shares(right),
        **_official(examples, right, scored),
        "by_tag": _by_tag(examples, right),
        "modes": {mode: modes.count(mode) for mode in sorted(set(modes))},
        **_cost(scored),
        **({} if scored.losses is None else {"losses": _from_losses(scored.losses, _pair_shares)}),
    }


def _choice_summary(examples: Sequence[Tagged], scored: Scored) -> dict[str, Any]:
    true_E = true_captions(examples)
    right = choice_right(scored.matrices, true_E)
    blind_E = None if scored.blind_E is None else [b.score_IC for b in scored.blind_E]
    return {
        **_shares(right),
        **({} if blind_E is None else {"blind": _shares(choice_right(blind_E, true_E))}),
        **_official(examples, right, scored),
        "by_tag": _by_tag(examples, right),
        **_cost(scored),
        **(
            {}
            if scored.losses is None
            else {"losses": _from_losses(scored.losses, lambda score_E: _shares(choice_right(score_E, true_E)))}
        ),
    }


def _official(examples: Sequence[Tagged], right: Mapping[str, np.ndarray], scored: Scored) -> dict[str, Any]:
    found = averages([example.tags for example in examples], right, scored.matrices)
    return {"official": found} if found else {}


def _cost(scored: Scored) -> dict[str, Any]:
    """Seconds of the model alone, and denoiser calls, an example."""
    n = len(scored.scores_E)
    calls = [found.evaluations for found in scored.losses or ()]
    return {
        "seconds_per_example": round(sum(scores.seconds for scores in scored.scores_E) / n, 4),
        "evaluations_per_example": round(sum(calls) / n, 2),
    }


def _from_losses(
    evidence_E: Sequence[Evidence], shares: Callable[[Sequence[np.ndarray]], dict[str, Any]]
) -> dict[str, Any]:
    """The same examples by other readings of the same losses: fewer timesteps, parts of them, other norms."""
    readings: dict[str, Callable[[Evidence], Mapping[Any, np.ndarray]]] = {
        "by_timesteps": evidence.by_count,
        "by_range": evidence.by_range,
        "normalisations": evidence.normalised,
    }
    found = {}
    for name, read in readings.items():
        read_E = [read(one) for one in evidence_E]
        found[name] = {_label(key): shares([one[key] for one in read_E]) for key in read_E[0]}
    return found


def _label(key: Any) -> str:
    return f"{key[0]} to {key[1]}" if isinstance(key, tuple) else str(key)


def _pair_shares(score_E: Sequence[np.ndarray]) -> dict[str, Any]:
    return {metric: asdict(share) for metric, share in benchmark_scores(np.stack(score_E)).items()}


def _by_tag(examples: Sequence[Tagged], right: Mapping[str, np.ndarray]) -> dict[str, Any]:
    kinds = {kind: tag_rows(examples, kind) for kind in TAG_KINDS}
    return {
        kind: {tag: _shares({metric: right_E[rows] for metric, right_E in right.items()}) for tag, rows in tags.items()}
        for kind, tags in kinds.items()
        if tags
    }


def _paired(right: Mapping[str, Mapping[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
    """Every two models by every metric, on the same examples."""
    for a, b in itertools.combinations(right, 2):
        for metric in right[a]:
            counts = {
                name: int(which_E.sum()) for name, which_E in transitions(right[a][metric], right[b][metric]).items()
            }
            yield {
                "a": a,
                "b": b,
                "metric": metric,
                "both": counts["always right"],
                "only_a": counts["broken"],
                "only_b": counts["fixed"],
                "neither": counts["still wrong"],
                "transitions": counts,
                "p": mcnemar_exact(counts["broken"], counts["fixed"]),
            }


def _shares(right: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    return {metric: asdict(_share(right_E)) for metric, right_E in right.items()}


def _share(right_E: np.ndarray) -> Proportion:
    return proportion(int(right_E.sum()), len(right_E))
