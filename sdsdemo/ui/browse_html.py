"""The Browse tab as HTML: gallery, one example, breakdowns, margins. The layout is in `templates/browse.html`.

Clickable elements carry `data-kind` and `data-pick`, which the page's script passes to Python. Pictures are embedded as
thumbnails. `ui/browse_one_image.py` has what differs for one image with many captions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from sdsdemo.core.intervals import Proportion
from sdsdemo.core.metrics import MODES, verdict
from sdsdemo.evaluation.catalogue import CATEGORY, TAG_KINDS, WHO, Catalogue, Filter, TagShares, Tally, facts
from sdsdemo.evaluation.limits import lesson_words
from sdsdemo.evaluation.summary import NO_TAG
from sdsdemo.types import Example, Scores
from sdsdemo.ui import address, browse_one_image
from sdsdemo.ui.browse_loss_lines import loss_lines_html
from sdsdemo.ui.compare_html import LETTERS
from sdsdemo.ui.templates import render
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
"""By outcome, its sign and its CSS class. A tie counts as wrong."""
SCATTER = 320
SIDES = {(True, True): "both", (False, True): "fixed", (True, False): "broken", (False, False): "neither"}
"""By (is the first model right, is the second), the style of a dot."""

Titles = Mapping[str, str]


def count_html(shown: int, total: int) -> str:
    """How many examples pass the filters."""
    return render("browse.count", shown=shown, total=total)


def tallies_html(tallies: Sequence[Tally], models: Sequence[str], titles: Titles) -> str:
    """How often each of the two models is right on the filtered examples, with ties and missing scores."""
    lines = [
        {"mark": mark, "title": titles[model], **_tally(found)}
        for found, model, mark in zip(tallies, models, MODEL_MARKS, strict=False)
    ]
    return render("browse.tallies", lines=lines)


def _tally(found: Tally) -> dict[str, Any]:
    share = found.share
    percent = f"{100 * share.value:.1f} [{100 * share.low:.0f}, {100 * share.high:.0f}]" if share.n else "–"
    some = "1 tie, which counts as wrong" if found.ties == 1 else f"{found.ties} ties, which count as wrong"
    ties = some if found.ties else "no ties"
    lost = f", {found.not_finite} left out: a score is not finite" if found.not_finite else ""
    return {"share": percent, "n": share.n, "apart": f"{ties}{lost}"}


def gallery_html(catalogue: Catalogue, places: np.ndarray, page: int, wanted: Filter, thumbs: Thumbnails) -> str:
    """One page of examples, each with both pictures, both captions, and whether each of the two models is right."""
    first = page * PER_PAGE
    cards = [_card(catalogue, place, wanted, thumbs) for place in places[first : first + PER_PAGE]]
    return render("browse.gallery", cards=cards, page=page, pages=-(-len(places) // PER_PAGE))


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

    opened_by: the number of the request that opened it, if that may not be the current one.
    """
    example = catalogue.examples[place]
    tags = facts(catalogue, place, (*TAG_KINDS, "secondary_tag", CATEGORY))
    if catalogue.one_image:
        figures = [browse_one_image.figure_html(catalogue, place, wanted.model, titles, thumbs)]
        models = [browse_one_image.model_html(catalogue, model, place, titles) for model in catalogue.models]
    else:
        figures = [_figure(example, i, thumbs) for i in range(2)]
        models = [_model(catalogue, model, place, titles) for model in catalogue.models]
    return render(
        "browse.example",
        id=example.id,
        address=address.write("browse", {"example": example.id}),
        opened_by=opened_by,
        position=position,
        tags=[tag for tag in tags if tag != NO_TAG],
        link=link,
        figures=figures,
        models=models,
    )


def lesson_html(models: Collection[str]) -> str:
    """The caveat that goes with these models' figures."""
    return render("parts.hint", sentence=lesson_words(models))


