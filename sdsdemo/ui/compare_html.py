"""The right-hand side of the Compare tab as HTML: one row a model. Pure strings; everything foreign is escaped here.

Knows no Gradio, computes nothing: the numbers and the verdict come with the answers.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from html import escape

from sdsdemo.core.decision import verdict_words
from sdsdemo.types import Answer, Card, Preference, Scores

LETTERS = "ABCDEFGH"
DIRECTION = {
    "similarity": ("similarity, 100 × cosine", "higher is better"),
    "denoising": ("denoising loss", "lower loss is better"),
}
NOT_THE_SAME = (
    "“Prefers” means that the model has decided. With a denoising loss: other noise draws would hardly turn its "
    "preference round (95 % level). A similarity draws no noise, so any difference beyond rounding "
    "decides. “Decided” does not mean “right”."
)
GAUGE_WIDTH, GAUGE_HEIGHT, GAUGE_REACH = 200, 22, 90


def answer_html(
    captions: Sequence[str],
    answers: Sequence[Answer],
    waiting: Sequence[tuple[str, str]] = (),
    truth: int | None = None,
    tools: str = "",
) -> str:
    """The whole answer: what was asked, a row for every model that answered, and title and state of those `waiting`."""
    rows = [row_html(answer, truth) for answer in answers]
    rows += [_waiting_row(title, state, first=i == 0) for i, (title, state) in enumerate(waiting)]
    caveat = f'<p class="caveat">{NOT_THE_SAME}</p>' if any(answer.scores for answer in answers) else ""
    asked = "".join(_asked(c, caption, truth) for c, caption in enumerate(captions))
    return (
        f'<section class="answer" aria-label="Answer" aria-busy="{str(bool(waiting)).lower()}">'
        f'<div class="asked">{asked}</div><div class="model-rows">{"".join(rows)}</div>'
        f"{caveat}{tools}</section>"
    )


def empty_html() -> str:
    """What stands there before anything was scored."""
    return (
        '<section class="answer empty" aria-label="Answer"><p>Choose a picture, write two captions and press '
        "<b>Score</b>. Each model then says which caption it prefers, and by how much.</p></section>"
    )


def row_html(answer: Answer, truth: int | None = None) -> str:
    """One model's row: scores with their direction, the difference with its error, the verdict in words."""
    notes = "".join(f'<p class="note">{prose(note)}</p>' for note in answer.notes)
    if answer.scores is None or answer.preference is None:
        problem = f'<p class="problem">{prose(answer.problem)}</p>'
        return (
            f'<article class="model-row without">{_head(answer.card)}<div class="body">{problem}{notes}</div></article>'
        )
    preference = answer.preference
    if preference.note and preference.note not in answer.notes:
        notes += f'<p class="note">{prose(preference.note)}</p>'
    return (
        f'<article class="model-row">{_head(answer.card, answer.scores)}'
        f'<div class="body">{_score_bars(answer.scores)}</div>'
        f"{_verdict(preference, truth)}{_difference(preference)}{notes}</article>"
    )


def message_html(sentence: str) -> str:
    """A sentence for the visitor that stays until the next action."""
    return f'<p class="message" role="alert">{prose(sentence)}</p>' if sentence else ""


def remarks_html(sentences: Sequence[str]) -> str:
    """What is to be known beside an answer, a line each. Unlike a message, it asks for nothing to be changed."""
    lines = "".join(f"<li>{prose(sentence)}</li>" for sentence in sentences)
    return f'<ul class="remarks" role="status">{lines}</ul>' if lines else ""


def prose(sentence: str) -> str:
    """A sentence as HTML, escaped; what stands between backticks is to be typed, and looks like it.

    An option of the command line is never cut at the end of a line.
    """
    typed = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence))
    return re.sub(r"(?<![\w-])--[\w-]+", r'<span class="flag">\g<0></span>', typed)


def tools_html(link: str, own_picture: bool, csv_text: str, json_text: str) -> str:
    """Copy link, CSV, JSON. The files are in the page itself: nothing is kept on the server for them."""
    hint = (
        "The link holds captions and settings; your own picture stays with you."
        if own_picture
        else "The link opens this picture, these captions and these settings."
    )
    return (
        f'<div class="tools"><button type="button" data-link="{escape(link)}" title="{hint}">Copy link</button>'
        f"{_file('sdsdemo-compare.csv', 'text/csv', csv_text, 'CSV')}"
        f"{_file('sdsdemo-compare.json', 'application/json', json_text, 'JSON')}"
        f'<span class="hint">{hint}</span></div>'
    )


def size_words(megabytes: float) -> str:
    """A download's size as people say it."""
    if megabytes >= 100:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 1 else f"{megabytes:.1f} MB"


