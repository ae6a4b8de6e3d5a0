"""Checks the shipped Mini results, and reproduces all of them from scratch on request.

    quick          the shipped weights score the benchmark again, and the experiment's figures are recomputed from its
                   lines: both must match the files
    from scratch   trains every model and its variants, runs every study, and checks that the new effects lie within
                   the shipped intervals

Everything is resumable: what is already in the work folder is reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdsdemo.core.metrics import METRICS
from sdsdemo.errors import UserError
from sdsdemo.evaluation.report import read_result
from sdsdemo.evaluation.run import evaluate
from sdsdemo.mini.experiments import maps
from sdsdemo.mini.experiments.ablations import make_variants
from sdsdemo.mini.experiments.declared import STUDIES, check_studies
from sdsdemo.mini.experiments.lesson import make_lesson
from sdsdemo.mini.experiments.results import coverage_of, findings
from sdsdemo.mini.experiments.shapes import Costs, Findings, MapFindings
from sdsdemo.mini.experiments.sharing import FOLDER, missing, options, share_studies, train_bases
from sdsdemo.mini.experiments.study import BASES, base_row, run_study
from sdsdemo.mini.experiments.study_store import Lines, StudyStore, read_rows
from sdsdemo.mini.experiments.train_all import PARTS, train
from sdsdemo.mini.models.from_folder import RelocatedWorkbench
from sdsdemo.runtime.files import write_json
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import ASSETS, budget

RESULTS = ASSETS / "mini" / "results"
EXPERIMENT = RESULTS / "experiment"
FINDINGS = RESULTS / "experiment.json"
COSTS = EXPERIMENT / "costs.json"
MEASURED = RESULTS / "mini.json"
MAP_LINES = EXPERIMENT / "maps.jsonl"
MAP_FINDINGS = EXPERIMENT / "maps.json"
TOLERANCE = 1 / 400
"""A share may differ by one example: processors round differently, and some margins are tiny."""
LAST_DIGIT = 2e-4
"""Figures are rounded to four places: processors may differ in the last one."""
PROCESSES = 2
"""Processes that share the studies from scratch, one core each."""
MOST_PROCESSES = 256

Progress = Callable[[str], None]


def verify(work: Path, workbench: Any, progress: Progress) -> dict[str, Any]:
    """Compare the shipped figures with what code and weights give now: rows of `what`, `shipped`, `now`, `same`."""
    stored = read_result(MEASURED)
    settings = stored["settings"]
    in_pairs = bool(settings.get("antithetic"))
    spend = budget(settings["timesteps"], settings["noises"], settings["seed"], antithetic=in_pairs)
    again = evaluate("mini", list(stored["models"]), workbench=workbench, budget=spend, out=work, progress=progress)
    rows = [
        _row(f"{model}, {metric}", entry[metric]["value"], again["models"][model][metric]["value"], TOLERANCE)
        for model, entry in stored["models"].items()
        for metric in METRICS
    ]
    before, now = shipped(FINDINGS, Findings), read_findings(EXPERIMENT)
    for what, old, new in _contrasts(before, now):
        rows.append(_row(what, old["value"], new["value"], 1e-6))
    rows += unlike(before, now, "experiment.json")
    rows += map_rows(shipped(MAP_FINDINGS, MapFindings), maps.findings(maps.read_lines(MAP_LINES)))
    return {"rows": rows, "same": all(row["same"] for row in rows)}


def _contrasts(
    shipped: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Name, shipped and current effect of each shipped contrast. Raises `KeyError` for one that is gone."""
    for name in STUDIES:
        found = {(row["cell"], row["control"]): row for row in now[name].get("contrasts", [])}
        for old in shipped[name].get("contrasts", []):
            yield f"{name}: {old['cell']} against {old['control']}", old, found[old["cell"], old["control"]]


def unlike(before: Any, now: Any, what: str) -> list[dict[str, Any]]:
    """A row for each figure that differs or that only one side has: intervals, p values, gates, skills, coverage."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        return [row for key in keys for row in unlike(before.get(key), now.get(key), f"{what}: {key}")]
    if isinstance(before, list | tuple) and isinstance(now, list | tuple) and len(before) == len(now):
        return [row for k, pair in enumerate(zip(before, now, strict=True)) for row in unlike(*pair, f"{what}, {k}")]
    if _is_number(before) and _is_number(now):
        row = _row(what, before, now, LAST_DIGIT)
        return [] if row["same"] else [row]
    return [] if before == now else [{"what": what, "shipped": before, "now": now, "same": False}]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def map_rows(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shipped and the current level of each map on each test."""
    return [
        _row(f"maps: {name}, {test}", before["levels"][name][test]["value"], level[test]["value"], 1e-6)
        for name, level in now["levels"].items()
        for test in maps.MEASURES
    ]


