"""The Browse tab as HTML: gallery, one example, breakdowns, margins. Pure strings; everything foreign is escaped here.

What can be clicked carries `data-kind` and `data-pick`; the page's script hands both to Python. Pictures are in the
page itself, small: nothing is served as a file, so that pictures of a gated set get no address of their own.
"""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from html import escape
from threading import Lock

import numpy as np

from sdsdemo.browsing import CATEGORY, TAG_KINDS, WHO, Catalogue, Filter, facts
from sdsdemo.errors import UserError
from sdsdemo.metrics import CHANCE, MODES, Proportion, verdict
from sdsdemo.summaries import NO_TAG
from sdsdemo.types import Evidence, Example, Picture, Scores
from sdsdemo.ui.rows import prose

PER_PAGE = 24
THUMB, LARGE = 112, 440
"""Pixels of the longer side, in the gallery and for one example."""
KEPT_THUMBS = 3_000
METRICS = {"text": "text", "image": "image", "group": "group", "group_match": "group-match"}
MODEL_MARKS = ("●", "◆")
SCATTER = 320
CURVE_WIDTH, CURVE_HEIGHT = 300, 150
NOTHING = (
    '<p class="empty-view">No example matches these filters. '
    '<button type="button" data-kind="clear" data-pick="all">Clear filters</button></p>'
)

Titles = Mapping[str, str]


class Thumbnails:
    """Small pictures as data addresses, made when first seen. Safe to share between threads."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._lock = Lock()
        self.busy = False
        """Whether they are being made ahead."""

    def make(self, examples: Sequence[Example]) -> None:
        """Make those of the gallery ahead of time, unless that is being done."""
        self.busy = True
        for picture in (picture for example in examples for picture in example.images):
            self.of(picture, THUMB)

    def of(self, picture: Picture, side: int) -> str:
        """A `data:` address; empty where the picture cannot be read."""
        key = (picture.key or picture.name, side)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = _encoded(picture, side)
        with self._lock:
            self._made[key] = made
            while len(self._made) > KEPT_THUMBS:
                self._made.popitem(last=False)
        return made


def count_html(shown: int, total: int) -> str:
    """How many examples pass the filters."""
    return f'<p class="count" role="status"><b>{shown}</b> of {total}</p>'


def gallery_html(
    catalogue: Catalogue, places: np.ndarray, page: int, wanted: Filter, selected: str, thumbs: Thumbnails
) -> str:
    """One page of examples, each with both pictures, both captions, and whether each of the two models is right."""
    if not len(places):
        return NOTHING
    first = page * PER_PAGE
    cards = [_card(catalogue, place, wanted, selected, thumbs) for place in places[first : first + PER_PAGE]]
    return f'<div class="cards-of-pairs">{"".join(cards)}</div>{_pager(page, len(places))}'


def example_html(
    catalogue: Catalogue, place: int, position: str, wanted: Filter, titles: Titles, link: str, thumbs: Thumbnails
) -> str:
    """One example in full: pictures, captions, every model's four scores, marks, mode in words, timestep curves."""
    example = catalogue.examples[place]
    tags = facts(catalogue, place, (*TAG_KINDS, "secondary_tag", CATEGORY))
    chips = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags if tag != NO_TAG)
    figures = "".join(_figure(example, i, thumbs) for i in range(2))
    models = "".join(_model(catalogue, model, place, titles) for model in catalogue.models)
    return (
        f'<section class="example" aria-label="One example"><header><h2>Example {escape(example.id)}</h2>'
        f'<span class="position">{escape(position)}</span>{chips}<span class="moves">{_MOVES}'
        f'<button type="button" data-link="{escape(link)}">Copy link</button>'
        '<button type="button" data-kind="close" data-pick="" aria-label="Close">Close</button></span></header>'
        f'<div class="pair">{figures}</div><div class="matrices">{models}</div></section>'
    )


_MOVES = (
    '<button type="button" data-kind="move" data-pick="-1" title="Key k">← Previous</button>'
    '<button type="button" data-kind="move" data-pick="1" title="Key j">Next →</button>'
)


