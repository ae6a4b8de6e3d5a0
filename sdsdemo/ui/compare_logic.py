"""What the Compare tab does, as functions of plain values: a form goes in, views of the answer come out.

Knows no Gradio component; `ui/compare.py` lays the page out and shows the views. Every limit is checked here, on the
server, whatever the page's own fields allowed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.captions.cleaning import cleaning_notes
from sdsdemo.captions.validation import check_captions
from sdsdemo.errors import UserError
from sdsdemo.evaluation import loss_charts as plots
from sdsdemo.evaluation.answers import AnswersRecord, answers_as_dict
from sdsdemo.models.images import open_image, open_picture
from sdsdemo.settings import LIMITS, budget, typed_range
from sdsdemo.types import Answer, Budget, Card
from sdsdemo.ui import answer_file, compare_html
from sdsdemo.ui.examples import ShownExample, find_example
from sdsdemo.ui.templates import render

log = logging.getLogger(__name__)

Find = Callable[[Image], ShownExample | None]

NO_PICTURE = "There is no picture yet: click an example, drop a file here or paste one."
NO_MODEL = "Choose at least one model in the settings."
OUR_FAULT = "Something went wrong on our side; the server's log has the details. Your picture and captions are kept."


def nothing(image: Image) -> ShownExample | None:
    """What is known of a picture where nothing is."""
    return None


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a visitor filled in, unchecked."""

    image: str | None
    """Path of a file in Gradio's cache."""
    captions: Sequence[object]
    models: Sequence[object]
    timesteps: Any
    noises: Any
    seed: Any
    region: Any = "crop"
    timestep_range: Any = None
    """Two numbers, or a text that holds them; nothing is the range of each model's card."""
    remarks: tuple[str, ...] = ()
    """What is said beside the answer, since the address asked for something else."""


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
    """What was read where that is not what was typed."""

    @property
    def truth(self) -> int | None:
        """Index of the true caption where it is known."""
        return self.example.truth(self.captions) if self.example else None


