"""A run as lines of text: progress and results. Knows no page; prints nothing itself."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdsdemo.core.number_format import duration, is_of_nothing, level_words, share_words
from sdsdemo.finetuning.events import Done, Evaluated, Notice, Step, Working, smoothed
from sdsdemo.finetuning.phrases import KEPT, SHOWN, change_words, cosine_words, not_finite_words
from sdsdemo.finetuning.recipe import MINI, Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import MODEL, FineTuningFolder
from sdsdemo.finetuning.setup import Models
from sdsdemo.finetuning.tracking import Tracker
from sdsdemo.runtime import distributed

COMMAND = "python -m sdsdemo"
EVERY = 1.0
"""Seconds between two lines of progress."""
MAIN_WRITES = 120.0
"""Seconds that the other processes leave the main one to write how a run failed."""
STATES = {
    "finished": "Finished after {done} steps, {seconds:.0f} s.",
    "stopped": "Stopped after {done} of {steps} steps, {seconds:.0f} s; what it learned is kept.",
    "failed": "Failed after {done} of {steps} steps: {reason}",
}


def run_in_shell(
    recipe: Recipe,
    out: Path,
    *,
    workbench: Models,
    resume: bool,
    progress: Callable[[str], None],
    note: Callable[[str], None],
    tracker: Tracker | None = None,
) -> Mapping[str, Any] | None:
    """Runs a recipe with a live progress line; Ctrl-C stops it and saves. Returns the record; outside the main process,
    which alone tells the tracker, None unless the run failed. Raises `UserError` for anything the user must fix first.
    """
    processes = distributed.find()
    say = note if processes.is_main else _silent
    line = _Line(recipe.steps, progress if processes.is_main else _silent)
    record: Mapping[str, Any] | None = None
    tracker = tracker if processes.is_main else None
    with ExitStack() as stack:
        stack.enter_context(_stopping_on_interrupt(FineTuningFolder(out), say))
        if tracker is not None:
            stack.callback(tracker.close)
        for event in finetune(recipe, out, workbench=workbench, resume=resume, processes=processes):
            if tracker is not None:
                tracker.hear(event)
            if isinstance(event, Notice):
                say(event.text)
            elif isinstance(event, Evaluated):
                found = event.share
                say(f"step {event.step}  held-out {event.metric} {share_words(asdict(found))}, n = {found.n}")
            elif isinstance(event, Working | Step):
                line.show(event)
            elif isinstance(event, Done):
                record = event.record if processes.is_main else _failed_beside_main(event, FineTuningFolder(out))
    return record


def _failed_beside_main(ended: Done, folder: FineTuningFolder) -> Mapping[str, Any] | None:
    """The record of a run that failed in a process besides the main one; None if it did not fail.

    A process that fails alone has to end with a failure, so that its launcher ends the others, which wait for it. If
    the run fails in all, the main one is given time to write how.
    """
    if ended.state != "failed":
        return None
    late = time.monotonic() + MAIN_WRITES
    while time.monotonic() < late and not (folder.exists and folder.read()["state"] == "failed"):
        time.sleep(EVERY)
    return {**ended.record, "state": ended.state, "reason": ended.reason}


def as_text(record: Mapping[str, Any], out: Path) -> str:
    """A run's outcome as text. out: the folder as the user named it."""
    words = STATES.get(record["state"], record["state"])
    if record["state"] == "failed" and (not record.get("steps_done") or record.get("as_it_was")):
        words = "{reason}"
    lines = [
        words.format(
            done=record.get("steps_done", 0),
            steps=record.get("steps", record.get("recipe", {}).get("steps")),
            seconds=record.get("seconds", 0),
            reason=record.get("reason"),
        )
    ]
    measured = record.get("measured")
    if measured:
        lines += ["", *measured_lines(measured)]
    if record["state"] != "failed" and "seconds" in record:
        lines += ["", *_next_steps(record, out)]
    return "\n".join(lines)


def _next_steps(record: Mapping[str, Any], out: Path) -> list[str]:
    """The commands that continue a stopped run, use its model, and write that as a whole one."""
    model = shlex.quote(f"sds-clip:{out / MODEL}")
    is_mini = record["recipe"].get("data", MINI) == MINI
    use = "evaluate mini-validation" if is_mini else 'score PICTURE "CAPTION" "CAPTION"'
    go_on = [f"Continue it: {COMMAND} finetune --resume --out {shlex.quote(str(out))}"]
    return [
        *(go_on if record["state"] == "stopped" else []),
        f"Use it: {COMMAND} {use} --model {model}",
        f"Write it as a whole model: {COMMAND} export {model} --out FOLDER",
    ]


