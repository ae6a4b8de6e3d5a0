"""The right-hand side of the Compare tab as HTML, one row per model. The layout is in `templates/compare.html`.

Knows no Gradio and computes nothing: the numbers and the verdict come with the answers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

from sdsdemo.core.decision import verdict_words
from sdsdemo.types import Answer, Preference, Scores
from sdsdemo.ui.templates import render

LETTERS = "ABCDEFGH"
DIRECTION = {
    "similarity": ("similarity, 100 × cosine", "higher is better"),
    "denoising": ("denoising loss", "lower loss is better"),
}
DECIDED_IS_NOT_RIGHT = (
    "“Prefers” means that the model has decided. For a denoising loss, other noise draws are unlikely to reverse the "
    "preference (95 % level). A similarity involves no noise, so any difference beyond rounding decides. “Decided” "
    "does not mean “right”."
)
GAUGE_WIDTH, GAUGE_HEIGHT, GAUGE_REACH = 200, 22, 90


def answer_html(
    captions: Sequence[str],
    answers: Sequence[Answer],
    waiting: Sequence[tuple[str, str]] = (),
    truth: int | None = None,
    tools: str = "",
) -> str:
    """The whole answer: the captions, a row for every model that answered, and title and state of those `waiting`.

    tools: from `tools_html`.
    """
    return render(
        "compare.answer",
        captions=[
            {"index": c, "letter": LETTERS[c], "text": caption, "is_true": truth == c}
            for c, caption in enumerate(captions)
        ],
        rows=[_row(answer, truth) for answer in answers],
        waiting=waiting,
        caveat=DECIDED_IS_NOT_RIGHT if any(answer.scores for answer in answers) else "",
        tools=tools,
    )


def empty_html() -> str:
    """Shown before anything is scored."""
    return render("compare.empty")


def row_html(answer: Answer, truth: int | None = None) -> str:
    """One model's row: scores with their direction, the difference with its error, the verdict in words."""
    return render("compare.row", row=_row(answer, truth))


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


def _row(answer: Answer, truth: int | None) -> dict[str, Any]:
    """An answer, as the template takes it; `scores` is empty if the model gave none."""
    row: dict[str, Any] = {"title": answer.card.title, "scores": [], "notes": list(answer.notes)}
    scores, preference = answer.scores, answer.preference
    if scores is None or preference is None:
        return row | {"problem": answer.problem}
    if preference.note and preference.note not in answer.notes:
        row["notes"].append(preference.note)
    what, direction = DIRECTION[scores.kind]
    spent = f"{scores.evidence.evaluations} denoiser calls, " if scores.evidence else ""
    return row | {
        "what": what,
        "direction": direction,
        "cost": f"{spent}{_seconds(scores.seconds)}",
        "scores": _bars(scores),
        "verdict": _verdict(preference, truth),
        "difference": _difference(preference),
    }


def _bars(scores: Scores) -> list[dict[str, Any]]:
    """One bar per caption, its length in percent of the longest."""
    is_loss = scores.kind == "denoising"
    values = [(-1 if is_loss else 1) * float(score) for score in scores.score_IC[0]]
    longest = max((value for value in values if math.isfinite(value)), default=0.0)
    bars = []
    for c, value in enumerate(values):
        share = 100 * max(value, 0.0) / longest if math.isfinite(value) and longest > 0 else 0.0
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
        "gauge": _gauge(preference),
    }


def _gauge(preference: Preference) -> dict[str, Any] | None:
    """The gauge's lines; None without a standard error, or if the preferred caption is neither A nor B."""
    if not _finite(preference.stderr) or preference.preferred not in (0, 1) or preference.difference is None:
        return None
    error = preference.stderr or 0.0
    signed = preference.difference * (-1 if preference.preferred == 0 else 1)
    scale = GAUGE_REACH / max(abs(signed) + 2 * error, 1e-12)
    x = GAUGE_WIDTH / 2 + signed * scale
    low, high = x - 2 * error * scale, x + 2 * error * scale
    middle = GAUGE_HEIGHT / 2
    return {
        "preferred": preference.preferred,
        "width": GAUGE_WIDTH,
        "height": GAUGE_HEIGHT,
        "axis": f"M2 {middle}H{GAUGE_WIDTH - 2}M{GAUGE_WIDTH / 2} 1V{GAUGE_HEIGHT - 1}",
        "whisker": f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} 6V16M{high:.1f} 6V16",
        "x": f"{x:.1f}",
        "middle": middle,
    }


def _verdict(preference: Preference, truth: int | None) -> dict[str, str]:
    """Style, tick or cross, and the sentence. An undecided verdict is neither right nor wrong."""
    words = verdict_words(preference, list(LETTERS))
    if truth is None or not preference.decided:
        return {"state": "open", "mark": "", "words": words}
    is_right = preference.preferred == truth
    return {"state": "right" if is_right else "wrong", "mark": "✓" if is_right else "✗", "words": words}


def _file(ending: str, kind: str, text: str) -> dict[str, str]:
    data = base64.b64encode(text.encode()).decode()
    return {
        "name": f"sdsdemo-compare.{ending}",
        "address": f"data:{kind};charset=utf-8;base64,{data}",
        "label": ending.upper(),
    }


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.01 else "under 0.01 s"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
