"""The Browse tab as HTML: gallery, one example, breakdowns, margins. Pure strings; everything foreign is escaped here.

What can be clicked carries `data-kind` and `data-pick`; the page's script hands both to Python. Pictures are in the
page itself, small. One image and its captions has a module of its own for what differs: `ui/captions_of_one`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape

import numpy as np

from sdsdemo.core.metrics import MODES, Proportion, verdict
from sdsdemo.evaluation.catalogue import CATEGORY, TAG_KINDS, WHO, Catalogue, Filter, TagShares, Tally, facts
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.summary import NO_TAG
from sdsdemo.types import Example, Scores
from sdsdemo.ui import browse_one_image
from sdsdemo.ui.compare_html import prose
from sdsdemo.ui.loss_lines import loss_lines_html
from sdsdemo.ui.thumbnails import LARGE, THUMB, Thumbnails, picture_html

PER_PAGE = 24
METRICS = {
    "text": "text score",
    "image": "image score",
    "group": "group score",
    "group_match": "group-match score",
    "accuracy": "accuracy",
}
MODEL_MARKS = ("●", "◆")
OUTCOMES = {"right": ("✓", "right"), "wrong": ("✗", "wrong"), "tie": ("=", "wrong"), "no number": ("?", "unknown")}
"""How a model did, with its sign and its class. A tie counts as wrong."""
SCATTER = 320
NOTHING = (
    '<p class="empty-view">No example matches these filters. '
    '<button type="button" data-kind="clear" data-pick="all">Clear filters</button></p>'
)

Titles = Mapping[str, str]


def count_html(shown: int, total: int) -> str:
    """How many examples pass the filters."""
    return f'<p class="count" role="status"><b>{shown}</b> of {total}</p>'


def tallies_html(tallies: Sequence[Tally], models: Sequence[str], titles: Titles) -> str:
    """How often each of the two models is right on what is shown, with what is counted apart."""
    lines = [
        f"<li>{mark} {escape(titles[model])}: {_tally(found)}</li>"
        for found, model, mark in zip(tallies, models, MODEL_MARKS, strict=False)
    ]
    return f'<ul class="tallies">{"".join(lines)}</ul>'


def _tally(found: Tally) -> str:
    share = found.share
    said = f"{100 * share.value:.1f} [{100 * share.low:.0f}, {100 * share.high:.0f}]" if share.n else "–"
    some = "1 tie, which counts as wrong" if found.ties == 1 else f"{found.ties} ties, which count as wrong"
    ties = some if found.ties else "no ties"
    lost = f", {found.not_finite} left out: a score is no number" if found.not_finite else ""
    return f"<b>{said}</b> % right, n = {share.n} <small>{ties}{lost}</small>"


def gallery_html(catalogue: Catalogue, places: np.ndarray, page: int, wanted: Filter, thumbs: Thumbnails) -> str:
    """One page of examples, each with both pictures, both captions, and whether each of the two models is right."""
    if not len(places):
        return NOTHING
    first = page * PER_PAGE
    cards = [_card(catalogue, place, wanted, thumbs) for place in places[first : first + PER_PAGE]]
    return f'<div class="cards-of-pairs">{"".join(cards)}</div>{_pager(page, len(places))}'


def example_html(
    catalogue: Catalogue,
    place: int,
    position: str,
    wanted: Filter,
    titles: Titles,
    link: str,
    thumbs: Thumbnails,
    opened_by: int = 0,
) -> str:
    """One example in full: pictures, captions, every model's scores, marks, mode in words, timestep curves.

    opened_by: the number of the request that opened it, where that may be another than the one that is answered.
    """
    example = catalogue.examples[place]
    tags = facts(catalogue, place, (*TAG_KINDS, "secondary_tag", CATEGORY))
    chips = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags if tag != NO_TAG)
    if catalogue.one_image:
        figures = browse_one_image.figure_html(catalogue, place, wanted.model, titles, thumbs)
        models = "".join(browse_one_image.model_html(catalogue, m, place, titles) for m in catalogue.models)
    else:
        figures = "".join(_figure(example, i, thumbs) for i in range(2))
        models = "".join(_model(catalogue, model, place, titles) for model in catalogue.models)
    asked = f' data-request="{opened_by}"' if opened_by else ""
    return (
        f'<section class="example" data-id="{escape(example.id)}"{asked} aria-label="One example">'
        f"<header><h2>Example {escape(example.id)}</h2>"
        f'<span class="position">{escape(position)}</span>{chips}<span class="moves">{_MOVES}'
        f'<button type="button" data-link="{escape(link)}">Copy link</button>'
        '<button type="button" data-kind="close" data-pick="" aria-label="Close">Close</button></span></header>'
        f'<div class="pair">{figures}</div><div class="matrices">{models}</div></section>'
    )


_MOVES = (
    '<button type="button" data-kind="move" data-pick="-1" title="Key k">← Previous</button>'
    '<button type="button" data-kind="move" data-pick="1" title="Key j">Next →</button>'
)


def lesson_html(models: Collection[str]) -> str:
    """What belongs beside the figures of these models."""
    said = lesson_words(models)
    return f'<p class="hint">{escape(said)}</p>' if said else ""


def tags_html(shares: Mapping[str, TagShares], wanted: Filter, titles: Titles) -> str:
    """A row a tag: how often either model is right, with 95 % intervals and chance. A click filters."""
    if not shares:
        return ""
    rows = "".join(_tag_row(key, found, key in wanted.tags) for key, found in shares.items())
    legend = "".join(
        f'<span class="m{m}"><i></i>{escape(titles[model])}</span>' for m, model in enumerate(_two(wanted))
    )
    return _panel(
        f"{METRICS[wanted.metric].capitalize()} by tag",
        f'<p class="legend">{legend}<span class="chance"><i></i>chance</span></p><div class="tag-rows">{rows}</div>',
        "Percent right with the 95 % interval; n beside the tag.",
    )


def modes_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """A bar a mode of the first model; empty where there is none. A click filters."""
    if not counts:
        return ""
    rows = [_bar_row("mode", mode, mode, MODES[mode], n, counts, mode in wanted.modes) for mode, n in counts.items()]
    return _panel(f"How {titles[wanted.model]} fails", "".join(rows), "")


def transitions_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """From the first model to the second. A click filters."""
    rows = [_bar_row("who", way, way, WHO[way], n, counts, way == wanted.who) for way, n in counts.items()]
    return _panel(
        f"From {titles[wanted.model]} to {titles[wanted.against]}",
        "".join(rows),
        f"By {METRICS[wanted.metric]}.",
    )


def scatter_html(catalogue: Catalogue, places: np.ndarray, wanted: Filter, titles: Titles) -> str:
    """A dot an example: the margin of the first model across, of the second upwards. A click opens it."""
    x_E, y_E = catalogue.margin[wanted.model], catalogue.margin[wanted.against]
    x_of, y_of = _axis(x_E), _axis(y_E)
    marked = set(places.tolist())
    dots = []
    for place, example in enumerate(catalogue.examples):
        if not np.isfinite([x_E[place], y_E[place]]).all():
            continue
        a_right, b_right = (bool(catalogue.right[model][catalogue.metrics[0]][place]) for model in _two(wanted))
        kind = {(True, True): "both", (False, True): "fixed", (True, False): "broken"}.get(
            (a_right, b_right), "neither"
        )
        dim = "" if place in marked else " dim"
        dots.append(
            f'<circle class="{kind}{dim}" data-kind="example" data-pick="{escape(example.id)}" '
            f'cx="{x_of(x_E[place]):.1f}" cy="{SCATTER - y_of(y_E[place]):.1f}" r="4">'
            f"<title>{escape(_heading(catalogue, place, wanted))}</title></circle>"
        )
    one = catalogue.one_image
    right, kind_of = ("every true caption first", "Margins") if one else ("both text picks right", "Text margins")
    zero_x, zero_y = x_of(0.0), SCATTER - y_of(0.0)
    a, b = (escape(titles[model]) for model in _two(wanted))
    return _panel(
        "Margins, model against model",
        f'<svg class="scatter" viewBox="-26 -8 {SCATTER + 34} {SCATTER + 34}" role="img" '
        f'aria-label="{kind_of} of {a} across and of {b} upwards, a dot an example">'
        f'<rect x="0" y="0" width="{SCATTER}" height="{SCATTER}"/>'
        f'<path class="zero" d="M{zero_x:.1f} 0V{SCATTER}M0 {zero_y:.1f}H{SCATTER}"/>{"".join(dots)}'
        f'<text x="{SCATTER / 2}" y="{SCATTER + 18}" text-anchor="middle">{a} →</text>'
        f'<text transform="translate(-10 {SCATTER / 2}) rotate(-90)" text-anchor="middle">{b} →</text></svg>',
        f"Beyond both lines both models have {right}. Each axis has its own unit; dots that the filters "
        "leave out are faint. Hover for the captions, click to open.",
    )


def _heading(catalogue: Catalogue, place: int, wanted: Filter) -> str:
    """The captions that an example is told by."""
    if catalogue.one_image:
        return browse_one_image.heading(catalogue, place, wanted.model)
    return " / ".join(catalogue.examples[place].captions)


def problem_html(sentence: str) -> str:
    return f'<p class="message" role="alert">{prose(sentence)}</p>'


def _two(wanted: Filter) -> tuple[str, str]:
    return wanted.model, wanted.against


def _card(catalogue: Catalogue, place: int, wanted: Filter, thumbs: Thumbnails) -> str:
    example = catalogue.examples[place]
    pictures = "".join(picture_html(p, THUMB, "", thumbs) for p in example.images)
    if catalogue.one_image:
        captions = browse_one_image.words_html(catalogue, place, wanted.model)
    else:
        captions = "".join(map(_lettered, range(2), example.captions))
    marks = "".join(
        _mark(outcome(catalogue, model, wanted.metric, place), MODEL_MARKS[m]) for m, model in enumerate(_two(wanted))
    )
    alone = " one" if catalogue.one_image else ""
    return (
        f'<button type="button" class="pair-card{alone}" data-kind="example" data-pick="{escape(example.id)}">'
        f'<span class="thumbs">{pictures}</span><span class="words">{captions}</span>'
        f'<span class="marks"><small>{escape(example.id)}</small>{marks}</span></button>'
    )


def _lettered(c: int, caption: str) -> str:
    return f'<span class="c{c}"><b>{"AB"[c]}</b>{escape(caption)}</span>'


def outcome(catalogue: Catalogue, model: str, metric: str, place: int) -> str:
    """right, wrong, tie or no number."""
    if not catalogue.finite[model][place]:
        return "no number"
    if catalogue.tied[model][metric][place]:
        return "tie"
    return "right" if catalogue.right[model][metric][place] else "wrong"


def _mark(how: str, symbol: str) -> str:
    sign, state = OUTCOMES[how]
    return f'<span class="{state}" role="img" title="{how}" aria-label="{how}">{symbol} {sign}</span>'


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
        f"<figure>{picture_html(example.images[index], LARGE, caption, thumbs)}"
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
    curves = loss_lines_html(scores.evidence, {0: "c0", 1: "c1"}, "captions A and B") if scores.evidence else ""
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


def _panel(title: str, body: str, hint: str) -> str:
    note = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return f'<section class="panel"><h3>{escape(title)}</h3>{body}{note}</section>'


def _tag_row(key: str, shares: TagShares, chosen: bool) -> str:
    tag, pair = key.partition("=")[2], (shares.first, shares.second)
    bars = "".join(_share_bar(share, m) for m, share in enumerate(pair))
    numbers = " / ".join(f"{100 * share.value:.0f}" if share.n else "–" for share in pair)
    spoken = "; ".join(map(_spoken, pair))
    counts = " / ".join(dict.fromkeys(str(share.n) for share in pair))
    return (
        f'<button type="button" class="tag-row" data-kind="tag" data-pick="{escape(key)}" '
        f'aria-pressed="{str(chosen).lower()}" aria-label="{escape(tag)}: {spoken}">'
        f'<span class="name">{escape(tag)} <small>{counts}</small></span>'
        f'<span class="track"><b style="left:{100 * shares.chance:.1f}%"></b>{bars}</span>'
        f'<span class="value">{numbers}</span></button>'
    )


def _share_bar(share: Proportion, m: int) -> str:
    if not share.n:
        return f'<span class="share m{m}"></span>'
    return (
        f'<span class="share m{m}"><i style="width:{100 * share.value:.1f}%"></i>'
        f'<u style="left:{100 * share.low:.1f}%;width:{100 * (share.high - share.low):.1f}%"></u></span>'
    )


def _spoken(share: Proportion) -> str:
    if not share.n:
        return "no number"
    return f"{100 * share.value:.0f} percent, {100 * share.low:.0f} to {100 * share.high:.0f}"


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
    if not len(finite):
        finite = np.zeros(1)
    low, high = (min(float(np.quantile(finite, 0.01)), 0.0), max(float(np.quantile(finite, 0.99)), 0.0))
    wide = max(high - low, 1e-12)
    return lambda value: 6 + (SCATTER - 12) * (min(max(value, low), high) - low) / wide
