"""Lists and counts in sentences, and the one smoothing of a loss, which the page and the command line share."""

from __future__ import annotations

import pytest

from sdsdemo.app.job_states import extended
from sdsdemo.core.wording import and_list, count_of
from sdsdemo.finetuning.events import smoothed


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_a_list_is_said_as_one_says_it(names: list[str], said: str) -> None:
    assert and_list(names) == said


def test_a_count_has_the_number_of_its_word() -> None:
    assert [count_of(1, "base"), count_of(0, "base"), count_of(1200, "process", "processes")] == [
        "1 base", "0 bases", "1,200 processes",
    ]  # fmt: skip


def test_a_job_s_curve_is_smoothed_as_the_command_line_smooths() -> None:
    points = extended((), 1, {"loss": 2.0})
    assert [point.smoothed for point in extended(points, 2, {"loss": 1.0})] == [2.0, smoothed(2.0, 1.0)]
    assert smoothed(2.0, 1.0) == pytest.approx(1.9)
