"""The logic of the Compare tab as functions of plain values: a form goes in, views of the answer come out.

Knows no Gradio component; `ui/compare.py` lays the page out and shows the views. The form is in `ui/compare_form.py`,
the models' states in `ui/compare_models.py`. Every limit is checked here, on the server, whatever the page's fields
allow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL.Image import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.captions.cleaning import cleaning_notes
from sdsdemo.captions.validation import check_captions
from sdsdemo.errors import UserError
from sdsdemo.evaluation import loss_charts
from sdsdemo.evaluation.answers import AnswersRecord, answers_as_dict
from sdsdemo.settings import LIMITS, budget
from sdsdemo.types import Answer, Budget, Card
from sdsdemo.ui import answer_file, compare_html, typical
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.compare_models import Suggestion, find_suggestion
from sdsdemo.ui.drawn_answers import drawn_of
from sdsdemo.ui.examples import ShownExample, find_example
from sdsdemo.ui.uploads import looking, open_upload

log = logging.getLogger(__name__)

Find = Callable[[Image], ShownExample | None]

SHOW_AT_MOST = 0.4
"""What decoding guesses may cost, as a share of scoring."""
NO_PICTURE = "There is no picture yet: click an example, drop a file here or paste one."
NO_MODEL = "Choose at least one model in the settings."
OUR_FAULT = "Something went wrong on our side; the server's log has the details. Your picture and captions are safe."


def find_nothing(image: Image) -> ShownExample | None:
    """Recognises no picture."""
    return None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an answer needs besides the form."""

    space: str = ""
    """The Space's id, if the page runs as one."""
    find: Find = find_nothing
    """Recognises pictures that are not among the examples."""
    typical: typical.Find = typical.no_typical
    """The scale of a model's differences."""


NO_CONTEXT = Context()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A form that passed every check."""

    image_name: str
    image: Image
    captions: list[str]
    models: list[str]
    budget: Budget
    example: ShownExample | None
    notes: tuple[str, ...] = ()
    """What was read, if it differs from the input."""
    digest: str = ""
    """Of the picture's pixels."""

    @property
    def truth(self) -> int | None:
        """Index of the true caption; None if unknown."""
        return self.example.truth(self.captions) if self.example else None


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows next."""

    message: str = ""
    """What the visitor must change first."""
    remarks: tuple[str, ...] = ()
    """What was read, if it differs from the input; the answer stands."""
    answer: str = ""
    """Empty: the answer on the page stays."""
    denoising: str = ""
    """What each model that denoises made of the picture; shown with the charts."""
    charts: tuple[loss_charts.Figure, ...] = ()
    """The loss and the difference, or empty."""
    has_charts: bool | None = None
    """Whether to show the charts; None leaves them as they are."""
    suggestion: Suggestion | None = None


def ask(workbench: Workbench, examples: Sequence[ShownExample], form: Form, find: Find = find_nothing) -> Question:
    """Checks a form, the picture last since decoding costs most. Raises `UserError` about the first fault.

    find: recognises pictures that are not among the examples.
    """
    if not form.image:
        raise UserError(NO_PICTURE)
    typed = _texts(form.captions, "The captions")
    captions = check_captions(typed)
    rows = [name.strip() for name in _texts(form.models, "The models") if name.strip()]
    models = list(dict.fromkeys(rows))
    if not models:
        raise UserError(NO_MODEL)
    if len(models) > LIMITS.models:
        raise UserError(f"Choose at most {LIMITS.models} models; there were {len(models)}.")
    for name in models:
        workbench.card(name)
    spend, path = form.budget(), Path(form.image)
    opened = open_upload(path)
    return Question(
        image_name=path.name,
        image=opened.image,
        captions=captions,
        models=models,
        budget=spend,
        example=find_example(examples, path) or find(opened.image),
        notes=(*opened.notes, *cleaning_notes(typed, captions), *_twice(rows)),
        digest=opened.digest,
    )


def score(
    workbench: Workbench, examples: Sequence[ShownExample], form: Form, context: Context = NO_CONTEXT
) -> Iterator[View]:
    """The views from a click on Score to the last model's answer. Failures become messages."""
    try:
        question = ask(workbench, examples, form, context.find)
    except UserError as error:
        yield View(message=str(error))
        return
    except Exception:
        log.exception("a form could not be checked")
        yield View(message=OUR_FAULT)
        return
    yield from _answers(workbench, question, context)


def score_dict(workbench: Workbench, examples: Sequence[ShownExample], form: Form) -> AnswersRecord:
    """The same answer as `score --json`, for programs. Raises `UserError`."""
    question = ask(workbench, examples, form)
    asked = (question.image, question.captions, question.models, question.budget)
    answers = workbench.compare(*asked, digest=question.digest)
    spend = question.budget
    return answers_as_dict(
        question.image_name, question.captions, list(answers), question.notes, spend.region, spend.timestep_range
    )


