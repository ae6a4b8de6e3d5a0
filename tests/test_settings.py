"""The settings of a question: what is left out has its default, and what cannot be is refused in a sentence."""

from __future__ import annotations

import pytest

from sdsdemo.errors import UserError
from sdsdemo.settings import NOISES, budget


@pytest.mark.parametrize("noises", range(NOISES.low, NOISES.high + 1))
def test_noise_comes_in_pairs_from_two_of_them_on(noises: int) -> None:
    """A single pair has no standard error, and an odd number no pairs."""
    assert budget(noises=noises).antithetic == (noises in {4, 6, 8, 10, 12, 14, 16})


def test_the_default_is_pairs() -> None:
    assert budget().antithetic


def test_plain_noise_and_a_single_pair_are_given_where_asked_for() -> None:
    assert not budget(noises=4, antithetic=False).antithetic
    assert budget(noises=2, antithetic=True).antithetic


def test_pairs_of_an_odd_number_are_refused() -> None:
    with pytest.raises(UserError, match="set an even number of noise draws; it was 3"):
        budget(noises=3, antithetic=True)


def test_stopping_early_on_plain_noise_is_refused() -> None:
    assert budget(noises=2, adaptive=True).antithetic
    with pytest.raises(UserError, match="--no-antithetic"):
        budget(noises=4, adaptive=True, antithetic=False)
