"""Finds, loads and queries models. Page, shell and Python share it.

Owns the loaded models and their locks. Handles no tensor; knows neither page nor command line.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Lock, Thread

import numpy as np
from PIL.Image import Image

from sdsdemo.app.sharing import GONE, is_shared
from sdsdemo.captions.validation import check_captions
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.remarks import remarks
from sdsdemo.settings import LIMITS, Settings
from sdsdemo.types import Answer, Availability, Budget, Card, Concern, Denoiser, Scorer, Scores

log = logging.getLogger(__name__)

OUR_FAULT = "{title} failed because of a bug of ours: see the log. The other models are not affected."
PAUSE = 0.3
"""Seconds between two answers of a model that is still scoring."""
NO_SPECS = "A model without a card can be used only on your own machine. Known models: {names}."


class _NobodyWaitsError(Exception):
    """The answer that is being computed is no longer wanted."""


class Workbench:
    """The models of one process. Safe to share between threads."""

    def __init__(self, settings: Settings | None = None, opener: Callable[[Card], Scorer] | None = None) -> None:
        """`opener` turns a card into a scorer; by default `models.open_scorer`, once the model is known to run here.

        Raises `UserError` for an invalid environment variable.
        """
        self.settings = settings or Settings.from_environment()
        self._opener = opener or self._open
        self._lent: dict[str, Card] = {}
        """Visitors' models, by unguessable names."""
        self.find_shared: Callable[[str], Card | None] = lambda name: None
        """Finds a visitor's model that is not lent yet, and lends it."""
        self._loaded: OrderedDict[str, tuple[Card, Scorer]] = OrderedDict()
        """Least recently used first."""
        self._table = Lock()
        """Guards the two dicts; never held for long."""
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        """One per model, so that it loads once and answers one request at a time (tokenizers are not thread-safe)."""

    def cards(self) -> list[Card]:
        """Every model with a card, in the order of the settings, then the rest. Raises `UserError`."""
        first = [self.card(name) for name in self.settings.models]
        names = {card.name for card in first}
        return first + [card for card in cards.all_cards().values() if card.name not in names]

    def card(self, name_or_spec: str) -> Card:
        """The card of a name or a spec. Raises `UserError` for an unknown name, or where specs are not allowed."""
        known = cards.all_cards()
        if name_or_spec in known:
            return known[name_or_spec]
        lent = self._lent.get(name_or_spec)
        if lent is None and is_shared(name_or_spec):
            lent = self.find_shared(name_or_spec)
        if lent is not None:
            return lent
        if is_shared(name_or_spec):
            raise UserError(GONE)
        if ":" in name_or_spec and not self.settings.allow_specs and name_or_spec not in self.settings.models:
            raise UserError(NO_SPECS.format(names=", ".join(known)))
        return cards.resolve(name_or_spec)

    def lend(self, card: Card) -> None:
        """Make a model available under its card's name to whoever knows that name; it is never listed."""
        self._lent[card.name] = card

    def is_lent(self, name: str) -> bool:
        """Whether a visitor's model of this name is available."""
        return name in self._lent

    def forget(self, name: str) -> None:
        """Withdraw a lent model."""
        self._lent.pop(name, None)
        with self._table:
            self._loaded.pop(name, None)

    def availability(self, card: Card) -> Availability:
        """Whether a card can run here now; if not, why, and what to do about it."""
        return cards.availability(card, self.settings)

    def check(self, models: Sequence[str]) -> None:
        """Raises `UserError` for the first model that is unknown or cannot run here, before hours go into another."""
        for name in models:
            self._check(self.card(name))

    def is_loaded(self, name: str) -> bool:
        """Whether this model is loaded."""
        with self._table:
            return name in self._loaded

    def scorer(self, name_or_spec: str) -> Scorer:
        """The model, loaded on first use and at most once. Raises `UserError` if it cannot run here now."""
        card = self.card(name_or_spec)
        with self._lock_of(card):
            return self._load(card)

    @contextmanager
    def held(self, card: Card) -> Iterator[Scorer]:
        """The model of a card for one request; others wait. Raises `UserError` if it cannot run here now."""
        with self._lock_of(card):
            yield self._load(card)

    def compare(
        self,
        image: Image,
        captions: Sequence[str],
        models: Sequence[str],
        budget: Budget,
        *,
        show: float | None = None,
        live: bool = False,
    ) -> Iterator[Answer]:
        """Each model's answer about one picture, as soon as it is ready, in the given order.

        show: what a model that denoises may spend on showing it, as a share of scoring; None shows nothing.
        live: such a model also yields what it knows so far, now and then (`Answer.of`), before its answer.

        A model that cannot answer yields an `Answer` with a problem, and the next one follows. Raises `UserError`
        before the first answer for invalid captions or an unknown model.
        """
        checked = check_captions(captions)
        for card in [self.card(name) for name in models]:
            if live and show is not None and card.family == "diffusion":
                yield from self._live(card, image, checked, budget, show)
            else:
                yield self._answer(card, image, checked, budget, show)

    def draw(
        self, model: str, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int
    ) -> Iterator[np.ndarray]:
        """What a model that denoises draws for each caption from each seed, as it emerges; see `types.Denoiser`.

        Raises `UserError` for invalid captions, for words that the model does not know, and for a model that is
        unknown, cannot run here or does not denoise.
        """
        card, checked = self.card(model), check_captions(captions)
        with self._lock_of(card):
            scorer = self._load(card)
            if not isinstance(scorer, Denoiser):
                raise UserError(f"{card.title} compares and does not draw: choose a diffusion model.")
            concerns = [concern for concern in scorer.concerns([], checked) if concern.blocking]
            if concerns:
                raise UserError(" ".join(_sentences(concerns)))
            yield from scorer.draw(checked, seeds, steps=steps, looks=looks)

    def _live(self, card: Card, image: Image, captions: list[str], budget: Budget, show: float) -> Iterator[Answer]:
        """A model's answers so far, one in `PAUSE` seconds at most, then its answer. It scores in its own thread, which
        ends soon after nobody waits for it any more."""
        answers: SimpleQueue[Answer] = SimpleQueue()
        is_over = Event()
        said = 0.0

        def watch(scores: Scores) -> None:
            nonlocal said
            if is_over.is_set():
                raise _NobodyWaitsError
            if time.monotonic() - said >= PAUSE:
                said, total = time.monotonic(), budget.evaluations * len(captions)
                answers.put(Answer(card=card, scores=scores, preference=decide(scores), of=total))

        def work() -> None:
            found = Answer(card=card, problem=OUR_FAULT.format(title=card.title), fault=True)
            try:
                found = self._answer(card, image, captions, budget, show, watch)
            finally:
                answers.put(found)

        here = contextvars.copy_context()  # where a download is shown
        Thread(target=here.run, args=(work,), name=f"scores {card.name}", daemon=True).start()
        try:
            while (answer := answers.get()).of:
                yield answer
            yield answer
        finally:
            is_over.set()

    def _answer(
        self,
        card: Card,
        image: Image,
        captions: list[str],
        budget: Budget,
        show: float | None,
        watch: Callable[[Scores], None] | None = None,
    ) -> Answer:
        start = time.monotonic()
        try:
            with self._lock_of(card):
                answer = _ask(self._load(card), image, captions, budget, show, watch)
            log.info("scored", extra={"model": card.name, "captions": len(captions), "seconds": _since(start)})
            return answer
        except UserError as error:
            return Answer(card=card, problem=str(error))
        except _NobodyWaitsError:
            return Answer(card=card)
        except Exception:  # one model's failure must not cost the visitor the other rows; the log has it
            log.exception("%s failed", card.name)
            return Answer(card=card, problem=OUR_FAULT.format(title=card.title), fault=True)

    def _lock_of(self, card: Card) -> Lock:
        with self._table:
            return self._locks[card.name]

    def _load(self, card: Card) -> Scorer:
        """The loaded model, marked as most recently used; call with the model's lock held."""
        with self._table:
            if card.name in self._loaded:
                self._loaded.move_to_end(card.name)
                return self._loaded[card.name][1]
        scorer = self._opener(card)
        with self._table:
            self._loaded[card.name] = (card, scorer)
            self._unload_beyond(LIMITS.loaded_mb)
        return scorer

    def _unload_beyond(self, megabytes: float) -> None:
        """Unloads the least recently used models; the one just loaded stays, and requests in progress keep theirs."""
        while len(self._loaded) > 1 and sum(card.size_mb for card, _ in self._loaded.values()) > megabytes:
            self._loaded.popitem(last=False)

    def _check(self, card: Card) -> None:
        state = self.availability(card)
        if not state.can_run:
            raise UserError(f"{state.reason} {state.next_step}".strip())

    def _open(self, card: Card) -> Scorer:
        self._check(card)
        device = "cpu" if card.mini else self.settings.device
        return open_scorer(
            card, device=device, precision=self.settings.precision, allow_download=self.settings.allow_download
        )


def _ask(
    scorer: Scorer,
    image: Image,
    captions: list[str],
    budget: Budget,
    show: float | None,
    watch: Callable[[Scores], None] | None = None,
) -> Answer:
    """One model's answer. Where a concern blocks, no number is computed: it would mean nothing."""
    answer, denoised = before_scoring(scorer, image, captions, budget), None
    if answer.problem:
        return answer
    if show is not None and isinstance(scorer, Denoiser):
        scores, denoised = scorer.score_and_show(image, captions, budget, most=show, watch=watch)
    else:
        scores = scorer.score([image], captions, budget)
    return replace(answer, scores=scores, preference=decide(scores), denoised=denoised)


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


def _sentences(concerns: Iterable[Concern]) -> tuple[str, ...]:
    """Each sentence once, in order."""
    return tuple(dict.fromkeys(concern.text for concern in concerns))


def _since(start: float) -> float:
    """Seconds since a time of the monotonic clock, for the log."""
    return round(time.monotonic() - start, 3)