def check_picture(path: str | None) -> str:
    """A sentence if the picture just uploaded cannot be used; empty otherwise."""
    if not path:
        return ""
    try:
        with looking():
            open_upload(path)
    except UserError as error:
        return str(error)
    return ""


def stored_view(example: ShownExample, answers: Sequence[Answer], context: Context = NO_CONTEXT) -> View:
    """The view of a stored answer, which the page opens with."""
    captions, models = list(example.captions), [answer.card.name for answer in answers]
    return _final(example.path.name, captions, answers, example, models, _budget_of(answers), context)


def _answers(workbench: Workbench, question: Question, context: Context) -> Iterator[View]:
    """The rows as they come; all at once where somebody has asked the same before."""
    answers: list[Answer] = []
    asked, digest = (question.captions, question.models, question.budget), question.digest
    is_kept = workbench.has_kept(*asked, show=SHOW_AT_MOST, digest=digest)
    if not is_kept:
        yield _partial(workbench, question, answers, context)
    try:
        for answer in workbench.compare(question.image, *asked, show=SHOW_AT_MOST, live=True, digest=digest):
            if answer.of:
                yield _partial(workbench, question, [*answers, answer], context)
                continue
            answers.append(answer)
            if len(answers) < len(question.models) and not is_kept:
                yield _partial(workbench, question, answers, context)
        yield replace(
            _final(
                question.image_name,
                question.captions,
                answers,
                question.example,
                question.models,
                question.budget,
                context,
                question.notes,
            ),
            suggestion=find_suggestion(workbench, answers),
            remarks=question.notes,
        )
    except UserError as error:
        yield _interrupted(question, answers, str(error), context)
    except Exception:
        log.exception("scoring failed")
        yield _interrupted(question, answers, OUR_FAULT, context)


def _partial(workbench: Workbench, question: Question, answers: Sequence[Answer], context: Context) -> View:
    """The rows so far, and the state of the others."""
    to_come = [workbench.card(name) for name in question.models[len(answers) :]]
    is_busy = bool(answers and answers[-1].of)
    waiting = [
        (card.title, _doing(workbench, card) if i == 0 and not is_busy else "waiting") for i, card in enumerate(to_come)
    ]
    return View(
        answer=compare_html.answer_html(question.captions, answers, waiting, question.truth, typical=context.typical)
    )


def _interrupted(question: Question, answers: Sequence[Answer], sentence: str, context: Context) -> View:
    answer = compare_html.answer_html(question.captions, answers, truth=question.truth, typical=context.typical)
    return View(message=sentence, answer=answer, has_charts=False)


def _doing(workbench: Workbench, card: Card) -> str:
    if workbench.is_loaded(card.name):
        return "scoring …"
    return (
        f"loading, {compare_html.size_words(card.size_mb)} to download first …"
        if card.download
        else "loading and scoring …"
    )


def _final(
    image_name: str,
    captions: Sequence[str],
    answers: Sequence[Answer],
    example: ShownExample | None,
    models: Sequence[str],
    spend: Budget,
    context: Context,
    notes: Sequence[str] = (),
) -> View:
    record = answer_file.answer_record(image_name, captions, answers, notes, spend.region, spend.timestep_range)
    tools = compare_html.tools_html(
        answer_file.address(example, captions, models, spend, context.space),
        example is None,
        answer_file.as_csv(record),
        answer_file.as_json(record),
    )
    truth = example.truth(captions) if example else None
    drawn = drawn_of(captions, answers)
    return View(
        answer=compare_html.answer_html(captions, answers, truth=truth, tools=tools, typical=context.typical),
        denoising=drawn.denoising,
        charts=drawn.charts,
        has_charts=bool(drawn.charts),
    )


def _budget_of(answers: Sequence[Answer]) -> Budget:
    """The budget with which stored answers were computed."""
    for answer in answers:
        if answer.scores and (evidence := answer.scores.evidence):
            _, _, timesteps, noises = evidence.loss_ICTN.shape
            adaptive = evidence.rounds_IC is not None
            return budget(timesteps, noises, evidence.seed, antithetic=evidence.antithetic, adaptive=adaptive)
    return budget()


def _twice(names: Sequence[str]) -> list[str]:
    """A sentence for each model that several rows name."""
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return [f"{name} is chosen {names.count(name)} times, and shown once." for name in repeated]


def _texts(values: object, what: str) -> list[str]:
    """Checks that a value is a list of texts: programs may send anything. Raises `UserError`."""
    if not isinstance(values, list | tuple) or not all(value is None or isinstance(value, str) for value in values):
        raise UserError(f"{what} must be a list of texts.")
    return [value or "" for value in values]
