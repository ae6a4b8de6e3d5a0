"""Runs as folders: what is stored comes back exactly, a killed run goes on, and nothing foreign is mixed in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL.Image import Image

from sdsdemo.errors import UserError
from sdsdemo.evaluation.report import report
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import HEADER, SCORES, RunFolder, writing
from sdsdemo.evaluation.store.header import read_header
from sdsdemo.models import cards
from sdsdemo.settings import budget
from sdsdemo.types import Budget, Scores
from tests.evaluation.test_run import EXAMPLES
from tests.fakes import FakeScorer, OneByOne, fake_card

SPEND = budget(3, 2, 0)


class KilledError(Exception):
    """Stands for a machine that stops in mid-run."""


class Shelf(OneByOne):
    """Fakes by name; the one whose turn it is dies after `lives` examples."""

    def __init__(self, lives: int = 10_000) -> None:
        self.fakes = {name: FakeScorer(cards.resolve(name)) for name in ("mini-clip", "mini-diffusion")}
        self.lives = lives

    def scorer(self, name: str) -> Shelf:
        self.card, self.asked = cards.resolve(name), self.fakes[name]
        return self

    def score(self, images: Sequence[Image], captions: Sequence[str], spend: Budget) -> Scores:
        self.lives -= 1
        if self.lives < 0:
            raise KilledError
        return self.asked.score(images, captions, spend)

    @property
    def calls(self) -> int:
        return sum(fake.calls for fake in self.fakes.values())


@pytest.fixture(autouse=True)
def small_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES)
    monkeypatch.setattr("sdsdemo.evaluation.freshness.read_benchmark", lambda name: EXAMPLES)


def run(shelf: Shelf, out: Path | None, spend: Budget = SPEND, models: Sequence[str] = ("mini-clip", "mini-diffusion")):
    return evaluate("mini", models, workbench=shelf, budget=spend, out=out)


def untimed(result: dict) -> dict:
    models = {name: {k: v for k, v in e.items() if k != "seconds_per_example"} for name, e in result["models"].items()}
    return result | {"models": models}


@pytest.mark.parametrize("family", ["clip", "diffusion"])
def test_scores_come_back_exactly(tmp_path: Path, family) -> None:
    fake = FakeScorer(fake_card("mini-x", family))
    pictures = [picture.open() for picture in EXAMPLES[0].images]
    scores = fake.score(pictures, EXAMPLES[0].captions, SPEND)
    folder = RunFolder(tmp_path, "mini", EXAMPLES, SPEND)
    folder.enter("mini-x", "x")
    folder.add("mini-x", EXAMPLES[0].id, scores)
    again = RunFolder(tmp_path, "mini", EXAMPLES, SPEND).scores("mini-x", EXAMPLES[0].id)
    assert again is not None
    np.testing.assert_array_equal(again.score_IC, scores.score_IC)
    assert again.kind == scores.kind
    assert (again.evidence is None) == (scores.evidence is None)
    if again.evidence and scores.evidence:
        np.testing.assert_array_equal(again.evidence.loss_ICTN, scores.evidence.loss_ICTN)
        np.testing.assert_array_equal(again.evidence.timestep_T, scores.evidence.timestep_T)
        assert again.evidence.loss_ICTN.dtype == np.float32


def test_antithetic_draws_are_stored_as_such_and_are_other_settings(tmp_path: Path) -> None:
    spend = replace(SPEND, noises=4, antithetic=True)
    fake = FakeScorer(fake_card("mini-x", "diffusion"))
    scores = fake.score([picture.open() for picture in EXAMPLES[0].images], EXAMPLES[0].captions, spend)
    assert scores.evidence is not None
    scores = replace(scores, evidence=replace(scores.evidence, antithetic=True))
    folder = RunFolder(tmp_path, "mini", EXAMPLES, spend)
    folder.enter("mini-x", "x")
    folder.add("mini-x", EXAMPLES[0].id, scores)
    again = RunFolder(tmp_path, "mini", EXAMPLES, spend).scores("mini-x", EXAMPLES[0].id)
    assert again is not None
    assert again.evidence is not None
    assert again.evidence.antithetic
    with pytest.raises(UserError, match="different settings"):
        RunFolder(tmp_path, "mini", EXAMPLES, replace(spend, antithetic=False))


def test_a_run_of_plain_noise_is_not_mixed_with_pairs(tmp_path: Path) -> None:
    """Stored before pairs became the default: run.json says nothing of them."""
    old = budget(3, 4, 0, antithetic=False)
    run(Shelf(), tmp_path / "run", old)
    assert "antithetic" not in (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(UserError, match=r"different settings.*--noises 4 --seed 0 --no-antithetic"):
        run(Shelf(), tmp_path / "run", budget(3, 4, 0))
    idle = Shelf()
    run(idle, tmp_path / "run", old)
    assert idle.calls == 0


def test_a_killed_run_goes_on_and_scores_nothing_twice(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(Shelf(lives=55), tmp_path / "run")
    shelf = Shelf()
    result = run(shelf, tmp_path / "run")
    assert shelf.calls == 2 * len(EXAMPLES) - 55
    assert untimed(result) == untimed(run(Shelf(), None))
    idle = Shelf()
    assert untimed(run(idle, tmp_path / "run")) == untimed(result)
    assert idle.calls == 0


def test_a_last_line_that_was_cut_is_dropped_and_scored_again(tmp_path: Path) -> None:
    whole = run(Shelf(), tmp_path / "run")
    file = tmp_path / "run" / SCORES
    file.write_bytes(file.read_bytes()[:-40])
    shelf = Shelf()
    assert untimed(run(shelf, tmp_path / "run")) == untimed(whole)
    assert shelf.calls == 1
    assert len(file.read_text().splitlines()) == 2 * len(EXAMPLES)
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_other_settings_in_a_folder_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    run(Shelf(), tmp_path / "run")
    before = (tmp_path / "run" / SCORES).read_bytes()
    with pytest.raises(UserError, match="different settings"):
        run(Shelf(), tmp_path / "run", budget(3, 2, 1))
    assert (tmp_path / "run" / SCORES).read_bytes() == before


def test_another_benchmark_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Shelf(), tmp_path / "run")
    monkeypatch.setattr("sdsdemo.evaluation.run.read_benchmark", lambda name: EXAMPLES[1:])
    with pytest.raises(UserError, match="a different benchmark"):
        evaluate("mini-validation", ["mini-clip"], workbench=Shelf(), budget=SPEND, out=tmp_path / "run")


def test_a_sample_grows_into_the_whole_and_keeps_its_scores(tmp_path: Path) -> None:
    sample = Shelf()
    evaluate("mini", ["mini-clip"], workbench=sample, budget=SPEND, out=tmp_path / "run", limit=8)
    said: list[str] = []
    shelf = Shelf()
    grown = evaluate("mini", ["mini-clip"], workbench=shelf, budget=SPEND, out=tmp_path / "run", remark=said.append)
    assert (sample.calls, shelf.calls) == (8, len(EXAMPLES) - 8)
    assert untimed(grown) == untimed(run(Shelf(), None, models=["mini-clip"]))
    assert any(line.startswith("The folder held 8 examples and has 40 now") for line in said)
    (reported,) = report([tmp_path / "run"], None, lambda line: None)
    assert (reported["n"], reported["asked"], reported["of"]) == (40, 40, 40)
    with pytest.raises(UserError, match=r"40 examples of mini, and this run has 8: 0 are new, 32 are gone\. Leave out"):
        evaluate("mini", ["mini-clip"], workbench=Shelf(), budget=SPEND, out=tmp_path / "run", limit=8)


def test_changed_weights_are_refused_and_other_models_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KilledError):
        run(Shelf(lives=3), tmp_path / "run", models=["mini-clip"])
    run(Shelf(), tmp_path / "run", models=["mini-diffusion"])
    monkeypatch.setattr(cards, "fingerprint", lambda card: "other weights")
    with pytest.raises(UserError, match="other weights"):
        run(Shelf(), tmp_path / "run", models=["mini-clip"])


def test_the_header_names_models_settings_versions_and_machine(tmp_path: Path) -> None:
    run(Shelf(), tmp_path / "run")
    header = json.loads((tmp_path / "run" / HEADER).read_text())
    assert header["models"] == {n: cards.fingerprint(cards.resolve(n)) for n in ("mini-clip", "mini-diffusion")}
    assert header["settings"] == {"timesteps": 3, "noises": 2, "seed": 0, "empty_prompt": False, "region": "crop"}
    assert header["examples"] == len(EXAMPLES)
    assert header["versions"]["torch"]
    assert header["machine"]


@pytest.mark.parametrize(("file", "words"), [(HEADER, "cannot be read"), (SCORES, "Line 1 of scores.jsonl")])
def test_a_broken_file_is_a_sentence_that_names_it(tmp_path: Path, file: str, words: str) -> None:
    run(Shelf(), tmp_path / "run")
    (tmp_path / "run" / file).write_text("no json\n")
    with pytest.raises(UserError, match=words):
        run(Shelf(), tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file is in the way")
    with pytest.raises(UserError, match="name another one with --out"):
        run(Shelf(), tmp_path / "run")


def test_run_json_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = RunFolder(tmp_path, "mini", EXAMPLES, SPEND), []
    (scores,) = FakeScorer(fake_card("a", "clip")).score_examples(EXAMPLES[:1], SPEND)
    folder.enter("a", "weights")
    os.utime(tmp_path / HEADER, (0, 0))
    monkeypatch.setattr("sdsdemo.runtime.files.YOUNG", 0)
    monkeypatch.setattr(writing, "read_header", lambda path: read.append(path) or read_header(path))
    for example in EXAMPLES[:9]:
        folder.add("a", example.id, scores)
    assert len(read) <= 1
    RunFolder(tmp_path, "mini", EXAMPLES, SPEND).enter("b", "weights")
    folder.refresh()
    assert folder.lists("b")


def test_fingerprints_tell_weights_apart() -> None:
    names = ("mini-clip", "mini-clip-clean", "mini-diffusion", "mini-sds-clip", "mini-clip-control", "clip-vit-b-32")
    assert len({cards.fingerprint(cards.resolve(name)) for name in names}) == len(names)
