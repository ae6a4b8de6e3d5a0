"""Model cards of an exported CLIP and of a run's file, after the Hub's conventions. Writes and fetches nothing.

https://huggingface.co/docs/hub/model-cards: `library_name`, `base_model`, `pipeline_tag`, `tags`, `license`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdsdemo.core.number_format import level_words
from sdsdemo.finetuning.phrases import SHOWN, change_words, not_finite_words

Format = Literal["open_clip", "transformers"]
LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0"}
"""The Hub's names of the licences that our cards name."""
USE = {
    "open_clip": """import open_clip

model, preprocess = open_clip.create_model_from_pretrained("{place}")
tokenizer = open_clip.get_tokenizer("{place}")""",
    "transformers": """from transformers import CLIPModel, CLIPProcessor

model = CLIPModel.from_pretrained("{place}")
processor = CLIPProcessor.from_pretrained("{place}")""",
}
SPEC = {"open_clip": "open_clip:{place}", "transformers": "transformers:{place}"}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says."""

    title: str
    """What the exported model is called."""
    format: Format
    base: str
    """What it was made from, in words."""
    base_repo: str
    """The repository of the base on the Hub; "" where it has none."""
    licence: str
    """Of the base, as its card names it."""
    repo: str
    """Where the model will lie on the Hub; "" for a folder that goes nowhere."""
    story: str = ""
    """How it was made, in sentences; "" for a model that was only converted."""
    objective: str = ""
    results: tuple[str, ...] = ()
    """Lines of Markdown."""


def model_card(facts: CardFacts) -> str:
    """The card, in Markdown with front matter."""
    place = facts.repo or "THIS_FOLDER"
    where = place if facts.format == "transformers" else f"hf-hub:{place}" if facts.repo else f"local-dir:{place}"
    results = "\n".join(facts.results) or "Nothing was measured."
    return f"""---
{_front_matter(facts)}
---

# {facts.title}

{facts.story or f"{facts.base}, converted; its weights are unchanged."}

Licence of the base: {facts.licence}.

## Results

{results}

## Use

```python
{USE[facts.format].format(place=where)}
```

`python -m sdsdemo score PICTURE "CAPTION" "CAPTION" --model {SPEC[facts.format].format(place=where)}`
"""


def shares_lines(results: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    """A table of a model's shares in stored results: percent, 95 % interval and n by benchmark and metric."""
    rows = [
        f"| {result['benchmark']} | {metric.replace('_', '-')} | {100 * share['value']:.1f} "
        f"| {100 * share['low']:.1f} to {100 * share['high']:.1f} | {share['n']:,} |"
        for result in results
        for metric in result["chance"]
        if (share := result["models"].get(name, {}).get(metric)) is not None
    ]
    head = ("| benchmark | score | % right | 95 % interval | n |", "|---|---|---|---|---|")
    return (*head, *rows) if rows else ()


def figures(record: Mapping[str, Any]) -> list[str]:
    """What a run measured before and after, a line of Markdown each; empty where nothing was."""
    measured = {"sets": {}} | record.get("measured", {})
    lines = [
        f"- {name}, {metric}: {level_words(row['before'])} -> {level_words(row['after'])} %; "
        f"{change_words(row['change'])}"
        for name, found in measured["sets"].items()
        for metric, row in found["metrics"].items()
        if metric in SHOWN
    ]
    return lines + [
        f"- {name}, {words}" for name, found in measured["sets"].items() if (words := not_finite_words(found))
    ]


def run_card(record: Mapping[str, Any], repo: str) -> str:
    """The card of a run's file: its record's base, objective, before and after with their uncertainty, the command."""
    return f"""---
library_name: sdsdemo
tags: {_tags(record["objective"])}
---

# {repo.partition("/")[2]}

{record["base_card"]} fine-tuned with the objective `{record["objective"]}`: {record["steps_done"]} steps, seed
{record["seed"]}. Trained: {record.get("trained", "nothing")}. The file holds only what training changed; load it
onto the base that it names, as `sds-clip:model.safetensors`. `python -m sdsdemo export` makes a whole model of it.

## Before and after

{chr(10).join(figures(record)) or "Nothing was measured."}

## To reproduce

    {record["command"]}
"""


def _tags(objective: str) -> str:
    """As YAML, each once: an objective is called `clip` too. objective: "" for a model that was only converted."""
    return f"[{', '.join(dict.fromkeys(['clip', *(['compositionality', objective] if objective else [])]))}]"


def _front_matter(facts: CardFacts) -> str:
    lines = [
        f"library_name: {facts.format}",
        "pipeline_tag: zero-shot-image-classification",
        f"license: {LICENCES.get(facts.licence, 'unknown')}",
        f"tags: {_tags(facts.objective)}",
    ]
    if facts.base_repo:
        lines.append(f"base_model: {facts.base_repo}")
        lines += ["base_model_relation: finetune"] if facts.objective else []
    return "\n".join(lines)