def _row(what: str, shipped: float, now: float, tolerance: float) -> dict[str, Any]:
    same = abs(shipped - now) <= tolerance + 1e-9
    return {"what": what, "shipped": round(shipped, 4), "now": round(now, 4), "same": same}


def read_findings(folder: Path) -> dict[str, Any]:
    """The experiment's figures from the lines in a folder."""
    studies = {name: read_rows(folder / f"{name}.jsonl") for name in STUDIES}
    bases = read_rows(folder / "bases.jsonl")
    covered = coverage_of(bases, studies)
    return findings(bases, studies) | ({"coverage": covered} if covered else {})


def as_text(found: Mapping[str, Any]) -> str:
    """A readable table, in percent."""
    wide = max(len(row["what"]) for row in found["rows"])
    lines = [f"{'percent':{wide}}  shipped      now"]
    for row in found["rows"]:
        mark = "" if row["same"] else "   differs"
        lines.append(f"{row['what']:{wide}}  {_shown(row['shipped'])}  {_shown(row['now'])}{mark}")
    return "\n".join([*lines, "", "Everything is as shipped." if found["same"] else "Differences are marked."])


def _shown(value: Any) -> str:
    """A share in percent; anything else by its kind, as it may be a whole table."""
    if _is_number(value):
        return f"{100 * value:7.2f}"
    return f"{'none' if value is None else value if isinstance(value, str) else 'other':>7}"


# -------------------------------------------------------------------------------------------------- the studies


def make_studies(
    names: Sequence[str], out: Path, work: Path, workbench: Any, progress: Progress, part: tuple[int, int] = (0, 1)
) -> None:
    """Run these studies, except for runs that have a line in `out`. part: (k, n) takes every n-th run from the k-th on.

    The first process measures the bases first. Raises `UserError` for an unknown study, and a run that fails.
    """
    check_studies(names)
    store = StudyStore(out, work)
    if part[0] == 0:
        _measure_bases(names, store.lines("bases"), workbench, progress)
    for name in names:
        run_study(name, STUDIES[name], store=store, workbench=workbench, progress=progress, part=part)
    write_findings(out)


def share(
    names: Sequence[str], where: Mapping[str, Path], bases: Path, workbench: Any, processes: int, note: Progress
) -> None:
    """Train the bases that these studies lack into `bases`, then make the missing runs, shared by processes.

    Says first how long that takes. where: `--out`, `--work` and, if used, `--checkpoints`. Raises `UserError` for an
    unknown study, a wrong number of processes, and a process that fails.
    """
    check_studies(names)
    if not 1 <= processes <= MOST_PROCESSES:
        raise UserError(f"--processes must be from 1 to {MOST_PROCESSES}; it was {processes}.")
    lacking = missing(names, StudyStore(where["--out"], where["--work"]), workbench)
    note(lacking.words(shipped(COSTS, Costs), processes))
    train_bases(lacking.bases, bases, where["--work"] / FOLDER, processes, note)
    if lacking.runs or lacking.bases:
        share_studies(names, options(where), processes)
    else:
        write_findings(where["--out"])


def _measure_bases(names: Sequence[str], lines: Lines, workbench: Any, progress: Progress) -> None:
    """Add a line for each base that has none."""
    for base in dict.fromkeys([*BASES, "mini-clip-clean", *(base for name in names for base in STUDIES[name].bases)]):
        if not lines.has("base", base):
            progress(f"measuring {base}")
            lines.add(base_row(base, workbench))


def write_findings(lines: Path) -> Path:
    """Write the figures computed from the lines in a folder to `FOLDER.json` beside it."""
    path = lines.with_suffix(".json")
    write_json(path, read_findings(lines))
    return path


# -------------------------------------------------------------------------------------------------- from scratch


def from_scratch(work: Path, workbench: Any, progress: Progress) -> dict[str, Any]:
    """Reproduce everything in `work`, which takes hours, and compare the new effects with the shipped intervals."""
    checkpoints, experiment = work / "checkpoints", work / "experiment"
    parts = [part for part in PARTS if not (checkpoints / "curves" / f"{part}.json").exists()]
    train(parts, checkpoints, work, progress)
    relocated = RelocatedWorkbench(workbench, checkpoints)
    make_variants(checkpoints, experiment, work, relocated, progress)
    make_lesson(checkpoints, experiment, work, relocated, progress)
    lacking = missing([*STUDIES], StudyStore(experiment, work / "studies"), relocated)
    train_bases(lacking.bases, checkpoints, work, PROCESSES, progress)
    where = {"--out": experiment, "--work": work / "studies", "--checkpoints": checkpoints}
    share_studies([*STUDIES], options(where), PROCESSES)
    now, before = shipped(write_findings(experiment), Findings), shipped(FINDINGS, Findings)
    rows = []
    for what, old, new in _contrasts(before, now):
        rows.append(_row(what, old["value"], new["value"], 0) | {"same": old["low"] <= new["value"] <= old["high"]})
    return {"rows": rows, "same": all(row["same"] for row in rows)}
