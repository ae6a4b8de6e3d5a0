"""The averages that benchmark authors report, each with its rule. Reads nothing.

    ARO VG-Relation      mean over relations, without the symmetric ones (Yuksekgonul et al. 2023, 2210.01936; the list
                         is from their published evaluation); and the share of all cases
    ARO VG-Attribution   mean over pairs of attributes with at least 25 cases; and the share of all cases
    ARO orders           precision@1: the share of captions that beat all of their shuffles
    SugarCrepe           share of all cases (micro), and mean over the files (macro): all, add, replace, swap
                         (Hsieh et al. 2023, 2306.14610)
    SugarCrepe++         ITT: both true captions beat the false one; and each of the two alone (Dumpala et al. 2024,
                         2406.11171, VLMs/README.md). Their text-only task (TOT) is in `evaluation.text_only`
    MMVP-VLM             mean over nine visual patterns of the share of pairs where each caption picks its own image,
                         our image score (Tong et al. 2024, 2401.06209, scripts/evaluate_vlm.py)
    What'sUp             individual, pair and set accuracy of the controlled sets, mean of the two sets of each source
                         (Kamath et al. 2023, 2310.19785, evaluate_scores and README)
    VALSE                mean over the pieces of the pairwise accuracy (Parcalabescu et al. 2022, ACL)
    EqBen                text, image and group by part, and their mean, since nine in ten examples are from one part
                         (Wang et al. 2023, 2303.14465, evaluate_eqben_locally.py)

An example's tag `set` names its set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sdsdemo.data.published.sets import (
    ATTRIBUTION,
    COCO_ORDER,
    EQBEN,
    FLICKR_ORDER,
    MMVP,
    PARTS,
    RELATION,
    SIZES,
    SUGARCREPE,
    SUGARCREPE_PP,
    VALSE,
    WHATSUP,
    differences,
    set_of,
)

LEAST_CASES = 25
_SYMMETRIC = """
    adjusting; attached to; between; bigger than; biting; boarding; brushing; chewing; cleaning; climbing; close to;
    coming from; coming out of; contain; crossing; dragging; draped over; drinking; drinking from; driving;
    driving down; driving on; eating from; eating in; enclosing; exiting; facing; filled with; floating in;
    floating on; flying; flying above; flying in; flying over; flying through; full of; going down; going into;
    going through; grazing in; growing in; growing on; guiding; hanging from; hanging in; hanging off; hanging over;
    higher than; holding onto; hugging; in between; jumping off; jumping on; jumping over; kept in; larger than;
    leading; leaning over; leaving; licking; longer than; looking in; looking into; looking out; looking over;
    looking through; lying next to; lying on top of; making; mixed with; mounted on; moving; on the back of;
    on the edge of; on the front of; on the other side of; opening; painted on; parked at; parked beside; parked by;
    parked in; parked in front of; parked near; parked next to; perched on; petting; piled on; playing; playing in;
    playing on; playing with; pouring; reaching for; reading; reflected on; riding on; running in; running on;
    running through; seen through; sitting behind; sitting beside; sitting by; sitting in front of; sitting near;
    sitting next to; sitting under; skiing down; skiing on; sleeping in; sleeping on; smiling at; sniffing; splashing;
    sprinkled on; stacked on; standing against; standing around; standing behind; standing beside;
    standing in front of; standing near; standing next to; staring at; stuck in; surrounding; swimming in; swinging;
    talking to; topped with; touching; traveling down; traveling on; tying; typing on; underneath; wading in;
    waiting for; walking across; walking by; walking down; walking next to; walking through; working in; working on;
    worn on; wrapped around; wrapped in; by; of; near; next to; with; beside; on the side of; around
