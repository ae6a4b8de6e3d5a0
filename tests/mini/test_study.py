"""The experiment: what its studies declare, and that every figure comes from the bits of their lines."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from sdsdemo.core.bits import packed, unpacked
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments import results as module
from sdsdemo.mini.experiments import tables, verdict
from sdsdemo.mini.experiments.declared import (
    BETTER,
    CONFIRM,
    CONTRASTS,
    CONTROL,
    MISLABELLED,
    PREFERENCE_CONTROLS,
    RETURN,
    SCREEN,
    STUDIES,
)
from sdsdemo.mini.experiments.preference_sources import SOURCE_CONTRASTS, SOURCES
from sdsdemo.mini.experiments.results import complete, findings, pairs_of
from sdsdemo.mini.experiments.study import differences

SETS = {
    "mini": 40,
    "mini-zero-shot": 20,
    "mini-retrieval": 20,
    "mini-attribute": 8,
    "mini-relation": 8,
    "mini-order": 8,
}
CELLS = tuple(CONFIRM.cells)


def line(cell: str, base: str, seed: int, text: float, skill: float = 0.7) -> dict[str, Any]:
    """A run that is right on the first `text` of the benchmark, and on `skill` of the rest."""
    share = {name: {"accuracy": skill} for name in SETS}
    share["mini"] = {"text": text, "image": text / 2, "group": text / 4}
    return {
        "run": f"{cell} {base} {seed}",
        "base": base,
        "right": {
            name: {k: packed(np.arange(SETS[name]) < value * SETS[name]) for k, value in by.items()}
            for name, by in share.items()
        },
        "n": SETS,
        "cosine": {"captions": 0.9, "images": 0.8},
        "seconds": 10.0,
    }


def confirmed(gain: dict[str, float]) -> list[dict[str, Any]]:
    return [
        line(cell, base, seed, 0.25 + gain.get(cell, 0.0))
        for cell in CELLS
        for base in CONFIRM.bases
        for seed in CONFIRM.seeds
    ]


BASE_ROWS = [line("base", base, 0, 0.2) | {"run": f"base {base}"} for base in CONFIRM.bases]


@pytest.fixture(autouse=True)
def small_benchmarks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The declared benchmarks with as many examples as these lines have, but where the shipped lines are read."""
    if "shipped" not in request.node.name:
        by_tag = {example.tags["tag"]: example for example in read_benchmark("mini")}
        few = tuple(by_tag.values())
        monkeypatch.setattr(module, "_examples", lambda name: (few * 40)[:40])


def test_withheld_swaps_and_the_rest_are_reported_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(e for e in read_benchmark("mini") if e.tags["tag"] == "Adjective-Size")
    words = next(e for e in read_benchmark("mini") if " left of " in e.captions[0])
    other = next(e for e in read_benchmark("mini") if e.tags["tag"] == "Noun inside")
    monkeypatch.setattr(module, "_examples", lambda name: (kind,) * 10 + (words,) * 10 + (other,) * 20)
    found = findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.5})})["confirm"]  # 10 to 29 become right
    contrast = next(row for row in found["contrasts"] if (row["cell"], row["control"]) == ("preference", "clip"))
    withheld = contrast["withheld"]
    assert [(what, row["n"], row["value"]) for what, row in withheld.items()] == [
        ("kind", 10, 0.0), ("words", 10, 1.0), ("rest", 20, 0.5),
    ]  # fmt: skip
    head, *rows = tables.withheld_grid(found)
    assert head[2:] == [
        "size swaps, never trained (n = 10)", "captions with 'left of', never trained (n = 10)", "the rest (n = 20)",
    ]  # fmt: skip
    assert len(rows) == len(found["contrasts"])


def test_skills_are_compared_with_the_control_not_the_base() -> None:
    skill = {"preference": 0.6, "clip": 0.5}
    lines = [
        line(cell, base, seed, 0.25, skill.get(cell, 0.7))
        for cell in CELLS
        for base in CONFIRM.bases
        for seed in CONFIRM.seeds
    ]
    found = findings(BASE_ROWS, {"confirm": lines})["confirm"]
    contrast = next(row for row in found["contrasts"] if (row["cell"], row["control"]) == ("preference", "clip"))
    for name in ("zero_shot", "retrieval"):
        assert contrast["skills"][name]["value"] == pytest.approx(0.1)
        assert found["cells"]["preference"][name]["value"] == pytest.approx(-0.1)
    head, *rows = tables.skills_grid(found)
    assert head == ["cell", "against", "zero-shot (n = 20)", "retrieval (n = 20)"]
    row = next(row for row in rows if row[:2] == ["preference", "clip"])
    assert [points.split()[0] for points in row[2:]] == ["+10.0", "+10.0"]


