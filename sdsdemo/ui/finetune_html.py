"""The state and the results of a fine-tuning run as HTML. Knows no Gradio component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdsdemo.app.job_states import Job
from sdsdemo.app.sharing import shared_name
from sdsdemo.core.number_format import duration, is_of_nothing, level_words, points_words
from sdsdemo.finetuning.elsewhere import OUT
from sdsdemo.finetuning.phrases import KEPT, SHOWN, change_words, cosine_words, not_finite_words
from sdsdemo.types import Example
from sdsdemo.ui import address
from sdsdemo.ui.recipe_form import in_page_words
from sdsdemo.ui.results_html import share_cell
from sdsdemo.ui.templates import render
from sdsdemo.ui.thumbnails import THUMB, Thumbnails

STATES = {
    "waiting": "Waiting",
    "preparing": "Preparing",
    "running": "Training",
    "stopping": "Stopping",
    "finished": "Finished",
    "stopped": "Stopped and saved",
    "interrupted": "Interrupted",
    "failed": "Failed",
}
UNBEGUN = "Stopped before its first step"
DEVICES = {"cpu": "the CPU"}
NOTHING = "No run yet. A run continues when you close this page, and reappears when you return in the same browser."
NOT_MEASURED = "The run was stopped before it could be evaluated. Its model is saved: use it in Compare or in Browse."


def status_html(run: Job | None) -> str:
    """The run's state in one line, and a progress bar; a sentence if there is no run."""
    if run is None:
        return render("parts.hint", sentence=NOTHING)
    share = 100 * (run.step / max(1, run.recipe.steps)) if run.step else 100 * run.done / run.total if run.total else 0
    state = "stopped" if run.state == "stopping" and run.written else run.state
    return render(
        "finetune.status",
        state=state,
        address=address.write("finetune", {"run": shared_name(run.id)}),
        name=STATES[state] if run.step or state != "stopped" else UNBEGUN,
        parts=_parts(run),
        share=f"{100 if run.state == 'finished' else share:.1f}",
        reason=in_page_words(run.reason) if run.reason else "",
        notices=run.notices,
    )


def _parts(run: Job) -> list[str]:
    if run.state == "waiting":
        return ["next in the queue" if run.ahead == 0 else f"{run.ahead} ahead of you"]
    found = []
    if run.step or (run.is_over and run.state != "stopped"):
        at = "at " if run.state == "interrupted" else ""
        found.append(f"{at}step {run.step:,} of {run.recipe.steps:,}")
    if run.state == "interrupted":
        found.append(f"the server restarted; Resume continues from step {run.saved_step:,}")
    if run.text and not run.is_over:
        found.append(run.text + (f" {run.done} of {run.total}" if run.total else ""))
    elif run.rate and not run.is_over:
        found.append(f"{run.rate:.1f} steps/s" if run.rate >= 1 else f"{1 / run.rate:.1f} s per step")
        found += [f"{duration(run.left)} left"] if run.left is not None and run.state == "running" else []
    if "seconds" in run.record:
        found.append(f"{duration(run.record['seconds'])} in all")
    found += [f"on {DEVICES.get(run.device, run.device)}"] if run.device else []
    if run.record.get("out_of_time"):
        found.append("it reached the page's time limit")
    return found


def result_html(run: Job | None) -> str:
    """Before and after with uncertainty, non-inferior skills, which tower separates the captions, and the command."""
    if run is None or "measured" not in run.record:
        is_lost = run is not None and run.state == "stopped" and run.written
        return render("parts.hint", sentence=NOT_MEASURED if is_lost else "")
    measured = run.record["measured"]
    rows = [
        _row(metric, row, found.get("kept")) | {"name": name if k == 0 else "", "rows": len(shown)}
        for name, found in measured["sets"].items()
        for shown in [[(metric, row) for metric, row in found["metrics"].items() if metric in SHOWN]]
        for k, (metric, row) in enumerate(shown)
    ]
    apart = [f"{name}: {words}." for name, found in measured["sets"].items() if (words := not_finite_words(found))]
    withheld = [
        {"what": what, "name": str(row["withheld"]), "change": change_words(row["change"])}
        for what, row in measured.get("withheld", {}).items()
    ]
    alike = [
        f"the two {what}: {cosine_words(was)} before, {cosine_words(now)} after"
        for what, (was, now) in measured.get("cosine", {}).items()
    ]
    return render(
        "finetune.result",
        headline=_headline(measured),
        rows=rows,
        apart=apart,
        withheld=withheld,
        alike=alike,
        teacher=_teacher(run.record),
        command=run.recipe.command(OUT),
    )


def _headline(measured: Mapping[str, Any]) -> str:
    """The change of the tracked metric in a sentence; empty if it has no number."""
    first: Mapping[str, Any] = next((found["metrics"] for found in measured["sets"].values()), {})
    metric, row = next(((name, row) for name, row in first.items() if name in SHOWN), ("", None))
    if row is None or is_of_nothing(row["change"]):
        return ""
    low, high = row["change"]["low"], row["change"]["high"]
    verdict = "It rose" if low > 0 else "It fell" if high < 0 else "It may not have changed"
    levels = f"{metric} score {level_words(row['before'])} before, {level_words(row['after'])} after"
    change = f"{verdict}: {points_words(row['change'])} points, n = {row['change']['n']}."
    return f"{levels[:1].upper()}{levels[1:]}. {change}"


def _row(metric: str, row: Mapping[str, Any], kept: bool | None) -> dict[str, Any]:
    """kept: whether the set's skill is non-inferior; None if that was not tested."""
    change = row["change"]
    p = f"p = {change['p']:.2f}" if change["p"] >= 0.01 else f"p = {change['p']:.1g}"
    return {
        "metric": metric,
        "before": share_cell(row["before"], "[{}, {}]"),
        "after": share_cell(row["after"], "[{}, {}]"),
        "change": change_words(change),
        "kept": "" if kept is None else KEPT[kept],
        "test": f"{change['gained']} gained, {change['lost']} lost; {p}",
    }


def _teacher(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many pairs the teacher scored and how often it was right; None if it scored none."""
    found = record.get("preferences")
    if not found:
        return None
    right, alone = found.get("teacher_right"), found.get("stand_ins")
    others = f" {alone:,} captions without a swap were paired with another image's." if alone else ""
    return {
        "before": f"The teacher scored {found['asked']:,} new pairs: {found['evaluations']:,} denoiser evaluations in "
        f"{duration(found['seconds'])}",
        "right": share_cell(right, "[{}, {}]") if right else "",
        "of": f"{found['pairs']:,} pairs",
        "after": f"{others} No labels of the true caption were used.",
    }


def flipped_html(run: Job | None, pictures: Mapping[str, str]) -> str:
    """Examples whose answer changed, in either direction. pictures: HTML from `pictured_html`, by example id."""
    if run is None or "measured" not in run.record:
        return ""
    flipped = run.record["measured"]["flipped"]
    ways = (("fixed", "Right only after training"), ("broken", "Right only before training"))
    shown = [(words, [pictures[id_] for id_ in flipped[way] if id_ in pictures]) for way, words in ways]
    return render("finetune.flipped", groups=[(words, found) for words, found in shown if found])


def pictured_html(example: Example, thumbs: Thumbnails) -> str:
    """Both pictures of an example and both captions."""
    images = [
        {"source": thumbs.of(picture, THUMB), "words": caption}
        for picture, caption in zip(example.images, example.captions, strict=False)
    ]
    return render("finetune.pictured", images=images, captions=example.captions[:2])
