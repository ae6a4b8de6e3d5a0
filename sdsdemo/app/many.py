"""Many pictures at once, each with captions of its own: a caption that several share is encoded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from sdsdemo.app.asking import OUR_FAULT, before_scoring
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.types import Answer, Budget, Card, Example, Scorer

log = logging.getLogger(__name__)


def compare_many(
    workbench: Workbench, questions: Sequence[Example], models: Sequence[str], budget: Budget
) -> list[list[Answer]]:
    """For each question the answers of all models, in the given order. A question has one picture.

    A model that cannot answer has a problem in its place. Raises `UserError` for an unknown model.
    """
    cards = [workbench.card(name) for name in models]
    by_model = [_answers(workbench, card, questions, budget) for card in cards]
    return [[answers[k] for answers in by_model] for k in range(len(questions))]


def _answers(workbench: Workbench, card: Card, questions: Sequence[Example], budget: Budget) -> list[Answer]:
    try:
        with workbench.held(card) as scorer:
            return _scored(scorer, questions, budget)
    except UserError as error:
        failed = Answer(card=card, problem=str(error))
    except Exception:  # one model's failure must not cost the caller the others; the log has it
        log.exception("%s failed", card.name)
        failed = Answer(card=card, problem=OUR_FAULT.format(title=card.title), fault=True)
    return [failed] * len(questions)


def _scored(scorer: Scorer, questions: Sequence[Example], budget: Budget) -> list[Answer]:
    answers = [before_scoring(scorer, q.images[0].open(), list(q.captions), budget) for q in questions]
    asked = [k for k, answer in enumerate(answers) if not answer.problem]
    found = scorer.score_examples([questions[k] for k in asked], budget)
    for k, scores in zip(asked, found, strict=True):
        answers[k] = replace(answers[k], scores=scores, preference=decide(scores))
    return answers
