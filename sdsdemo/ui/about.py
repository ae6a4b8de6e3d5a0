"""How it works: the method in six steps, the limits of the numbers, the models, documents, privacy, versions.

Its id is still `about`, so that old links work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gradio as gr
from typing_extensions import TypedDict

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.number_format import NO_SCORE, is_of_nothing
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.report import read_result
from sdsdemo.mini.experiments.shapes import Findings, Point
from sdsdemo.mini.experiments.verdict import verdict
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import ASSETS, CHECKPOINTS
from sdsdemo.types import Answer, Card
from sdsdemo.ui.compare_html import LETTERS, size_words
from sdsdemo.ui.denoising_view import denoising_html
from sdsdemo.ui.examples import ShownExample
from sdsdemo.ui.results_html import Cell, share_cell
from sdsdemo.ui.results_story import EXPERIMENT
from sdsdemo.ui.templates import render, script

MEASURED_FILE = "mini/results/mini.json"
SCORED_FILES = (MEASURED_FILE, "mini/results/mini-retrieval.json")
"""Results quoted on the cards of our own models."""


class QuotedResult(TypedDict):
    """The part of a result that a card quotes."""

    benchmark: str
    n: int
    chance: dict[str, float]
    models: dict[str, dict[str, Any]]


LIBRARIES = ("torch", "open_clip_torch", "diffusers", "transformers", "gradio")


DOCUMENTS = {
    "mini.md": "the study: question, design, verdict, limits",
    "mini-appendix.md": "all of its tables",
    "models.md": "the models, and what they were checked against",
    "benchmarks.md": "benchmarks, and what a run stores",
    "fine-tuning.md": "objectives, recipes, results",
    "command-line.md": "every command",
    "scale.md": "what a benchmark costs, and what breaks first",
    "deploying.md": "as a Space or on a server of your own",
    "architecture.md": "how the code is laid out",
}
"""The project's documents, and what is in them."""
Opening = tuple[ShownExample, list[Answer]]


def build(workbench: Workbench, opening: Opening | None = None) -> None:
    """Lays the tab out. It has no events. opening: the stored answer whose denoising the first step shows."""
    gr.HTML(page_html(workbench, opening), elem_id="about", js_on_load=script("denoising") + script("find_models"))


def page_html(workbench: Workbench, opening: Opening | None = None) -> str:
    """The whole tab."""
    return render(
        "about.page",
        picture=step_html(*opening) if opening else "",
        measured=measured_html(),
        models=models_html(workbench),
        documents=DOCUMENTS,
        versions=versions_line(),
    )


def step_html(example: ShownExample, answers: Sequence[Answer]) -> str:
    """The picture of the first step: what a diffusion model makes of the noised picture given each caption."""
    shown = [answer for answer in answers if answer.denoised][:1]
    return render(
        "about.step_picture",
        captions=[(LETTERS[k], caption, k == example.true) for k, caption in enumerate(example.captions)],
        panel=denoising_html(example.captions, shown, with_maps=False),
    )


def measured_html(assets: Path = ASSETS) -> str:
    """Our own figures on the Mini benchmark, with n and intervals; empty if they are not shipped."""
    path = assets / MEASURED_FILE
    if not path.is_file():
        return ""
    result = read_result(path)
    metrics, models = list(result["chance"]), result["models"]
    rows: list[list[Cell]] = [
        [{"code": name}, *(share_cell(entry[metric]) for metric in metrics)] for name, entry in models.items()
    ]
    rows.append(["chance", *(f"{100 * result['chance'][metric]:.1f}" for metric in metrics)])
    return render(
        "about.measured",
        n=result["n"],
        settings=result["settings"],
        head=[metric.replace("_", "-") for metric in metrics],
        rows=rows,
        lesson=lesson_words(models),
        gap=gap_words(models),
        experiment=experiment_html(assets),
    )