def test_the_cells_of_a_study_share_everything_but_what_they_name() -> None:
    own = {"objective", "lam", "sharpness", "shuffled"}
    for recipe in CONFIRM.cells.values():
        first = CONFIRM.cells["clip, every parameter" if recipe.trained == "all" else "clip"].as_dict()
        assert {field.name for field in fields(Recipe) if recipe.as_dict()[field.name] != first[field.name]} <= own
    assert CONFIRM.cells["sds"] == replace(CONFIRM.cells["sds, shuffled"], shuffled=False)
    assert all(recipe.check() for study in STUDIES.values() for recipe in study.cells.values())


def test_only_declared_cells_meet_the_benchmark() -> None:
    assert {CONTROL.measure, SCREEN.measure} == {"mini-validation"}
    assert (CONFIRM.measure, len(CONFIRM.bases), len(CONFIRM.seeds), len(CONFIRM.cells)) == ("mini", 3, 5, 7)
    assert len(list(CONFIRM.runs())) == 105


def test_compared_cells_differ_in_their_treatment_alone() -> None:
    for name in ("control", "screen"):
        for cell, control in pairs_of(name, STUDIES[name]):
            treated, plain = STUDIES[name].cells[cell], STUDIES[name].cells[control]
            assert plain.objective == "clip"
            assert (treated.trained, treated.towers, treated.steps) == (plain.trained, plain.towers, plain.steps)


def test_the_bits_of_a_line_are_the_booleans_that_went_in() -> None:
    right_E = np.random.default_rng(0).random(403) < 0.3
    assert np.array_equal(unpacked(packed(right_E), 403), right_E)


def test_an_effect_is_that_of_the_bits_at_the_same_base_and_seed() -> None:
    rows = confirmed({"preference": 0.2})
    found = differences(rows, "preference", "clip", CONFIRM.bases, CONFIRM.seeds, "mini")
    assert found.shape == (3, 5, 40)
    assert found.mean() == pytest.approx(0.2)
    with pytest.raises(KeyError):
        differences(rows[:-1], CELLS[-1], "clip", CONFIRM.bases, CONFIRM.seeds, "mini")


def test_findings_hold_every_declared_contrast_corrected() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.4, "negatives": 0.05})})["confirm"]
    assert [(row["cell"], row["control"]) for row in found["contrasts"]] == list(CONTRASTS)
    by_pair = {(row["cell"], row["control"]): row for row in found["contrasts"]}
    strong = by_pair["preference", "clip"]
    assert strong["value"] == pytest.approx(0.4)
    assert 0 < strong["low"] < 0.4 < strong["high"]
    assert by_pair["sds", "clip"]["value"] == 0
    assert all(row["holm"] >= row["p"] for row in found["contrasts"])
    assert found["cells"]["clip"]["retrieval"]["kept"] is True


def test_a_lost_skill_is_not_non_inferior_and_one_at_ceiling_says_nothing() -> None:
    rows = [{**row, "right": {**row["right"], "mini-retrieval": line("x", "y", 0, 0, 0.5)["right"]["mini-retrieval"]}}
            for row in confirmed({})]  # fmt: skip
    cells = findings(BASE_ROWS, {"confirm": rows})["confirm"]["cells"]
    assert cells["clip"]["retrieval"]["kept"] is False
    high = [line("base", base, 0, 0.2, skill=1.0) | {"run": f"base {base}"} for base in CONFIRM.bases]
    assert findings(high, {"confirm": rows})["confirm"]["cells"]["clip"]["zero_shot"]["kept"] is None


def test_a_skill_is_of_the_larger_set_where_every_line_and_base_has_it() -> None:
    def with_larger(row: dict[str, Any], share: float) -> dict[str, Any]:
        bits = packed(np.arange(100) < 100 * share)
        sets = {"mini-zero-shot-4000": {"accuracy": bits}}
        return row | {"right": row["right"] | sets, "n": row["n"] | {"mini-zero-shot-4000": 100}}

    bases = [with_larger(row, 0.7) for row in BASE_ROWS]
    rows = [with_larger(row, 0.65) for row in confirmed({})]
    found = findings(bases, {"confirm": rows})["confirm"]["cells"]["clip"]
    assert (found["zero_shot"]["n"], found["zero_shot"]["value"]) == (100, pytest.approx(-0.05))
    assert (found["retrieval"]["n"], found["retrieval"]["value"]) == (20, 0)
    first = findings(bases, {"confirm": [*confirmed({})[:1], *rows[1:]]})["confirm"]["cells"]
    assert (first["clip"]["zero_shot"]["n"], first["sds"]["zero_shot"]["n"]) == (20, 100)