def tags_html(shares: Mapping[str, tuple[Proportion, Proportion]], wanted: Filter, titles: Titles) -> str:
    """A row a tag: how often either model is right, with 95 % intervals and chance. A click filters."""
    chance = 100 * CHANCE[wanted.metric]
    rows = "".join(_tag_row(key, pair, key in wanted.tags, chance) for key, pair in shares.items())
    legend = "".join(
        f'<span class="m{m}"><i></i>{escape(titles[model])}</span>' for m, model in enumerate(_two(wanted))
    )
    return _panel(
        f"{METRICS[wanted.metric].capitalize()} score by tag",
        f'<p class="legend">{legend}<span class="chance"><i></i>chance</span></p><div class="tag-rows">{rows}</div>',
        "Percent right with the 95 % interval; n beside the tag.",
    )


def modes_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """A bar a mode of the first model. A click filters."""
    rows = [_bar_row("mode", mode, mode, MODES[mode], n, counts, mode in wanted.modes) for mode, n in counts.items()]
    return _panel(f"How {titles[wanted.model]} fails", "".join(rows), "")


def transitions_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """From the first model to the second. A click filters."""
    rows = [_bar_row("who", way, way, WHO[way], n, counts, way == wanted.who) for way, n in counts.items()]
    return _panel(
        f"From {titles[wanted.model]} to {titles[wanted.against]}",
        "".join(rows),
        f"By the {METRICS[wanted.metric]} score.",
    )


def scatter_html(catalogue: Catalogue, places: np.ndarray, wanted: Filter, titles: Titles, selected: str) -> str:
    """A dot an example: the margin of the first model across, of the second upwards. A click opens it."""
    x_E, y_E = catalogue.margin[wanted.model], catalogue.margin[wanted.against]
    x_of, y_of = _axis(x_E), _axis(y_E)
    marked = set(places.tolist())
    dots = []
    for place, example in enumerate(catalogue.examples):
        if not np.isfinite([x_E[place], y_E[place]]).all():
            continue
        a_right, b_right = (bool(catalogue.right[model]["text"][place]) for model in _two(wanted))
        kind = {(True, True): "both", (False, True): "fixed", (True, False): "broken"}.get(
            (a_right, b_right), "neither"
        )
        dim = "" if place in marked else " dim"
        now = " now" if example.id == selected else ""
        dots.append(
            f'<circle class="{kind}{dim}{now}" data-kind="example" data-pick="{escape(example.id)}" '
            f'cx="{x_of(x_E[place]):.1f}" cy="{SCATTER - y_of(y_E[place]):.1f}" r="4">'
            f"<title>{escape(' / '.join(example.captions))}</title></circle>"
        )
    zero_x, zero_y = x_of(0.0), SCATTER - y_of(0.0)
    a, b = (escape(titles[model]) for model in _two(wanted))
    return _panel(
        "Margins, model against model",
        f'<svg class="scatter" viewBox="-26 -8 {SCATTER + 34} {SCATTER + 34}" role="img" '
        f'aria-label="Text margins of {a} across and of {b} upwards, a dot an example">'
        f'<rect x="0" y="0" width="{SCATTER}" height="{SCATTER}"/>'
        f'<path class="zero" d="M{zero_x:.1f} 0V{SCATTER}M0 {zero_y:.1f}H{SCATTER}"/>{"".join(dots)}'
        f'<text x="{SCATTER / 2}" y="{SCATTER + 18}" text-anchor="middle">{a} →</text>'
        f'<text transform="translate(-10 {SCATTER / 2}) rotate(-90)" text-anchor="middle">{b} →</text></svg>',
        "Beyond both lines both models have both text picks right. Each axis has its own unit; dots that the filters "
        "leave out are faint. Hover for the captions, click to open.",
    )


def problem_html(sentence: str) -> str:
    return f'<p class="message" role="alert">{prose(sentence)}</p>'


def _two(wanted: Filter) -> tuple[str, str]:
    return wanted.model, wanted.against


def _encoded(picture: Picture, side: int) -> str:
    try:
        image = picture.open()
    except UserError:
        return ""
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=82, method=2)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _picture(picture: Picture, side: int, words: str, thumbs: Thumbnails) -> str:
    source = thumbs.of(picture, side)
    if not source:
        return f'<span class="no-picture">{escape(picture.name)} cannot be read</span>'
    return f'<img src="{source}" alt="{escape(words)}">'


