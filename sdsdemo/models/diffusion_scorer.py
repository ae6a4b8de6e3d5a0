"""The denoising diffusion score of images and captions, for any latent diffusion model. Knows no file and no diffusers.

    d(i, c) = mean over (t, eps) of e(z, t, eps, c),   z = (VAE mean(i) - shift) * scale          score = -d

with e of `sdsdemo.core.losses`, the only place that computes it. Every image and caption meets the same (t, eps), so
that what is compared is a paired difference. Li et al. 2023 (arXiv 2303.16203); Basu et al. 2023 (arXiv 2307.09233).

Shape suffixes: I image, C caption, U caption with equal ones once, P pair of both, T timestep, N noise draw, B batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from sdsdemo.core.losses import denoising_residual, error_of
from sdsdemo.errors import UserError
from sdsdemo.models.adaptive_scoring import adaptive_losses
from sdsdemo.models.batching import parts_of
from sdsdemo.models.conditions import Conditions, Row
from sdsdemo.models.denoised import Kept, show
from sdsdemo.models.denoising_scores import denoising_scores
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.domain import Domain
from sdsdemo.models.drawing import draw
from sdsdemo.models.images import clean, fit
from sdsdemo.models.memory import give_back, is_out_of_memory, no_room
from sdsdemo.models.noise_grid import draw_noise, evaluation_order, in_place, spread_timesteps
from sdsdemo.models.precision import exactly
from sdsdemo.models.scorer_base import ScorerBase, check_given
from sdsdemo.types import Budget, Card, Denoised, Example, Region, Scores

log = logging.getLogger(__name__)

Watch = Callable[[Scores], None]
_Asked = tuple[Tensor, Any, Tensor, np.ndarray, Tensor]
"""latent_I, condition_U, pair_P, timestep_T and noise_TN, as `_residuals` takes them."""
FREE_SECONDS = 1.0
"""Decoding that takes no longer is done however short scoring was."""
EXAMPLES_AT_ONCE = 16
"""At most; their pairs are computed together."""


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Where one example's pairs of image and prompt are among all that are computed at once."""

    first: int
    """Its first image among all images."""
    images: int
    unique: list[int]
    """Its prompts among all prompts, equal ones once, in the order of their tokens."""
    column: list[int]
    """For each of its captions, the place in `unique`."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return [(self.first + i, u) for i in range(self.images) for u in self.unique]

    def contests(self, start: int) -> list[range]:
        """The places of each image's pairs among all pairs. start: that of the first one here."""
        width = len(self.unique)
        return [range(start + i * width, start + (i + 1) * width) for i in range(self.images)]


