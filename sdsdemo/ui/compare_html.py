"""The right-hand side of the Compare tab as HTML, one row per model. The layout is in `templates/compare.html`.

Knows no Gradio and computes nothing: the numbers and the verdict come with the answers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from sdsdemo.core.decision import verdict_words
from sdsdemo.core.number_format import duration
from sdsdemo.types import Answer, Preference, Scores
from sdsdemo.ui.headline import headline
from sdsdemo.ui.mini_words import MINI_WORDS
from sdsdemo.ui.templates import render
from sdsdemo.ui.typical import Find, Typical, no_typical

LETTERS = "ABCDEFGH"
DIRECTION = {
    "similarity": ("similarity, 100 × cosine", "higher is better"),
    "log-odds": ("log-odds of “yes”", "higher is better"),
    "denoising": ("denoising loss", "lower loss is better"),
}
DECIDED_IS_NOT_RIGHT = (
    "“Prefers” means that the model has decided. For a denoising loss, other noise draws are unlikely to reverse the "
    "preference (95 % level). Other scores involve no noise, so any difference beyond rounding decides. “Decided” "
    "does not mean “right”."
)
ONE_SCALE = (
    "Each dot is drawn on its model's own scale: halfway to a letter is that model's typical difference, the median "
    "over {pictures} stored pictures. A whisker reaches two standard errors to either side."
)
EARLY_WHISKER = (
    "If scoring may stop early, a whisker is as long as a decision asks: the captions are told apart once it leaves "
    "the middle."
)
SAME_PROBLEM = "The same as for {}."
OWN_SCALE = "Nothing is stored about {names} yet, so the dot shows only which side is ahead."


def answer_html(
    captions: Sequence[str],
    answers: Sequence[Answer],
    waiting: Sequence[tuple[str, str]] = (),
    truth: int | None = None,
    tools: str = "",
    typical: Find = no_typical,
) -> str:
    """The whole answer: the captions, a row for every model that answered, and title and state of those `waiting`.

    tools: from `tools_html`. typical: the scale of a model's differences.
    """
    is_busy = bool(waiting) or any(answer.of for answer in answers)
    return render(
        "compare.answer",
        is_busy=is_busy,
        headline="" if is_busy else headline(captions, answers, truth),
        captions=[
            {"index": c, "letter": LETTERS[c], "words": words, "is_true": truth == c}
            for c, words in enumerate(differing_words(captions))
        ],
        rows=_rows(answers, truth, typical),
        words=list(MINI_WORDS.items()) if any(map(_lacks_mini_words, answers)) else [],
        waiting=waiting,
        scale=_scale(answers, typical),
        caveat=DECIDED_IS_NOT_RIGHT if any(answer.scores for answer in answers) else "",
        tools=tools,
    )


def empty_html() -> str:
    """Shown before anything is scored."""
    return render("compare.empty")


def asked_html(number: int) -> str:
    """The number of the request that an answer belongs to, where the page's scripts find it.

    So no two answers are equal: the page skips HTML that it has, and would never report that an answer came.
    """
    return render("compare.asked", number=number)


def row_html(answer: Answer, truth: int | None = None, typical: Find = no_typical) -> str:
    """One model's row: which way it pulls and how hard, the verdict in words, the scores behind them."""
    return render("compare.row", row=_row(answer, truth, typical))


def differing_words(captions: Sequence[str]) -> list[list[tuple[str, bool]]]:
    """Each caption in pieces of one or more words, and whether the other caption has something else there.

    Of more or fewer than two captions, no word differs.
    """
    words = [caption.split() for caption in captions]
    if len(captions) != 2:
        return [[(" ".join(of), False)] for of in words]
    return [
        [(" ".join(words), differs) for differs, words in _runs(of, marks)]
        for of, marks in zip(words, _differs(*([word.casefold() for word in of] for of in words)), strict=True)
    ]


def _differs(one: list[str], other: list[str]) -> tuple[list[bool], list[bool]]:
    """For each word of both whether it differs: place by place, unless something was left out or put in."""
    matched: tuple[list[bool], list[bool]] = [True] * len(one), [True] * len(other)
    for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        matched[0][block.a : block.a + block.size] = [False] * block.size
        matched[1][block.b : block.b + block.size] = [False] * block.size
    if len(one) != len(other):
        return matched
    placed = [a != b for a, b in zip(one, other, strict=True)]
    return (placed, placed) if sum(placed) <= 2 * sum(matched[0]) else matched


