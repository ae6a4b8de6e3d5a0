"""Writes the experiment's figures into the documents, between markers, and its plots. Trains nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sdsdemo.core.intervals import paired_change, proportion
from sdsdemo.core.number_format import points_words, share_words
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.evaluation.figures import by_share_figure, curves_figure, effects_figure, saved
from sdsdemo.evaluation.limits import LESSON, WITHOUT_LABELS, shipped_student_words
from sdsdemo.evaluation.report import read_result
from sdsdemo.evaluation.summary import tag_rows
from sdsdemo.mini.experiments.ablations import KINDS, SHORT
from sdsdemo.mini.experiments.declared import BETTER_TEACHER
from sdsdemo.mini.experiments.in_short import found_in_short, strongest_limits
from sdsdemo.mini.experiments.lesson import FILE as LESSON_FILE
from sdsdemo.mini.experiments.lesson_words import lesson_markdown
from sdsdemo.mini.experiments.map_words import further_markdown, maps_markdown
from sdsdemo.mini.experiments.noise import NOISE_FILE, noise_markdown
from sdsdemo.mini.experiments.shapes import Costs, Findings, MapFindings, NoiseFindings, Point
from sdsdemo.mini.experiments.study import BENCHMARK, right_of
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.tables import (
    TEN,
    TITLES,
    as_markdown,
    bases_grid,
    confirm_grid,
    costs_grid,
    follow_ups_grid,
    study_markdown,
)
from sdsdemo.mini.experiments.ten_words import coverage_markdown, noise_grid, ten_main, ten_markdown
from sdsdemo.mini.experiments.train_all import CURVES
from sdsdemo.mini.experiments.verdict import claim, costs_words, headline, verdict, whole_words
from sdsdemo.mini.experiments.verify import COSTS, EXPERIMENT, MAP_FINDINGS, MEASURED, RESULTS, write_findings
from sdsdemo.mini.models import clip
from sdsdemo.runtime.files import write_whole
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import CHECKPOINTS, ROOT
from sdsdemo.types import Example

LONGER = RESULTS / "mini-16.json"
"""Output of `evaluate mini --model mini-diffusion --timesteps 16 --json`."""
DOCS = ROOT / "docs"
DOCUMENTS = (ROOT / "README.md", *(DOCS / f"{name}.md" for name in ("mini", "mini-appendix", "fine-tuning", "models")))
"""Files that show the experiment's figures."""
NO_DOCUMENTS = "There is no {names} here to write into: run it in a clone of the repository."


def blocks(found: Mapping[str, Any]) -> dict[str, str]:
    """Marker name -> the text between its markers."""
    parts = {"bases": as_markdown(bases_grid(found["bases"])), **{name: study_markdown(found[name]) for name in TITLES}}
    parts["lesson"] = LESSON
    parts["without-labels"] = WITHOUT_LABELS
    parts["shipped-student"] = bullets([shipped_student_words()])
    parts["in-short"] = bullets(found_in_short(found))
    parts["strongest-limits"] = bullets(strongest_limits(found))
    parts["verdict"] = bullets(verdict(found))
    parts["confirm-main"] = as_markdown(confirm_grid(found["confirm"]))
    parts["follow-ups"] = as_markdown(follow_ups_grid(found))
    measured = [read_result(path) for path in (MEASURED, LONGER) if path.is_file()]
    parts["ten-bases"] = ten_markdown(found[TEN])
    parts["ten-bases-main"] = ten_main(found[TEN])
    if "coverage" in found:
        parts["coverage"] = coverage_markdown(found["coverage"])
    if "seed_noise" in found:
        parts["seed-noise"] = as_markdown(noise_grid(found["seed_noise"]))
    parts["claim"] = claim(found)
    parts["headline"] = headline(found, measured[0])
    parts["teacher"] = teacher_markdown(*measured)
    swept, teachers = (read_rows(EXPERIMENT / f"{name}.jsonl") for name in ("tags", "teachers"))
    if swept:
        parts["tags"] = as_markdown(shares_grid(swept))
    if teachers:
        parts["teachers"] = as_markdown(teachers_grid(teachers, read_benchmark(BENCHMARK)))
    parts["lesson-2x2"] = lesson_markdown(read_rows(EXPERIMENT / LESSON_FILE), read_benchmark(BENCHMARK))
    if COSTS.is_file():
        costs = shipped(COSTS, Costs)
        parts["costs"] = f"{as_markdown(costs_grid(found, costs))}\n\n{costs_words(costs)}"
        parts["whole"] = whole_words(costs)
    if MAP_FINDINGS.is_file():
        of_maps = shipped(MAP_FINDINGS, MapFindings)
        parts |= {"maps": maps_markdown(of_maps), "maps-further": further_markdown(of_maps)}
    if NOISE_FILE.is_file():
        parts["noise"] = noise_markdown(shipped(NOISE_FILE, NoiseFindings))
    return parts


