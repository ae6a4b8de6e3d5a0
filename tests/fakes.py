"""Scorers that are instant, deterministic and count their calls: for tests of everything above `models/`.

A fake knows nothing of pictures: its numbers come from a hash of the caption and the picture's mean colour, so that the
same request gives the same answer in every process and swapping captions swaps it exactly. Fakes live here only;
nothing in the product can fake a score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from PIL.Image import Image

from sdsdemo.core.intervals import grid_stderr
from sdsdemo.types import Budget, Card, Concern, Denoised, Evidence, Example, Kind, Region, Scores

STEPS = 1000


def fake_card(
    name: str = "mini-clip",
    family: Literal["clip", "diffusion", "sds-clip"] = "clip",
    *,
    title: str = "",
    download: bool = False,
    size_mb: float = 3.0,
    base: str | None = None,
) -> Card:
    """A complete card that points at nothing."""
    return Card(
        name=name,
        title=title or name.replace("-", " ").capitalize(),
        family=family,
        spec=f"open_clip:local-dir:checkpoints/{name}",
        summary=f"A fake called {name}.",
        licence="MIT",
        size_mb=size_mb,
        pixels=64,
        needs="cpu",
        seconds_per_pair=0.1,
        download=download,
        mini=name.startswith("mini-"),
        base=base,
    )


MINI_CARDS = (
    fake_card("mini-clip"),
    fake_card("mini-diffusion", "diffusion"),
    fake_card("mini-sds-clip", "sds-clip", title="Mini SDS-CLIP", base="mini-clip"),
)


class OneByOne:
    """`score_examples` by way of `score`, without concerns: what most fakes need."""

    card = fake_card("fake")

    def concerns(self, images: Sequence[Image], captions: Sequence[str], region: Region = "crop") -> list[Concern]:
        return []

    def share_seen(self, size: tuple[int, int], region: Region) -> float:
        return 1.0

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        raise NotImplementedError

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        for example in examples:
            yield self.score([picture.open() for picture in example.images], example.captions, budget)


class FakeScorer(OneByOne):
    """A `types.Scorer` of either kind. `calls` counts `score`, `seen` lists the captions of each call."""

    def __init__(
        self,
        card: Card,
        *,
        kind: Kind | None = None,
        concerns: Sequence[Concern] = (),
        failure: Exception | None = None,
        loss: float | None = None,
    ) -> None:
        """`loss` replaces every loss (NaN, a tie); `failure` is raised by `score`; `concerns` are reported always."""
        self.card = card
        self.kind: Kind = kind or ("denoising" if card.family == "diffusion" else "similarity")
        self.calls = 0
        self.seen: list[tuple[str, ...]] = []
        self._concerns = list(concerns)
        self._failure = failure
        self._loss = loss

    def concerns(self, images: Sequence[Image], captions: Sequence[str], region: Region = "crop") -> list[Concern]:
        return list(self._concerns)

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        self.calls += 1
        self.seen.append(tuple(captions))
        if self._failure is not None:
            raise self._failure
        if self.kind == "similarity":
            score_IC = np.array([[20 + 10 * _unit(_mark(image), text) for text in captions] for image in images])
            return Scores(kind="similarity", score_IC=score_IC, seconds=0.001)
        loss_ICTN = np.stack(
            [np.stack([self._losses(image, text, budget) for text in captions]) for image in images]
        ).astype(np.float32)
        means_ICT = loss_ICTN.astype(np.float64).mean(axis=3)
        return Scores(
            kind="denoising",
            score_IC=-means_ICT.mean(axis=2),
            stderr_IC=grid_stderr(loss_ICTN, antithetic=budget.antithetic),
            evidence=Evidence(
                timestep_T=timesteps(budget.timesteps),
                loss_ICTN=loss_ICTN,
                seed=budget.seed,
                micro_batch=64,
                evaluations=int(loss_ICTN.size),
                antithetic=budget.antithetic,
            ),
            seconds=0.002,
        )

    def _losses(self, image: Image, caption: str, budget: Budget) -> np.ndarray:
        """loss_TN: falls with the timestep, shifted by the caption, with noise that all captions share."""
        if self._loss is not None:
            return np.full((budget.timesteps, budget.noises), self._loss)
        base_T = 0.4 - 0.35 * timesteps(budget.timesteps) / STEPS
        shared_TN = np.random.default_rng(budget.seed).normal(0, 0.01, (budget.timesteps, budget.noises))
        own_TN = np.random.default_rng(_number(caption)).normal(0, 0.002, (budget.timesteps, budget.noises))
        return base_T[:, None] + shared_TN + own_TN + 0.03 * _unit(_mark(image), caption)


class FakeDenoiser(FakeScorer):
    """A fake that shows how it denoises: `types.Denoiser`. Each guess is one grey, by its loss."""

    def score_and_show(
        self,
        image: Image,
        captions: Sequence[str],
        budget: Budget,
        *,
        most: float,
        watch: Callable[[Scores], None] | None = None,
    ) -> tuple[Scores, Denoised]:
        if watch is not None and budget.noises > 2:
            watch(self.score([image], captions, replace(budget, noises=2)))
        scores = self.score([image], captions, budget)
        assert scores.evidence is not None
        loss_CTN = scores.evidence.loss_ICTN[0]
        place_HW = np.random.default_rng(0).dirichlet(np.ones(16)).reshape(4, 4) * 16
        grey_CT = np.clip(np.nan_to_num(loss_CTN[:, :, 0]) * 255, 0, 255).astype(np.uint8)
        guess_CS = np.broadcast_to(grey_CT[:, :, None, None, None], (*grey_CT.shape, 8, 8, 3))
        timestep_T = scores.evidence.timestep_T
        return scores, Denoised(
            error_CTNHW=(loss_CTN[..., None, None] * place_HW).astype(np.float32),
            timestep_S=timestep_T,
            position_S=np.arange(len(timestep_T)),
            clean=np.asarray(image.convert("RGB").resize((8, 8))),
            noised_S=np.random.default_rng(1).integers(0, 256, guess_CS.shape[1:], dtype=np.uint8),
            guess_CS=guess_CS,
            guess_empty_S=255 - guess_CS[0],
            seconds=0.001,
        )

    def draw(self, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int) -> Iterator[np.ndarray]:
        """Each look is a shade lighter; each caption has its own colour."""
        self.seen.append(tuple(captions))
        for look in range(looks):
            grey_C = [(_number(caption) + 40 * look) % 256 for caption in captions]
            drawn = np.array(grey_C, dtype=np.uint8)[:, None, None, None, None]
            yield np.broadcast_to(drawn, (len(captions), len(seeds), 8, 8, 3))


def fake_scorer(card: Card) -> FakeScorer:
    """The fake of a card's family."""
    return FakeDenoiser(card) if card.family == "diffusion" else FakeScorer(card)


def timesteps(count: int) -> np.ndarray:
    """Midpoints of `count` equal parts of the schedule, as the real scorer spreads them."""
    return ((np.arange(count) + 0.5) * STEPS / count).astype(np.int64)


def _mark(image: Image) -> str:
    return str(image.convert("RGB").resize((1, 1)).getpixel((0, 0)))


def _number(*texts: str) -> int:
    return int.from_bytes(hashlib.sha256("\n".join(texts).encode()).digest()[:6], "big")


def _unit(*texts: str) -> float:
    return _number(*texts) / 2**48
