"""A caption against every change of it, for every chosen model: shows at a glance whether a model sees a bag of words.

Scored a few captions at a time, all with the same noise, so that differences are paired as in the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from sdsdemo.app.gpu_time import seconds_a_unit, units_of
from sdsdemo.app.workbench import Workbench
from sdsdemo.captions.word_changes import KIND_WORDS, Change
from sdsdemo.captions.word_changes import changes_of as changes_by_rule
from sdsdemo.core.decision import decide, of_captions
from sdsdemo.data.mini.scenes import Scene
from sdsdemo.data.mini.truth import read_claim, truth_of
from sdsdemo.data.mini.word_changes import ENDINGS_CHANGED
from sdsdemo.data.mini.word_changes import changes_of as changes_in_mini
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS, NOISES, pairs_by_default
from sdsdemo.types import Answer, Budget, Card, Preference
from sdsdemo.ui.compare_api import AT_ONCE
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.compare_logic import OUR_FAULT, Question
from sdsdemo.ui.templates import render

log = logging.getLogger(__name__)

LONGEST_WAIT = 300.0
"""Seconds: a model that needs more is left out, with a sentence."""
TOO_LONG = "{title} would take about {minutes:.0f} minutes for {count} captions here, so it is left out."
NO_CHANGES = "No rule changes a word of “{}”: write a caption with two things, such as a dog on a couch."
NONE_FALSE = "Every change of “{}” may be true of this scene as well: take away a thing, or write another caption."
NONE_TRUE = (
    "Neither caption is known to be true of this scene: write one that is, such as “a red star above a blue circle”."
)
UNCHECKED = "Nobody has checked that each change is false of this picture."
HINT = (
    "Caption {letter} against copies of itself: with words swapped, with a word replaced, or with an ending changed. A "
    "model that sees only a bag of words can tell the last two, but not a swap."
)
STATES = {"kept": "prefers the caption", "changed": "prefers the change", "open": "undecided", "due": "not scored yet"}

NAMED = {*KIND_WORDS.values(), ENDINGS_CHANGED}
"""Groups of changes with a name; the others are called by the word that is replaced."""

Ask = Callable[[dict[Component, Any]], Question]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model: its preference between the caption (0) and each change (1), as far as they are computed."""

    card: Card
    preferences: tuple[Preference, ...] = ()
    problem: str = ""


class ChangesPanel:
    """The button and the tables; to be built inside the page."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        with gr.Column(elem_id="changes"):
            gr.HTML(render("parts.heading", words="Every small change of a caption"))
            with gr.Row(elem_id="changes-row"):
                self.button = gr.Button(
                    "Score every change", size="md", elem_id="score-changes", min_width=160, scale=0
                )
                gr.HTML(render("parts.hint", sentence=HINT.format(letter="A, or the true one,")))
            self.tables = gr.HTML(elem_id="change-tables")

    def wire(self, inputs: Sequence[Component], ask: Ask) -> None:
        """ask: checks the form's values. Raises `UserError`."""

        def scored(filled: dict[Component, Any]) -> Iterator[str]:
            yield from changes_html(self._workbench, lambda: ask(filled))

        self.button.click(
            scored,
            set(inputs),
            self.tables,
            concurrency_limit=AT_ONCE,
            concurrency_id="score",
            show_progress="hidden",
            trigger_mode="once",
            api_visibility="private",
        )


def changes_html(workbench: Workbench, ask: Callable[[], Question]) -> Iterator[str]:
    """The views from a click to the finished tables. Failures become sentences."""
    try:
        question = ask()
        scene = question.example.scene if question.example else None
        which = _reference(question, scene)
        caption = question.captions[which]
        changes = _false_changes(caption, scene)
        if not changes:
            raise UserError((NONE_FALSE if changes_of(caption) else NO_CHANGES).format(caption))
        yield render("changes.busy", sentence=f"Scoring {len(changes)} changes of caption {LETTERS[which]} …")
        for rows, is_done in _rows(workbench, question, caption, changes):
            yield tables_html(caption, changes, rows, is_done, is_checked=scene is not None)
    except UserError as error:
        yield render("parts.message", sentence=str(error))
    except Exception:
        log.exception("changes could not be scored")
        yield render("parts.message", sentence=OUR_FAULT)


def changes_of(caption: str) -> list[Change]:
    """All changes of one word if the caption is in Mini's language, or else those that the swap rules know.

    None for a caption that is too long to be scored: the time to find them grows with the square of the length.
    """
    if len(caption) > LIMITS.caption_characters:
        return []
    return changes_in_mini(caption) or changes_by_rule(caption)


def _reference(question: Question, scene: Scene | None) -> int:
    """Index of the caption to change: the first true one where that is known, else A. Raises `UserError` for none."""
    if scene is None:
        return question.truth or 0
    truths = [truth_of(scene, caption) for caption in question.captions]
    if True not in truths:
        raise UserError(NONE_TRUE)
    return truths.index(True)