def bullets(said: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {one}" for one in said)


def teacher_markdown(result: Mapping[str, Any], *longer: Mapping[str, Any]) -> str:
    """Scores of the better teacher, the shipped diffusion model, from fewer timesteps and from ranges of t.

    longer: results with more timesteps, one row each.
    """
    losses = result["models"][BETTER_TEACHER]["losses"]
    by_count = losses["by_timesteps"] | {
        f"{more['settings']['timesteps']}, separate run": more["models"][BETTER_TEACHER] for more in longer
    }
    grids = []
    for title, by_label in (("timesteps", by_count), ("range of t", losses["by_range"])):
        rows = [[title, "text", "image", "group"]]
        for label, shares in by_label.items():
            rows.append([label, *(share_words(shares[metric]) for metric in ("text", "image", "group"))])
        grids.append(as_markdown(rows))
    return "\n\n".join(grids)


def shares_grid(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A header and a row per share of tag-like captions."""
    grid = [["tags, percent", "text", "image", "group", "retrieval", "order"]]
    for row in sorted(rows, key=lambda row: row["tag_share"]):
        own = [_words(right_of(row, BENCHMARK, metric)) for metric in ("text", "image", "group")]
        others = [_words(right_of(row, name, "accuracy")) for name in ("mini-retrieval", "mini-order")]
        grid.append([f"{100 * row['tag_share']:.0f}", *own, *others])
    return grid


TEACHER_NAMES = {
    SHORT: "shipped recipe, a third of the steps",
    "without the lesson": "text encoder not pretrained",
    "from pictures": "text encoder pretrained on captioned pictures",
}
"""Stored names of ablated teachers -> what readers see."""


def teachers_grid(rows: Sequence[Mapping[str, Any]], examples: Sequence[Example]) -> list[list[str]]:
    """A header and a row per ablated teacher: its scores, its text score by kind of swap, and the accuracy of a linear
    probe of places. Differences are to the teacher trained by the shipped recipe."""
    tag_of = tag_rows(examples, "tag")
    chosen = {kind: np.concatenate([tag_of[tag] for tag in tags]) for kind, tags in KINDS.items()}
    heads = [f"{kind} (n = {len(index_K)})" for kind, index_K in chosen.items()]
    grid = [["teacher", "text", "image", "group", "difference", *heads, "linear probe of places"]]
    usual_E = next(right_of(row, BENCHMARK, "text") for row in rows if row["teacher"] == SHORT)
    for row in rows:
        text_E, image_E, group_E = (right_of(row, BENCHMARK, metric) for metric in ("text", "image", "group"))
        change = paired_change(usual_E, text_E)
        difference = "" if row["teacher"] == SHORT else points_words(asdict(change))
        kinds = [f"{100 * text_E[index_K].mean():.0f}" for index_K in chosen.values()]
        scores = [_words(right_E) for right_E in (text_E, image_E, group_E)]
        grid.append(
            [
                TEACHER_NAMES.get(row["teacher"], row["teacher"]),
                *scores,
                difference,
                *kinds,
                f"{100 * row['places_read']:.0f} %",
            ]
        )
    return grid


def _words(right_E: np.ndarray) -> str:
    return share_words(asdict(proportion(int(right_E.sum()), len(right_E))))


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with each part filled in between `<!-- name -->` and `<!-- /name -->`."""
    for name, part in parts.items():
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = between.sub(part.replace("\\", r"\\") + "\n", text)
    return text


PANELS = {
    "CLIPs: L_CLIP": {name: name for name in clip.BASES} | {"mini-clip-lesson-pictures": "mini-clip-lesson"},
    "teacher's autoencoder: loss": {"mini-diffusion-short-autoencoder": "autoencoder"},
    "the lesson: loss": {
        "mini-diffusion-short-prompts": "teacher's text encoder",
        "mini-clip-lesson-prompts": "mini-clip-lesson",
    },
    "teacher's UNet: loss": {
        "mini-diffusion-short-denoiser": "stage 1",
        "mini-diffusion-short-denoiser-2": "stage 2",
        "mini-diffusion-denoiser-3": "stage 3",
        "mini-diffusion-denoiser-4": "stage 4",
    },
    "students: total loss": {name: name for name in ("mini-sds-clip", "mini-clip-control", "mini-preference-clip")},
}
"""Panel title -> file names of its learning curves, with their labels."""
DPI = 110
CHANCE = 0.25
"""Chance level of the text score."""


def learning_curves() -> dict[str, dict[str, list[dict[str, float]]]]:
    """The curves that exist, by panel and label."""
    folder = CHECKPOINTS / CURVES
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
    """Text score by tag share, from the lines of the sweep."""
    found = []
    for row in sorted(rows, key=lambda row: row["tag_share"]):
        right_E = right_of(row, benchmark, "text")
        found.append({"share": row["tag_share"], **asdict(proportion(int(right_E.sum()), len(right_E)))})
    return found


def write(documents: Sequence[Path] = DOCUMENTS, docs: Path = DOCS) -> Path:
    """Update the findings from the lines, the documents with them, and the plots in `docs`/mini.

    Returns the documents' folder. Raises `UserError` where there are no documents, before anything is written.
    """
    missing = [file.name for file in documents if not file.is_file()]
    if missing:
        raise UserError(NO_DOCUMENTS.format(names=", ".join(missing)))
    plots = docs / "mini"
    plots.mkdir(exist_ok=True)
    write_whole(plots / "learning-curves.png", saved(curves_figure(learning_curves()), "png", DPI))
    swept = read_rows(EXPERIMENT / "tags.jsonl")
    if swept:
        write_whole(plots / "tag-share.png", saved(by_share_figure(shares(swept), CHANCE), "png", DPI))
    found = shipped(write_findings(EXPERIMENT), Findings)
    contrasts = found["confirm"].get("contrasts", [])
    if contrasts:
        write_whole(plots / "effects.png", saved(effects_figure(contrasts), "png", DPI))
    for file in documents:
        write_whole(file, filled(file.read_text(encoding="utf-8"), blocks(found)))
    return docs
