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
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from sdsdemo.core.intervals import grid_stderr
from sdsdemo.core.losses import denoising_residual, error_of
from sdsdemo.errors import UserError
from sdsdemo.models.batching import parts_of
from sdsdemo.models.conditions import Conditions, Row
from sdsdemo.models.denoised import Kept, show
from sdsdemo.models.diffusion import LatentDiffusion
from sdsdemo.models.domain import Domain
from sdsdemo.models.drawing import draw
from sdsdemo.models.images import clean, fit, share_of
from sdsdemo.models.memory import give_back, is_out_of_memory, no_room
from sdsdemo.models.noise_grid import draw_noise, evaluation_order, in_place, spread_timesteps
from sdsdemo.models.precision import PRECISIONS, exactly
from sdsdemo.models.tokenizer_checks import concerns_of
from sdsdemo.types import Budget, Card, Concern, Denoised, Evidence, Example, Region, Scores

log = logging.getLogger(__name__)

Watch = Callable[[Scores], None]
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


class DiffusionScorer:
    """A `types.Scorer`: minus the mean denoising error.

    The noise is drawn once, on the CPU, from the budget's seed, and met by every image and caption. Captions run in the
    order of their tokens and equal ones once: swapping two captions swaps the answer bit for bit.
    """

    def __init__(self, card: Card, model: LatentDiffusion, domain: Domain | None = None) -> None:
        """domain: what a small model knows; None for a model that is taken to know everything."""
        self.card = card
        self.model = model
        self.domain = domain
        self.micro_batch = model.default_micro_batch()
        """Samples a call; halved for good when memory does not hold them."""

    def concerns(self, images: Sequence[Image], captions: Sequence[str], region: Region = "crop") -> list[Concern]:
        """What `tokens.concerns_of` finds."""
        return concerns_of(self.model, self.domain, images, captions, region)

    def share_seen(self, size: tuple[int, int], region: Region) -> float:
        """The share that the model sees of a picture of that size."""
        return share_of(size, self.model.region_of(region))

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        """Scores of every image against every caption, with the losses behind them. Raises `ValueError` for none."""
        if not images or not captions:
            raise ValueError(f"images and captions must not be empty; there were {len(images)} and {len(captions)}")
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
        kept, conditions = Kept(), Conditions(self.model)
        noise_TN = draw_noise(budget, self.model.latent_shape)
        (scores,) = self._score_part([([image], captions)], budget, noise_TN, conditions, kept, watch)
        start, timestep_T = time.perf_counter(), self._timesteps(budget)
        with exactly(self.model.device):
            (row,) = map(tuple, self.model.tokenize([""]).tolist())
            first = torch.zeros(1, 2, dtype=torch.long)
            asked = (kept.latent_I, conditions.of({row: ""}), first, timestep_T, noise_TN[:, :1])
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
        is_by_rounds = watch is not None and int(np.prod(shape)) > self.micro_batch
        order_E = evaluation_order(shape, by_rounds=is_by_rounds)
        with exactly(model.device):
            latent_I = model.encode_images([image for images, _ in items for image in images], budget.region)
            asked = (latent_I, conditions.of(prompt_of), pair_P, timestep_T, noise_TN)
            residuals = self._residuals(*asked, order_E)
            if kept is not None:
                residuals = kept.keep(latent_I, residuals, order_E, shape, blocks[0].column)
            errors: list[Tensor] = []
            done = seen = 0
            together = 2 if budget.antithetic else 1  # half a pair is no draw
            for residual_B in residuals:
                errors.append(error_of(residual_B))
                done += len(residual_B)
                rounds = done // (shape[0] * shape[1]) // together * together
                if watch is not None and is_by_rounds and seen < rounds < shape[2]:
                    seen = rounds
                    loss_PTN = in_place(errors, order_E, shape)[..., :rounds]
                    watch(self._scores_of(blocks, loss_PTN, timestep_T, budget, time.perf_counter() - start)[0])
            loss_PTN = in_place(errors, order_E, shape)
        return self._scores_of(blocks, loss_PTN, timestep_T, budget, (time.perf_counter() - start) / len(items))

    def _scores_of(
        self, blocks: Sequence[_Block], loss_PTN: np.ndarray, timestep_T: np.ndarray, budget: Budget, seconds: float
    ) -> list[Scores]:
        """Each item's scores from the losses of all pairs."""
        scores, done = [], 0
        for block in blocks:
            shape = (block.images, len(block.unique), *loss_PTN.shape[1:])
            loss_IUTN = loss_PTN[done : done + len(block.pairs)].reshape(shape)
            done += len(block.pairs)
            loss_ICTN, spent = loss_IUTN[:, block.column], loss_IUTN.size
            scores.append(_scores(loss_ICTN, timestep_T, budget, self, evaluations=spent, seconds=seconds))
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
        step_T, noise_TN = torch.from_numpy(timestep_T), noise_TN.to(model.device)
        done, place_E = 0, torch.from_numpy(np.ascontiguousarray(order_E))
        while done < len(place_E):
            index_B = place_E[done : done + self.micro_batch]
            p_B, t_B, n_B = torch.unravel_index(index_B, shape)
            i_B, u_B = pair_P[p_B].unbind(1)
            latent_B, noise_B, condition_B = latent_I[i_B], noise_TN[t_B, n_B], model.take(condition_U, u_B)
            given = (latent_B, noise_B, step_T[t_B], condition_B)
            try:
                residual_B = denoising_residual(model.denoise, model.schedule, *given)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve()
                continue
            yield residual_B
            done += len(index_B)

    def _halve(self) -> None:
        """Half as many samples a call from now on. Raises `UserError` when one alone does not fit."""
        if self.micro_batch == 1:
            raise UserError(no_room(self.model.device, self.card.title))
        self.micro_batch //= 2
        log.warning("%s: out of memory, now %d samples a call", self.card.name, self.micro_batch)
        give_back(self.model.device)


def _scores(
    loss_ICTN: np.ndarray,
    timestep_T: np.ndarray,
    budget: Budget,
    scorer: DiffusionScorer,
    *,
    evaluations: int,
    seconds: float,
) -> Scores:
    """The record; the empty prompt, where asked for, is the last of the captions."""
    empty_ITN = loss_ICTN[:, -1] if budget.empty_prompt else None
    loss_ICTN = loss_ICTN[:, :-1] if budget.empty_prompt else loss_ICTN
    return Scores(
        kind="denoising",
        score_IC=-loss_ICTN.astype(np.float64).mean(axis=(2, 3)),
        stderr_IC=grid_stderr(loss_ICTN, antithetic=budget.antithetic),
        evidence=Evidence(
            timestep_T=timestep_T,
            loss_ICTN=loss_ICTN,
            loss_empty_ITN=empty_ITN,
            space=scorer.model.schedule.space,
            steps=scorer.model.schedule.steps,
            clean_factor_T=scorer.model.schedule.clean_factor(torch.from_numpy(timestep_T)).numpy().astype(np.float64),
            seed=budget.seed,
            micro_batch=scorer.micro_batch,
            evaluations=evaluations,
            antithetic=budget.antithetic,
        ),
        seconds=seconds,
        precision=PRECISIONS[scorer.model.dtype],
    )


def _fitted(examples: Iterable[Example], pixels: int, region: Region) -> Iterator[tuple[list[Image], Sequence[str]]]:
    """Images and captions of each example when its turn comes, the images already small: memory stays flat."""
    for example in examples:
        yield [fit(clean(picture.open()), pixels, region) for picture in example.images], example.captions
