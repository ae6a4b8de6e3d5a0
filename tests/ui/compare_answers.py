"""Answers about two captions, as a workbench with fakes gives them."""

from __future__ import annotations

from PIL import Image

from sdsdemo.core.decision import decide
from sdsdemo.settings import budget
from sdsdemo.types import Answer, Scores
from tests.fakes import MINI_CARDS, FakeScorer

MINI = tuple(card.name for card in MINI_CARDS)
CAPTIONS = ("a red square left of a blue square", "a blue square left of a red square")


def answer_of(name: str = "mini-diffusion", **facts) -> Answer:
    """An answer as a workbench gives it."""
    card = next(card for card in MINI_CARDS if card.name == name)
    scores = FakeScorer(card, **facts).score([Image.new("RGB", (9, 9), "red")], CAPTIONS, budget())
    return Answer(card=card, scores=scores, preference=decide(scores))


def scores_of(answer: Answer) -> Scores:
    assert answer.scores is not None
    return answer.scores
