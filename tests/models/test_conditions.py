"""Encoded prompts are kept as long as memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from sdsdemo.models import conditions
from sdsdemo.models.diffusion import LatentDiffusion


class Counting(LatentDiffusion):
    """Encodes a prompt as its length, in two tensors of 40 bytes, and counts the prompts."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        self.encoded += len(prompts)
        rows = torch.tensor([[float(len(prompt))] * 10 for prompt in prompts])
        return rows, rows


def ask(found: conditions.Conditions, *prompts: str) -> list[float]:
    rows, _ = found.of({tuple(prompt.encode()): prompt for prompt in prompts})
    return [float(row[0]) for row in rows]


@pytest.mark.parametrize(("limit", "encoded"), [(1_000, 3), (160, 4), (0, 4)])
def test_a_prompt_is_encoded_again_only_where_memory_was_short(
    limit: int, encoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "MOST_BYTES", limit)
    model = Counting()
    found = conditions.Conditions(model)
    for prompt in ("a", "bb", "ccc", "a"):
        assert ask(found, prompt) == [len(prompt)]
    assert model.encoded == encoded


def test_the_prompts_of_one_question_are_all_there_whatever_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "MOST_BYTES", 1)
    assert ask(conditions.Conditions(Counting()), "a", "bb", "ccc") == [1, 2, 3]