def _runs(words: Sequence[str], marks: Sequence[bool]) -> Iterator[tuple[bool, list[str]]]:
    """Neighbours with the same mark."""
    for mark, run in groupby(zip(words, marks, strict=True), key=lambda pair: pair[1]):
        yield mark, [word for word, _ in run]


def message_html(sentence: str) -> str:
    """A sentence for the visitor that stays until the next action."""
    return render("parts.message", sentence=sentence)


def remarks_html(sentences: Sequence[str]) -> str:
    """Remarks on an answer, one per line. Unlike a message, they ask for no change."""
    return render("compare.remarks", sentences=sentences)


def prose(sentence: str) -> str:
    """A sentence as escaped HTML; text between backticks becomes code.

    A command-line option is never broken across lines.
    """
    return render("parts.prose", sentence=sentence)


def tools_html(link: str, own_picture: bool, csv_text: str, json_text: str) -> str:
    """Copy link, CSV, JSON. The files are embedded in the page; the server stores nothing for them."""
    hint = (
        "The link contains captions and settings, but not your own picture."
        if own_picture
        else "The link opens this picture, these captions and these settings."
    )
    files = [_file("csv", "text/csv", csv_text), _file("json", "application/json", json_text)]
    return render("compare.tools", link=link, hint=hint, files=files)


def size_words(megabytes: float) -> str:
    """The size of a download, for people."""
    if megabytes >= 100:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 1 else f"{megabytes:.1f} MB"


def difference_words(difference: float, stderr: float | None) -> str:
    """`0.0251 ± 0.0043`: the error to two significant digits, the difference to as many decimals."""
    if stderr is None or not math.isfinite(stderr) or stderr <= 0:
        return f"{difference:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{difference:.{decimals}f} ± {stderr:.{decimals}f}"


def _rows(answers: Sequence[Answer], truth: int | None, typical: Find) -> list[dict[str, Any]]:
    """The rows; a problem that an earlier row has is not said twice."""
    said: dict[str, str] = {}
    rows = []
    for answer in answers:
        row = _row(answer, truth, typical)
        if answer.problem and answer.problem in said:
            row["problem"] = SAME_PROBLEM.format(said[answer.problem])
        said.setdefault(answer.problem, answer.card.title)
        rows.append(row)
    return rows


def _lacks_mini_words(answer: Answer) -> bool:
    return "unknown-words" in answer.blocked_by and (answer.card.mini or answer.card.base is not None)


def _row(answer: Answer, truth: int | None, typical: Find) -> dict[str, Any]:
    """An answer, as the template takes it; `scores` is empty if the model gave none."""
    row: dict[str, Any] = {
        "name": answer.card.name,
        "title": answer.card.title,
        "scores": [],
        "notes": list(answer.notes),
    }
    scores, preference = answer.scores, answer.preference
    if scores is None or preference is None:
        return row | {"problem": answer.problem}
    if preference.note and preference.note not in answer.notes and not answer.of:
        row["notes"].append(preference.note)
    what, direction = DIRECTION[scores.kind]
    return row | {
        "what": what,
        "direction": direction,
        "cost": f"{_spent(answer)}{_seconds(scores.seconds)}",
        "scores": _bars(scores),
        "verdict": _so_far(preference) if answer.of else _verdict(preference, truth),
        "difference": _difference(preference),
        "pull": _pull(preference, truth, typical(answer.card.name), _whisker(answer)),
    }


def _bars(scores: Scores) -> list[dict[str, Any]]:
    """One bar per caption, its length in percent of the longest; of log-odds, the probability of "yes"."""
    is_loss = scores.kind == "denoising"
    values = [(-1 if is_loss else 1) * float(score) for score in scores.score_IC[0]]
    longest = max((value for value in values if math.isfinite(value)), default=0.0)
    bars = []
    for c, value in enumerate(values):
        share = 100 * max(value, 0.0) / longest if math.isfinite(value) and longest > 0 else 0.0
        if scores.kind == "log-odds" and math.isfinite(value):
            share = 50 * (1 + math.tanh(value / 2))  # the logistic function, without its overflow
        words = f"{value:.4f}" if is_loss else f"{value:.2f}"
        bars.append({"index": c, "letter": LETTERS[c], "width": f"{share:.1f}", "value": words})
    return bars