def test_only_whole_seeds_count_while_a_study_is_under_way() -> None:
    rows = confirmed({})
    assert complete(CONFIRM, rows) == (CONFIRM.bases, CONFIRM.seeds)
    without = [row for row in rows if row["run"] != f"sds {CONFIRM.bases[1]} 3"]
    assert complete(CONFIRM, without)[1] == (0, 1, 2, 4)
    first = [row for row in rows if row["run"].endswith(" 0") and row["base"] != CONFIRM.bases[2]]
    assert complete(CONFIRM, first) == (CONFIRM.bases[:2], (0,))
    assert findings(BASE_ROWS, {"confirm": []})["confirm"]["seeds"] == []


def test_exploratory_cells_count_with_the_seeds_that_there_are() -> None:
    study = replace(CONFIRM, bases=CONFIRM.bases[:1], exploratory=True)
    base = study.bases[0]
    rows = [row for row in confirmed({"sds": 0.1}) if row["base"] == base]
    rows = [row for row in rows if not row["run"].startswith(("preference", "sds, shuffled", "clip, every"))]
    rows = [row for row in rows if row["run"] not in (f"clip {base} 4", f"sds {base} 2")]
    found = module._study(study, rows, BASE_ROWS, list(CONTRASTS))
    assert {row["cell"]: row["seeds"] for row in found["contrasts"]} == {"sds": 3, "negatives": 4}
    assert {cell: row["seeds"] for cell, row in found["cells"].items()} == {"clip": 4, "sds": 4, "negatives": 5}
    assert tables.contrasts_grid(found)[0][2] == tables.cells_grid(found)[0][1] == "seeds"
    assert tables.contrasts_grid(found)[1][2:4] == ["3", "+10.0"]
    assert "up to 5 seeds" in tables.made_words(found)
    assert "Exploratory" in tables.made_words(found)
    assert module._study(study, rows[:1], BASE_ROWS, list(CONTRASTS))["seeds"] == []


def test_an_exploratory_study_that_is_whole_needs_no_column_of_seeds() -> None:
    study = replace(CONFIRM, bases=CONFIRM.bases[:1], exploratory=True)
    rows = [row for row in confirmed({}) if row["base"] == study.bases[0]]
    found = module._study(study, rows, BASE_ROWS, list(CONTRASTS))
    for grid in (tables.contrasts_grid, tables.cells_grid, tables.skills_grid):
        assert "seeds" not in grid(found)[0]
        assert len({len(row) for row in grid(found)}) == 1
    words = tables.made_words(found)
    assert words.startswith("1 base, 5 seeds, ")
    assert words.endswith(" Exploratory.")


def test_controls_are_means_before_the_first_and_after_the_last_step() -> None:
    names = ("student", "student shuffled", "true", "true shuffled", "other", "cosine with shuffled")
    rows = confirmed({})
    for row in rows:
        if row["run"].startswith("sds "):
            level = 0.2 if row["run"].endswith(" 0") else 0.1
            row |= {
                "h_w_r2": 0.3,
                "controls": {"0": dict.fromkeys(names, level), "90": {}, "800": dict.fromkeys(names, 2 * level)},
            }
    found = findings(BASE_ROWS, {"confirm": rows})["confirm"]
    assert {cell for cell, of in found["cells"].items() if "controls" in of} == {"sds"}
    controls = found["cells"]["sds"]["controls"]
    assert controls["before"]["student"] == pytest.approx(0.12)
    assert controls["after"]["true"] == pytest.approx(0.24)
    _, row = tables.controls_grid(found)
    assert row == ["sds", "0.120, 0.120", "0.240, 0.240", "0.240, 0.240", "0.240", "0.12, 0.24", "0.30"]
    unknown = [row | {"h_w_r2": None} if "h_w_r2" in row else row for row in rows]
    assert tables.controls_grid(findings(BASE_ROWS, {"confirm": unknown})["confirm"])[1][-1] == "unknown"
    del found["cells"]["sds"]["h_w_r2"]
    assert tables.controls_grid(found)[1][-1] == "at random"
    assert tables.controls_grid({"cells": {}}) == []


