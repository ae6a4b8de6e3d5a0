"""Real models on a GPU that is lent for a call (ZeroGPU): placed before the page opens, and asked in a fork.

Only plain records cross into the fork and out of it. It takes no lock of the server: another thread may have held one
when the fork was made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from sdsdemo.app import asking, gpu_time
from sdsdemo.app.asking import Question, Request
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.runtime import zerogpu
from sdsdemo.settings import Settings
from sdsdemo.types import Answer, Availability, Card, Scorer

log = logging.getLogger(__name__)

NOT_PLACED = "{title} is not among the models that were placed on this Space's GPU when it started."
BUG = "{title} could not be placed on the GPU because of a bug in sdsdemo: the server's log has the details."
PLACE_IT = "To add it, duplicate the Space and name {name} in its variable SDSDEMO_MODELS."


class SharedGpu:
    """The models that are asked on the GPU. Made before the page is launched."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.times = gpu_time.GpuTimes()
        self._placed: dict[str, Scorer] = {}
        self._opened: tuple[str, Scorer] | None = None
        """In a fork, which may be used again: the visitor's own model that was asked last, and which weights it has."""
        self._why_not: dict[str, str] = {}
        self._answers = zerogpu.on_gpu(self._answers_in_fork, self._answer_seconds)
        self._drawn = zerogpu.on_gpu(self._drawn_in_fork, self._drawing_seconds)

    def takes(self, card: Card) -> bool:
        """Whether a model belongs on the GPU: all but Mini's, and those tuned from them."""
        known = cards.all_cards()
        return not card.mini and not (card.base in known and known[card.base].mini)

    def place(self, card: Card) -> None:
        """Load a model and move it to the GPU. What fails is logged, and said where the model is chosen."""
        try:
            self._placed[card.name] = self._open(card)
            self.times.placed_mb[card.name] = card.size_mb
        except UserError as error:
            log.warning("%s was not placed on the GPU: %s", card.name, error)
            self._why_not[card.name] = str(error)
        except Exception:  # one model must not keep the page from starting; the log has it
            log.exception("%s was not placed on the GPU", card.name)
            self._why_not[card.name] = BUG.format(title=card.title)

    def is_placed(self, name: str) -> bool:
        """Whether the model of this name is placed."""
        return name in self._placed

    def availability(self, card: Card) -> Availability:
        """Whether a card is placed, or a visitor tuned it here from one that is; if not, why, and what to do."""
        if self.is_placed(card.name) or (card.spec.startswith("sds-clip:") and card.base in self._placed):
            return Availability(can_run=True)
        why = self._why_not.get(card.name, "")
        return Availability(
            can_run=False,
            reason=why or NOT_PLACED.format(title=card.title),
            next_step="" if why else PLACE_IT.format(name=card.name),
        )

    def answers(self, questions: Sequence[Question], request: Request) -> Iterator[Answer]:
        """As `asking.answers`, within one loan of the GPU. Where there is none, that is each answer's problem."""
        left = list(questions)
        try:
            for answer in self._answers(questions, request):
                if not answer.of:
                    self.times.learn(left.pop(0), answer, request.budget)
                yield answer
        except UserError as error:
            yield from (Answer(card=question.card, problem=str(error)) for question in left)

    def drawn(
        self, card: Card, captions: Sequence[str], seeds: Sequence[int], steps: int, looks: int
    ) -> Iterator[np.ndarray]:
        """As `asking.drawn`, within one loan of the GPU. Raises `UserError` also where there is none."""
        return self._drawn(card, captions, seeds, steps, looks)

    def opened(self, card: Card) -> Scorer:
        """In a fork: the model of a card, which is loaded if it is not placed. Raises `UserError`."""
        if card.name in self._placed:
            return self._placed[card.name]
        weights = cards.weights_fingerprint(card)  # more steps change the file, and not its name
        if self._opened is None or self._opened[0] != f"{card.spec} {weights}":
            self._opened = None  # so that two are never there at once
            self._opened = (f"{card.spec} {weights}", self._open(card))
        return self._opened[1]

    @contextmanager
    def _lend(self, card: Card) -> Iterator[Scorer]:
        yield self.opened(card)

    def _open(self, card: Card) -> Scorer:
        use = self.settings
        return open_scorer(card, device=use.device, precision=use.precision, allow_download=use.allow_download)

    def _answers_in_fork(self, questions: Sequence[Question], request: Request) -> Iterator[Answer]:
        yield from asking.answers(self._lend, questions, request)

    def _answer_seconds(self, questions: Sequence[Question], request: Request) -> int:
        return gpu_time.reserved(self.times.of_answers(questions, request.budget, request.show))

    def _drawn_in_fork(
        self, card: Card, captions: Sequence[str], seeds: Sequence[int], steps: int, looks: int
    ) -> Iterator[np.ndarray]:
        yield from asking.drawn(self._lend, card, captions, seeds, steps=steps, looks=looks)

    def _drawing_seconds(
        self, card: Card, captions: Sequence[str], seeds: Sequence[int], steps: int, looks: int
    ) -> int:
        return gpu_time.reserved(self.times.of_drawing(card, len(captions), len(seeds), steps))
