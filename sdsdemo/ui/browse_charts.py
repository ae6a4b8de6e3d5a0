"""The breakdowns of the Browse tab as HTML: how often the two models are right, by tag, and how the first one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdsdemo.core.intervals import Proportion
from sdsdemo.core.metrics import MODES
from sdsdemo.evaluation.catalogue import Filter, TagShares, Tally
from sdsdemo.ui.browse_parts import METRICS, NamedModel, Titles, named, pair
from sdsdemo.ui.templates import render


def tallies_html(tallies: Sequence[Tally], models: Sequence[str], titles: Titles) -> str:
    """How often each of the two models is right on the filtered examples, with ties and missing scores."""
    lines = [{"model": one, **_tally(found)} for found, one in zip(tallies, named(models, titles), strict=True)]
    return render("browse_charts.tallies", lines=lines)


def _tally(found: Tally) -> dict[str, Any]:
    share = found.share
    percent = f"{100 * share.value:.1f} [{100 * share.low:.0f}, {100 * share.high:.0f}]" if share.n else "–"
    some = "1 tie, which counts as wrong" if found.ties == 1 else f"{found.ties} ties, which count as wrong"
    ties = some if found.ties else "no ties"
    lost = f", {found.not_finite} left out: a score is not finite" if found.not_finite else ""
    return {"share": percent, "n": share.n, "apart": f"{ties}{lost}"}


def tags_html(shares: Mapping[str, TagShares], wanted: Filter, titles: Titles) -> str:
    """One row per tag: how often each model is right, with 95 % intervals and chance. A click filters."""
    if not shares:
        return ""
    models = pair(wanted, titles)
    return render(
        "browse_charts.tags",
        title=f"{METRICS[wanted.metric].capitalize()} by tag",
        models=models,
        rows=[_tag_row(key, found, models, key in wanted.tags) for key, found in shares.items()],
    )


def _tag_row(key: str, shares: TagShares, models: Sequence[NamedModel], chosen: bool) -> dict[str, Any]:
    both = (shares.first, shares.second)
    return {
        "pick": key,
        "tag": key.partition("=")[2],
        "pressed": str(chosen).lower(),
        "counts": " and ".join(dict.fromkeys(str(share.n) for share in both)),
        "chance": f"{100 * shares.chance:.1f}",
        "bars": [{"model": one, **_share_bar(share)} for one, share in zip(models, both, strict=True)],
    }


def _share_bar(share: Proportion) -> dict[str, str]:
    """A share and its interval in percent of the bar, and as text; only a dash if n is 0."""
    if not share.n:
        return {"percent": "–", "interval": "no finite score"}
    value, low, width = (f"{100 * part:.1f}" for part in (share.value, share.low, share.high - share.low))
    return {
        "value": value,
        "low": low,
        "width": width,
        "percent": f"{100 * share.value:.0f} %",
        "interval": f"95 % interval {100 * share.low:.0f} to {100 * share.high:.0f}",
    }


def modes_html(counts: Mapping[str, int], wanted: Filter, titles: Titles) -> str:
    """One bar per failure mode of the first model; empty if there are none. A click filters."""
    if not counts:
        return ""
    rows = [bar_row(mode, mode, MODES[mode], n, counts, mode in wanted.modes) for mode, n in counts.items()]
    return render("browse_charts.modes", model=pair(wanted, titles)[0], rows=rows)


def bar_row(
    pick: str, words: str, meaning: str, count: int, counts: Mapping[str, int], chosen: bool, style: str = ""
) -> dict[str, Any]:
    """A bar as long as its share of the largest count. style: the class of the dots that it counts, if any."""
    share = 100 * count / max(max(counts.values()), 1)
    return {
        "pick": pick,
        "words": words,
        "meaning": meaning,
        "pressed": str(chosen).lower(),
        "share": f"{share:.1f}",
        "count": count,
        "style": style,
    }