def test_the_verdict_names_both_terms_and_the_non_inferior_skills() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.2, "preference, every parameter": 0.4})})
    words = " ".join(verdict.verdict(found))
    assert "Over 3 bases and 5 seeds (n = 40), the paper's term changes the text score by +0.0 [" in words
    assert "by +20.0 [" in words
    assert "by +40.0 [" in words
    assert words.count("zero-shot and retrieval are non-inferior") == 2
    assert "WiSE-FT" not in words
    found["confirm"]["cells"]["preference, every parameter"]["retrieval"]["kept"] = False
    said = " ".join(verdict.verdict(found))
    assert said.count("zero-shot and retrieval are non-inferior") == 1
    assert "zero-shot is non-inferior (margin 2 points) and retrieval is not shown to be non-inferior: it" in said
    assert "] relative to the control" in said
    assert verdict.verdict({"confirm": {"declared": {}, "bases": [], "seeds": []}}) == []


def test_contrasts_whose_lines_are_elsewhere_are_left_out() -> None:
    """As in a new folder of lines, where only the study itself was run."""
    lines = [line(cell, base, seed, 0.5) for cell in SOURCES.cells for base in SOURCES.bases for seed in SOURCES.seeds]
    found = findings(BASE_ROWS, {"sources": lines})["sources"]
    own = [pair for pair in SOURCE_CONTRASTS if {*pair} <= SOURCES.cells.keys()]
    assert [(row["cell"], row["control"]) for row in found["contrasts"]] == own
    assert 0 < len(own) < len(SOURCE_CONTRASTS)


def test_a_teacher_is_right_as_often_as_after_answers_were_reversed() -> None:
    told = {"preference": {"teacher_right": {"value": 0.94}}}
    told["sds"] = {"teacher_right": {"value": 0.94}, "reversed_to": 0.7}
    rows = [row | {"preferences": told.get(row["run"].split()[0], told["preference"])} for row in confirmed({})]
    cells = findings(BASE_ROWS, {"confirm": rows})["confirm"]["cells"]
    assert [cells[cell]["teacher_right"] for cell in ("preference", "sds")] == [0.94, 0.7]


def test_preference_controls_are_compared_with_cells_of_the_confirmation() -> None:
    level = {"labels": 0.5, "preference, permuted": 0.4, "preference, sides by lot": 0.25}
    lines = [
        line(cell, base, seed, text)
        for cell, text in level.items()
        for base in PREFERENCE_CONTROLS.bases
        for seed in PREFERENCE_CONTROLS.seeds
    ]
    whole = findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.2}), "dealt": lines})
    found = whole["dealt"]
    by_pair = {(row["cell"], row["control"]): row["value"] for row in found["contrasts"]}
    assert by_pair == pytest.approx({
        ("preference", "preference, permuted"): 0.05,
        ("preference", "labels"): -0.05,
        ("preference, permuted", "clip"): 0.15,
        ("preference, sides by lot", "clip"): 0.0,
    })  # fmt: skip
    assert list(found["cells"]) == list(PREFERENCE_CONTROLS.cells)
    words = " ".join(verdict.verdict(whole))
    assert "The teacher's own preferences change it by +5.0 [" in words
    assert "and by -5.0 [" in words
    assert "random sign, the change is +0.0 [" in words
    assert "(LayerNorms, declared afterwards; 3 bases, 3 seeds, the first of those above). The intervals" in words
    assert (found["bases"], found["seeds"]) == (list(PREFERENCE_CONTROLS.bases), list(PREFERENCE_CONTROLS.seeds))


def test_with_wrong_labels_preference_is_compared_with_every_control() -> None:
    level = {"clip": 0.25, "labels": 0.2, "preference": 0.4, "preference, permuted": 0.3}
    lines = [
        line(f"{cell}, half mislabelled", base, seed, text)
        for cell, text in level.items()
        for base in MISLABELLED.bases
        for seed in MISLABELLED.seeds
    ]
    whole = findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.2}), "mislabelled": lines})
    found = [row["value"] for row in whole["mislabelled"]["contrasts"]]
    assert found == pytest.approx([0.15, 0.2, 0.1, -0.05])
    words = " ".join(verdict.verdict(whole))
    assert re.findall(r"by ([-+]\d+\.0) \[", words)[-4:] == ["+15.0", "+20.0", "+10.0", "-5.0"]
    assert "(LayerNorms, declared afterwards; 3 bases, 3 seeds)" in words


