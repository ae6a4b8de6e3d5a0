"""SugarCrepe++'s text-only task (TOT): captions without a picture. Scores nothing.

    right:  s(p1, p2) > s(p1, n)  and  s(p1, p2) > s(p2, n)

s is the cosine of two text embeddings, p1 and p2 are the true captions and n the false one (Dumpala et al. 2024,
2406.11171; VLMs/test_Variants_CLIP.py and evaluate_ulms.py of their code). A diffusion model scores captions by
pictures and has no caption embedding, so it is reported as having no score, not 0.

A result stores it as `text_only` of each model: `name`, `rule`, `chance`, `accuracy`, `by_tag` and `apart`; or `name`
and `missing`, a phrase that says why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sdsdemo.core.metrics import ACCURACY
from sdsdemo.core.number_format import share_words
from sdsdemo.data.published.sets import SUGARCREPE_PP, differences, set_of
from sdsdemo.evaluation.result_schema import Result, Share, TextOnly
from sdsdemo.types import Example, Scores

RULE = "the two true captions are more similar to each other than either is to the false one; no picture"
NO_EMBEDDING = "no text embedding, so no score"
"""For a diffusion model."""
NOT_KEPT = "not in this run: evaluate again with the same --out to add it"
"""For a run that predates the task, or was stopped early."""
CHANCE = 1 / 3
"""How often the first of three independent random similarities is the largest."""
NONE = "none"
"""Shown for a model that cannot have a share."""


@dataclass(frozen=True, kw_only=True)
class TextOnlyTable:
    """The task's results as a table."""

    title: str
    rows: list[list[str]]
    """Header, all examples, one row per file, and chance; one column per model."""
    notes: list[str]
    """The rule, and why some models have no score."""


def has_task(tags: Sequence[Mapping[str, str]]) -> bool:
    """Whether these examples are from a set with the task."""
    return bool(tags) and all(set_of(own) == SUGARCREPE_PP for own in tags)


def has_embedding(scores: Scores) -> bool:
    """Whether the model behind this score embeds captions on their own: its scores are similarities."""
    return scores.kind == "similarity"


def captions_alone(examples: Sequence[Example]) -> list[Example]:
    """The same examples without their pictures."""
    return [replace(example, images=()) for example in examples]


def name_of(tags: Sequence[Mapping[str, str]]) -> str:
    """The name of the average, with "part of" for an incomplete set."""
    return f"{'part of ' if differences('sugarcrepe++', tags) else ''}{SUGARCREPE_PP}, TOT"


def text_only_table(result: Result) -> TextOnlyTable | None:
    """The table; None for a result without the task."""
    found: dict[str, TextOnly] = {
        name: entry["text_only"] for name, entry in result["models"].items() if "text_only" in entry
    }
    scored = {name: one for name, one in found.items() if "accuracy" in one}
    if not found:
        return None
    head = ["text-only task", "n", *found]
    rows = [_row("all", {name: one["accuracy"] for name, one in scored.items()}, list(found))]
    for tag in dict.fromkeys(tag for one in scored.values() for tag in one.get("by_tag", {})):
        shares = {name: one["by_tag"][tag][ACCURACY] for name, one in scored.items()}
        rows.append(_row(tag, shares, list(found)))
    if scored:
        rows.append(["chance", "", *(f"{100 * CHANCE:.1f}" if name in scored else "" for name in found)])
    missing = [f"{name}: {one.get('missing', NONE)}" for name, one in found.items() if name not in scored]
    title = f"{next(iter((scored or found).values()))['name']}, percent right"
    return TextOnlyTable(title=title, rows=[head, *rows], notes=[f"right: {RULE}", *missing])


def _row(label: str, shares: Mapping[str, Share], models: Sequence[str]) -> list[str]:
    """shares: for models that have one. A cell states its own n if some of its examples have non-finite scores."""
    n = max((share["n"] for share in shares.values()), default=0)
    cells = [_cell(shares.get(model), n) for model in models]
    return [label, str(n) if shares else "", *cells]


def _cell(share: Share | None, n: int) -> str:
    if share is None:
        return NONE
    return share_words(share) + (f", n = {share['n']}" if share["n"] != n else "")


def text_only_warnings(result: Result) -> Iterator[str]:
    """Ties and non-finite similarities, one sentence each."""
    for name, entry in result["models"].items():
        counts = entry.get("text_only", {}).get("apart")
        if counts and counts["not_finite"]:
            yield (
                f"{name}: text-only task: {counts['not_finite']} of {counts['n']} examples have a similarity that is "
                "not a finite number; shares exclude them."
            )
        if counts and counts["ties"]:
            of = counts["n"] - counts["not_finite"]
            yield f"{name}: text-only task: ties within rounding, which count as failures: {counts['ties']} of {of}."