class DiffusionScorer(ScorerBase[LatentDiffusion]):
    """A `types.Scorer`: minus the mean denoising error.

    The noise is drawn once, on the CPU, from the budget's seed, and met by every image and caption. Captions run in the
    order of their tokens and equal ones once: swapping two captions swaps the answer bit for bit.
    """

    def __init__(self, card: Card, model: LatentDiffusion, domain: Domain | None = None) -> None:
        """domain: what a small model knows; None for a model that is taken to know everything."""
        super().__init__(card, model, domain)
        self.micro_batch = model.default_micro_batch()
        """Samples a call; halved for good when memory does not hold them."""

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        """Scores of every image against every caption, with the losses behind them. Raises `ValueError` for none."""
        check_given(images, captions)
        noise_TN = draw_noise(budget, self.model.latent_shape)
        (scores,) = self._score_part([(images, captions)], budget, noise_TN, Conditions(self.model))
        return scores

    def score_and_show(
        self,
        image: Image,
        captions: Sequence[str],
        budget: Budget,
        *,
        most: float,
        watch: Watch | None = None,
        free: float = FREE_SECONDS,
    ) -> tuple[Scores, Denoised]:
        """The scores of `score` and what the denoiser made of the picture; see `types.Denoiser`.

        free: seconds of decoding that are never too many. The scores are those of `score` bit for bit, unless they take
        several calls of the denoiser and are watched: then other samples share a call, and they agree up to rounding.

        The evaluations are those of the scores, and one a timestep more: the first noise draw without a caption.
        """
        budget = replace(budget, empty_prompt=False)
        noise_TN, conditions = draw_noise(budget, self.model.latent_shape), Conditions(self.model)
        kept = Kept(noise_TN.shape[1])
        (scores,) = self._score_part([([image], captions)], budget, noise_TN, conditions, kept, watch)
        start, timestep_T = time.perf_counter(), self._timesteps(budget)
        with exactly(self.model.device):
            (row,) = map(tuple, self.model.tokenize([""]).tolist())
            first = torch.zeros(1, 2, dtype=torch.long)
            condition = self.model.read_ahead(conditions.of({row: ""}))
            asked = (kept.latent_I, condition, first, timestep_T, noise_TN[:, :1])
            empty = self._residuals(*asked, np.arange(len(timestep_T)))
            residual_T = torch.cat(list(empty))
            seconds = max(most * scores.seconds, free)
            denoised = show(self.model, kept, residual_T, timestep_T, noise_TN[:, 0], seconds)
        return scores, replace(denoised, seconds=time.perf_counter() - start)

    def draw(self, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int) -> Iterator[np.ndarray]:
        """What `drawing.draw` yields."""
        yield from draw(self.model, captions, seeds, steps=steps, looks=looks, at_once=self.micro_batch)

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        """Scores example by example, as many at once as fill the micro-batch; all of them meet the same noise.

        A caption that several examples share is encoded once.
        """
        conditions = Conditions(self.model)
        noise_TN = draw_noise(budget, self.model.latent_shape)
        for part in parts_of(
            _fitted(examples, self.model.pixels, self.model.region_of(budget.region)), self._examples_at_once(budget)
        ):
            yield from self._score_part(part, budget, noise_TN, conditions)

    def _examples_at_once(self, budget: Budget) -> int:
        """Two images with two captions each are taken as the usual example."""
        return max(1, min(EXAMPLES_AT_ONCE, 2 * self.micro_batch // (4 * budget.evaluations)))

    def _score_part(
        self,
        items: Sequence[tuple[Sequence[Image], Sequence[str]]],
        budget: Budget,
        noise_TN: Tensor,
        conditions: Conditions,
        kept: Kept | None = None,
        watch: Watch | None = None,
    ) -> list[Scores]:
        """The scores of several (images, captions), each with all of its own images against all of its captions.

        kept: filled with what is behind the scores, if it is given and there is one item of one image. watch: called
        with the scores of every noise draw so far, if there is one item.
        """
        start = time.perf_counter()
        model = self.model
        prompt_of, blocks = self._layout(items, budget)
        timestep_T = self._timesteps(budget)
        pair_P = torch.tensor([pair for block in blocks for pair in block.pairs])
        shape = (len(pair_P), *noise_TN.shape[:2])
        with exactly(model.device):
            latent_I = model.encode_images([image for images, _ in items for image in images], budget.region)
            asked = (latent_I, model.read_ahead(conditions.of(prompt_of)), pair_P, timestep_T, noise_TN)
            rounds_P = None

            def say(loss_PTN: np.ndarray, rounds_P: np.ndarray | None = None) -> None:
                spent = time.perf_counter() - start
                if watch is not None:
                    watch(self._scores_of(blocks, loss_PTN, timestep_T, budget, spent, rounds_P)[0])

            so_far = say if watch is not None else None
            if budget.adaptive:
                losses_at = partial(self._losses_at, asked, kept)
                loss_PTN, rounds_P = adaptive_losses(losses_at, _contests(blocks), shape, so_far, self.micro_batch)
            else:
                loss_PTN = self._all_losses(asked, shape, budget, kept, so_far)
        if kept is not None:
            kept.settle(latent_I, shape[1], blocks[0].column)
        seconds = (time.perf_counter() - start) / len(items)
        return self._scores_of(blocks, loss_PTN, timestep_T, budget, seconds, rounds_P)

    def _all_losses(
        self,
        asked: _Asked,
        shape: tuple[int, int, int],
        budget: Budget,
        kept: Kept | None,
        so_far: Callable[[np.ndarray], None] | None,
    ) -> np.ndarray:
        """loss_PTN of every pair, timestep and draw. so_far: called with the losses of every noise draw so far."""
        is_by_rounds = so_far is not None and int(np.prod(shape)) > self.micro_batch
        order_E = evaluation_order(shape, by_rounds=is_by_rounds)
        residuals = self._residuals(*asked, order_E)
        if kept is not None:
            residuals = kept.keep(residuals, order_E)
        errors: list[Tensor] = []
        done = seen = 0
        together = 2 if budget.antithetic else 1  # half a pair is no draw
        for residual_B in residuals:
            errors.append(error_of(residual_B))
            done += len(residual_B)
            rounds = done // (shape[0] * shape[1]) // together * together
            if so_far is not None and is_by_rounds and seen < rounds < shape[2]:
                seen = rounds
                so_far(in_place(errors, order_E, shape)[..., :rounds])
        return in_place(errors, order_E, shape)

    def _losses_at(self, asked: _Asked, kept: Kept | None, place_E: np.ndarray) -> np.ndarray:
        """loss_E at flat places of pairs x timesteps x noises. asked: what `_residuals` takes before its order."""
        residuals = self._residuals(*asked, place_E)
        if kept is not None:
            residuals = kept.keep(residuals, place_E)
        loss_E: np.ndarray = torch.cat([error_of(found) for found in residuals]).cpu().numpy()
        return loss_E

    def _scores_of(
        self,
        blocks: Sequence[_Block],
        loss_PTN: np.ndarray,
        timestep_T: np.ndarray,
        budget: Budget,
        seconds: float,
        rounds_P: np.ndarray | None = None,
    ) -> list[Scores]:
        """Each item's scores from the losses of all pairs. rounds_P: of adaptive scoring."""
        scores, done = [], 0
        for block in blocks:
            at, grid = slice(done, done + len(block.pairs)), (block.images, len(block.unique))
            done += len(block.pairs)
            loss_IUTN = loss_PTN[at].reshape(*grid, *loss_PTN.shape[1:])
            rounds_IC = None if rounds_P is None else rounds_P[at].reshape(grid)[:, block.column]
            spent = loss_IUTN.size if rounds_P is None else int(rounds_P[at].sum()) * len(timestep_T)
            loss_ICTN = loss_IUTN[:, block.column]
            costs: dict[str, Any] = {"evaluations": spent, "seconds": seconds, "micro_batch": self.micro_batch}
            scores.append(denoising_scores(loss_ICTN, timestep_T, budget, self.model, rounds_IC=rounds_IC, **costs))
        return scores

    def _layout(
        self, items: Sequence[tuple[Sequence[Image], Sequence[str]]], budget: Budget
    ) -> tuple[dict[Row, str], list[_Block]]:
        """All prompts by their tokens, in that order, and where each item's pairs are."""
        prompt_of: dict[Row, str] = {}
        rows = []
        for _, captions in items:
            asked = [*captions, ""] if budget.empty_prompt else list(captions)
            own = [tuple(ids) for ids in self.model.tokenize(asked).tolist()]
            prompt_of.update(zip(own, asked, strict=True))
            rows.append(own)
        position = {row: u for u, row in enumerate(sorted(prompt_of))}
        blocks, first = [], 0
        for (images, _), own in zip(items, rows, strict=True):
            unique = sorted({position[row] for row in own})
            column = [unique.index(position[row]) for row in own]
            blocks.append(_Block(first=first, images=len(images), unique=unique, column=column))
            first += len(images)
        return {row: prompt_of[row] for row in position}, blocks

    def _timesteps(self, budget: Budget) -> np.ndarray:
        """timestep_T, int64: those of the budget's range, or else of the card's."""
        span = budget.timestep_range or self.card.timestep_range
        return spread_timesteps(budget.timesteps, span, self.model.schedule.steps)

    def _residuals(
        self,
        latent_I: Tensor,
        condition_U: Any,
        pair_P: Tensor,
        timestep_T: np.ndarray,
        noise_TN: Tensor,
        order_E: np.ndarray,
    ) -> Iterator[Tensor]:
        """The residuals of pairs (image, prompt) x timesteps x noises in the order of `order_E`, as many at once as the
        micro-batch says."""
        model = self.model
        shape = (len(pair_P), *noise_TN.shape[:2])
        step_T = torch.from_numpy(timestep_T)
        done, place_E = 0, torch.from_numpy(np.ascontiguousarray(order_E))
        while done < len(place_E):
            p_B, t_B, n_B = torch.unravel_index(place_E[done : done + self.micro_batch], shape)
            size = _one_call(pair_P[p_B, 1])
            p_B, t_B, n_B = p_B[:size], t_B[:size], n_B[:size]
            i_B, u_B = pair_P[p_B].unbind(1)
            try:  # wide conditions are copied, 1.6 GB for 64 samples of SDXL
                condition_B = model.take(condition_U, u_B)
                given = (latent_I[i_B], noise_TN[t_B, n_B].to(model.device), step_T[t_B], condition_B)
                residual_B = denoising_residual(model.denoise, model.schedule, *given)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve()
                continue
            yield residual_B
            done += size

    def _halve(self) -> None:
        """Half as many samples a call from now on. Raises `UserError` when one alone does not fit."""
        if self.micro_batch == 1:
            raise UserError(no_room(self.model.device, self.card.title))
        self.micro_batch //= 2
        log.warning("%s: out of memory, now %d samples a call", self.card.name, self.micro_batch)
        give_back(self.model.device)


def _one_call(u_B: Tensor) -> int:
    """Samples of a call: those of the first prompt where they are half of what fits, so that it need not be copied."""
    first = int((u_B == u_B[0]).long().cumprod(0).sum())
    return first if 2 * first >= len(u_B) else len(u_B)


def _contests(blocks: Sequence[_Block]) -> list[range]:
    starts = np.cumsum([0, *(len(block.pairs) for block in blocks)]).tolist()
    return [contest for block, start in zip(blocks, starts, strict=False) for contest in block.contests(start)]


def _fitted(examples: Iterable[Example], pixels: int, region: Region) -> Iterator[tuple[list[Image], Sequence[str]]]:
    """Images and captions of each example when its turn comes, the images already small: memory stays flat."""
    for example in examples:
        yield [fit(clean(picture.open()), pixels, region) for picture in example.images], example.captions
