"""Writes the experiment's figures into the documents, between markers, and its plots. Trains nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.core.metrics import paired_change, proportion
from sdsdemo.core.number_format import points_words, share_words
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation.figures import by_share_figure, curves_figure, effects_figure, saved
from sdsdemo.evaluation.limits import LESSON
from sdsdemo.evaluation.report import read_result
from sdsdemo.evaluation.summary import tag_rows
from sdsdemo.mini.experiments.ablations import SHORT
from sdsdemo.mini.experiments.shapes import Costs, Findings, Point
from sdsdemo.mini.experiments.study import BENCHMARK, right_of
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.tables import (
    TITLES,
    as_markdown,
    bases_grid,
    confirm_grid,
    costs_grid,
    follow_ups_grid,
    study_markdown,
)
from sdsdemo.mini.experiments.train_all import CURVES
from sdsdemo.mini.experiments.verdict import costs_words, headline, verdict, whole_words
from sdsdemo.mini.experiments.verify import COSTS, EXPERIMENT, FINDINGS, MEASURED, RESULTS
from sdsdemo.mini.models import clip
from sdsdemo.mini.models.sds_clip import TEACHER
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import CHECKPOINTS, ROOT
from sdsdemo.types import Example

LONGER = RESULTS / "mini-16.json"
"""What `evaluate mini --model mini-diffusion --timesteps 16 --json` says."""
DOCS = ROOT / "docs"
DOCUMENTS = (ROOT / "README.md", *(DOCS / f"{name}.md" for name in ("mini", "mini-appendix", "fine-tuning", "models")))
"""The files that show figures of the experiment."""


def blocks(found: Mapping[str, Any]) -> dict[str, str]:
    """What stands between the markers of each name."""
    parts = {"bases": as_markdown(bases_grid(found["bases"])), **{name: study_markdown(found[name]) for name in TITLES}}
    parts["lesson"] = LESSON
    parts["verdict"] = "\n".join(f"- {said}" for said in verdict(found))
    parts["confirm-main"] = as_markdown(confirm_grid(found["confirm"]))
    parts["follow-ups"] = as_markdown(follow_ups_grid(found))
    measured = [read_result(path) for path in (MEASURED, LONGER) if path.is_file()]
    parts["headline"] = headline(found, measured[0])
    parts["teacher"] = teacher_markdown(*measured)
    swept, teachers = (read_rows(EXPERIMENT / f"{name}.jsonl") for name in ("tags", "teachers"))
    if swept:
        parts["tags"] = as_markdown(shares_grid(swept))
    if teachers:
        parts["teachers"] = as_markdown(teachers_grid(teachers, read_benchmark(BENCHMARK)))
    if COSTS.is_file():
        costs = shipped(COSTS, Costs)
        parts["costs"] = f"{as_markdown(costs_grid(found, costs))}\n\n{costs_words(costs)}"
        parts["whole"] = whole_words(costs)
    return parts


def teacher_markdown(result: Mapping[str, Any], *longer: Mapping[str, Any]) -> str:
    """The teacher's scores from fewer timesteps and from parts of them, of the losses that were stored.

    longer: results with more timesteps, a row each.
    """
    losses = result["models"][TEACHER]["losses"]
    by_count = losses["by_timesteps"] | {
        f"{more['settings']['timesteps']}, another run": more["models"][TEACHER] for more in longer
    }
    grids = []
    for title, by_label in (("timesteps", by_count), ("range of t", losses["by_range"])):
        rows = [[title, "text", "image", "group"]]
        for label, shares in by_label.items():
            rows.append([label, *(share_words(shares[metric]) for metric in ("text", "image", "group"))])
        grids.append(as_markdown(rows))
    return "\n\n".join(grids)


def shares_grid(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Head and a row a share of tag-like captions, of the lines of the sweep."""
    grid = [["tags, percent", "text", "image", "group", "retrieval", "order"]]
    for row in sorted(rows, key=lambda row: row["tag_share"]):
        own = [_words(right_of(row, BENCHMARK, metric)) for metric in ("text", "image", "group")]
        others = [_words(right_of(row, name, "accuracy")) for name in ("mini-retrieval", "mini-order")]
        grid.append([f"{100 * row['tag_share']:.0f}", *own, *others])
    return grid


KINDS = {
    "places": ("Noun left/right", "Noun above/below"),
    "inside": ("Noun inside",),
    "colours": ("Adjective-Colour", "Adjective-Colour in a relation"),
    "sizes": ("Adjective-Size",),
    "numbers": ("Determiner-Number",),
}
"""Swaps that a teacher is told apart by, with the tags that they have."""


