"""Ten bases: the base is the unit, the gate of each, skills without the examples that choices looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdsdemo.core.bases import components, coverage, over_bases
from sdsdemo.core.bits import packed
from sdsdemo.data.benchmarks import RETRIEVAL_SEED, read_benchmark, retrieval
from sdsdemo.data.mini.choices import retrieval_sets
from sdsdemo.data.mini.scenes import combination, split_of
from sdsdemo.evaluation.limits import CHOSEN_ON, limits
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments import results as module
from sdsdemo.mini.experiments import ten_words
from sdsdemo.mini.experiments.declared import (
    CONFIRM,
    CONTRASTS,
    CONTROL_CONTRASTS,
    GATES,
    PREFERENCE_CONTROLS,
    RETURN,
    TEN_BASES,
    TEN_CONTRASTS,
    WISE_FT_CONTRASTS,
)
from sdsdemo.mini.experiments.interval_coverage import coverage_findings, student_t
from sdsdemo.mini.experiments.results import findings
from sdsdemo.mini.experiments.seed_noise import seed_noise
from sdsdemo.mini.experiments.skills import reported_set, unseen
from sdsdemo.mini.experiments.study import BASES, differences, lines_alike, right_of
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.tables import TEN, made_words, shared_words, study_markdown
from sdsdemo.mini.experiments.ten_bases import over_ten_bases
from sdsdemo.mini.experiments.verdict import verdict
from sdsdemo.mini.experiments.verify import EXPERIMENT
from sdsdemo.mini.models.clip import FURTHER
from tests.mini.test_study import confirmed, line

BASE_ROWS = [line("base", base, 0, 0.2) | {"run": f"base {base}"} for base in TEN_BASES.bases]
GAINS = {"labels": 0.5, "labels, image tower alone": 0.3, "preference": 0.4}


@pytest.fixture(autouse=True)
def small_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many examples as the made-up lines have."""
    few = tuple(read_benchmark("mini"))[:40]
    monkeypatch.setattr(module, "_examples", lambda name: few)


def lines(gain: dict[str, float] = GAINS, own: dict[tuple[str, str], float] | None = None) -> list[dict[str, Any]]:
    """Runs of all ten bases. own: the gain of a cell on one base, where it is another."""
    own = own or {}
    return [
        line(cell, base, seed, 0.25 + own.get((cell, base), gain.get(cell, 0.0)))
        for cell in TEN_BASES.cells
        for base in TEN_BASES.bases
        for seed in TEN_BASES.seeds
    ]


def over(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return over_ten_bases(TEN_BASES, rows, BASE_ROWS)


def contrast(found: dict[str, Any], cell: str, control: str = "clip") -> dict[str, Any]:
    return next(row for row in found["contrasts"] if (row["cell"], row["control"]) == (cell, control))


def test_ten_bases_are_the_shipped_recipe_with_ten_seeds() -> None:
    assert len(set(TEN_BASES.bases)) == 10
    assert set(TEN_BASES.bases) == {*BASES, *FURTHER}
    assert len(list(TEN_BASES.runs())) == 220
    both, alone = (TEN_BASES.cells[GATES[towers][0]] for towers in ("both", "image"))
    assert replace(both, towers="image") == alone
    for cell, control in TEN_CONTRASTS:
        treated, plain = TEN_BASES.cells[cell], TEN_BASES.cells[control]
        assert (treated.trained, treated.towers, treated.steps) == (plain.trained, plain.towers, plain.steps)
    assert TEN_BASES.cells["sds at 10"].lam == 10 == TEN_BASES.cells["sds at 10, shuffled"].lam
    assert all(TEN_BASES.cells[cell] == CONFIRM.cells[cell] for cell in CONFIRM.cells.keys() & TEN_BASES.cells.keys())
    assert all(recipe.check() for recipe in TEN_BASES.cells.values())


def test_an_effect_is_the_mean_over_bases_with_students_t() -> None:
    each = {("preference", base): 0.1 * (1 + b % 5) for b, base in enumerate(TEN_BASES.bases)}
    found = over(lines(own=each))
    assert [(row["cell"], row["control"]) for row in found["contrasts"]] == list(TEN_CONTRASTS)
    row = contrast(found, "preference")
    assert row["by_base"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5] * 2)
    assert (row["value"], row["dof"], row["bases"]) == (pytest.approx(0.3), 9, 10)
    assert (row["low"], row["high"]) == pytest.approx(over_bases(row["by_base"]), abs=1e-4)
    assert row["within"]["low"] > -1
    assert contrast(found, "sds")["holm"] == 1.0
    assert contrast(found, "sds", "sds, shuffled")["differing"] == 0.0