def _asked(index: int, caption: str, truth: int | None) -> str:
    mark = '<span class="true">belongs to the picture</span>' if truth == index else ""
    return f'<p>{_chip(index)}<span class="words">{escape(caption)}</span>{mark}</p>'


def _head(card: Card, scores: Scores | None = None) -> str:
    if scores is None:
        return f"<header><h3>{escape(card.title)}</h3></header>"
    what, direction = DIRECTION[scores.kind]
    spent = f"{scores.evidence.evaluations} denoiser calls, " if scores.evidence else ""
    return (
        f'<header><h3>{escape(card.title)}</h3><p class="kind">{what}<br><b>{direction}</b></p>'
        f'<p class="cost">{spent}{_seconds(scores.seconds)}</p></header>'
    )


def _score_bars(scores: Scores) -> str:
    """A bar a caption, from zero, so that lengths compare honestly."""
    sign = -1 if scores.kind == "denoising" else 1
    values = [sign * float(score) for score in scores.score_IC[0]]
    longest = max((value for value in values if math.isfinite(value)), default=0.0)
    digits = "{:.4f}" if scores.kind == "denoising" else "{:.2f}"
    bars = []
    for c, value in enumerate(values):
        share = 100 * max(value, 0.0) / longest if math.isfinite(value) and longest > 0 else 0.0
        bars.append(
            f'<div class="score c{c}"><dt>{_chip(c)}</dt><dd><span class="bar" aria-hidden="true">'
            f'<i style="width:{share:.1f}%"></i></span><span class="value">{digits.format(value)}</span></dd></div>'
        )
    return f'<dl class="scores">{"".join(bars)}</dl>'


def _difference(preference: Preference) -> str:
    if preference.preferred is None or preference.difference is None:
        return ""
    ahead = f"{LETTERS[preference.preferred]} ahead by " if not preference.tie else "difference "
    number = difference_words(preference.difference, preference.stderr)
    meaning = " <small>standard error</small>" if _finite(preference.stderr) else ""
    return f'<p class="difference">{_gauge(preference)}<span>{ahead}<b>{number}</b>{meaning}</span></p>'


def difference_words(difference: float, stderr: float | None) -> str:
    """`0.0251 ± 0.0043`: the error with two digits, the difference with as many decimals."""
    if stderr is None or not math.isfinite(stderr) or stderr <= 0:
        return f"{difference:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{difference:.{decimals}f} ± {stderr:.{decimals}f}"


def _gauge(preference: Preference) -> str:
    """A dot on a line through zero with a whisker of two standard errors: left speaks for A, right for B."""
    if not _finite(preference.stderr) or preference.preferred not in (0, 1) or preference.difference is None:
        return ""
    error = preference.stderr or 0.0
    signed = preference.difference * (-1 if preference.preferred == 0 else 1)
    scale = GAUGE_REACH / max(abs(signed) + 2 * error, 1e-12)
    x = GAUGE_WIDTH / 2 + signed * scale
    low, high = x - 2 * error * scale, x + 2 * error * scale
    middle = GAUGE_HEIGHT / 2
    return (
        f'<svg class="gauge c{preference.preferred}" viewBox="0 0 {GAUGE_WIDTH} {GAUGE_HEIGHT}" role="img" '
        f'aria-label="Difference with two standard errors to either side; the middle is no difference">'
        f'<path class="axis" d="M2 {middle}H{GAUGE_WIDTH - 2}M{GAUGE_WIDTH / 2} 1V{GAUGE_HEIGHT - 1}"/>'
        f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} 6V16M{high:.1f} 6V16"/>'
        f'<circle cx="{x:.1f}" cy="{middle}" r="5"/></svg>'
    )


def _verdict(preference: Preference, truth: int | None) -> str:
    state, mark, meaning = _judged(preference, truth)
    words = escape(verdict_words(preference, list(LETTERS)))
    symbol = f'<span class="mark" role="img" aria-label="{meaning}">{mark}</span>' if mark else ""
    return f'<p class="verdict {state}">{symbol}<span>{words}</span></p>'


def _judged(preference: Preference, truth: int | None) -> tuple[str, str, str]:
    """Style, tick or cross, and the same for the ear. Undecided is neither right nor wrong."""
    if truth is None or not preference.decided:
        return "open", "", ""
    return ("right", "✓", "right") if preference.preferred == truth else ("wrong", "✗", "wrong")


def _waiting_row(title: str, state: str, *, first: bool) -> str:
    return (
        f'<article class="model-row pending{" now" if first else ""}"><header><h3>{escape(title)}</h3></header>'
        f'<div class="body"><p>{escape(state)}</p></div></article>'
    )


def _chip(index: int) -> str:
    return f'<span class="chip c{index}">{LETTERS[index]}</span>'


def _file(name: str, kind: str, text: str, label: str) -> str:
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="{name}" href="data:{kind};charset=utf-8;base64,{data}">{label}</a>'


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.01 else "under 0.01 s"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