def _false_changes(caption: str, scene: Scene | None) -> list[Change]:
    """The changes that are false of the picture, where that is known; what cannot be read is false too."""
    changes = changes_of(caption)
    if scene is None:
        return changes
    return [one for one in changes if read_claim(one.text) is None or truth_of(scene, one.text) is False]


def tables_html(
    caption: str, changes: Sequence[Change], rows: Sequence[Row], is_done: bool = True, is_checked: bool = True
) -> str:
    """Each model's counts, and its choice for each change.

    is_checked: whether every change is known to be false of the picture.
    """
    groups = list(dict.fromkeys((change.same_words, change.group) for change in changes))
    return render(
        "changes.tables",
        caption=caption,
        is_done=is_done,
        unchecked="" if is_checked else UNCHECKED,
        problems=[row.problem for row in rows if row.problem],
        counts=[_counts(row, changes) for row in rows if not row.problem],
        exchanges=[_exchange(k, change, rows) for k, change in enumerate(changes) if change.same_words],
        slots=[_slot(group, changes, rows, caption) for same, group in groups if not same],
    )


def _rows(
    workbench: Workbench, question: Question, caption: str, changes: Sequence[Change]
) -> Iterator[tuple[list[Row], bool]]:
    """The rows so far, after every few captions; and whether all is done."""
    question = replace(question, budget=for_each_change(question.budget))
    rows = [
        Row(card=workbench.card(name), problem=_wait(workbench.card(name), question, len(changes)))
        for name in question.models
    ]
    groups = groups_of(caption, changes)
    for k, row in enumerate(rows):
        answers = workbench.compare_groups(question.image, groups, row.card.name, question.budget)
        for answer in () if row.problem else answers:
            rows[k] = _with(rows[k], answer)
            yield rows, False
            if rows[k].problem:
                break
    yield rows, True


def for_each_change(spend: Budget) -> Budget:
    """Stopping early finds the best of all captions; here each change gets a verdict of its own, for the usual cost."""
    if not spend.adaptive:
        return spend
    noises = min(spend.noises, NOISES.default)
    return replace(spend, adaptive=False, noises=noises, antithetic=pairs_by_default(noises))


def groups_of(caption: str, changes: Sequence[Change]) -> list[list[str]]:
    """The caption with a few of its changes at a time, as many as a question may have."""
    step = LIMITS.captions - 1
    return [[caption, *(one.text for one in changes[k : k + step])] for k in range(0, len(changes), step)]


def _with(row: Row, answer: Answer) -> Row:
    """A row with what its model says of the next few changes."""
    if answer.scores is None:
        return replace(row, problem=f"{row.card.title}: {answer.problem}")
    count = answer.scores.score_IC.shape[1]
    found = tuple(decide(of_captions(answer.scores, (0, c))) for c in range(1, count))
    return replace(row, preferences=(*row.preferences, *found))


def _wait(card: Card, question: Question, count: int) -> str:
    """A sentence if a model would take too long, by its card's rough time of a pair with the default budget."""
    seconds = (count + 1) * units_of(card, question.budget.evaluations) * seconds_a_unit(card)
    return TOO_LONG.format(title=card.title, minutes=seconds / 60, count=count + 1) if seconds > LONGEST_WAIT else ""


def _state(preference: Preference) -> str:
    if preference.preferred is None or not preference.decided:
        return "open"
    return "changed" if preference.preferred else "kept"


def _counts(row: Row, changes: Sequence[Change]) -> dict[str, Any]:
    """How many changes of each sort the model tells from the caption, of how many scored."""
    sorts = []
    for same in (True, False):
        states = [_state(p) for p, change in zip(row.preferences, changes, strict=False) if change.same_words == same]
        sorts.append({"kept": states.count("kept"), "of": len(states)})
    return {"name": row.card.name, "title": row.card.title, "sorts": sorts}


def _cells(k: int, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Every model's choice about change k."""
    return [
        {"state": state, "words": STATES[state]}
        for row in rows
        if not row.problem
        for state in [_state(row.preferences[k]) if k < len(row.preferences) else "due"]
    ]


def _exchange(k: int, change: Change, rows: Sequence[Row]) -> dict[str, Any]:
    return {"group": change.group, "text": change.text, "cells": _cells(k, rows)}


def _slot(group: str, changes: Sequence[Change], rows: Sequence[Row], caption: str) -> dict[str, Any]:
    """The table of one word, or of one kind of change: its replacements across, models down."""
    places = [k for k, change in enumerate(changes) if not change.same_words and change.group == group]
    of_change = {k: _cells(k, rows) for k in places}
    models = [row.card for row in rows if not row.problem]
    said = caption.casefold().split()
    return {
        "heading": group.capitalize() if group in NAMED else f"“{group}” replaced by",
        "heads": [{"label": changes[k].label, "is_said": changes[k].label in said} for k in places],
        "rows": [
            {"name": card.name, "title": card.title, "cells": [of_change[k][m] for k in places]}
            for m, card in enumerate(models)
        ],
    }
