"""One model and one question: the answer, the answers so far, what it draws. Knows neither where models are kept nor
which process it runs in.

A model is borrowed for one request by a `Lend`, which loads it where needed and makes others wait.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeAlias

import numpy as np
from PIL.Image import Image

from sdsdemo.app.kept_answers import Asked, KeptAnswers
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.models.remarks import remarks
from sdsdemo.types import Answer, Budget, Card, Concern, Denoiser, Scorer, Scores

log = logging.getLogger(__name__)

Lend: TypeAlias = Callable[[Card], AbstractContextManager[Scorer]]
"""Raises `UserError` if the model of a card cannot run."""

OUR_FAULT = "{title} failed because of a bug in sdsdemo: the log has the details. The other models are not affected."
PAUSE = 0.3
"""Seconds between two answers of a model that is still scoring."""


class _NobodyWaitsError(Exception):
    """The answer that is being computed is no longer wanted."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A card, and the captions to compare."""

    card: Card
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the questions about one picture share."""

    image: Image
    budget: Budget
    show: float | None = None
    """What a model that denoises may spend on showing it, as a share of scoring; None shows nothing."""
    live: bool = False
    """Whether such a model also yields what it knows so far, now and then (`Answer.of`), before its answer."""
    digest: str = ""
    """Of the picture's pixels: an earlier answer to the same question may then be given again. Empty: asked anew."""

    def asked(self, captions: tuple[str, ...]) -> Asked:
        """What the answer about these captions depends on, besides the model."""
        return Asked(digest=self.digest, captions=captions, budget=self.budget, show=self.show)


def answers(
    lend: Lend, questions: Sequence[Question], request: Request, kept: KeptAnswers | None = None
) -> Iterator[Answer]:
    """Each question's answer, in order; a model that cannot answer yields one with a problem, and the next follows.

    kept: earlier answers, which are given again where the request allows it.
    """
    kept = kept if request.digest else None
    for question in questions:
        known = kept.find(question.card, request.asked(question.captions)) if kept else None
        if known is not None:
            yield known
        elif request.live and request.show is not None and question.card.denoises:
            yield from _live(lend, question, request, kept)
        else:
            yield _answer(lend, question, request, kept)


def drawn(
    lend: Lend, card: Card, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int
) -> Iterator[np.ndarray]:
    """What a model that denoises draws for each caption from each seed, as it emerges; see `types.Denoiser`.

    Raises `UserError` for words that the model does not know, and for one that cannot run or does not denoise.
    """
    with lend(card) as scorer:
        if not isinstance(scorer, Denoiser):
            raise UserError(f"{card.title} compares and does not draw: choose a diffusion model.")
        concerns = [concern for concern in scorer.concerns([], captions) if concern.blocking]
        if concerns:
            raise UserError(" ".join(_sentences(concerns)))
        yield from scorer.draw(captions, seeds, steps=steps, looks=looks)


def before_scoring(scorer: Scorer, image: Image, captions: list[str], budget: Budget) -> Answer:
    """An answer with what is to be said of a question beside the scores; with a problem where it cannot be scored.

    A tokenizer maps all unknown words to one token, so captions that contain any are not reported as equal.
    """
    concerns = scorer.concerns([image], captions, budget.region)
    if any(concern.kind == "unknown-words" for concern in concerns):
        concerns = [concern for concern in concerns if concern.kind != "equal-captions"]
    blocking = _sentences(concern for concern in concerns if concern.blocking)
    notes = (*remarks(scorer.card, budget), *_sentences(c for c in concerns if not c.blocking))
    if blocking:
        kinds = tuple(concern.kind for concern in concerns if concern.blocking)
        return Answer(card=scorer.card, problem=" ".join(blocking), notes=notes, blocked_by=kinds)
    return Answer(card=scorer.card, notes=notes)


def _live(lend: Lend, question: Question, request: Request, kept: KeptAnswers | None) -> Iterator[Answer]:
    """A model's answers so far, one in `PAUSE` seconds at most, then its answer. It scores in its own thread, which
    ends soon after nobody waits for it any more."""
    card, total = question.card, request.budget.evaluations * len(question.captions)
    so_far: SimpleQueue[Answer] = SimpleQueue()
    is_over = Event()
    said = 0.0

    def watch(scores: Scores) -> None:
        nonlocal said
        if is_over.is_set():
            raise _NobodyWaitsError
        if time.monotonic() - said >= PAUSE:
            said = time.monotonic()
            so_far.put(Answer(card=card, scores=scores, preference=decide(scores), of=total))

    def work() -> None:
        found = Answer(card=card, problem=OUR_FAULT.format(title=card.title), fault=True)
        try:
            found = _answer(lend, question, request, kept, watch)
        finally:
            so_far.put(found)

    here = contextvars.copy_context()  # where a download is shown
    Thread(target=here.run, args=(work,), name=f"scores {card.name}", daemon=True).start()
    try:
        while (answer := so_far.get()).of:
            yield answer
        yield answer
    finally:
        is_over.set()


def _answer(
    lend: Lend,
    question: Question,
    request: Request,
    kept: KeptAnswers | None,
    watch: Callable[[Scores], None] | None = None,
) -> Answer:
    """A model's answer. Whoever asks the same and has to wait for the model finds the first one's answer kept."""
    card, start = question.card, time.monotonic()
    try:
        with lend(card) as scorer:
            ask = partial(_ask, scorer, list(question.captions), request, watch)
            answer = kept.get(scorer, request.asked(question.captions), ask) if kept else ask()
        seconds = round(time.monotonic() - start, 3)
        log.info("scored", extra={"model": card.name, "captions": len(question.captions), "seconds": seconds})
        return answer
    except UserError as error:
        return Answer(card=card, problem=str(error))
    except _NobodyWaitsError:
        return Answer(card=card)
    except Exception:  # one model's failure must not cost the visitor the other rows; the log has it
        log.exception("%s failed", card.name)
        return Answer(card=card, problem=OUR_FAULT.format(title=card.title), fault=True)


def _ask(scorer: Scorer, captions: list[str], request: Request, watch: Callable[[Scores], None] | None) -> Answer:
    """One model's answer. Where a concern blocks, no number is computed: it would mean nothing."""
    answer, denoised = before_scoring(scorer, request.image, captions, request.budget), None
    if answer.problem:
        return answer
    if request.show is not None and isinstance(scorer, Denoiser):
        scores, denoised = scorer.score_and_show(
            request.image, captions, request.budget, most=request.show, watch=watch
        )
    else:
        scores = scorer.score([request.image], captions, request.budget)
    return replace(answer, scores=scores, preference=decide(scores), denoised=denoised)


def _sentences(concerns: Iterable[Concern]) -> tuple[str, ...]:
    """Each sentence once, in order."""
    return tuple(dict.fromkeys(concern.text for concern in concerns))