def experiment_html(assets: Path = ASSETS) -> str:
    """The findings of the fine-tuning experiment, from its file; empty if it is not shipped or has not begun."""
    path = assets / EXPERIMENT
    findings = verdict(shipped(path, Findings)) if path.is_file() else []
    return render("about.experiment", findings=findings)


GAP = {"captions": ("mini-clip", "mini-clip-clean"), "pretraining": ("mini-clip-clean", "mini-clip-lesson")}
"""What explains a part of the gap between CLIP and the diffusion score: the CLIPs without it and with it."""


def gap_words(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, str]:
    """How much of the gap each part of GAP explains, one after the other; only those whose models were measured."""

    def gained(metric: str, low: str, high: str) -> str:
        return f"{100 * (models[high][metric]['value'] - models[low][metric]['value']):.0f}"

    return {
        what: ", ".join(
            f"{gained(metric, *pair)} of {gained(metric, 'mini-clip', 'mini-diffusion')} points of {metric} score"
            for metric in ("text", "image", "group")
        )
        for what, pair in GAP.items()
        if {"mini-clip", "mini-diffusion", *pair} <= models.keys()
    }


def models_html(workbench: Workbench) -> str:
    """All cards: training data, licence, size, and published results with their source."""
    return render("about.models", cards=[_card(card, _where(card, workbench)) for card in workbench.cards()])


def measured_card(name: str, assets: Path = ASSETS, curves: Path = CHECKPOINTS / "curves") -> list[str]:
    """The training cost and the scores of one of our own models, read from the files of training and evaluation."""
    own = curves / f"{name}.json"
    parts = [own] if own.is_file() else sorted(curves.glob(f"{name}-*.json"))
    steps = sum(_last_step(path) for path in parts)
    lines = (
        [f"Cost: {steps:,} training steps" + (f" in {len(parts)} parts." if len(parts) > 1 else ".")] if steps else []
    )
    for file in SCORED_FILES:
        path = assets / file
        result = shipped(path, QuotedResult) if path.is_file() else {"models": {}}
        entry = result["models"].get(name)
        if entry is not None and result["chance"].keys() <= entry.keys():
            shares = ", ".join(
                f"{metric.replace('_', '-')} {_plain_share(entry[metric])}" for metric in result["chance"]
            )
            lines.append(f"Measured on {result['benchmark']}, n = {result['n']}: {shares} percent.")
    return lines


def _last_step(curve: Path) -> int:
    points: list[Point] = shipped(curve, list[Point])
    return int(points[-1]["step"]) if points else 0


def versions_line() -> str:
    """The libraries that compute the numbers."""
    return " · ".join(f"{name} {_version(name)}" for name in LIBRARIES)


def _plain_share(share: Mapping[str, float]) -> str:
    if is_of_nothing(share):
        return NO_SCORE
    return f"{100 * share['value']:.1f} ({100 * share['low']:.0f} to {100 * share['high']:.0f})"


def _where(card: Card, workbench: Workbench) -> str:
    """Whether the weights are here. Does not check what a download would bring: that would load libraries at start."""
    if card.download:
        return " to download"
    return ", here" if workbench.availability(card).can_run else ", once it is trained"


def _card(card: Card, where: str) -> dict[str, Any]:
    """A card, as the template takes it."""
    captions = f"Captions: {card.caption_stream}" if card.caption_stream else ""
    limits = f"Limits: {card.limits}" if card.limits else ""
    return {
        "title": card.title,
        "name": card.name,
        "facts": f"{card.licence} · {size_words(card.size_mb)}{where}",
        "summary": card.summary,
        "lines": [line for line in (card.training, captions, limits) if line],
        "measured": measured_card(card.name) if card.mini else [],
        "published": [_published(result) for result in card.published],
    }


def _published(result: Mapping[str, object]) -> str:
    """One published result: always with its source, and marked if it is from memory."""
    known = {"benchmark", "source", "sure"}
    values = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.items() if key not in known)
    remembered = "; from memory, not re-read" if result.get("sure") == "recalled" else ""
    return f"{result.get('benchmark', '')}: {values} ({result.get('source', 'no source')}{remembered})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
