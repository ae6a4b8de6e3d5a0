"""Captions that come twice in a batch: right for each other's images, in one batch or cut."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdsdemo.core.losses import clip_loss, negatives_loss
from sdsdemo.finetuning.objectives import Batch
from tests.finetuning.tiny_teacher import WHOLE, Drawn, objective, student


def unit(*shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(3)), dim=1)


def test_distinct_captions_give_the_loss_of_before_to_the_bit() -> None:
    image_BD, text_BD, twin_BD = unit(18, 8).chunk(3)
    number_B = torch.tensor([4, 0, 3, 9, 1, 7])
    assert torch.equal(clip_loss(image_BD, text_BD, 7.0, number_B), clip_loss(image_BD, text_BD, 7.0))
    found = negatives_loss(image_BD, text_BD, twin_BD, 7.0, number_B, number_B + 20)
    assert torch.equal(found, negatives_loss(image_BD, text_BD, twin_BD, 7.0))


def test_equal_captions_are_right_for_each_others_images() -> None:
    image_BD, number_B = unit(6, 8), torch.tensor([0, 1, 0, 0, 1, 2])
    text_BD = unit(3, 8)[number_B]
    log_BB = (7 * image_BD @ text_BD.T).log_softmax(1), (7 * text_BD @ image_BD.T).log_softmax(1)
    by_hand = [
        -math.log(sum(math.exp(log[b, c]) for c in range(6) if number_B[c] == number_B[b]))
        for log in log_BB
        for b in range(6)
    ]
    assert float(clip_loss(image_BD, text_BD, 7.0, number_B)) == pytest.approx(sum(by_hand) / 12, rel=1e-5)


def test_the_order_of_equal_captions_changes_nothing() -> None:
    image_BD, number_B = unit(6, 8), torch.tensor([0, 1, 0, 0, 1, 2])
    text_BD, turned_B = unit(3, 8)[number_B], torch.tensor([2, 4, 3, 0, 1, 5])
    assert torch.equal(number_B[turned_B], number_B)
    losses = [float(clip_loss(images, text_BD, 7.0, number_B)) for images in (image_BD, image_BD[turned_B])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_twin_that_is_another_rows_caption_is_no_wrong_choice_for_it() -> None:
    image_BD, text_BD = unit(3, 8), unit(9, 8)[3:6]
    twin_BD, number_B, twin_B = text_BD.roll(1, 0), torch.arange(3), torch.tensor([2, 0, 1])
    logit_BB = 7 * image_BD @ text_BD.T
    by_image = nn.functional.cross_entropy(logit_BB, torch.arange(3))
    by_text = nn.functional.cross_entropy(logit_BB.T, torch.arange(3))
    found = negatives_loss(image_BD, text_BD, twin_BD, 7.0, number_B, twin_B)
    torch.testing.assert_close(found, (by_image + by_text) / 2)


class Repeated(Drawn):
    """The captions of a step come twice each, and are numbered or not."""

    def __init__(self, numbered: bool) -> None:
        self.numbered = numbered

    def rows(self, step: int, rows: slice) -> Batch:
        whole = super().rows(step, WHOLE)
        pick_B = torch.arange(self.size) // 2
        words = {name: getattr(whole, name)[pick_B][rows] for name in ("token_RL", "twin_token_RL")}
        numbers = {"caption_B": pick_B, "twin_B": pick_B + self.size} if self.numbered else {}
        return replace(super().rows(step, rows), **words, **numbers)


@pytest.mark.parametrize("name", ["clip", "negatives", "sds"])
def test_equal_captions_are_found_across_micro_batches(name: Any) -> None:
    def value(numbered: bool, parts: int) -> float:
        found = objective(student(), name, Repeated(numbered), parts=parts)(1)
        return sum(float(losses["loss"].detach()) for losses in found)

    values = {(numbered, parts): value(numbered, parts) for numbered in (True, False) for parts in (1, 3)}
    assert values[True, 1] == pytest.approx(values[True, 3], abs=1e-5)
    assert values[True, 1] != pytest.approx(values[False, 1], abs=1e-4)


def test_two_captions_of_many_images_can_be_learned_to_the_end() -> None:
    number_B = torch.arange(8) % 2
    same_BD = torch.eye(4)[number_B]
    assert float(clip_loss(same_BD, same_BD, 100.0, number_B)) < 1e-6
    assert float(clip_loss(same_BD, same_BD, 100.0)) == pytest.approx(math.log(4))