def tags_html(shares: Mapping[str, TagShares], wanted: Filter, titles: Titles) -> str:
    """One row per tag: how often each model is right, with 95 % intervals and chance. A click filters."""
    if not shares:
        return ""
    return render(
        "browse.tags",
        title=f"{METRICS[wanted.metric].capitalize()} by tag",
        models=[titles[model] for model in _two(wanted)],
        rows=[_tag_row(key, found, key in wanted.tags) for key, found in shares.items()],
    )


def modes_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """One bar per failure mode of the first model; empty if there are none. A click filters."""
    if not counts:
        return ""
    rows = [_bar_row(mode, MODES[mode], n, counts, mode in wanted.modes) for mode, n in counts.items()]
    return render("browse.bars", title=f"How {titles[wanted.model]} fails", kind="mode", rows=rows, hint="")


def transitions_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """Transitions from the first model to the second. A click filters."""
    return render(
        "browse.bars",
        title=f"From {titles[wanted.model]} to {titles[wanted.against]}",
        kind="who",
        rows=[_bar_row(way, WHO[way], n, counts, way == wanted.who) for way, n in counts.items()],
        hint=f"By {METRICS[wanted.metric]}.",
    )


def scatter_html(catalogue: Catalogue, places: np.ndarray, wanted: Filter, titles: Titles) -> str:
    """One dot per example: the first model's margin on x, the second's on y. A click opens the example."""
    x_E, y_E = catalogue.margin[wanted.model], catalogue.margin[wanted.against]
    x_of, y_of = _axis(x_E), _axis(y_E)
    marked = set(places.tolist())
    dots = [
        {
            "style": _side(catalogue, place, wanted) + ("" if place in marked else " dim"),
            "id": example.id,
            "x": f"{x_of(x_E[place]):.1f}",
            "y": f"{SCATTER - y_of(y_E[place]):.1f}",
            "words": _heading(catalogue, place, wanted),
        }
        for place, example in enumerate(catalogue.examples)
        if np.isfinite([x_E[place], y_E[place]]).all()
    ]
    one = catalogue.one_image
    return render(
        "browse.scatter",
        side=SCATTER,
        first=titles[wanted.model],
        second=titles[wanted.against],
        margins="Margins" if one else "Text margins",
        right="every true caption first" if one else "both text picks right",
        zero={"x": f"{x_of(0.0):.1f}", "y": f"{SCATTER - y_of(0.0):.1f}"},
        dots=dots,
    )


def _side(catalogue: Catalogue, place: int, wanted: Filter) -> str:
    """Which of the two models is right, by the first of the run's metrics."""
    first, second = (bool(catalogue.right[model][catalogue.metrics[0]][place]) for model in _two(wanted))
    return SIDES[first, second]


def _heading(catalogue: Catalogue, place: int, wanted: Filter) -> str:
    """The captions that identify an example."""
    if catalogue.one_image:
        return browse_one_image.heading(catalogue, place, wanted.model)
    return " / ".join(catalogue.examples[place].captions)


def _two(wanted: Filter) -> tuple[str, str]:
    return wanted.model, wanted.against


def _card(catalogue: Catalogue, place: int, wanted: Filter, thumbs: Thumbnails) -> dict[str, Any]:
    example = catalogue.examples[place]
    if catalogue.one_image:
        words = browse_one_image.card_words(catalogue, place, wanted.model)
    else:
        lines = [{"letter": LETTERS[c], "index": c, "text": example.captions[c]} for c in range(2)]
        words = {"captions": lines, "more": ""}
    marks = [
        _mark(outcome(catalogue, model, wanted.metric, place), MODEL_MARKS[m]) for m, model in enumerate(_two(wanted))
    ]
    pictures = [picture_html(picture, THUMB, "", thumbs) for picture in example.images]
    return {"id": example.id, "is_one": catalogue.one_image, "pictures": pictures, "marks": marks, **words}


def outcome(catalogue: Catalogue, model: str, metric: str, place: int) -> str:
    """right, wrong, tie or no number."""
    if not catalogue.finite[model][place]:
        return "no number"
    if catalogue.tied[model][metric][place]:
        return "tie"
    return "right" if catalogue.right[model][metric][place] else "wrong"


