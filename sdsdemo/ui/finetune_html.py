"""What the Fine-tune tab says of a run, as HTML: its state, and what it changed. Knows no Gradio component."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sdsdemo.app.job_states import Job
from sdsdemo.core.number_format import NO_SCORE, is_of_nothing
from sdsdemo.finetuning.phrases import KEPT, SHOWN, apart_words, change_words, cosine_words, duration
from sdsdemo.ui.recipe_form import in_page_words

STATES = {
    "waiting": "Waiting",
    "preparing": "Preparing",
    "running": "Training",
    "stopping": "Stopping",
    "finished": "Finished",
    "stopped": "Stopped, and kept",
    "interrupted": "Interrupted",
    "failed": "Failed",
}
DEVICES = {"cpu": "the processor"}
SHELL_OUT = "runs/mine"
NOTHING = (
    '<p class="hint">Nothing runs yet. A run continues when you close this page, and reappears when you return in '
    "the same browser.</p>"
)
SHORT = (
    "A run of a few dozen steps rarely moves a benchmark: what you see here is the method at work. Compare with the "
    "objective <i>clip</i> at the same settings before you believe a gain."
)

NOT_MEASURED = (
    '<p class="hint">The run was stopped before what it changed could be measured. Its model is kept: use it in '
    "Compare or in Browse.</p>"
)


def status_html(run: Job | None, nothing: str = NOTHING) -> str:
    """One line of state, and a bar. nothing: what stands there without a run."""
    if run is None:
        return nothing
    parts = _parts(run)
    share = 100 * (run.step / max(1, run.recipe.steps)) if run.step else 100 * run.done / run.total if run.total else 0
    if run.state == "finished":
        share = 100
    state = "stopped" if run.state == "stopping" and run.written else run.state
    mark = f'<b class="state {state}">{STATES[state]}</b>'
    told = "".join(f"<li>{escape(text)}</li>" for text in run.told)
    reason = f'<p class="message">{escape(in_page_words(run.reason))}</p>' if run.reason else ""
    return (
        f'<div class="run-status" role="status" aria-live="polite"><p>{mark} {" · ".join(parts)}</p>'
        f'<div class="run-bar"><i style="width:{share:.1f}%"></i></div>{reason}'
        + (f'<details class="told"><summary>Notes</summary><ul>{told}</ul></details>' if told else "")
        + "</div>"
    )


def _parts(run: Job) -> list[str]:
    if run.state == "waiting":
        return ["next in line" if run.place == 0 else f"{run.place} before you"]
    found = []
    if run.state in ("preparing", "stopping") and not run.step:
        found.append(escape(run.text) + (f" {run.done} of {run.total}" if run.total else ""))
    if run.step or run.is_over:
        at = "at " if run.state == "interrupted" else ""
        found.append(f"{at}step {run.step:,} of {run.recipe.steps:,}")
    if run.state == "interrupted":
        found.append(f"the server restarted; Resume continues from step {run.kept:,}")
    if run.rate and not run.is_over:
        found.append(f"{run.rate:.1f} steps a second" if run.rate >= 1 else f"{1 / run.rate:.1f} s a step")
    if run.written and not run.is_over:
        found.append("measuring what changed")
    elif run.left is not None and run.state == "running":
        found.append(f"{duration(run.left)} left")
    if "seconds" in run.record:
        found.append(f"{duration(run.record['seconds'])} in all")
    found += [f"on {escape(DEVICES.get(run.device, run.device))}"] if run.device else []
    if run.record.get("out_of_time"):
        found.append("it reached the page's time limit")
    return found


def result_html(run: Job | None) -> str:
    """Before and after with uncertainty, non-inferior skills, which tower separates the captions, and the command."""
    if run is None or "measured" not in run.record:
        return NOT_MEASURED if run is not None and run.state == "stopped" and run.written else ""
    measured = run.record["measured"]
    rows = "".join(
        _row(name if k == 0 else "", metric, row, found.get("kept", ...))
        for name, found in measured["sets"].items()
        for k, (metric, row) in enumerate((m, r) for m, r in found["metrics"].items() if m in SHOWN)
    )
    apart = "".join(
        f'<p class="hint">{escape(name)}: {said}.</p>'
        for name, found in measured["sets"].items()
        if (said := apart_words(found))
    )
    withheld = "".join(
        f"<p>Swaps never trained ({what} <i>{escape(str(row['withheld']))}</i>): {change_words(row['change'])}.</p>"
        for what, row in measured.get("withheld", {}).items()
    )
    cosine = measured.get("cosine", {})
    alike = "".join(
        f"<li>the two {what}: {cosine_words(was)} before, {cosine_words(now)} after</li>"
        for what, (was, now) in cosine.items()
    )
    towers = f"<p>Median cosine of an example's embeddings:</p><ul>{alike}</ul>" if alike else ""
    return (
        '<section class="results run-result"><h3>Before and after</h3><div class="wide"><table><thead><tr>'
        '<th scope="col">held-out set</th><th scope="col">score</th><th scope="col">before</th>'
        '<th scope="col">after</th><th scope="col">change</th><th scope="col">paired test</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{apart}{withheld}{towers}{_teacher(run.record)}"
        f'<p class="hint">{SHORT}</p>'
        f"<h3>The same in the shell</h3><pre class='command'>{escape(run.recipe.command(SHELL_OUT))}</pre></section>"
    )


def _row(name: str, metric: str, row: Mapping[str, Any], kept: Any) -> str:
    change = row["change"]
    said = "" if kept is ... else f"<br><small>{KEPT[kept]}</small>"
    p = f"p = {change['p']:.2f}" if change["p"] >= 0.01 else f"p = {change['p']:.1g}"
    return (
        f'<tr><th scope="row">{escape(name)}</th><td>{metric}</td>'
        f"<td>{_share(row['before'])}</td><td>{_share(row['after'])}</td><td>{change_words(change)}{said}</td>"
        f"<td>{change['gained']} gained, {change['lost']} lost; {p}</td></tr>"
    )


def _share(found: Mapping[str, float]) -> str:
    if is_of_nothing(found):
        return NO_SCORE
    return f"{100 * found['value']:.1f} <small>[{100 * found['low']:.0f}, {100 * found['high']:.0f}]</small>"


def _teacher(record: Mapping[str, Any]) -> str:
    found = record.get("preferences")
    if not found:
        return ""
    right = found.get("teacher_right")
    of = f"{found['pairs']:,} pairs"
    said = f"; it prefers the image's caption to its swap in {_share(right)} % of {of}" if right else ""
    alone = found.get("stand_ins")
    others = f" {alone:,} captions without a swap were set against another image's." if alone else ""
    return (
        f"<p>The teacher was asked about {found['asked']:,} pairs anew, {found['evaluations']:,} denoiser evaluations "
        f"in {duration(found['seconds'])}{said}.{others} No label of which caption is true was used.</p>"
    )


def flipped_html(run: Job | None, pictures: Mapping[str, str]) -> str:
    """Examples whose answer changed, both ways. pictures: HTML of an example by its id."""
    if run is None or "measured" not in run.record:
        return ""
    flipped = run.record["measured"]["flipped"]
    parts = []
    for way, words in (("fixed", "Right only afterwards"), ("broken", "Right only before")):
        shown = [pictures[id_] for id_ in flipped[way] if id_ in pictures]
        if shown:
            parts.append(f'<h3>{words}</h3><div class="flips">{"".join(shown)}</div>')
    if not parts:
        return '<p class="hint">No held-out answer changed.</p>'
    return f'<section class="run-flips">{"".join(parts)}</section>'