"""
SYMMETRIC = frozenset(" ".join(relation.split()) for relation in _SYMMETRIC.split(";"))


@dataclass(frozen=True, kw_only=True)
class Average:
    """A figure that authors report, and how it is computed."""

    value: float
    groups: int
    of: int
    unit: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Examples of one set: their tags, which are right by each metric, and their scores if needed."""

    tags: Sequence[Mapping[str, str]]
    right: Mapping[str, np.ndarray]
    score_E: Sequence[np.ndarray]
    resolution_E: np.ndarray
    """Differences of scores up to this count as ties."""

    def where(self, keeps_E: Sequence[bool]) -> Cases:
        """The cases that are marked."""
        places = [place for place, keeps in enumerate(keeps_E) if keeps]
        return Cases(
            tags=[self.tags[place] for place in places],
            right={metric: right_E[places] for metric, right_E in self.right.items()},
            score_E=[self.score_E[place] for place in places] if self.score_E else (),
            resolution_E=self.resolution_E[places],
        )

    def groups(self, kind: str) -> dict[str, np.ndarray]:
        """Tag of this kind -> indices of its cases."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for place, own in enumerate(self.tags):
            if own.get(kind):
                found[own[kind]].append(place)
        return {tag: np.array(places) for tag, places in found.items()}


def averages(
    tags: Sequence[Mapping[str, str]],
    right: Mapping[str, np.ndarray],
    score_E: Sequence[np.ndarray] = (),
    resolution_E: np.ndarray | None = None,
) -> dict[str, dict[str, object]]:
    """The averages that a set's authors report, by name, each with its rule; empty for other benchmarks.

    right: by metric, which examples are right. score_E: [I, C] each, needed only for SugarCrepe++. resolution_E:
    differences of scores up to this count as ties.
    """
    resolution_E = np.zeros(len(tags)) if resolution_E is None else resolution_E
    every = Cases(tags=tags, right=right, score_E=score_E, resolution_E=resolution_E)
    found: dict[str, Average] = {}
    for name, average in AVERAGES.items():
        cases = every.where([set_of(own) == name for own in tags])
        if cases.tags:
            found |= average(cases)
    return {name: asdict(average) for name, average in found.items()}


def _share(right_E: np.ndarray, unit: str, rule: str) -> Average:
    return Average(value=float(np.mean(right_E)), groups=len(right_E), of=len(right_E), unit=unit, rule=rule)


def _macro(shares: Sequence[float], of: int, unit: str, rule: str) -> Average:
    return Average(value=float(np.mean(shares)), groups=len(shares), of=of, unit=unit, rule=rule)


def _called(benchmark: str, name: str, cases: Cases) -> str:
    """The set's name, or "part of" it."""
    return f"part of {name}" if differences(benchmark, cases.tags) else name


def _part_called(benchmark: str, part: str, cases: Cases) -> str:
    """A part's name, or "part of" it."""
    whole = SIZES[benchmark][PARTS[benchmark]].get(part)
    return part if len(cases.tags) == whole else f"part of {part}"


def _aro(name: str, unit: str, rule: str, keeps: Callable[[str, int], bool], cases: Cases) -> dict[str, Average]:
    """keeps: whether a group counts, given its name and number of cases."""
    right_E, groups, name = cases.right["accuracy"], cases.groups("tag"), _part_called("aro", name, cases)
    kept = [float(right_E[places].mean()) for group, places in groups.items() if keeps(group, len(places))]
    found = {name: _macro(kept, len(groups), unit, rule)} if kept else {}
    return found | {f"{name}, plain": _share(right_E, "cases", "share of all cases")}


def _order(name: str, cases: Cases) -> dict[str, Average]:
    rule = "precision@1: the share of captions that beat all of their shuffles"
    return {_part_called("aro", name, cases): _share(cases.right["accuracy"], "captions", rule)}


def _sugarcrepe(cases: Cases) -> dict[str, Average]:
    name, right_E, files = _called("sugarcrepe", SUGARCREPE, cases), cases.right["accuracy"], cases.groups("tag")
    shares = {file: float(right_E[places].mean()) for file, places in files.items()}
    found = {
        f"{name}, micro": _share(right_E, "cases", "share of all cases"),
        f"{name}, macro": _macro(list(shares.values()), len(shares), "files", "mean over the files"),
    }
    for change in sorted(cases.groups("collapsed_tag")):
        own = [share for file, share in shares.items() if file.partition("_")[0] == change]
        found |= (
            {f"{name}, {change}": _macro(own, len(own), "files", f"mean over the files of {change}")} if own else {}
        )
    return found


