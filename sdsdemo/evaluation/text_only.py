"""SugarCrepe++'s text-only task (TOT): captions alone, without a picture. Scores nothing.

    right:  s(p1, p2) > s(p1, n)  and  s(p1, p2) > s(p2, n)

s is the cosine of two text embeddings, p1 and p2 are the true captions and n the false one (Dumpala et al. 2024,
2406.11171; VLMs/test_Variants_CLIP.py and evaluate_ulms.py of their code). A diffusion model scores captions by
pictures and has no embedding of a caption, so it has no score here, which is said and is not 0.

A result has it as `text_only` of each model: `name`, `rule`, `chance`, `accuracy`, `by_tag` and `apart`; or `name` and
`missing`, a phrase that says why there is none.
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
"""Of a diffusion model."""
NOT_KEPT = "not in this run: evaluate again with the same --out to add it"
"""Of a run that was stored before the task was known, or was stopped before its end."""
CHANCE = 1 / 3
"""How often the first of three independent random similarities is the largest."""
NONE = "none"
"""In place of a share that a model cannot have."""


@dataclass(frozen=True, kw_only=True)
class TextOnlyTable:
    """The task as people read it."""

    title: str
    rows: list[list[str]]
    """The head, all examples, a row a file, and chance; a column a model."""
    notes: list[str]
    """The rule, and which model has no score, with why."""


def has_task(tags: Sequence[Mapping[str, str]]) -> bool:
    """Whether the set of these examples has the task."""
    return bool(tags) and all(set_of(own) == SUGARCREPE_PP for own in tags)


def has_embedding(scores: Scores) -> bool:
    """Whether the model that gave this score embeds captions by themselves: one whose scores are similarities."""
    return scores.kind == "similarity"


def captions_alone(examples: Sequence[Example]) -> list[Example]:
    """The same examples without their pictures."""
    return [replace(example, images=()) for example in examples]


def name_of(tags: Sequence[Mapping[str, str]]) -> str:
    """What the average is called; that of a part of the set is called one."""
    return f"{'part of ' if differences('sugarcrepe++', tags) else ''}{SUGARCREPE_PP}, TOT"


def text_only_table(result: Result) -> TextOnlyTable | None:
    """None for a result that has no such task."""
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
    """shares: of the models that have one. A model that says nothing about some examples has its own n in its cell."""
    n = max((share["n"] for share in shares.values()), default=0)
    cells = [_cell(shares.get(model), n) for model in models]
    return [label, str(n) if shares else "", *cells]


def _cell(share: Share | None, n: int) -> str:
    if share is None:
        return NONE
    return share_words(share) + (f", n = {share['n']}" if share["n"] != n else "")


def text_only_warnings(result: Result) -> Iterator[str]:
    """Ties and similarities that are no numbers, a sentence each."""
    for name, entry in result["models"].items():
        counts = entry.get("text_only", {}).get("apart")
        if counts and counts["not_finite"]:
            yield (
                f"{name}: text-only task: {counts['not_finite']} of {counts['n']} examples with a similarity that is "
                "not a finite number, in no share."
            )
        if counts and counts["ties"]:
            of = counts["n"] - counts["not_finite"]
            yield f"{name}: text-only task: ties within rounding, which count as failures: {counts['ties']} of {of}."