def _mark(how: str, model: str) -> dict[str, str]:
    sign, state = OUTCOMES[how]
    return {"how": how, "sign": sign, "state": state, "model": model}


def _figure(example: Example, index: int, thumbs: Thumbnails) -> str:
    caption = example.captions[index]
    picture = picture_html(example.images[index], LARGE, caption, thumbs)
    return render("browse.figure", picture=picture, index=index, letter=LETTERS[index], caption=caption)


def _model(catalogue: Catalogue, model: str, place: int, titles: Titles) -> str:
    """One model's result on a pair."""
    scores: Scores = catalogue.scores[model][place]
    found = verdict(scores.score_IC, scores.resolution)
    curves = loss_lines_html(scores.evidence, {0: "c0", 1: "c1"}, "captions A and B") if scores.evidence else ""
    return render(
        "browse.matrix",
        title=titles[model],
        unit="loss, lower is better" if scores.kind == "denoising" else "100 × cosine",
        rows=[_caption_row(scores, c) for c in range(2)],
        own_captions=[scores.score_IC[i, i] - scores.score_IC[i, 1 - i] > scores.resolution for i in range(2)],
        marks=[(name.replace("_", "-"), getattr(found, name)) for name in ("text", "image", "group", "group_match")],
        is_decided=catalogue.decided[model][place],
        mode=found.mode.capitalize(),
        meaning=MODES[found.mode],
        curves=curves,
    )


def _caption_row(scores: Scores, c: int) -> dict[str, Any]:
    """The scores of a caption with both pictures, and whether its own picture wins."""
    sign, digits = (-1, 4) if scores.kind == "denoising" else (1, 2)
    score_I = scores.score_IC[:, c]
    return {
        "letter": LETTERS[c],
        "scores": [f"{sign * score:.{digits}f}" for score in score_I],
        "is_right": score_I[c] - score_I[1 - c] > scores.resolution,
    }


def _tag_row(key: str, shares: TagShares, chosen: bool) -> dict[str, Any]:
    pair = (shares.first, shares.second)
    return {
        "pick": key,
        "tag": key.partition("=")[2],
        "pressed": str(chosen).lower(),
        "spoken": "; ".join(map(_spoken, pair)),
        "counts": " / ".join(dict.fromkeys(str(share.n) for share in pair)),
        "chance": f"{100 * shares.chance:.1f}",
        "bars": [_share_bar(share) for share in pair],
        "numbers": " / ".join(f"{100 * share.value:.0f}" if share.n else "–" for share in pair),
    }


def _share_bar(share: Proportion) -> dict[str, str] | None:
    """A share and its interval in percent of the bar; None if n is 0."""
    if not share.n:
        return None
    value, low, width = (f"{100 * part:.1f}" for part in (share.value, share.low, share.high - share.low))
    return {"value": value, "low": low, "width": width}


def _spoken(share: Proportion) -> str:
    if not share.n:
        return "no number"
    return f"{100 * share.value:.0f} percent, {100 * share.low:.0f} to {100 * share.high:.0f}"


def _bar_row(pick: str, meaning: str, count: int, counts: Mapping[str, int], chosen: bool) -> dict[str, Any]:
    share = 100 * count / max(max(counts.values()), 1)
    return {
        "pick": pick,
        "meaning": meaning,
        "pressed": str(chosen).lower(),
        "share": f"{share:.1f}",
        "count": count,
    }


def _axis(value_E: np.ndarray) -> Callable[[float], float]:
    """Maps a margin to pixels: zero is always in range, and the outermost 2 % are clipped to the ends."""
    finite = value_E[np.isfinite(value_E)]
    if not len(finite):
        finite = np.zeros(1)
    low, high = (min(float(np.quantile(finite, 0.01)), 0.0), max(float(np.quantile(finite, 0.99)), 0.0))
    wide = max(high - low, 1e-12)
    return lambda value: 6 + (SCATTER - 12) * (min(max(value, low), high) - low) / wide