def _sugarcrepe_pp(cases: Cases) -> dict[str, Average]:
    name, right_E = _called("sugarcrepe++", SUGARCREPE_PP, cases), cases.right["accuracy"]
    rule = "both true captions beat the false one"
    found = {f"{name}, ITT": _share(right_E, "cases", rule)}
    for file, places in sorted(cases.groups("tag").items()):
        found[f"{name}, ITT {file}"] = _share(right_E[places], "cases", rule)
    for true in range(2 if len(cases.score_E) else 0):
        beats_E = np.array([s[0, true] - s[0, 2] for s in cases.score_E]) > cases.resolution_E
        rule = f"the {('first', 'second')[true]} true caption beats the false one, whatever the other does"
        found[f"{name}, P{true + 1} alone"] = _share(beats_E, "cases", rule)
    return found


def _mmvp(cases: Cases) -> dict[str, Average]:
    patterns = cases.groups("tag")
    shares = [float(cases.right["image"][places].mean()) for places in patterns.values()]
    rule = "mean over visual patterns of the image score (each caption picks its own image)"
    return {_called("mmvp-vlm", MMVP, cases): _macro(shares, len(patterns), "patterns", rule)}


def _whatsup(cases: Cases) -> dict[str, Average]:
    right_E, parts = cases.right["accuracy"], cases.groups("collapsed_tag")
    found = {}
    for part, places in parts.items():
        own = cases.where([tags.get("collapsed_tag") == part for tags in cases.tags])
        name = _part_called("whatsup", part, own)
        found[f"{name}, individual"] = _share(right_E[places], "images", "share of images")
        for kind, size in (("pair", 2), ("image set", 4)):
            found |= _whole_groups(own, name, kind, size)
    for source in ("Controlled", "COCO", "GQA"):
        halves = [part for part in parts if part.startswith(source)]
        shares = [float(right_E[parts[part]].mean()) for part in halves]
        name = source if all(f"{part}, individual" in found for part in halves) else f"part of {source}"
        found |= {f"{name}, mean": _macro(shares, 2, "parts", "mean of its two parts")} if len(shares) == 2 else {}
    return found


def _whole_groups(cases: Cases, part: str, kind: str, size: int) -> dict[str, Average]:
    """The share of groups in which every image is right, among complete groups."""
    groups = cases.groups(kind)
    whole = [bool(cases.right["accuracy"][places].all()) for places in groups.values() if len(places) == size]
    if not whole:
        return {}
    rule = f"share of {kind}s with all {size} images right"
    value = float(np.mean(whole))
    return {f"{part}, {kind}": Average(value=value, groups=len(whole), of=len(groups), unit=f"{kind}s", rule=rule)}


def _valse(cases: Cases) -> dict[str, Average]:
    pieces = cases.groups("tag")
    shares = [float(cases.right["accuracy"][places].mean()) for places in pieces.values()]
    rule = "mean over the pieces of the pairwise accuracy"
    return {f"{_called('valse', VALSE, cases)}, mean": _macro(shares, len(pieces), "pieces", rule)}


def _eqben(cases: Cases) -> dict[str, Average]:
    name, parts, found = _called("eqben", EQBEN, cases), cases.groups("tag"), {}
    rule = "mean over the parts, which its authors report one by one"
    for metric in ("text", "image", "group"):
        shares = {part: float(cases.right[metric][places].mean()) for part, places in parts.items()}
        found[f"{name}, {metric}, mean"] = _macro(list(shares.values()), len(parts), "parts", rule)
        for part, places in sorted(parts.items()):
            found[f"{part}, {metric}"] = _share(cases.right[metric][places], "examples", "share of the part's examples")
    return found


AVERAGES: Mapping[str, Callable[[Cases], dict[str, Average]]] = {
    RELATION: lambda cases: _aro(
        RELATION,
        "relations",
        "mean over relations that are not symmetric",
        lambda name, n: name not in SYMMETRIC,
        cases,
    ),
    ATTRIBUTION: lambda cases: _aro(
        ATTRIBUTION,
        "pairs of attributes",
        f"mean over pairs of attributes with at least {LEAST_CASES} cases",
        lambda name, n: n >= LEAST_CASES,
        cases,
    ),
    COCO_ORDER: lambda cases: _order(COCO_ORDER, cases),
    FLICKR_ORDER: lambda cases: _order(FLICKR_ORDER, cases),
    SUGARCREPE: _sugarcrepe,
    SUGARCREPE_PP: _sugarcrepe_pp,
    MMVP: _mmvp,
    WHATSUP: _whatsup,
    VALSE: _valse,
    EQBEN: _eqben,
}
