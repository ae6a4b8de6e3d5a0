"""Effects on bases in general: Student's t against scipy's; components by hand; what intervals cover, simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sdsdemo.core.bases import Components, components, coverage, general_effect, over_bases
from sdsdemo.core.bootstrap import nested_effect
from sdsdemo.core.intervals import student_t_p

NOTHING = {"base": 0.0, "seed": 0.0, "example": 0.0, "both": 0.0, "rest": 0.0}
TEN = (10, 2, 40)


def student(difference_BSE: np.ndarray) -> tuple[float, float]:
    effect = general_effect(difference_BSE)
    return effect.low, effect.high


@pytest.mark.parametrize("bases", [2, 3, 10])
def test_the_interval_is_students_t_on_the_means_of_the_bases(bases: int) -> None:
    difference_BSE = np.random.default_rng(bases).normal(0.1, 1.0, (bases, 2, 30))
    found, mean_B = general_effect(difference_BSE), difference_BSE.mean((1, 2))
    theirs = stats.ttest_1samp(mean_B, 0.0)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.value, found.by_base) == (pytest.approx(mean_B.mean()), pytest.approx(mean_B))


@pytest.mark.parametrize(("bases", "reach"), [(2, 12.7062), (3, 4.3027), (10, 2.2622)])
def test_degrees_of_freedom_follow_the_number_of_bases_alone(bases: int, reach: float) -> None:
    """More seeds and examples make no more bases."""
    for seeds, examples in ((1, 1), (5, 400)):
        difference_BSE = np.broadcast_to(np.arange(bases)[:, None, None], (bases, seeds, examples))
        found = general_effect(difference_BSE)
        assert found.dof == bases - 1
        error = np.arange(bases).std(ddof=1) / np.sqrt(bases)
        assert (found.high - found.value) / error == pytest.approx(reach, abs=1e-4)


def test_bases_that_agree_exactly_leave_no_doubt_and_no_effect_is_none() -> None:
    assert general_effect(np.ones((3, 2, 4))).p == 0.0
    assert general_effect(-np.ones((3, 2, 4))).p == 0.0
    assert general_effect(np.zeros((3, 2, 4))).p == 1.0


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 4), (0, 2, 3)])
def test_one_base_alone_and_other_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs at least two|must have bases, seeds and examples"):
        general_effect(np.zeros(shape))
    with pytest.raises(ValueError, match="must have"):
        components(np.zeros(shape))


def test_two_sided_p_is_by_the_table_of_student() -> None:
    assert student_t_p(2.2622, 9) == pytest.approx(0.05, abs=1e-4)
    assert student_t_p(-2.2622, 9) == student_t_p(2.2622, 9)
    with pytest.raises(ValueError, match="dof must be at least 1"):
        student_t_p(1.0, 0)


@pytest.mark.parametrize(
    ("of", "difference", "variance"),
    [
        ("base", np.array([0.0, 1.0, 2.0])[:, None, None], 1.0),
        ("seed", np.array([1.0, -1.0])[None, :, None], 2.0),
        ("example", np.array([0.0, 0.0, 3.0])[None, None, :], 3.0),
        ("both", np.array([[1.0, -1.0], [-1.0, 1.0]])[:, None, :], 4.0),
    ],
)
def test_a_difference_of_one_kind_is_a_component_of_that_kind(of: str, difference: np.ndarray, variance: float) -> None:
    """Variances by hand; an axis of one value is repeated twice."""
    shape = tuple(size if size > 1 else 2 for size in difference.shape)
    found = components(np.broadcast_to(difference, shape))
    assert vars(found) == pytest.approx({**NOTHING, of: variance})


def test_one_base_that_is_moved_on_one_example_is_no_effect_of_either() -> None:
    """MS_E = MS_B = MS_BE = 1/2, by hand."""
    difference_BSE = np.broadcast_to(np.array([[1.0, 0.0], [0.0, 0.0]])[:, None, :], (2, 2, 2))
    assert vars(components(difference_BSE)) == pytest.approx(NOTHING | {"both": 0.25})


def test_the_components_of_a_large_experiment_are_found_again() -> None:
    rng = np.random.default_rng(0)
    b, s, e, be, r = (
        size * rng.standard_normal(shape)
        for size, shape in zip(
            (0.5, 0.3, 0.4, 0.6, 1.0), ((90, 1, 1), (90, 3, 1), (1, 1, 300), (90, 1, 300), (90, 3, 300)), strict=True
        )
    )
    found = components(b + s + e + be + r)
    expected = {"base": 0.25, "seed": 0.09, "example": 0.16, "both": 0.36, "rest": 1.0}
    assert vars(found) == pytest.approx(expected, rel=0.4)


def test_simulated_coverage_is_the_same_each_time() -> None:
    of = Components(base=0.01, seed=0.01, example=0.05, both=0.05, rest=0.1)
    first, again = (coverage(of, TEN, {"t": student}, simulations=50) for _ in range(2))
    assert first == again
    assert coverage(of, TEN, {"t": student}, simulations=50, seed=1) != first


def test_students_t_covers_what_it_promises_on_these_examples() -> None:
    """All bases share the examples, so what an example does to all of them is no doubt that the interval has."""
    calm = Components(**(NOTHING | {"base": 0.01, "seed": 0.005, "both": 0.1, "rest": 0.1}))
    found = coverage(calm, TEN, {"t": student}, simulations=1_000)["t"]
    assert found.general == found.these_examples == pytest.approx(0.95, abs=0.02)
    wild = Components(**(NOTHING | {"base": 0.01, "example": 0.5}))
    found = coverage(wild, TEN, {"t": student}, simulations=1_000)["t"]
    assert found.these_examples == pytest.approx(0.95, abs=0.02)
    assert found.general < 0.7


@pytest.mark.parametrize(("share", "least", "most"), [(0.1, 0.68, 0.76), (0.2, 0.86, 0.91), (1 / 3, 0.9, 0.95)])
def test_a_base_in_ten_that_hardly_moves_is_beyond_students_t(share: float, least: float, most: float) -> None:
    """Of ten bases, some gain 10 points less than the others, which differ by one."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(2_000):
        low, high = over_bases(rng.standard_normal(10) - 10 * (rng.random(10) < share))
        held += low <= -10 * share <= high
    assert least < held / 2_000 < most