@dataclass(frozen=True, kw_only=True)
class WayOn:
    """A real model for what the Mini models cannot know."""

    card: Card
    can_run: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows next."""

    message: str = ""
    """What must change first."""
    remarks: tuple[str, ...] = ()
    """What was read where that is not what was given; the answer stands."""
    answer: str = ""
    """Empty: the answer on the page stays."""
    charts: tuple[plots.Figure, ...] = ()
    """The loss and the difference, or nothing."""
    has_charts: bool | None = None
    """Whether the charts are to be seen; None leaves that as it is."""
    way_on: WayOn | None = None


def ask(workbench: Workbench, examples: Sequence[ShownExample], form: Form, find: Find = nothing) -> Question:
    """Checks a form, the picture last since decoding costs most. Raises `UserError` about the first fault.

    find: what is known of a picture that is none of the examples.
    """
    if not form.image:
        raise UserError(NO_PICTURE)
    typed = _texts(form.captions, "The captions")
    captions = check_captions(typed)
    models = list(dict.fromkeys(name.strip() for name in _texts(form.models, "The models") if name.strip()))
    if not models:
        raise UserError(NO_MODEL)
    if len(models) > LIMITS.models:
        raise UserError(f"Choose at most {LIMITS.models} models; there were {len(models)}.")
    for name in models:
        workbench.card(name)
    spend = budget(form.timesteps, form.noises, form.seed, region=form.region, timestep_range=form.timestep_range)
    path = Path(form.image)
    opened = open_picture(path)
    return Question(
        image_name=path.name,
        image=opened.image,
        captions=captions,
        models=models,
        budget=spend,
        example=find_example(examples, path) or find(opened.image),
        notes=(*opened.notes, *cleaning_notes(typed, captions)),
    )


def score(
    workbench: Workbench, examples: Sequence[ShownExample], form: Form, space: str = "", find: Find = nothing
) -> Iterator[View]:
    """The views from a click on Score to the last model. Every failure becomes a sentence."""
    try:
        question = ask(workbench, examples, form, find)
    except UserError as error:
        yield View(message=str(error))
        return
    except Exception:
        log.exception("a form could not be checked")
        yield View(message=OUR_FAULT)
        return
    yield from _answers(workbench, question, space)


def score_dict(workbench: Workbench, examples: Sequence[ShownExample], form: Form) -> AnswersRecord:
    """The same answer as `score --json`, for programs. Raises `UserError`."""
    question = ask(workbench, examples, form)
    answers = workbench.compare(question.image, question.captions, question.models, question.budget)
    spend = question.budget
    return answers_as_dict(
        question.image_name, question.captions, list(answers), question.notes, spend.region, spend.timestep_range
    )


def check_picture(path: str | None) -> str:
    """A sentence when a picture that was just put in cannot be used; nothing otherwise."""
    if not path:
        return ""
    try:
        open_image(Path(path))
    except UserError as error:
        return str(error)
    return ""


def stored_view(example: ShownExample, answers: Sequence[Answer], space: str = "") -> View:
    """The view of an answer that was computed before: what the page opens on."""
    captions, models = list(example.captions), [answer.card.name for answer in answers]
    return _final(example.path.name, captions, answers, example, models, _budget_of(answers), space)


def models_html(workbench: Workbench, names: Sequence[object]) -> str:
    """One line a chosen model: ready, to be loaded, or why it cannot run here and what to do."""
    chosen = dict.fromkeys(str(name).strip() for name in names if name)
    return render("compare.models", lines=[_model_line(workbench, name) for name in chosen])


def model_choices(workbench: Workbench) -> list[tuple[str, str]]:
    """Label and name of every card; the label says what must be downloaded first."""
    return [(_choice(card), card.name) for card in workbench.cards()]


def find_way_on(workbench: Workbench, answers: Sequence[Answer]) -> WayOn | None:
    """A real CLIP when a Mini CLIP had to pass: the smallest that can run here, or else the smallest."""
    if not any(answer.problem and not answer.card.download and answer.card.family == "clip" for answer in answers):
        return None
    real = sorted((c for c in workbench.cards() if c.family == "clip" and c.download), key=lambda card: card.size_mb)
    if not real:
        return None
    states = {card.name: workbench.availability(card) for card in real}
    card = next((card for card in real if states[card.name].can_run), real[0])
    state, size = states[card.name], compare_html.size_words(card.size_mb)
    if state.can_run:
        return WayOn(card=card, can_run=True, sentence=f"Load real CLIP ({card.title}, {size}) and score")
    sentence = f"Real CLIP ({card.title}, {size}) knows many more words and pictures. {state.reason} {state.next_step}"
    return WayOn(card=card, can_run=False, sentence=" ".join(sentence.split()))


def take_way_on(workbench: Workbench, models: Sequence[str | None], name: str) -> list[str | None]:
    """The rows with a real CLIP for the Mini CLIP, and its own SDS-CLIP for Mini's where there is a card of one."""
    tuned = next((card.name for card in workbench.cards() if card.base == name), None)
    in_place = {"clip": name, "sds-clip": tuned}
    families = [workbench.card(model).family if model else "" for model in models]
    return [in_place.get(family) or model for family, model in zip(families, models, strict=True)]


def curves_of(answers: Sequence[Answer]) -> list[plots.Curves]:
    """What the charts need, from every answer that rests on denoising losses."""
    return [
        plots.Curves(
            model=answer.card.title,
            timestep_T=answer.scores.evidence.timestep_T,
            loss_CTN=answer.scores.evidence.loss_ICTN[0],
            space=answer.scores.evidence.space,
        )
        for answer in answers
        if answer.scores and answer.scores.evidence
    ]


def form_of_address(
    workbench: Workbench,
    examples: Sequence[ShownExample],
    query: Mapping[str, str],
    of_run: Callable[..., ShownExample] | None = None,
) -> tuple[Form, ShownExample | None] | None:
    """The form that an address describes; None for an address that asks for nothing."""
    if query.get("tab", "compare") != "compare" or not query.keys() & {"example", "a", "b", "models"}:
        return None
    asked = answer_file.read_address(query, workbench.settings)
    captions, spend = asked.captions, asked.spend
    example = _of_run(query, of_run) or next((example for example in examples if example.name == asked.example), None)
    if example and not any(captions):
        captions = example.captions
    form = Form(
        image=str(example.path) if example else None,
        captions=captions,
        models=asked.models,
        timesteps=spend.timesteps,
        noises=spend.noises,
        seed=spend.seed,
        region=spend.region,
        timestep_range=typed_range(spend.timestep_range),
        remarks=asked.dropped,
    )
    return form, example


