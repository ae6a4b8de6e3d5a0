"""Records passed between packages, and the protocols of models. No tensor, no I/O.

Shape suffixes: I image, C caption, T timestep, N noise draw. Arrays are NumPy; a number comes with its uncertainty.
Scores are "higher is better" everywhere: 100 x cosine for a similarity, log P(yes) - log P(no) for an answer, minus the
mean denoising error otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["similarity", "log-odds", "denoising"]
"""Of scores: a cosine, the log-odds of an answer, or a denoising loss."""
Space = Literal["eps", "velocity"]
Region = Literal["crop", "squash", "pad", "own"]
"""The part of a picture that a model sees: its middle square, all of it squashed or padded, or its authors' choice."""
Family = Literal["clip", "transformers", "vlm", "diffusion", "sds-clip"]
"""`clip` is open_clip's; `transformers` a CLIP or SigLIP, `vlm` a vision-language model, both in the format of that
library."""
Precision = Literal["float32", "float16", "bfloat16"]

SIMILARITY_RESOLUTION = 1e-4
"""Similarities (100 x cosine, float32) that differ by no more are tied. Measured: up to 2e-5 between alone and batched,
and between anagrams for models that see no order (ViT-B-32 and ViT-L-14 as bags of words)."""
LOG_ODDS_RESOLUTION: Mapping[Precision, float] = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""The same for log-odds of an answer, by the precision of the model. Measured at the size of SmolVLM-256M with random
weights, whose logits spread by .5: 1.5e-7 in float32 and 6e-3 in bfloat16 between alone and batched. Trained weights
spread logits several times as far."""
DENOISING_RESOLUTION: Mapping[Precision, float] = {"float32": 1e-5, "float16": 2e-4, "bfloat16": 2e-3}
"""The same for denoising losses, as a share of the loss, by the precision of the denoiser. Measured on mini-diffusion:
4e-7 between batches in float32; 7e-4 and 1.2e-2 between half or bfloat16 and float32, in latents of a 64th of Stable
Diffusion's size, whose means are 8 times as exact."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a denoising score may cost: timesteps x noise draws denoiser evaluations per image and caption."""

    timesteps: int
    noises: int
    seed: int
    empty_prompt: bool = False
    """Also measure the empty prompt with the same (timestep, noise): DiffusionITM's baseline for image retrieval."""
    timestep_range: tuple[float, float] | None = None
    """The part of the noise schedule, from 0 to 1, that timesteps cover; None: as each model's card says."""
    region: Region = "crop"
    """The part of a picture that every model sees: the same for all of them, unless it is `own`."""
    antithetic: bool = False
    """Noise in pairs, each draw followed by its opposite; the number of draws is even."""
    adaptive: bool = False
    """Stop as soon as the captions of an image are told apart (`core.adaptive`); `noises` is then the maximum."""

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations per image and caption; with `adaptive`, the most."""
        return self.timesteps * self.noises


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The losses that a denoising score averages."""

    timestep_T: np.ndarray
    """int64, ascending, in steps of the model's own training schedule."""
    loss_ICTN: np.ndarray
    """float32, mean squared error per element, in `space`."""
    loss_empty_ITN: np.ndarray | None = None
    space: Space = "eps"
    steps: int = 0
    """Length of the model's training schedule; 0 if it was not recorded."""
    clean_factor_T: np.ndarray | None = None
    """The factor from a loss to the error of the clean latent: 1 / SNR(t) for `eps`, sigma(t)^2 for `velocity`."""
    seed: int = 0
    micro_batch: int = 0
    evaluations: int = 0
    """Denoiser evaluations actually spent: equal captions are computed once."""
    antithetic: bool = False
    """Whether draws 2k and 2k + 1 are opposites, so that only their means are independent."""
    rounds_IC: np.ndarray | None = None
    """int64: the draws a timestep of each image and caption, where scoring was adaptive; losses beyond are NaN."""


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """What a denoiser made of one picture at each timestep: its errors place by place, and pictures of its guesses.

    Pictures are uint8 [..., height, width, 3], decoded from latents; they show the first noise draw of a timestep.
    Shape suffixes besides the module's: H, W places of the latent; S timesteps that are shown.
    """

    error_CTNHW: np.ndarray
    """float32, squared error of each place, a mean over channels. Its mean over places is `Evidence.loss_ICTN`, as far
    as it was computed: of adaptive scoring, it ends with the last draw of any caption."""
    timestep_S: np.ndarray
    """int64, ascending: those of the evidence's timesteps that have pictures."""
    position_S: np.ndarray
    """int64: the place of each among the evidence's timesteps."""
    clean: np.ndarray
    """The picture's own latent, decoded: the best that any guess can look."""
    noised_S: np.ndarray
    """x_t, what the denoiser is given."""
    guess_CS: np.ndarray
    """What it takes the clean picture to be, in one step, given each caption."""
    guess_empty_S: np.ndarray
    """The same under no caption."""
    seconds: float = 0.0
    """What the pictures cost, beyond the scores: the evaluations without a caption, and decoding."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One model's scores of images I against captions C."""

    kind: Kind
    score_IC: np.ndarray
    """float64, higher is better."""
    stderr_IC: np.ndarray | None = None
    """Monte-Carlo standard error of each score; None if nothing was sampled."""
    evidence: Evidence | None = None
    seconds: float = 0.0
    precision: Precision = "float32"
    """Of the model's most expensive part: a CLIP's, or the denoiser's."""
    unread: tuple[str, ...] = ()
    """Kinds of `Concern` that the captions raise for this model: truncated, equal, or with unknown words."""

    @property
    def resolution(self) -> float:
        """The largest difference between two scores that may be rounding; batching and entrances change a score by
        less."""
        if self.kind == "similarity":
            return SIMILARITY_RESOLUTION
        if self.kind == "log-odds":
            return LOG_ODDS_RESOLUTION[self.precision]
        finite = self.score_IC[np.isfinite(self.score_IC)]
        return DENOISING_RESOLUTION[self.precision] * float(np.abs(finite).max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Which caption a model prefers for one image, and whether the evidence decides it."""

    preferred: int | None
    """Index of the best caption, even when undecided; None when nothing can be said (a NaN or infinite loss)."""
    difference: float | None
    """Best minus second best score, >= 0."""
    stderr: float | None
    """Monte-Carlo standard error of that *paired* difference; None if nothing was sampled."""
    needed: float | None = None
    """The difference beyond which it is decided; None if that is not known, or nothing was sampled."""
    decided: bool
    tie: bool = False
    note: str = ""
    """One sentence if something needs explaining: a tie, a loss that is not a number, a single noise draw."""


@dataclass(frozen=True, kw_only=True)
class Concern:
    """A property of an input that a model cannot handle as intended."""

    kind: Literal[
        "unknown-words",
        "foreign-picture",
        "partly-seen",
        "mark",
        "truncated",
        "partly-read",
        "equal-captions",
        "dropped-words",
    ]
    text: str
    """A sentence for the visitor."""
    blocking: bool
    """True: a number would mean nothing, so none is computed."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about a model, known without loading it."""

    name: str
    title: str
    family: Family
    spec: str
    summary: str
    licence: str
    size_mb: float
    pixels: int
    needs: Literal["cpu", "gpu"]
    seconds_per_pair: float
    """A rough time for one image and two captions with the default budget, on the hardware it needs."""
    download: bool
    """True when the weights must be fetched first."""
    mini: bool = False
    """Whether it is one of the small models that come with this repository. They run on the CPU wherever they are: it
    is quickest for them, and costs no quota on a shared GPU."""
    revision: str | None = None
    base: str | None = None
    """For an SDS-CLIP: the card of the CLIP that it changes."""
    timestep_range: tuple[float, float] = (0.0, 1.0)
    """The part of the noise schedule that timesteps cover; chosen on a validation set if not all of it."""
    training: str = ""
    """What it was trained on, in words."""
    caption_stream: str = ""
    """What its training captions were like."""
    limits: str = ""
    """What it cannot do, in words."""
    published: tuple[Mapping[str, object], ...] = ()
    """Published results: benchmark, metric values, source, sure (read | recalled)."""

    @property
    def denoises(self) -> bool:
        """Whether its scores are denoising losses: it is a `Denoiser`."""
        return self.family == "diffusion"

    @property
    def is_known(self) -> bool:
        """Whether a card describes it; of a model that is named by its spec, size and time are typical ones."""
        return self.name != self.spec


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether a card can run here and now; if not, why, and what to do."""

    can_run: bool
    reason: str = ""
    next_step: str = ""

    @property
    def words(self) -> str:
        """Why not, and what to do, in one line."""
        return f"{self.reason} {self.next_step}".strip()


class Scorer(Protocol):
    """Every model, from the outside: images and captions in, scores out."""

    @property
    def card(self) -> Card: ...

    def concerns(self, images: Sequence[Image], captions: Sequence[str], region: Region = "crop") -> list[Concern]:
        """What this model cannot handle as intended: unknown words, a foreign or partly seen picture, truncated or
        equal captions."""
        ...

    def share_seen(self, size: tuple[int, int], region: Region) -> float:
        """The share, from 0 to 1, that this model sees of a picture of that size (width, height)."""
        ...

    def score(self, images: Sequence[Image], captions: Sequence[str], budget: Budget) -> Scores:
        """Scores of every image against every caption. A similarity ignores the budget."""
        ...

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        """The scores of each example, in order: as from `score`, up to rounding, but for many examples at once."""
        ...


@runtime_checkable
class CaptionComparer(Protocol):
    """A model that embeds a caption on its own: every `Scorer` whose scores are similarities."""

    def compare_captions(self, examples: Iterable[Example]) -> Iterator[Scores]:
        """How similar every two captions of each example are, without its pictures.

        score_IC is [1, pairs], the pairs in the order (0, 1), (0, 2), ..., (1, 2), ...: 100 x cosine.
        """
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A model that can show how it denoises a picture: every `Scorer` whose scores are denoising losses."""

    def score_and_show(
        self,
        image: Image,
        captions: Sequence[str],
        budget: Budget,
        *,
        most: float,
        watch: Callable[[Scores], None] | None = None,
    ) -> tuple[Scores, Denoised]:
        """The scores of `score`, and the pictures behind them.

        most: what decoding may take, as a share of what scoring took, if it takes over a second. At least one
        timestep is shown. watch: called now and then with the scores so far, from every timestep and the first noise
        draws; not called if all is computed at once.
        """
        ...

    def draw(self, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int) -> Iterator[np.ndarray]:
        """Pictures of each caption from each seed as they emerge, `looks` times: uint8 [C, seeds, height, width, 3]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One row of the Compare tab: one model's answer about one picture, or why there is none."""

    card: Card
    scores: Scores | None = None
    preference: Preference | None = None
    problem: str = ""
    """A sentence instead of scores."""
    fault: bool = False
    """True when the problem is our own bug, not something that the user can change."""
    notes: tuple[str, ...] = ()
    denoised: Denoised | None = None
    """Where asked for: what a denoiser made of the picture."""
    blocked_by: tuple[str, ...] = ()
    """The kinds of `Concern` that a problem comes from."""
    of: int = 0
    """Denoiser evaluations that are still being made, of which `scores` are the first; 0 for a finished answer."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that is opened only on demand."""

    name: str
    open: Callable[[], Image] = field(repr=False)
    key: str = ""
    """Equal only for the same picture, so that it is encoded once; empty if unknown."""
    content: Callable[[], str] | None = field(default=None, repr=False)
    """What it is made of, without decoding it (`picture_digest`): changes if the picture is replaced."""
    content_before: Callable[[], str] | None = field(default=None, repr=False)
    """The same as earlier versions had it, so that their scores stay valid; "" if it was no other."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One item of a benchmark. Pair of pairs: caption k belongs to image k. One image: the first caption is true."""

    id: str
    images: tuple[Picture, ...]
    captions: tuple[str, ...]
    tags: Mapping[str, str]