def test_an_interval_of_half_the_width_is_found_out() -> None:
    of = Components(**(NOTHING | {"base": 0.01, "rest": 0.1}))

    def half(difference_BSE: np.ndarray) -> tuple[float, float]:
        effect = general_effect(difference_BSE)
        return (effect.low + effect.value) / 2, (effect.high + effect.value) / 2

    found = coverage(of, TEN, {"t": student, "half": half}, simulations=500)
    assert found["t"].general > 0.93
    assert found["half"].general < 0.8


def test_the_interval_within_bases_holds_for_these_and_not_in_general() -> None:
    of = Components(**(NOTHING | {"base": 0.05, "seed": 0.002, "rest": 0.1}))

    def within(difference_BSE: np.ndarray) -> tuple[float, float]:
        effect = nested_effect(difference_BSE, 300, within=True)
        return effect.low, effect.high

    found = coverage(of, (4, 6, 60), {"within": within}, simulations=200)["within"]
    assert found.these_bases > 0.85
    assert found.general < 0.5


def test_bases_are_not_resampled_within_bases() -> None:
    """Bases that differ and nothing else: no doubt within them, much in general."""
    difference_BSE = np.broadcast_to(np.array([0.0, 0.5, 1.0])[:, None, None], (3, 4, 5))
    inside, nested = nested_effect(difference_BSE, 200, within=True), nested_effect(difference_BSE, 200)
    assert inside.low == inside.high == inside.value == 0.5
    assert nested.high - nested.low > 0.5
    assert over_bases(nested.by_base)[0] < 0