def test_fewer_bases_leave_fewer_degrees_of_freedom() -> None:
    rows = [row for row in lines() if row["base"] in TEN_BASES.bases[:4] and row["run"].endswith(" 0")]
    found = over(rows)
    assert (found["bases"], found["seeds"]) == (list(TEN_BASES.bases[:4]), [0])
    assert {row["dof"] for row in found["contrasts"]} == {3}
    assert "In progress: 10 bases with 2 seeds are declared." in ten_words.ten_made_words(found)
    assert "(t, 3 df)" in ten_words.effects_grid(found)[0][3]


def test_effects_are_also_given_without_the_bases_that_fail_the_gate() -> None:
    first, second = "mini-clip-2", "mini-clip-5"
    own = {("labels", first): 0.05, ("preference", first): 0.0, ("labels, image tower alone", second): 0.05}
    found = over(lines(own=own))
    assert found["groups"]["both"] == [base for base in TEN_BASES.bases if base != first]
    assert found["groups"]["image"] == [base for base in TEN_BASES.bases if base not in (first, second)]
    assert found["groups"]["new"] == list(FURTHER)
    row = contrast(found, "preference")
    assert row["value"] == pytest.approx(0.36)
    assert [row["among"][name]["value"] for name in ("both", "image", "new")] == pytest.approx([0.4, 0.4, 0.4])
    assert [row["among"][name]["dof"] for name in ("both", "image", "new")] == [8, 7, 6]
    grid = {row[0]: row for row in ten_words.gate_grid(found)[1:]}
    assert grid[first][3] == "image tower alone"
    assert grid[second][3] == "both towers"
    assert grid["mini-clip"][3] == "both towers and image tower alone"


def test_a_group_of_one_base_has_no_interval() -> None:
    own = {("labels", base): 0.0 for base in TEN_BASES.bases[1:]}
    found = over(lines(own=own))
    assert found["groups"]["both"] == ["mini-clip"]
    assert "both" not in contrast(found, "preference")["among"]
    assert "too few" in ten_words.groups_grid(found)[1]


def test_before_its_first_run_the_study_is_one_sentence() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({}), TEN: []})[TEN]
    assert found == {"declared": {"bases": 10, "seeds": 2, "runs": 220}, "made": 0, "bases": [], "seeds": []}
    said = "Not run yet: 10 bases with 2 seeds are declared."
    assert ten_words.ten_markdown(found) == ten_words.ten_main(found) == said


def test_a_study_that_has_begun_says_how_many_runs_are_made() -> None:
    first = [row for row in lines() if row["base"] == "mini-clip"][:19]
    found = findings(BASE_ROWS, {"confirm": confirmed({}), TEN: first})
    said = "In progress: 19 of 220 runs are made, too few for an effect; 10 bases with 2 seeds are declared."
    assert ten_words.ten_markdown(found[TEN]) == said
    part = findings(BASE_ROWS, {"confirm": confirmed({})[:3]})["confirm"]
    assert made_words(part).startswith("In progress: 3 of 105 runs are made, too few for an effect; 3 bases")


def test_a_gain_of_just_what_is_asked_counts() -> None:
    """640 of 8,000 differences: a mean of means may be 0.07999999999999999, which is shown as +8.0."""
    gained = over(lines({"labels": 0.5, "preference": 0.1}, {("preference", b): 0.075 for b in TEN_BASES.bases[:8]}))
    row = contrast(gained, "preference")
    assert (row["value"], row["gains"]) == (0.08, True)


