"""Encoded prompts, and the tokens of captions, are kept as long as memory allows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sdsdemo.models import conditions
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.families import load_diffusion
from sdsdemo.models.tokenizer_checks import BYTES_PER_TOKEN, MOST_BYTES, rows_kept
from tests import twins


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


@pytest.mark.parametrize(("tokens", "captions"), [(77, 20_000), (512, 3_125), (10**9, 1)])
def test_the_tokens_that_are_remembered_take_64_mb_at_most(tokens: int, captions: int) -> None:
    row = tuple(range(1_000, 1_000 + min(tokens, 512)))
    a_token = (sys.getsizeof(row) + sum(map(sys.getsizeof, row))) / len(row)
    assert rows_kept(tokens) == captions
    assert captions == 1 or captions * tokens * a_token <= MOST_BYTES


def test_a_pipeline_with_long_prompts_remembers_fewer_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_diffusion(f"diffusers:{twins.mini_folder(tmp_path / 'mini')}")
    assert model._row_of.cache_info().maxsize == 20_000
    monkeypatch.setattr("sdsdemo.models.tokenizer_checks.MOST_BYTES", 2 * BYTES_PER_TOKEN * sum(model.context_lengths))
    short = load_diffusion(f"diffusers:{tmp_path / 'mini'}")
    for caption in ("a red star", "a blue star", "a red circle"):
        short.token_ids(caption)
    assert short._row_of.cache_info().currsize == 2
