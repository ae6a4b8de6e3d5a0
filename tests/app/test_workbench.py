"""The workbench: models load once, fail alone, are let go when there are too many, and are named only as allowed."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import replace

import pytest
import torch
from PIL import Image

from sdsdemo.app import asking
from sdsdemo.app.kept import kept_workbench
from sdsdemo.app.many import compare_many
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS, Settings, budget
from sdsdemo.types import Card, Concern, Example, Picture
from tests.fakes import FakeDenoiser, FakeScorer, fake_card

PICTURE = Image.new("RGB", (32, 32), "red")
CAPTIONS = ("a red star", "a blue circle")
BLOCKING = Concern(kind="unknown-words", text="'piano' is not known.", blocking=True)
EQUAL = Concern(kind="equal-captions", text="Captions A and B are the same.", blocking=False)
REMARK = Concern(kind="truncated", text="The end was cut.", blocking=False)


class Opener:
    """Makes fakes, slowly enough that threads meet, and counts how often each card is opened."""

    def __init__(self, **given: FakeScorer) -> None:
        self.given = given
        self.opened: list[str] = []

    def __call__(self, card: Card) -> FakeScorer:
        self.opened.append(card.name)
        time.sleep(0.02)
        return self.given.get(card.name.replace("-", "_"), FakeScorer(card))


def bench_of(**given: FakeScorer) -> tuple[Workbench, Opener]:
    opener = Opener(**given)
    return Workbench(Settings.from_environment({}), opener=opener), opener


def test_a_mini_model_opens_on_the_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, str] = {}

    def opener(card: Card, *, device: str, **options: object) -> FakeScorer:
        opened[card.name] = device
        return FakeScorer(card)

    monkeypatch.setattr("sdsdemo.app.workbench.open_scorer", opener)
    workbench = Workbench(Settings.from_environment({"SDSDEMO_DEVICE": "cuda"}))
    monkeypatch.setattr(Workbench, "_check", lambda self, card: None)
    for card in (replace(fake_card("tiny"), mini=True), replace(fake_card("mini-large"), mini=False)):
        workbench.lend(card)
        workbench.scorer(card.name)
    assert opened == {"tiny": "cpu", "mini-large": "cuda"}


def test_many_threads_load_a_model_once() -> None:
    workbench, opener = bench_of()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(workbench.scorer("mini-clip"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opener.opened == ["mini-clip"]
    assert len(found) == 8
    assert len({id(scorer) for scorer in found}) == 1


def test_a_model_of_the_same_name_with_another_card_is_loaded_anew() -> None:
    workbench, opener = bench_of()
    answers, cards = [], [replace(fake_card("tuned:own"), title=f"{steps} steps") for steps in (60, 90)]
    for card in (*cards, cards[1]):
        workbench.lend(card)
        *_, last = workbench.compare(PICTURE, CAPTIONS, ["tuned:own"], budget(), digest="red")
        answers.append(last)
    assert opener.opened == ["tuned:own"] * 2
    assert [answer.card.title for answer in answers] == ["60 steps", "90 steps", "90 steps"]
    assert answers[1] is answers[2]


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    workbench, opener = bench_of()
    workbench.cards()
    assert opener.opened == []
    assert not workbench.is_loaded("mini-clip")
    workbench.scorer("mini-clip")
    assert workbench.is_loaded("mini-clip")


def test_answers_keep_their_order_and_a_failure_costs_one_row() -> None:
    broken = FakeScorer(fake_card("mini-diffusion", "diffusion"), failure=RuntimeError("secret detail"))
    workbench, _ = bench_of(mini_diffusion=broken)
    names = ["mini-clip", "mini-diffusion", "mini-sds-clip"]
    answers = list(workbench.compare(PICTURE, CAPTIONS, names, budget()))
    assert [answer.card.name for answer in answers] == names
    assert [answer.scores is None for answer in answers] == [False, True, False]
    assert answers[1].fault
    assert "secret" not in answers[1].problem


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory")],
)
def test_memory_that_runs_out_is_a_sentence_in_one_row(failure: Exception) -> None:
    broken = FakeScorer(fake_card("mini-diffusion", "diffusion"), failure=failure)
    workbench, _ = bench_of(mini_diffusion=broken)
    names = ["mini-clip", "mini-diffusion", "mini-sds-clip"]
    asked = Example(id="0", images=(Picture(name="0", open=lambda: PICTURE),), captions=CAPTIONS, tags={})
    for answers in (list(workbench.compare(PICTURE, CAPTIONS, names, budget())),
                    compare_many(workbench, [asked], names, budget())[0]):  # fmt: skip
        assert [answer.scores is None for answer in answers] == [False, True, False]
        assert not answers[1].fault
        assert "ran out of memory" in answers[1].problem
    broken._failure = None
    assert all(answer.scores for answer in workbench.compare(PICTURE, CAPTIONS, names, budget()))


def test_answers_arrive_as_they_are_ready() -> None:
    workbench, opener = bench_of()
    stream = workbench.compare(PICTURE, CAPTIONS, ["mini-clip", "mini-diffusion"], budget())
    next(stream)
    assert opener.opened == ["mini-clip"]


def test_where_a_number_would_mean_nothing_none_is_computed() -> None:
    fake = FakeScorer(fake_card(), concerns=[BLOCKING, REMARK])
    workbench, _ = bench_of(mini_clip=fake)
    (answer,) = workbench.compare(PICTURE, CAPTIONS, ["mini-clip"], budget())
    assert answer.scores is None
    assert answer.problem == BLOCKING.text
    assert answer.notes == (REMARK.text,)
    assert fake.calls == 0


@pytest.mark.parametrize(("known", "notes"), [(True, (EQUAL.text,)), (False, ())])
def test_captions_are_said_to_be_equal_only_where_their_words_are_known(known: bool, notes: tuple[str, ...]) -> None:
    fake = FakeScorer(fake_card(), concerns=[EQUAL] if known else [BLOCKING, EQUAL])
    workbench, _ = bench_of(mini_clip=fake)
    (answer,) = workbench.compare(PICTURE, CAPTIONS, ["mini-clip"], budget())
    assert answer.notes == notes


def test_a_remark_stands_beside_the_scores() -> None:
    workbench, _ = bench_of(mini_clip=FakeScorer(fake_card(), concerns=[REMARK, REMARK]))
    (answer,) = workbench.compare(PICTURE, CAPTIONS, ["mini-clip"], budget())
    assert answer.scores is not None
    assert answer.notes == (REMARK.text,)


@pytest.mark.parametrize("captions", [("a", "a"), ("a", ""), ("a",), ("a", "b" * 5000)])
def test_bad_captions_are_refused_before_any_model_is_loaded(captions: tuple[str, ...]) -> None:
    workbench, opener = bench_of()
    with pytest.raises(UserError):
        list(workbench.compare(PICTURE, captions, ["mini-clip"], budget()))
    assert opener.opened == []


def test_the_models_used_longest_ago_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.app.workbench.LIMITS", replace_limit(7))
    workbench, opener = bench_of()
    for name in ("mini-clip", "mini-clip-clean", "mini-clip", "mini-sds-clip", "mini-diffusion", "mini-clip"):
        workbench.scorer(name)
    assert opener.opened == ["mini-clip", "mini-clip-clean", "mini-sds-clip", "mini-diffusion", "mini-clip"]


def replace_limit(megabytes: int):
    from sdsdemo.settings import LIMITS

    return replace(LIMITS, loaded_mb=megabytes)


def test_a_spec_can_be_named_only_where_the_page_is_for_you_alone() -> None:
    spec = "open_clip:local-dir:somewhere"
    assert Workbench(Settings.from_environment({}), opener=FakeScorer).card(spec).spec == spec
    for environment in ({"GRADIO_SERVER_NAME": "0.0.0.0"}, {"SPACE_ID": "someone/space"}):
        with pytest.raises(UserError, match="only on your own machine"):
            Workbench(Settings.from_environment(environment), opener=FakeScorer).card(spec)


@pytest.mark.parametrize(
    "variable", ["GRADIO_SERVER_NAME=0.0.0.0", "SPACE_ID=me/mine", "FORWARDED_ALLOW_IPS=*", "SDSDEMO_SHARED=on"]
)
def test_the_shell_may_name_any_model_where_a_page_is_shared(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*variable.split("="))
    spec = "open_clip:local-dir:somewhere"
    assert Workbench(opener=FakeScorer).card(spec).spec == spec
    assert kept_workbench().card(spec).spec == spec
    assert not Settings.of_the_shell().in_space  # where slow models are refused
    assert not Settings.from_environment().allow_specs


def test_the_cards_of_the_settings_come_first() -> None:
    settings = Settings.from_environment({"SDSDEMO_MODELS": "mini-diffusion, clip-vit-b-32"})
    names = [card.name for card in Workbench(settings, opener=FakeScorer).cards()]
    assert names[:2] == ["mini-diffusion", "clip-vit-b-32"]
    assert len(names) == len(set(names))


def test_weights_that_are_not_here_are_a_sentence_and_not_the_network() -> None:
    workbench = Workbench(Settings.from_environment({}))
    (answer,) = workbench.compare(PICTURE, CAPTIONS, ["clip-vit-b-32"], budget())
    assert "fetch clip-vit-b-32" in answer.problem
    assert not answer.fault


class Rounds(FakeDenoiser):
    """Says what it knows after each of many rounds; counts them."""

    rounds = 0

    def score_and_show(self, image, captions, budget, *, most, watch=None):
        for _ in range(400):
            self.rounds += 1
            time.sleep(0.005)
            if watch is not None:
                watch(self.score([image], captions, budget))
        return super().score_and_show(image, captions, budget, most=most)


@pytest.mark.slow
def test_what_is_known_so_far_comes_before_the_answer_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    workbench, _ = bench_of(mini_diffusion=Rounds(fake_card("mini-diffusion", family="diffusion")))
    *so_far, last = workbench.compare(PICTURE, CAPTIONS, ["mini-diffusion"], budget(), show=0.4, live=True)
    assert len(so_far) > 10
    assert all(answer.of == 2 * budget().evaluations for answer in so_far)
    assert last.of == 0
    assert last.denoised is not None


def test_scoring_ends_soon_after_nobody_waits_for_it() -> None:
    fake = Rounds(fake_card("mini-diffusion", family="diffusion"))
    workbench, _ = bench_of(mini_diffusion=fake)
    before = set(threading.enumerate())
    answers = workbench.compare(PICTURE, CAPTIONS, ["mini-diffusion"], budget(), show=0.4, live=True)
    assert next(answers).of
    (scoring,) = set(threading.enumerate()) - before
    answers.close()
    rounds = fake.rounds
    scoring.join(60)
    assert not scoring.is_alive()
    assert fake.rounds <= rounds + 1  # which began as it was closed


def test_a_model_that_scores_in_its_own_thread_keeps_the_context() -> None:
    shown: ContextVar[str] = ContextVar("shown", default="nowhere")
    seen = []
    workbench, opener = bench_of()

    def open_one(card: Card) -> FakeScorer:
        seen.append(shown.get())
        return FakeDenoiser(card)

    workbench._opener = open_one
    shown.set("here")
    list(workbench.compare(PICTURE, CAPTIONS, ["mini-diffusion"], budget(), show=0.4, live=True))
    assert seen == ["here"]
    assert opener.opened == []


def test_mini_models_load_ahead_once_and_no_other_ones_do() -> None:
    workbench, opener = bench_of()
    for card in (replace(fake_card("tiny"), mini=True), replace(fake_card("large"), mini=False)):
        workbench.lend(card)
    for _ in range(3):
        workbench.load_ahead(["no-such-model", "large", "tiny"])
    late = time.monotonic() + 10
    while not workbench.is_loaded("tiny") and time.monotonic() < late:
        time.sleep(0.01)
    workbench.scorer("tiny")
    assert opener.opened == ["tiny"]


@pytest.mark.parametrize("value", [",", " , ,"])
def test_models_that_name_none_are_refused_at_the_start(value: str) -> None:
    with pytest.raises(UserError, match="SDSDEMO_MODELS names no model"):
        Settings.from_environment({"SDSDEMO_MODELS": value})


def test_a_page_opens_with_no_more_models_than_a_question_may_ask() -> None:
    names = [f"open_clip:m/{k}" for k in range(LIMITS.models + 1)]
    assert len(Settings.from_environment({"SDSDEMO_MODELS": ",".join(names[1:])}).models) == LIMITS.models
    with pytest.raises(UserError, match="SDSDEMO_MODELS may name at most 6 models; it named 7"):
        Settings.from_environment({"SDSDEMO_MODELS": ",".join(names)})