def test_a_tiny_p_is_not_shown_as_nothing() -> None:
    found = over(lines(own={("preference", base): 0.4 + 0.025 * (b % 2) for b, base in enumerate(TEN_BASES.bases)}))
    row = contrast(found, "preference")
    assert 0 < row["p"] <= row["holm"] < 1e-6
    grid = ten_words.effects_grid(found)
    shown = {line[0]: line[grid[0].index("p, Holm")] for line in grid[1:]}
    assert shown["preference"] == "< 0.001"


def test_lines_of_the_confirmation_count_where_everything_is_the_same() -> None:
    run, recipe = next(iter(TEN_BASES.runs()))
    sets = {name: {"accuracy": "00"} for name in ("mini-zero-shot-4000", "mini-retrieval-4000")}
    row = line("clip", "mini-clip", 0, 0.3) | {"base_fingerprint": "a", "teacher_fingerprint": "t"}
    row |= {"recipe": {k: v for k, v in recipe.as_dict().items() if v != Recipe().as_dict()[k]}}
    row["n"] = row["n"] | dict.fromkeys(sets, 8)
    weights = {"mini-clip": "a", recipe.teacher: "t"}
    assert row["run"] == run
    assert lines_alike(TEN_BASES, [row], weights) == [row]
    other = row["recipe"] | {"learning_rate": 0.5}
    smaller = {name: n for name, n in row["n"].items() if not name.endswith("4000")}
    for change in ({"recipe": other}, {"n": smaller}, {"base_fingerprint": "b"}, {"teacher_fingerprint": "u"}):
        assert lines_alike(TEN_BASES, [row | change], weights) == []
    assert lines_alike(TEN_BASES, [row | {"run": "negatives mini-clip 0"}], weights) == []


@pytest.mark.parametrize(
    ("study", "cells"),
    [("confirm", ("clip", "sds", "sds, shuffled", "preference")), ("return", tuple(RETURN.cells))],
)
def test_the_shipped_lines_give_the_first_bases_six_cells(study: str, cells: tuple[str, ...]) -> None:
    bases, rows = (read_rows(EXPERIMENT / f"{name}.jsonl") for name in ("bases", study))
    weights = {row["base"]: row["base_fingerprint"] for row in bases}
    expected = {f"{cell} {base} {seed}" for cell in cells for base in BASES for seed in (0, 1)}
    assert {row["run"] for row in lines_alike(TEN_BASES, rows, weights)} == expected


# ------------------------------------------------------------------------------------------------------ skills


def with_larger(row: dict[str, Any], right_E: np.ndarray) -> dict[str, Any]:
    name = "mini-retrieval-4000"
    bits = {name: {"accuracy": packed(right_E)}}
    return row | {"right": row["right"] | bits, "n": row["n"] | {name: len(right_E)}}


def test_examples_that_choices_looked_at_are_left_out_of_retrieval() -> None:
    """What `preference` gains on the first 500 does not count; what it loses on the rest does."""
    plain_E = np.arange(CHOSEN_ON + 100) < CHOSEN_ON + 80
    gained_E = np.arange(CHOSEN_ON + 100) < CHOSEN_ON + 70
    plain_E[:300] = False
    base_rows = [with_larger(row, plain_E) for row in BASE_ROWS]
    studied = {"confirm": confirmed({}), TEN: lines()}
    rows = {
        name: [with_larger(row, gained_E if row["run"].startswith("preference ") else plain_E) for row in of]
        for name, of in studied.items()
    }
    found = findings(base_rows, rows)
    ten = contrast(found[TEN], "preference")["skills"]["retrieval"]
    confirm = contrast(found["confirm"], "preference")["skills"]["retrieval"]
    cell = found["confirm"]["cells"]["preference"]["retrieval"]
    for one in (ten, confirm, cell):
        assert (one["n"], one["value"]) == (100, pytest.approx(-0.1))
    assert (ten["kept"], cell["kept"], cell["before"]) == (False, False, 0.8)
    assert "20 for zero-shot and 100 for retrieval" in made_words(found["confirm"])


def test_the_smaller_retrieval_set_begins_the_larger_one() -> None:
    """So its examples are those to leave out."""
    small, large = ([text.text for _, text in pairs] for pairs in map(next, map(sets_of, (1, 2))))
    assert small == large
    row = read_rows(EXPERIMENT / "bases.jsonl")[0]
    first, whole = (right_of(row, name, "accuracy") for name in ("mini-retrieval", "mini-retrieval-4000"))
    assert np.array_equal(first, whole[:CHOSEN_ON])
    assert len(unseen("mini-retrieval-4000", whole)) == 3_500
    assert len(unseen("mini-zero-shot-4000", whole)) == 4_000


