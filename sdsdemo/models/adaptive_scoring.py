"""Scores that spend no more noise than their captions need: rounds over the whole grid, until one caption remains.

Shape suffixes: P pair of image and prompt, T timestep, N noise draw, E evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sdsdemo.core.adaptive import looks_within, remaining

SoFar = Callable[[np.ndarray, np.ndarray], None]
"""Called with loss_PTN and rounds_P."""


def adaptive_losses(
    losses_at: Callable[[np.ndarray], np.ndarray],
    contests: Sequence[Sequence[int]],
    shape: tuple[int, int, int],
    so_far: SoFar | None = None,
    at_once: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """(loss_PTN, rounds_P): losses as far as they were computed, NaN beyond, and the draws a timestep of each pair.

    losses_at: loss_E at flat places of `shape`, [P, T, N]. contests: the pairs of each image, which are decided among
    themselves; a pair that falls behind for good gets no more rounds, and the last one of a contest none either.
    so_far: called now and then, between looks too, which decides nothing. at_once: evaluations that make a full batch.
    """
    loss_PTN = np.full(shape, np.nan, dtype=np.float32)
    rounds_P = np.zeros(shape[0], dtype=np.int64)
    place_PTN = np.arange(loss_PTN.size, dtype=np.int64).reshape(shape)
    open_contests = [list(contest) for contest in contests]
    before = 0
    for rounds in looks_within(shape[2]):
        asked = sorted(pair for contest in open_contests for pair in contest)
        if not asked:
            break
        step = at_once // (len(asked) * shape[1]) if so_far else shape[2]
        for until in _stops(before, rounds, step):
            place_E = place_PTN[asked, :, before:until].reshape(-1)
            loss_PTN.reshape(-1)[place_E] = losses_at(place_E)
            rounds_P[asked] = before = until
            if so_far and until < shape[2]:
                so_far(loss_PTN, rounds_P)
        left = [[contest[k] for k in remaining(loss_PTN[contest, :, :rounds])] for contest in open_contests]
        open_contests = [contest for contest in left if len(contest) > 1]
    return loss_PTN, rounds_P


def _stops(before: int, rounds: int, step: int) -> Iterator[int]:
    """The rounds from one look to the next, about `step` at a time and never half a pair."""
    yield from range(before + max(2, step // 2 * 2), rounds, max(2, step // 2 * 2))
    yield rounds
