"""The training engine: exact resumption, the moving average, and what happens when a loss is not a number."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdsdemo.finetuning.checkpoints import CheckpointError
from sdsdemo.finetuning.events import Step
from sdsdemo.finetuning.loop import (
    SAVING_SHARE,
    CheckpointSaved,
    Failed,
    Finished,
    Stopped,
    TrainingConfig,
    _Clock,
    train,
)

CONFIG = TrainingConfig(steps=20, learning_rate=1e-2, warm_up=3)
COSINE = TrainingConfig(steps=100, learning_rate=1.0, warm_up=10)
LATE = TrainingConfig(steps=100, learning_rate=1.0, warm_up=10, decay="late")


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
    config = TrainingConfig(steps=20, learning_rate=1e-2, warm_up=3, ema=ema)
    straight, stopped, continued = fresh(), fresh(), fresh()
    list(train(straight, regression(straight), config))
    run = train(stopped, regression(stopped), config, keep=tmp_path / "a.run", keep_every=12)
    while not isinstance(next(run), CheckpointSaved):
        pass
    run.close()
    events = list(train(continued, regression(continued), config, keep=tmp_path / "a.run"))
    assert [event.step for event in events if isinstance(event, Step)] == list(range(13, 21))
    assert torch.equal(weights(straight), weights(continued))


def test_training_lowers_the_loss_and_ends_with_finished() -> None:
    module = fresh()
    events = list(train(module, regression(module), TrainingConfig(steps=200, learning_rate=3e-2)))
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].losses["loss"] < 0.1 * steps[0].losses["loss"]
    assert isinstance(events[-1], Finished)
    assert all(a.seconds <= b.seconds for a, b in pairwise(steps))


def test_a_nan_loss_stops_the_run_with_the_last_good_weights() -> None:
    module, reference = fresh(), fresh()
    losses = regression(module)

    def spoiled(step: int) -> Mapping[str, Tensor]:
        return {"loss": losses(step)["loss"] * (float("nan") if step == 5 else 1.0)}

    events = list(train(module, spoiled, CONFIG))
    run = train(reference, regression(reference), CONFIG)
    for _ in range(5):
        next(run)
    assert isinstance(events[-1], Failed)
    assert "lower learning rate" in events[-1].reason
    assert torch.equal(weights(module), weights(reference))


def test_only_parameters_that_require_a_gradient_move() -> None:
    module = fresh()
    module.bias.requires_grad_(False)
    before = module.bias.detach().clone()
    list(train(module, regression(module), CONFIG))
    assert torch.equal(module.bias, before)


def test_the_moving_average_is_what_is_left_and_lags_behind_the_weights() -> None:
    plain, averaged = fresh(), fresh()
    start = weights(plain)
    list(train(plain, regression(plain), CONFIG))
    list(train(averaged, regression(averaged), TrainingConfig(steps=20, learning_rate=1e-2, warm_up=3, ema=0.999)))
    assert 0 < (weights(averaged) - start).norm() < (weights(plain) - start).norm()


@pytest.mark.parametrize("config", [COSINE, LATE])
def test_the_rate_rises_over_the_warm_up_and_falls_to_nearly_nothing(config: TrainingConfig) -> None:
    rates = [config.rate(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) <= 1.0
    assert rates[99] < 0.15


ODD = (None, 3, -1, "x", [], {}, float("nan"), 10**30, True, torch.zeros(2), torch.zeros(1, 4, dtype=torch.float64))


def reshaped(value: Any, draw: random.Random) -> Any:
    """The same data with one part of it missing, added or replaced by something else."""
    if not isinstance(value, dict) or not value or draw.random() < 0.2:
        return draw.choice(ODD)
    value, key = dict(value), draw.choice(list(value))
    deed = draw.random()
    if deed < 0.2:
        del value[key]
    elif deed < 0.3:
        value[draw.choice(["z", 9])] = draw.choice(ODD)
    else:
        value[key] = reshaped(value[key], draw)
    return value


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut, or with some bytes changed."""
    if draw.random() < 0.4:
        return content[: draw.randrange(len(content))]
    found = bytearray(content)
    for _ in range(draw.choice([1, 3, 30])):
        found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


@pytest.mark.slow
def test_a_damaged_or_reshaped_checkpoint_is_used_or_refused(tmp_path: Path) -> None:
    config, path, draw = TrainingConfig(steps=3, learning_rate=1e-2, ema=0.9), tmp_path / "a.run", random.Random(0)
    module = fresh()
    list(train(module, regression(module), config, keep=path))
    content, state, refused = path.read_bytes(), torch.load(path, weights_only=True), 0
    for number in range(600):
        if number % 2:
            path.write_bytes(damaged(content, draw))
        else:
            torch.save(reshaped(state, draw), path)
        other = fresh()
        try:
            *_, last = train(other, regression(other), config, keep=path)
            assert last == Finished(step=3)
        except CheckpointError:
            refused += 1
            assert torch.equal(weights(other), weights(fresh()))
    assert 400 < refused < 600