def sets_of(count: int) -> Any:
    return retrieval_sets(RETRIEVAL_SEED, count, 100)


def test_new_choices_look_at_retrieval_of_validation_combinations() -> None:
    (pairs,) = retrieval_sets(RETRIEVAL_SEED, 1, 20, "validation")
    assert {split_of(combination(scene.things)) for scene, _ in pairs} == {"validation"}
    first, other = (retrieval(sets=1, size=4, split=split) for split in ("validation", "benchmark"))
    assert {e.images[0].key for e in first}.isdisjoint(e.images[0].key for e in other)
    has = {"right": {"mini-retrieval": {}, "mini-retrieval-validation": {}}}
    assert reported_set("mini-retrieval", [has]) == "mini-retrieval-validation"
    assert reported_set("mini-retrieval", [has, {"right": {"mini-retrieval": {}}}]) == "mini-retrieval"


# ------------------------------------------------------------------------------------------------- in words


def test_the_verdict_says_what_holds_for_bases_in_general() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({}), TEN: lines(own={("labels", "mini-clip-3"): 0.0})})
    said = " ".join(limits(found))
    assert "are about these 3 bases only. For bases in general, 10 bases were fine-tuned with 2 seeds each." in said
    assert "(9 degrees of freedom)" in said
    assert "is reached by the teacher's preference and true labels; all of these are also shown to keep" in said
    assert "with both towers on mini-clip-3, with the image tower alone on none: there, the absence of a gain" in said
    assert "must gain 6 points" not in said, "the gate of three bases gives way to that of ten"
    assert any("9 degrees of freedom" in one for one in verdict(found))


def test_no_objective_that_gains_is_said_plainly() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({}), TEN: lines({"preference": 0.075})})
    assert contrast(found[TEN], "preference")["gains"] is False
    said = " ".join(limits(found))
    assert "No objective gains 8 points or more with its interval above zero. True labels gain less than 6" in said
    assert "with both towers on all of the 10, with the image tower alone on all of the 10: there," in said


@pytest.mark.parametrize("made", [2, 4, 9])
def test_until_all_bases_are_done_those_of_the_confirmation_count(made: int) -> None:
    """Two bases with a seed have one degree of freedom: an interval 27 times as wide as that of the confirmation."""
    part = [row for row in lines() if row["base"] in TEN_BASES.bases[:made]]
    without, begun = (findings(BASE_ROWS, {"confirm": confirmed({}), TEN: rows}) for rows in ([], part))
    assert len(begun[TEN]["bases"]) == made
    assert limits(begun) == limits(without)
    assert "3 bases (2 degrees of freedom)" in " ".join(limits(begun))


def test_a_skill_that_is_lost_is_no_skill_that_is_kept() -> None:
    rows = [
        line("preference", row["base"], int(row["run"][-1]), 0.65, skill=0.6)
        if row["run"].startswith("preference ")
        else row
        for row in lines()
    ]
    said = " ".join(limits(findings(BASE_ROWS, {"confirm": confirmed({}), TEN: rows})))
    assert "of these, true labels are also shown to keep zero-shot and retrieval" in said


def test_contrasts_that_share_a_cell_are_said_not_to_be_independent() -> None:
    found = findings(BASE_ROWS, {"confirm": confirmed({}), TEN: lines()})
    said = shared_words(found["confirm"])
    assert "not independent: *clip* (3)" in said
    assert "*preference* (2)" in said
    assert "every parameter" not in said, "that pair stands alone"
    assert said in study_markdown(found["confirm"])
    assert "not independent: *clip* (4)" in ten_words.ten_markdown(found[TEN])


def test_every_table_over_ten_bases_has_rows_of_one_length() -> None:
    found = over(lines())
    for grid in (ten_words.effects_grid, ten_words.groups_grid, ten_words.gate_grid, ten_words.by_base_grid):
        assert len({len(row) for row in grid(found)}) == 1
        assert len(grid(found)) > len(TEN_CONTRASTS)
    assert ten_words.GATE_CAUTION in ten_words.ten_markdown(found)


