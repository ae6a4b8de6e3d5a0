"""What somebody was answered is given to who asks the same, at once, and to nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.kept_answers import Asked, KeptAnswers, bytes_of
from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings, budget
from sdsdemo.types import Answer, Card, Scores
from tests.fakes import FakeDenoiser, FakeScorer, fake_card

PICTURE = Image.new("RGB", (32, 32), "red")
CAPTIONS = ("a red star", "a blue circle")
USUAL: dict[str, Any] = {"captions": CAPTIONS, "budget": budget(), "show": 0.4, "digest": "red"}
WAIT = 10.0


def bench_of(fake: FakeScorer, opener: Callable[[Card], FakeScorer] | None = None) -> Workbench:
    return Workbench(Settings.from_environment({}), opener=opener or (lambda card: fake))


def ask(bench: Workbench, fake: FakeScorer, **change: Any) -> Answer:
    """The last answer of the fake's model."""
    asked = USUAL | change
    captions, spend = asked.pop("captions"), asked.pop("budget")
    *_, last = bench.compare(PICTURE, captions, [fake.card.name], spend, **asked, live=True)
    return last


@pytest.fixture(params=["clip", "diffusion"])
def fake(request: pytest.FixtureRequest) -> FakeScorer:
    kind = FakeDenoiser if request.param == "diffusion" else FakeScorer
    return kind(fake_card(f"mini-{request.param}", request.param))


def test_who_asks_the_same_gets_the_same_answer_and_no_model_is_asked(fake: FakeScorer) -> None:
    bench = bench_of(fake)
    first = ask(bench, fake)
    calls = fake.calls
    assert first.scores
    assert calls
    assert ask(bench, fake) is first
    assert fake.calls == calls


@pytest.mark.parametrize(
    "change",
    [
        {"captions": CAPTIONS[::-1]},
        {"budget": budget(seed=1)},
        {"budget": budget(noises=6)},
        {"budget": budget(adaptive=True)},
        {"budget": replace(budget(), antithetic=not budget().antithetic)},
        {"budget": budget(region="pad")},
        {"budget": budget(timestep_range=(0.2, 0.8))},
        {"show": None},
        {"digest": "blue"},
    ],
    ids=str,
)
def test_whatever_changes_an_answer_is_asked_anew(fake: FakeScorer, change: dict[str, Any]) -> None:
    bench = bench_of(fake)
    first, calls = ask(bench, fake), fake.calls
    assert ask(bench, fake, **change) is not first
    assert fake.calls > calls


def test_without_a_digest_all_is_asked_anew(fake: FakeScorer) -> None:
    bench = bench_of(fake)
    first, calls = ask(bench, fake, digest=""), fake.calls
    assert ask(bench, fake, digest="") is not first
    assert fake.calls == 2 * calls


def test_a_model_that_is_loaded_anew_answers_anew() -> None:
    fakes = [FakeScorer(fake_card("mini-clip")) for _ in range(2)]
    left = iter(fakes)
    bench = bench_of(fakes[0], opener=lambda card: next(left))
    first = ask(bench, fakes[0])
    bench.forget("mini-clip")
    assert ask(bench, fakes[0]) is not first
    assert [fake.calls for fake in fakes] == [1, 1]


def test_two_models_never_share_an_answer() -> None:
    fakes = {name: FakeScorer(fake_card(name)) for name in ("mini-clip", "mini-sds-clip")}
    bench = bench_of(fakes["mini-clip"], opener=lambda card: fakes[card.name])
    found = [ask(bench, fake).card.name for fake in fakes.values()]
    assert found == list(fakes)


class Slow(FakeDenoiser):
    """Says what it knows after each of many rounds."""

    def score_and_show(self, image, captions, budget, *, most, watch=None):
        for _ in range(20):
            time.sleep(0.005)
            if watch is not None:
                watch(self.score([image], captions, budget))
        return super().score_and_show(image, captions, budget, most=most)


def test_those_who_ask_at_once_wait_for_one_answer() -> None:
    fake = Slow(fake_card("mini-diffusion", "diffusion"))
    bench = bench_of(fake)
    with ThreadPoolExecutor(5) as pool:
        found = [one.result(WAIT) for one in [pool.submit(ask, bench, fake) for _ in range(5)]]
    assert fake.calls == 21
    assert all(one is found[0] for one in found)


def test_who_leaves_does_not_spoil_it_for_the_next() -> None:
    fake = Slow(fake_card("mini-diffusion", "diffusion"))
    bench = bench_of(fake)
    leaving = bench.compare(PICTURE, CAPTIONS, ["mini-diffusion"], budget(), show=0.4, live=True, digest="red")
    assert next(leaving).of
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, bench, fake)
        leaving.close()
        answer = waiting.result(WAIT)
    assert answer.scores
    assert answer.denoised
    assert ask(bench, fake) is answer


def test_a_failure_is_not_kept(fake: FakeScorer) -> None:
    bench = bench_of(fake)
    fake._failure = RuntimeError("not now")
    assert ask(bench, fake).fault
    fake._failure = None
    assert ask(bench, fake).scores


def test_a_kept_answer_waits_for_no_other(fake: FakeScorer) -> None:
    bench = bench_of(fake)
    first = ask(bench, fake)
    with ThreadPoolExecutor(1) as pool, bench.held(bench.card(fake.card.name)):
        assert pool.submit(ask, bench, fake).result(WAIT) is first


def test_what_is_kept_is_known_beforehand(fake: FakeScorer) -> None:
    bench = bench_of(fake)
    asked = (CAPTIONS, [fake.card.name], budget())
    assert not bench.has_kept(*asked, show=0.4, digest="red")
    ask(bench, fake)
    assert bench.has_kept(*asked, show=0.4, digest="red")
    assert not bench.has_kept(*asked, show=0.4, digest="blue")
    assert not bench.has_kept(CAPTIONS, [fake.card.name, "mini-clip-clean"], budget(), show=0.4, digest="red")


def test_answers_stay_within_their_bytes() -> None:
    fake = FakeScorer(fake_card())

    def make() -> Answer:
        return Answer(card=fake.card, scores=Scores(kind="similarity", score_IC=np.zeros((1, 100_000))))

    def asked(k: int) -> Asked:
        return Asked(digest=str(k), captions=CAPTIONS, budget=budget(), show=None)

    assert 800_000 < bytes_of(make()) < 810_000
    kept = KeptAnswers(lambda card: fake, most=2_000_000)
    for k in range(3):
        kept.get(fake, asked(k), make)
    assert [kept.find(fake.card, asked(k)) is not None for k in range(3)] == [False, True, True]
