"""Finds, loads and queries models. Page, shell and Python share it.

Owns the loaded models and their locks. Handles no tensor; knows neither page nor command line.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from threading import Lock, Thread

import numpy as np
from PIL.Image import Image

from sdsdemo.app import asking
from sdsdemo.app.asking import Question, Request
from sdsdemo.app.kept_answers import Asked, KeptAnswers
from sdsdemo.app.shared_gpu import SharedGpu
from sdsdemo.app.sharing import GONE, is_shared
from sdsdemo.captions.validation import check_captions
from sdsdemo.errors import UserError
from sdsdemo.models import cards, open_scorer
from sdsdemo.models.memory import memory_in_words
from sdsdemo.runtime import zerogpu
from sdsdemo.settings import LIMITS, Settings
from sdsdemo.types import Answer, Availability, Budget, Card, Scorer

NO_SPECS = "A model without a card can be used only on your own machine. Known models: {names}."


class Workbench:
    """The models of one process. Safe to share between threads."""

    def __init__(self, settings: Settings | None = None, opener: Callable[[Card], Scorer] | None = None) -> None:
        """settings: by default the shell's, which may name any model; a page gives its own.

        `opener` turns a card into a scorer; by default `models.open_scorer`, once the model is known to run here.

        Raises `UserError` for an invalid environment variable.
        """
        self.settings = settings or Settings.of_the_shell()
        self._opener = opener or self._open
        self.gpu = SharedGpu(self.settings) if zerogpu.is_here() else None
        """Where a GPU is lent for a call: what is asked on it."""
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
        self._loading_ahead = Lock()
        """Held while models are loaded before anyone asks them."""
        self._kept = KeptAnswers(self._loaded_already)

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
        if self.gpu is not None and self.gpu.takes(card):
            return self.gpu.availability(card)
        return cards.availability(card, self.settings)

    def check(self, models: Sequence[str]) -> None:
        """Raises `UserError` for the first model that is unknown or cannot run here, before hours go into another."""
        for name in models:
            self._check(self.card(name))

    def is_loaded(self, name: str) -> bool:
        """Whether this model is loaded."""
        with self._table:
            return name in self._loaded or (self.gpu is not None and self.gpu.is_placed(name))

    def place(self) -> None:
        """Where a GPU is lent for a call: load the models of the settings that need it, before the page is launched."""
        for card in map(self.card, self.settings.models) if self.gpu is not None else ():
            if self.gpu is not None and self.gpu.takes(card):
                self.gpu.place(card)

    def scorer(self, name_or_spec: str) -> Scorer:
        """The model, loaded on first use and at most once. Raises `UserError` if it cannot run here now."""
        card = self.card(name_or_spec)
        with self._lock_of(card):
            return self._load(card)

    def load_ahead(self, names: Sequence[str]) -> None:
        """Begin to load the Mini models among these, for a visitor who is about to ask them. Returns at once.

        The first model to load brings in torch and the libraries on top of it, which takes most of the time.
        """
        if self._loading_ahead.acquire(blocking=False):
            try:
                Thread(target=self._load_each, args=(tuple(names),), name="loads ahead", daemon=True).start()
            except RuntimeError:  # no thread is to be had
                self._loading_ahead.release()

    def _load_each(self, names: Sequence[str]) -> None:
        """Load the Mini models among these; call with `_loading_ahead` held. What cannot load says so when asked."""
        try:
            for name in names:
                with suppress(Exception):
                    if not self.is_loaded(name) and self.card(name).mini:
                        self.scorer(name)
        finally:
            self._loading_ahead.release()

    @contextmanager
    def held(self, card: Card) -> Iterator[Scorer]:
        """The model of a card for one request; others wait. Raises `UserError` if it cannot run here now."""
        with self._lock_of(card), memory_in_words(card.title):
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
        digest: str = "",
    ) -> Iterator[Answer]:
        """Each model's answer about one picture, as soon as it is ready, in the given order.

        show: what a model that denoises may spend on showing it, as a share of scoring; None shows nothing.
        live: such a model also yields what it knows so far, now and then (`Answer.of`), before its answer.
        digest: of the picture's pixels; an earlier answer to the same question may then be given again.

        A model that cannot answer yields an `Answer` with a problem, and the next one follows. Raises `UserError`
        before the first answer for invalid captions or an unknown model.
        """
        checked = tuple(check_captions(captions))
        questions = [Question(card=self.card(name), captions=checked) for name in models]
        yield from self._answers(questions, Request(image=image, budget=budget, show=show, live=live, digest=digest))

    def has_kept(
        self, captions: Sequence[str], models: Sequence[str], budget: Budget, *, show: float | None, digest: str
    ) -> bool:
        """Whether `compare` has every answer already. Raises `UserError` as `compare`."""
        asked = Asked(digest=digest, captions=tuple(check_captions(captions)), budget=budget, show=show)
        return all(self._kept.find(self.card(name), asked) is not None for name in models)

    def compare_groups(
        self, image: Image, groups: Sequence[Sequence[str]], model: str, budget: Budget
    ) -> Iterator[Answer]:
        """One model's answers about one picture, one for each group of captions. Raises `UserError` as `compare`."""
        card = self.card(model)
        questions = [Question(card=card, captions=tuple(check_captions(group))) for group in groups]
        yield from self._answers(questions, Request(image=image, budget=budget))

    def draw(
        self, model: str, captions: Sequence[str], seeds: Sequence[int], *, steps: int, looks: int
    ) -> Iterator[np.ndarray]:
        """What a model that denoises draws for each caption from each seed, as it emerges; see `types.Denoiser`.

        Raises `UserError` for invalid captions, for words that the model does not know, and for a model that is
        unknown, cannot run here or does not denoise.
        """
        card, checked = self.card(model), check_captions(captions)
        if self.gpu is not None and self._is_away(card):
            yield from self.gpu.drawn(card, checked, seeds, steps, looks)
        else:
            yield from asking.drawn(self.held, card, checked, seeds, steps=steps, looks=looks)

    def _answers(self, questions: Sequence[Question], request: Request) -> Iterator[Answer]:
        """Mini's models answer here; neighbours that need a GPU lent for the call share one loan."""
        for is_away, group in groupby(questions, key=lambda question: self._is_away(question.card)):
            if is_away and self.gpu is not None:
                yield from self.gpu.answers(list(group), request)
            else:
                yield from asking.answers(self.held, list(group), request, self._kept)

    def _is_away(self, card: Card) -> bool:
        """Whether a model is asked on a GPU that is lent for the call."""
        return self.gpu is not None and self.gpu.takes(card) and self.availability(card).can_run

    def _lock_of(self, card: Card) -> Lock:
        with self._table:
            return self._locks[card.name]

    def _loaded_already(self, card: Card) -> Scorer | None:
        """The loaded model, marked as most recently used; None for one of the same name whose card has changed since.

        A visitor's model keeps its name when it is trained further; its card then tells of more steps.
        """
        with self._table:
            known, scorer = self._loaded.get(card.name, (None, None))
            if known != card:
                return None
            self._loaded.move_to_end(card.name)
            return scorer

    def _load(self, card: Card) -> Scorer:
        """The model, loaded unless it is; call with the model's lock held."""
        loaded = self._loaded_already(card)
        if loaded is not None:
            return loaded
        with self._table:
            self._loaded.pop(card.name, None)  # of another card
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
            raise UserError(state.words)

    def _open(self, card: Card) -> Scorer:
        self._check(card)
        device = "cpu" if card.mini or self.gpu is not None else self.settings.device
        use = self.settings
        return open_scorer(
            card, device=device, precision=use.precision, compiles=use.compiles, allow_download=use.allow_download
        )