def _difference(preference: Preference) -> dict[str, Any] | None:
    if preference.preferred is None or preference.difference is None:
        return None
    return {
        "ahead": "difference" if preference.tie else f"{LETTERS[preference.preferred]} ahead by",
        "number": difference_words(preference.difference, preference.stderr),
        "has_error": _finite(preference.stderr),
    }


def _spent(answer: Answer) -> str:
    """What a denoising score cost so far, and of how much."""
    evidence = answer.scores.evidence if answer.scores else None
    if evidence is None:
        return ""
    if _stops_early(answer):
        return f"{evidence.evaluations} of at most {evidence.loss_ICTN[0].size} denoiser calls, "
    return f"{evidence.evaluations}{f' of {answer.of}' if answer.of else ''} denoiser calls, "


def _stops_early(answer: Answer) -> bool:
    return bool(answer.scores and answer.scores.evidence and answer.scores.evidence.rounds_IC is not None)


def _whisker(answer: Answer) -> float | None:
    """Half its length where scoring may stop early: the difference that a decision takes; None for the usual length."""
    if not _stops_early(answer) or answer.preference is None:
        return None
    needed = answer.preference.needed
    return needed if needed is not None and math.isfinite(needed) else 0.0


def _pull(
    preference: Preference, truth: int | None, typical: Typical | None, whisker: float | None = None
) -> dict[str, Any] | None:
    """Where the dot and its whisker are between A (0 %) and B (100 %); None if neither is preferred.

    whisker: half its length; two standard errors unless given.
    """
    if preference.preferred not in (0, 1) or preference.difference is None:
        return None
    signed = preference.difference * (-1 if preference.preferred == 0 else 1)
    unit = typical.difference if typical else abs(signed)
    usual = 2 * (preference.stderr or 0.0) if _finite(preference.stderr) else 0.0
    error = (usual if whisker is None else whisker) if typical else 0.0
    low, high = _place(signed - error, unit), _place(signed + error, unit)
    return {
        "side": preference.preferred,
        "at": f"{_place(signed, unit):.1f}",
        "low": f"{low:.1f}",
        "width": f"{high - low:.1f}" if error else "",
        "truth": truth,
        "decided": preference.decided,
        "words": "pulls to neither" if preference.tie else f"pulls to {LETTERS[preference.preferred]}",
    }


def _place(signed: float, unit: float) -> float:
    """Percent of the way from A to B: 50 for no difference, 25 and 75 for one of a unit, never quite an end."""
    if unit <= 0 or not math.isfinite(signed):
        return 50.0
    return 50 + 50 * signed / (abs(signed) + unit)


def _scale(answers: Sequence[Answer], typical: Find) -> list[str]:
    """What the dots of the rows mean."""
    pulling = [a.card for a in answers if a.preference and a.preference.preferred in (0, 1)]
    found = {card.title: typical(card.name) for card in pulling}
    counts = sorted({of.pictures for of in found.values() if of})
    own = [title for title, of in found.items() if not of]
    sentences = [ONE_SCALE.format(pictures=" or ".join(f"{n:,}" for n in counts))] if counts else []
    sentences += [EARLY_WHISKER] if counts and any(map(_stops_early, answers)) else []
    return sentences + ([OWN_SCALE.format(names=" and ".join(own))] if own else [])


def _verdict(preference: Preference, truth: int | None) -> dict[str, str]:
    """Style, tick or cross, and the sentence. An undecided verdict is neither right nor wrong."""
    words = verdict_words(preference, list(LETTERS))
    if truth is None or not preference.decided:
        return {"state": "open", "mark": "", "words": words}
    is_right = preference.preferred == truth
    return {"state": "right" if is_right else "wrong", "mark": "✓" if is_right else "✗", "words": words}


def _so_far(preference: Preference) -> dict[str, str]:
    """The verdict of a model that is still scoring: never a decision, since it is looked at again and again."""
    is_ahead = preference.preferred is not None and not preference.tie
    return {
        "state": "open",
        "mark": "",
        "words": f"so far, {LETTERS[preference.preferred or 0]} is ahead" if is_ahead else "no side so far",
    }


def _file(ending: str, kind: str, text: str) -> dict[str, str]:
    data = base64.b64encode(text.encode()).decode()
    return {
        "name": f"sdsdemo-compare.{ending}",
        "address": f"data:{kind};charset=utf-8;base64,{data}",
        "label": ending.upper(),
    }


def _seconds(seconds: float) -> str:
    if seconds >= 10:
        return duration(seconds)
    return f"{seconds:.2g} s" if seconds >= 0.01 else "under 0.01 s"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