# --------------------------------------------------------------------------------------- coverage, and seeds


@pytest.mark.slow
def test_over_ten_bases_students_t_covers_93_to_97_percent() -> None:
    """With the components of the shipped lines, for every declared contrast that they hold."""
    rows = [row for name in ("confirm", "return", "dealt") for row in read_rows(EXPERIMENT / f"{name}.jsonl")]
    five = (*CONTRASTS, *WISE_FT_CONTRASTS)
    shipped = [pair for pair in TEN_CONTRASTS if pair in (*five, *CONTROL_CONTRASTS, GATES["both"])]
    assert len(shipped) == 6
    for pair in shipped:
        seeds = CONFIRM.seeds if pair in five else PREFERENCE_CONTROLS.seeds
        difference_BSE = differences(rows, *pair, BASES, seeds, "mini")
        found = coverage(components(difference_BSE), (10, 2, 400), {"t": student_t})["t"]
        assert 0.93 <= found.general <= 0.97, pair
        assert 0.93 <= found.these_examples <= 0.97, pair


def test_coverage_is_given_by_contrast_and_design(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr("sdsdemo.mini.experiments.interval_coverage.SIMULATIONS", 20)
    differing = {("preference", "clip"): rng.choice([-1.0, 0.0, 1.0], (3, 5, 40))}
    first, again = coverage_findings(differing, "confirm"), coverage_findings(differing, "confirm")
    assert first == again
    (row,) = first["rows"]
    assert set(row["three"]) == {"resampled", "t"}
    assert set(row["ten"]) == {"t", "within"}
    assert 90 < 100 * row["ten"]["t"]["these_examples"] < 99
    text = ten_words.coverage_markdown(first)
    assert "10 bases x 2 seeds: t" in text
    assert f"{100 * row['ten']['t']['these_examples']:.1f})" in text
    assert text.startswith("Components of the confirmation:")
    assert text.endswith("it is not an interval for bases in general.")


def test_the_ten_bases_give_the_components_once_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "coverage_findings", lambda difference, study: asked.append(study) or {})
    module.coverage_of(BASE_ROWS, {"confirm": confirmed({})})
    module.coverage_of(BASE_ROWS, {"confirm": confirmed({}), TEN: lines()[:-1]})
    module.coverage_of(BASE_ROWS, {"confirm": confirmed({}), TEN: lines()})
    assert asked == ["confirm", "confirm", TEN]
    assert module.coverage_of(BASE_ROWS, {"confirm": confirmed({})[:-1]}) == {}


def test_noise_of_seeds_is_their_standard_deviation_within_a_base() -> None:
    """Bases that differ add nothing. Seeds at 30 and 40 % on each base: 7.1 points; over 40 examples 7.4."""
    rows = [
        line(cell, base, seed, round(0.3 + 0.1 * (seed % 2) + 0.2 * b, 2))
        for cell in CONFIRM.cells
        for b, base in enumerate(CONFIRM.bases)
        for seed in (0, 1)
    ]
    study = replace(CONFIRM, seeds=(0, 1))
    found = {row["what"]: row for row in seed_noise({"confirm": (study, rows)}, BASE_ROWS)}
    assert found["clip"]["metrics"]["text"]["seeds"] == pytest.approx(0.0707, abs=1e-4)
    assert found["clip"]["metrics"]["text"]["mean"] == pytest.approx(0.55)
    assert 0.07 < found["clip"]["metrics"]["text"]["examples"] < 0.08
    assert found["preference, every parameter"]["shipped"] == "mini-preference-clip"
    assert (found["a base"]["shipped"], found["a base"]["seeds"]) == ("mini-clip", 10)
    assert found["a base"]["metrics"]["text"]["seeds"] == 0.0
    grid = ten_words.noise_grid(list(found.values()))
    assert grid[1][:3] == ["a base", "mini-clip", "10"]
    assert next(row for row in grid if row[0] == "clip")[2:4] == ["3 x 2", "7.1 (7.4)"]
    assert seed_noise({"confirm": (study, [])}, []) == []
