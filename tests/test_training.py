"""The training engine: exact resumption, the moving average, and what happens when a loss is not a number."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sdsdemo.training import Course, Failed, Finished, Kept, Step, train

COURSE = Course(steps=20, learning_rate=1e-2, warm_up=3)
COSINE = Course(steps=100, learning_rate=1.0, warm_up=10)
LATE = Course(steps=100, learning_rate=1.0, warm_up=10, decay="late")


def fresh() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def regression(module: nn.Module):
    """A new batch each step, drawn from the step alone."""

    def losses_at(step: int) -> Mapping[str, Tensor]:
        x_BD = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {"loss": (module(x_BD) - x_BD.sum(1, keepdim=True)).square().mean(), "size": torch.tensor(8.0)}

    return losses_at


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_that_was_stopped_and_continued_equals_one_that_was_not(tmp_path: Path, ema: float | None) -> None:
    course = Course(steps=20, learning_rate=1e-2, warm_up=3, ema=ema)
    straight, stopped, continued = fresh(), fresh(), fresh()
    list(train(straight, regression(straight), course))
    run = train(stopped, regression(stopped), course, keep=tmp_path / "a.run", keep_every=12)
    while not isinstance(next(run), Kept):
        pass
    run.close()
    events = list(train(continued, regression(continued), course, keep=tmp_path / "a.run"))
    assert [event.step for event in events if isinstance(event, Step)] == list(range(13, 21))
    assert torch.equal(weights(straight), weights(continued))


def test_training_lowers_the_loss_and_ends_with_finished() -> None:
    module = fresh()
    events = list(train(module, regression(module), Course(steps=200, learning_rate=3e-2)))
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].losses["loss"] < 0.1 * steps[0].losses["loss"]
    assert isinstance(events[-1], Finished)
    assert all(a.seconds <= b.seconds for a, b in pairwise(steps))


def test_a_loss_that_is_not_a_number_stops_the_run_with_the_last_good_weights() -> None:
    module, reference = fresh(), fresh()
    losses = regression(module)

    def spoiled(step: int) -> Mapping[str, Tensor]:
        return {"loss": losses(step)["loss"] * (float("nan") if step == 5 else 1.0)}

    events = list(train(module, spoiled, COURSE))
    run = train(reference, regression(reference), COURSE)
    for _ in range(5):
        next(run)
    assert isinstance(events[-1], Failed)
    assert "lower learning rate" in events[-1].reason
    assert torch.equal(weights(module), weights(reference))


def test_only_parameters_that_require_a_gradient_move() -> None:
    module = fresh()
    module.bias.requires_grad_(False)
    before = module.bias.detach().clone()
    list(train(module, regression(module), COURSE))
    assert torch.equal(module.bias, before)


def test_the_moving_average_is_what_is_left_and_lags_behind_the_weights() -> None:
    plain, averaged = fresh(), fresh()
    start = weights(plain)
    list(train(plain, regression(plain), COURSE))
    list(train(averaged, regression(averaged), Course(steps=20, learning_rate=1e-2, warm_up=3, ema=0.999)))
    assert 0 < (weights(averaged) - start).norm() < (weights(plain) - start).norm()


@pytest.mark.parametrize("course", [COSINE, LATE])
def test_the_rate_rises_over_the_warm_up_and_falls_to_nearly_nothing(course: Course) -> None:
    rates = [course.rate(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) <= 1.0
    assert rates[99] < 0.15