def _card(catalogue: Catalogue, place: int, wanted: Filter, selected: str, thumbs: Thumbnails) -> str:
    example = catalogue.examples[place]
    pictures = "".join(_picture(p, THUMB, "", thumbs) for p in example.images)
    captions = "".join(
        f'<span class="c{c}"><b>{"AB"[c]}</b>{escape(caption)}</span>' for c, caption in enumerate(example.captions)
    )
    marks = "".join(
        _mark(bool(catalogue.right[model][wanted.metric][place]), MODEL_MARKS[m])
        for m, model in enumerate(_two(wanted))
    )
    now = ' aria-current="true"' if example.id == selected else ""
    return (
        f'<button type="button" class="pair-card" data-kind="example" data-pick="{escape(example.id)}"{now}>'
        f'<span class="thumbs">{pictures}</span><span class="words">{captions}</span>'
        f'<span class="marks"><small>{escape(example.id)}</small>{marks}</span></button>'
    )


def _mark(right: bool, symbol: str) -> str:
    state, words = ("right", "right") if right else ("wrong", "wrong")
    return f'<span class="{state}" aria-label="{words}">{symbol} {"✓" if right else "✗"}</span>'


def _pager(page: int, total: int) -> str:
    pages = -(-total // PER_PAGE)
    if pages < 2:
        return ""
    steps = [("← ", page - 1, page > 0), (" →", page + 1, page < pages - 1)]
    back, on = (
        f'<button type="button" data-kind="page" data-pick="{to}"{"" if works else " disabled"} '
        f'aria-label="{"Previous" if to < page else "Next"} page">{arrow.strip()}</button>'
        for arrow, to, works in steps
    )
    return f'<p class="pager">{back}<span>page {page + 1} of {pages}</span>{on}</p>'


def _figure(example: Example, index: int, thumbs: Thumbnails) -> str:
    caption = example.captions[index]
    return (
        f"<figure>{_picture(example.images[index], LARGE, caption, thumbs)}"
        f'<figcaption><span class="chip c{index}">{"AB"[index]}</span>{escape(caption)}</figcaption>'
        f'<button type="button" data-kind="compare" data-pick="{index}">Open in Compare</button></figure>'
    )


def _model(catalogue: Catalogue, model: str, place: int, titles: Titles) -> str:
    scores: Scores = catalogue.scores[model][place]
    score_IC = scores.score_IC
    found = verdict(score_IC, scores.resolution)
    sign, digits, unit = (-1, 4, "loss, lower is better") if scores.kind == "denoising" else (1, 2, "100 × cosine")
    value = [[f"{sign * score_IC[i, c]:.{digits}f}" for i in range(2)] for c in range(2)]
    own_image = [score_IC[c, c] - score_IC[1 - c, c] > scores.resolution for c in range(2)]
    own_caption = [score_IC[i, i] - score_IC[i, 1 - i] > scores.resolution for i in range(2)]
    rows = "".join(
        f'<tr><th scope="row"><span class="chip c{c}">{"AB"[c]}</span></th>'
        + "".join(f'<td class="{"own" if i == c else ""}">{value[c][i]}</td>' for i in range(2))
        + f"<td>{_tick(own_image[c])}</td></tr>"
        for c in range(2)
    )
    marks = "".join(
        f'<span class="{"right" if getattr(found, m) else "wrong"}">{m.replace("_", "-")} '
        f"{'✓' if getattr(found, m) else '✗'}</span>"
        for m in ("text", "image", "group", "group_match")
    )
    undecided = (
        "" if catalogue.decided[model][place] else '<span class="undecided">not decided by its noise draws</span>'
    )
    curves = _curves(scores.evidence) if scores.evidence is not None else ""
    return (
        f'<article class="matrix"><h3>{escape(titles[model])} <small>{unit}</small></h3>'
        '<table><thead><tr><td></td><th scope="col">pic. 1</th><th scope="col">pic. 2</th>'
        '<th scope="col"><small title="Its own picture wins for this caption">image</small></th></tr></thead>'
        f'<tbody>{rows}<tr><th scope="row"><small title="Its own caption wins for this picture">text</small></th>'
        f"<td>{_tick(own_caption[0])}</td><td>{_tick(own_caption[1])}</td><td></td></tr></tbody></table>"
        f'<p class="marks">{marks}{undecided}</p><p class="mode"><b>{escape(found.mode.capitalize())}.</b> '
        f"{escape(MODES[found.mode])}</p>{curves}</article>"
    )


def _tick(right: bool) -> str:
    return f'<span class="{"right" if right else "wrong"}">{"✓" if right else "✗"}</span>'


def _curves(evidence: Evidence) -> str:
    """Loss over the timesteps of all four pairs: a panel a picture, a line a caption."""
    mean_ICT = evidence.loss_ICTN.astype(np.float64).mean(axis=3)
    if not np.isfinite(mean_ICT).all() or len(evidence.timestep_T) < 2:
        return ""
    step_T = evidence.timestep_T.astype(float)
    low, high = float(mean_ICT.min()), float(mean_ICT.max())
    x_T = 34 + (CURVE_WIDTH - 42) * (step_T - step_T[0]) / (step_T[-1] - step_T[0])
    y_ICT = 8 + (CURVE_HEIGHT - 34) * (1 - (mean_ICT - low) / max(high - low, 1e-12))
    panels = []
    for i in range(2):
        lines = "".join(_line(x_T, y_ICT[i, c], c) for c in range(2))
        name = f"Denoising loss by timestep, picture {i + 1}, captions A and B"
        panels.append(
            f'<svg viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img" aria-label="{name}">'
            f'<path class="axis" d="M34 8V{CURVE_HEIGHT - 26}H{CURVE_WIDTH - 8}"/>{lines}'
            f'<text x="30" y="16" text-anchor="end">{high:.2g}</text>'
            f'<text x="30" y="{CURVE_HEIGHT - 26}" text-anchor="end">{low:.2g}</text>'
            f'<text x="34" y="{CURVE_HEIGHT - 12}">{step_T[0]:.0f}</text>'
            f'<text x="{CURVE_WIDTH - 8}" y="{CURVE_HEIGHT - 12}" text-anchor="end">timestep {step_T[-1]:.0f}</text>'
            f'<text x="{CURVE_WIDTH - 8}" y="16" text-anchor="end">picture {i + 1}</text></svg>'
        )
    return f'<div class="curves">{"".join(panels)}</div>'


def _line(x_T: np.ndarray, y_T: np.ndarray, caption: int) -> str:
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(x_T, y_T, strict=True))
    return f'<path class="line c{caption}" d="M{points}"/>'