def teachers_grid(rows: Sequence[Mapping[str, Any]], examples: Sequence[Example]) -> list[list[str]]:
    """Head and a row a teacher of a short course: its scores, its text score by kind of swap, and what its text encoder
    tells of places; the difference is to the one that is made as the shipped one is."""
    tag_of = tag_rows(examples, "tag")
    chosen = {kind: np.concatenate([tag_of[tag] for tag in tags]) for kind, tags in KINDS.items()}
    heads = [f"{kind} (n = {len(index_K)})" for kind, index_K in chosen.items()]
    grid = [["teacher", "text", "image", "group", "difference", *heads, "places read from the text"]]
    usual_E = next(right_of(row, BENCHMARK, "text") for row in rows if row["teacher"] == SHORT)
    for row in rows:
        text_E, image_E, group_E = (right_of(row, BENCHMARK, metric) for metric in ("text", "image", "group"))
        change = paired_change(usual_E, text_E)
        difference = "" if row["teacher"] == SHORT else points_words(asdict(change))
        kinds = [f"{100 * text_E[index_K].mean():.0f}" for index_K in chosen.values()]
        scores = [_words(right_E) for right_E in (text_E, image_E, group_E)]
        grid.append([row["teacher"], *scores, difference, *kinds, f"{100 * row['places_read']:.0f} %"])
    return grid


def _words(right_E: np.ndarray) -> str:
    return share_words(asdict(proportion(int(right_E.sum()), len(right_E))))


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with every part between its own `<!-- name -->` and `<!-- /name -->`."""
    for name, part in parts.items():
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = between.sub(part.replace("\\", r"\\") + "\n", text)
    return text


PANELS = {
    "CLIPs: L_CLIP": {name: name for name in clip.BASES},
    "teacher's autoencoder: loss": {"mini-diffusion-short-autoencoder": "autoencoder"},
    "teacher's text encoder: loss": {"mini-diffusion-short-prompts": "text encoder"},
    "teacher's UNet: loss": {
        "mini-diffusion-short-denoiser": "stage 1",
        "mini-diffusion-short-denoiser-2": "stage 2",
        "mini-diffusion-denoiser-3": "stage 3",
        "mini-diffusion-denoiser-4": "stage 4",
    },
    "students: total loss": {name: name for name in ("mini-sds-clip", "mini-clip-control", "mini-preference-clip")},
}
"""By title, the learning curves that a panel shows, with what they are called in it."""
DPI = 110
CHANCE = 0.25
"""Of the text score."""


def learning_curves(folder: Path = CHECKPOINTS / CURVES) -> dict[str, dict[str, list[dict[str, float]]]]:
    """The curves that are there, by panel and name."""
    found = {
        title: {
            called: shipped(folder / f"{name}.json", list[Point])
            for name, called in curves.items()
            if (folder / f"{name}.json").exists()
        }
        for title, curves in PANELS.items()
    }
    return {title: curves for title, curves in found.items() if curves}


def shares(rows: Sequence[Mapping[str, Any]], benchmark: str = BENCHMARK) -> list[dict[str, Any]]:
    """Text score by tag share, of the lines of the sweep."""
    found = []
    for row in sorted(rows, key=lambda row: row["tag_share"]):
        right_E = right_of(row, benchmark, "text")
        found.append({"share": row["tag_share"], **asdict(proportion(int(right_E.sum()), len(right_E)))})
    return found


def write(documents: Sequence[Path] = DOCUMENTS, docs: Path = DOCS) -> Path:
    """The documents with today's findings, and the plots in `docs`/mini. Returns the folder of the documents."""
    plots = docs / "mini"
    plots.mkdir(exist_ok=True)
    (plots / "learning-curves.png").write_bytes(saved(curves_figure(learning_curves()), "png", DPI))
    swept = read_rows(EXPERIMENT / "tags.jsonl")
    if swept:
        (plots / "tag-share.png").write_bytes(saved(by_share_figure(shares(swept), CHANCE), "png", DPI))
    found = shipped(FINDINGS, Findings)
    contrasts = found["confirm"].get("contrasts", [])
    if contrasts:
        (plots / "effects.png").write_bytes(saved(effects_figure(contrasts), "png", DPI))
    for file in documents:
        file.write_text(filled(file.read_text(encoding="utf-8"), blocks(found)), encoding="utf-8")
    return docs