def test_cells_with_wrong_labels_differ_in_their_labels_alone() -> None:
    pairs = {
        "clip": CONFIRM,
        "preference": CONFIRM,
        "labels": PREFERENCE_CONTROLS,
        "preference, permuted": PREFERENCE_CONTROLS,
    }
    for cell, study in pairs.items():
        recipe = MISLABELLED.cells[f"{cell}, half mislabelled"]
        assert replace(recipe, mislabelled=0.0) == study.cells[cell]
        assert recipe.mislabelled == 0.5
    assert (MISLABELLED.measure, MISLABELLED.bases) == (CONFIRM.measure, CONFIRM.bases)
    assert set(MISLABELLED.seeds) <= set(CONFIRM.seeds)


def test_cells_with_a_better_teacher_differ_in_their_teacher_alone() -> None:
    same = {**CONFIRM.cells, **MISLABELLED.cells}
    for cell, recipe in BETTER.cells.items():
        first = same[cell.removesuffix(", better teacher")]
        assert replace(recipe, teacher=first.teacher) == first
        assert (first.teacher, recipe.teacher) == ("mini-diffusion-short", "mini-diffusion")
    level = {"sds": 0.25, "preference": 0.5, "preference, half mislabelled": 0.4}
    better = [
        line(f"{cell}, better teacher", base, seed, text)
        for cell, text in level.items()
        for base in BETTER.bases
        for seed in BETTER.seeds
    ]
    half = [line(cell, base, seed, 0.3) for cell in MISLABELLED.cells for base in BETTER.bases for seed in BETTER.seeds]
    rows = {"confirm": confirmed({"preference": 0.2}), "mislabelled": half, "better": better}
    whole = findings(BASE_ROWS, rows)
    assert [row["value"] for row in whole["better"]["contrasts"]] == pytest.approx([0.0, 0.05, 0.1])
    words = " ".join(verdict.verdict(whole))
    assert "accurate teacher, the paper's term changes it by +0.0 [" in words
    assert re.findall(r"by ([-+]\d+\.0) \[", words)[-2:] == ["+5.0", "+10.0"]


def test_the_verdict_reports_wise_ft() -> None:
    gains = {"clip, every parameter, WiSE-FT": 0.0, "preference, every parameter, WiSE-FT": 0.3}
    lines = [
        line(cell, base, seed, 0.25 + gain) for cell, gain in gains.items() for base in CONFIRM.bases for seed in (0, 1)
    ]
    words = " ".join(verdict.verdict(findings(BASE_ROWS, {"confirm": confirmed({}), "return": lines})))
    assert "(WiSE-FT, declared afterwards; 3 bases, 2 seeds), the change is +30.0 [" in words
    assert words.count("zero-shot and retrieval are non-inferior") == 3


def test_wise_ft_cells_differ_from_the_confirmation_in_the_weight_alone() -> None:
    for cell, recipe in RETURN.cells.items():
        assert replace(recipe, wise_ft=1.0) == CONFIRM.cells[cell.removesuffix(", WiSE-FT")]
        assert 0 < recipe.wise_ft < 1
    assert (RETURN.measure, RETURN.bases, RETURN.seeds) == (CONFIRM.measure, CONFIRM.bases, CONFIRM.seeds)
    assert pairs_of("return", RETURN) == [tuple(reversed([*RETURN.cells]))]


def test_the_tables_say_how_much_of_a_study_there_is() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({"preference": 0.4}), "control": []})
    assert tables.made_words(found["confirm"]).startswith("3 bases, 5 seeds, n = 40 of mini, 20 ")
    assert tables.made_words(found["control"]).startswith("Not run yet: 1 base with 3 seeds")
    part = findings(BASE_ROWS, {"confirm": [row for row in confirmed({}) if row["run"].endswith(" 1")]})
    assert "In progress: 3 bases and 5 seeds are declared" in tables.made_words(part["confirm"])
    rows = tables.contrasts_grid(found["confirm"])
    assert rows[4][:3] == ["preference", "clip", "+40.0"]
    assert tables.as_markdown(rows).count("\n") == len(rows)
    assert ", non-inferior" in tables.cells_grid(found["confirm"])[1][5]