def _of_run(query: Mapping[str, str], of_run: Callable[..., ShownExample] | None) -> ShownExample | None:
    """The picture of a stored run that an address names; None where it names none, or the run is not here.

    Of one image and many captions it names two of them too, by their places.
    """
    if of_run is None or not {"run", "example", "picture"} <= query.keys():
        return None
    places = [query[name][:6] for name in ("picture", "true", "rival") if name in query]
    if not all(place.isdecimal() for place in places):
        return None
    try:
        return of_run(query["run"], query["example"], *map(int, places))
    except UserError:
        return None


def _answers(workbench: Workbench, question: Question, space: str) -> Iterator[View]:
    answers: list[Answer] = []
    yield _partial(workbench, question, answers)
    try:
        for answer in workbench.compare(question.image, question.captions, question.models, question.budget):
            answers.append(answer)
            if len(answers) < len(question.models):
                yield _partial(workbench, question, answers)
        yield replace(
            _final(
                question.image_name,
                question.captions,
                answers,
                question.example,
                question.models,
                question.budget,
                space,
                question.notes,
            ),
            way_on=find_way_on(workbench, answers),
            remarks=question.notes,
        )
    except UserError as error:
        yield _broken_off(question, answers, str(error))
    except Exception:
        log.exception("scoring failed")
        yield _broken_off(question, answers, OUR_FAULT)


def _partial(workbench: Workbench, question: Question, answers: Sequence[Answer]) -> View:
    """The rows so far, and what happens to the others."""
    to_come = [workbench.card(name) for name in question.models[len(answers) :]]
    waiting = [(card.title, _doing(workbench, card) if i == 0 else "waits") for i, card in enumerate(to_come)]
    return View(answer=compare_html.answer_html(question.captions, answers, waiting, question.truth))


def _broken_off(question: Question, answers: Sequence[Answer], sentence: str) -> View:
    return View(message=sentence, answer=compare_html.answer_html(question.captions, answers, truth=question.truth))


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
    space: str,
    notes: Sequence[str] = (),
) -> View:
    kept = answer_file.answer_record(image_name, captions, answers, notes, spend.region, spend.timestep_range)
    tools = compare_html.tools_html(
        answer_file.address(example, captions, models, spend, space),
        example is None,
        answer_file.as_csv(kept),
        answer_file.as_json(kept),
    )
    truth = example.truth(captions) if example else None
    curves = curves_of(answers)
    charts = (plots.loss_by_timestep(curves, captions), plots.difference_by_timestep(curves)) if curves else ()
    return View(
        answer=compare_html.answer_html(captions, answers, truth=truth, tools=tools),
        charts=charts,
        has_charts=bool(curves),
    )


def _budget_of(answers: Sequence[Answer]) -> Budget:
    """The budget that stored answers were computed with."""
    for answer in answers:
        if answer.scores and (evidence := answer.scores.evidence):
            _, _, timesteps, noises = evidence.loss_ICTN.shape
            return budget(timesteps, noises, evidence.seed)
    return budget()


def _texts(values: object, what: str) -> list[str]:
    """A list of texts, or a `UserError`: programs may send anything."""
    if not isinstance(values, list | tuple) or not all(value is None or isinstance(value, str) for value in values):
        raise UserError(f"{what} must be a list of texts.")
    return [value or "" for value in values]


def _model_line(workbench: Workbench, name: str) -> dict[str, Any]:
    """Whether it can run, its title, and the rest of the sentence."""
    try:
        card = workbench.card(name)
    except UserError as error:
        return {"can_run": False, "title": "", "words": str(error)}
    state = workbench.availability(card)
    if not state.can_run:
        words = f"cannot run here. {state.reason} {state.next_step}".strip()
    elif workbench.is_loaded(card.name):
        words = "is loaded."
    else:
        fetch = f", after a download of {compare_html.size_words(card.size_mb)}" if card.download else ""
        words = f"loads when first used{fetch}."
    return {"can_run": state.can_run, "title": card.title, "words": words}


def _choice(card: Card) -> str:
    return f"{card.title} · {compare_html.size_words(card.size_mb)} to download" if card.download else card.title