def _panel(title: str, body: str, hint: str) -> str:
    note = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return f'<section class="panel"><h3>{escape(title)}</h3>{body}{note}</section>'


def _tag_row(key: str, pair: tuple[Proportion, Proportion], chosen: bool, chance: float) -> str:
    tag = key.partition("=")[2]
    bars = "".join(
        f'<span class="share m{m}"><i style="width:{100 * share.value:.1f}%"></i>'
        f'<u style="left:{100 * share.low:.1f}%;width:{100 * (share.high - share.low):.1f}%"></u></span>'
        for m, share in enumerate(pair)
    )
    numbers = " / ".join(f"{100 * share.value:.0f}" for share in pair)
    spoken = "; ".join(f"{100 * s.value:.0f} percent, {100 * s.low:.0f} to {100 * s.high:.0f}" for s in pair)
    return (
        f'<button type="button" class="tag-row" data-kind="tag" data-pick="{escape(key)}" '
        f'aria-pressed="{str(chosen).lower()}" aria-label="{escape(tag)}: {spoken}">'
        f'<span class="name">{escape(tag)} <small>{pair[0].n}</small></span>'
        f'<span class="track"><b style="left:{chance:.1f}%"></b>{bars}</span>'
        f'<span class="value">{numbers}</span></button>'
    )


def _bar_row(kind: str, pick: str, name: str, meaning: str, count: int, counts: Mapping[str, int], chosen: bool) -> str:
    share = 100 * count / max(max(counts.values()), 1)
    return (
        f'<button type="button" class="bar-row" data-kind="{kind}" data-pick="{escape(pick)}" '
        f'title="{escape(meaning)}" aria-pressed="{str(chosen).lower()}"><span class="name">{escape(name)}</span>'
        f'<span class="track"><i style="width:{share:.1f}%"></i></span><span class="value">{count}</span></button>'
    )


def _axis(value_E: np.ndarray) -> Callable[[float], float]:
    """From a margin to pixels: zero is on the axis, and the outermost two percent lie on its ends."""
    finite = value_E[np.isfinite(value_E)]
    low, high = (min(float(np.quantile(finite, 0.01)), 0.0), max(float(np.quantile(finite, 0.99)), 0.0))
    wide = max(high - low, 1e-12)
    return lambda value: 6 + (SCATTER - 12) * (min(max(value, low), high) - low) / wide