@pytest.mark.parametrize(
    "changes", [{"betas": (0.0, 0.0)}, {"lr": float("nan")}, {"params": [1, 0]}, {"weight_decay": 9.0}]
)
def test_the_course_is_the_run_s_and_not_the_checkpoint_s(tmp_path: Path, changes: dict[str, Any]) -> None:
    straight, stopped = fresh(), fresh()
    list(train(straight, regression(straight), CONFIG))
    run = train(stopped, regression(stopped), CONFIG, keep=tmp_path / "a.run", keep_every=12)
    while not isinstance(next(run), CheckpointSaved):
        pass
    run.close()
    state = torch.load(tmp_path / "a.run", weights_only=True)
    state["optimiser"]["param_groups"][0] |= changes
    torch.save(state, tmp_path / "a.run")
    continued = fresh()
    list(train(continued, regression(continued), CONFIG, keep=tmp_path / "a.run"))
    assert torch.equal(weights(straight), weights(continued))


def test_a_checkpoint_is_written_by_the_clock_too_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdsdemo.finetuning.loop.SAVING_SHARE", 1e9)
    often, plain = fresh(), fresh()
    run = train(often, regression(often), CONFIG, keep=tmp_path / "a.run", keep_every=1000, keep_seconds=0.0)
    kept = [event.step for event in run if isinstance(event, CheckpointSaved)]
    list(train(plain, regression(plain), CONFIG))
    assert kept == list(range(1, 21))
    assert torch.equal(weights(often), weights(plain))


def test_checkpoints_by_the_clock_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sdsdemo.finetuning.loop.time.monotonic", lambda: now[0])
    clock, saved = _Clock(10.0), 0.0
    while now[0] < 3600:
        now[0] += 1.0
        if clock.is_due():
            with clock.saving():
                now[0] += 4.0
                saved += 4.0
    assert 0 < saved / now[0] <= SAVING_SHARE


def test_a_run_is_a_plain_loop_of_adamw() -> None:
    """The rate of each step, the clipped gradient, weight decay and the moving average, written out."""
    config = TrainingConfig(steps=20, learning_rate=0.05, warm_up=5, weight_decay=0.5, clip_norm=0.3, ema=0.8)
    module, plain = fresh(), fresh()
    list(train(module, regression(module), config))
    losses, parameters = regression(plain), list(plain.parameters())
    optimiser = torch.optim.AdamW(parameters, weight_decay=0.5, betas=(0.9, 0.98))
    average = weights(plain)
    for step in range(20):
        optimiser.zero_grad()
        losses(step)["loss"].backward()
        norm = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
        for p in parameters:
            p.grad = None if p.grad is None else p.grad * min(1.0, 0.3 / float(norm))
        optimiser.param_groups[0]["lr"] = 0.05 * min(1.0, (step + 1) / 5) * (1 + math.cos(math.pi * step / 20)) / 2
        optimiser.step()
        kept = min(0.8, (step + 1) / (step + 11))
        average = kept * average + (1 - kept) * weights(plain)
    torch.testing.assert_close(weights(module), average, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decays_gains", [True, False])
def test_weight_decay_can_leave_gains_and_biases_out(decays_gains: bool) -> None:
    groups = [nn.Linear(4, 4), nn.Linear(4, 4)]
    groups[1].load_state_dict(groups[0].state_dict())
    config = TrainingConfig(steps=5, learning_rate=0.05, warm_up=1, weight_decay=0.5, decays_gains=decays_gains)
    list(train(groups[0], lambda step: {"loss": groups[0](torch.ones(2, 4)).square().mean()}, config))
    weight, bias = groups[1].parameters()
    of_bias = 0.5 if decays_gains else 0.0
    plain = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": 0.5}, {"params": [bias], "weight_decay": of_bias}], betas=(0.9, 0.98)
    )
    for step in range(5):
        plain.zero_grad()
        groups[1](torch.ones(2, 4)).square().mean().backward()
        nn.utils.clip_grad_norm_([weight, bias], config.clip_norm)
        for group in plain.param_groups:
            group["lr"] = config.rate(step)
        plain.step()
    for ours, theirs in zip(groups[0].parameters(), (weight, bias), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_stop_between_micro_batches_discards_the_step() -> None:
    module, before = fresh(), weights(fresh())
    made: list[int] = []

    def losses_at(step: int) -> Iterator[Mapping[str, Tensor]]:
        for part in range(3):
            made.append(part)
            yield {"loss": regression(module)(step)["loss"] / 3}

    events = list(train(module, losses_at, CONFIG, stop=lambda: len(made) == 2))
    assert events == [Stopped(step=0)]
    assert made == [0, 1]
    assert torch.equal(weights(module), before)


def test_a_gradient_that_is_no_number_keeps_the_last_good_weights() -> None:
    module, before = fresh(), weights(fresh())
    (event,) = train(module, lambda step: {"loss": (0 * module.weight).sum().sqrt()}, CONFIG)
    assert isinstance(event, Failed)
    assert event.reason.startswith("The gradient of step 1 is not a number. Try a lower learning rate")
    assert torch.equal(weights(module), before)


def test_a_step_multiplies_in_single_precision_and_leaves_the_setting() -> None:
    """Backward too: torch's TF32 is a setting of the process."""
    seen = []

    def losses_at(step: int) -> Mapping[str, Tensor]:
        weight = next(module.parameters())
        weight.register_hook(lambda gradient: seen.append(torch.backends.cudnn.allow_tf32))
        seen.append(torch.backends.cudnn.allow_tf32)
        return {"loss": weight.square().sum()}

    module, before = fresh(), torch.backends.cudnn.allow_tf32
    list(train(module, losses_at, TrainingConfig(steps=1, learning_rate=1e-2, warm_up=0)))
    assert (seen, before, torch.backends.cudnn.allow_tf32) == ([False, False], True, True)