def measured_lines(measured: Mapping[str, Any]) -> list[str]:
    """Lines with the scores before and after on each set, with uncertainty."""
    lines = []
    for name, found in measured["sets"].items():
        for metric, row in found["metrics"].items():
            if metric in SHOWN:
                before, after = level_words(row["before"]), level_words(row["after"])
                kept = f"; {KEPT[found['kept']]}" if "kept" in found else ""
                chance = _chance_words(row, found.get("chance", {}).get(metric))
                lines.append(f"{name} {metric}: {before} -> {after} %{chance}, {change_words(row['change'])}{kept}")
        lines += [f"{name}: {said}" for said in [not_finite_words(found)] if said]
    for what, row in measured.get("withheld", {}).items():
        lines.append(f"swaps withheld from training ({what} {row['withheld']}): {change_words(row['change'])}")
    for what, (was, now) in measured.get("cosine", {}).items():
        lines.append(f"median cosine between an example's two {what}: {cosine_words(was)} -> {cosine_words(now)}")
    return lines


def _chance_words(row: Mapping[str, Any], chance: float | None) -> str:
    """What guessing would give, and whether the base was surely below it; empty for runs of earlier versions."""
    if chance is None:
        return ""
    is_below = not is_of_nothing(row["before"]) and row["before"]["high"] < chance
    return f" (chance {100 * chance:.1f}{'; below it before' if is_below else ''})"


class _Line:
    """The progress line: step, losses, rate, time left."""

    def __init__(self, steps: int, show: Callable[[str], None]) -> None:
        self._steps, self._show = steps, show
        self._said, self._loss = 0.0, 0.0
        self._first: Step | None = None
        self._work: tuple[str, int, float] | None = None
        """Name of the work going on, how much of it was done when it was first heard of, and when."""

    def show(self, event: Working | Step) -> None:
        """Shown at most once a second, and at the end."""
        if isinstance(event, Step):
            self._first = self._first or event
            loss = event.losses["loss"]
            self._loss = loss if event is self._first else smoothed(self._loss, loss)
        last = isinstance(event, Step) and event.step == self._steps
        if time.monotonic() - self._said < EVERY and not last:
            return
        self._said = time.monotonic()
        self._show(self._text(event))

    def _text(self, event: Working | Step) -> str:
        if isinstance(event, Working):
            return self._work_text(event)
        assert self._first is not None
        pace = _pace(event.step - self._first.step, event.seconds - self._first.seconds, self._steps - event.step)
        terms = "  ".join(f"{name} {value:.4f}" for name, value in event.losses.items() if name != "loss")
        return f"step {event.step} of {self._steps}  smoothed loss {self._loss:.4f}  {terms}  {pace}"

    def _work_text(self, event: Working) -> str:
        """Preparation or evaluation; with the time left once it is known how fast it goes."""
        now = time.monotonic()
        if self._work is None or self._work[0] != event.text or event.done < self._work[1]:
            self._work = (event.text, event.done, now)
        if not event.total:
            return event.text
        made = event.done - self._work[1]
        left = f"{duration((event.total - event.done) * (now - self._work[2]) / made)} left" if made else ""
        return f"{event.text}  {event.done} of {event.total}  {left}".rstrip()


def _pace(made: int, seconds: float, left: int) -> str:
    """`4.0 steps/s  3 min left`, or `6.0 s per step  6.2 h left` where a step takes longer than a second."""
    if made <= 0 or seconds <= 0:
        return ""
    each = seconds / made
    rate = f"{1 / each:.1f} steps/s" if each <= 1 else f"{each:.1f} s per step"
    return f"{rate}  {duration(left * each)} left"


@contextmanager
def _stopping_on_interrupt(folder: FineTuningFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C asks the run to stop; a second one kills the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, asked)
        if folder.path.is_dir():
            folder.ask_to_stop()
        say("\nStopping and saving; press Ctrl-C again to quit at once.")

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, asked)


def _silent(line: str) -> None:
    """Discards output, in every process but the main one."""
