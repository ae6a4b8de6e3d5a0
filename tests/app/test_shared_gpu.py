"""On ZeroGPU: real models answer in a fork that has the GPU, Mini here at no quota; a refusal is a sentence."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL.Image import Image

from sdsdemo.app import asking
from sdsdemo.app.asking import Question
from sdsdemo.app.gpu_jobs import RUN_CUT_OFF
from sdsdemo.app.gpu_time import GpuTimes
from sdsdemo.app.shared_gpu import SharedGpu
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.models.cards import resolve
from sdsdemo.models.clip import ClipScorer
from sdsdemo.models.diffusion_scorer import DiffusionScorer
from sdsdemo.models.images import open_image
from sdsdemo.settings import ASSETS, CHECKPOINTS, Settings, budget
from sdsdemo.types import Answer, Card
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.examples import read_examples
from sdsdemo.ui.gpu_quota import quota_words
from sdsdemo.ui.page import build_page
from tests import spaces_stand_in, twins
from tests.app.conftest import placed
from tests.spaces_stand_in import Platform

EXAMPLE = read_examples(ASSETS)[0]
CAPTIONS = list(EXAMPLE.captions)
SMALL = budget(2, 2)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with a line for each time that a model scores: its name, and the process."""
    file = tmp_path / "processes"

    def noting(method: Any) -> Any:
        def noted(self: Any, *args: Any, **options: Any) -> Any:
            with file.open("a") as lines:
                lines.write(f"{self.card.name}\t{os.getpid()}\n")
            return method(self, *args, **options)

        return noted

    monkeypatch.setattr(ClipScorer, "score", noting(ClipScorer.score))
    monkeypatch.setattr(DiffusionScorer, "score_and_show", noting(DiffusionScorer.score_and_show))
    return file


def asked(workbench: Workbench, models: Sequence[str], **options: Any) -> list[Answer]:
    found = workbench.compare(open_image(EXAMPLE.path), CAPTIONS, models, SMALL, show=0.4, live=True, **options)
    return [answer for answer in found if not answer.of]


def test_the_stand_in_takes_what_the_real_package_takes() -> None:
    found = inspect.signature(spaces_stand_in.GPU)
    plain = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    assert str(inspect.Signature(plain)) == spaces_stand_in.SIGNATURE
    if find_spec("spaces") is not None:
        import spaces

        theirs = [p.replace(annotation=p.empty) for p in inspect.signature(spaces.GPU).parameters.values()]
        assert str(inspect.Signature(theirs)) == spaces_stand_in.SIGNATURE


def test_real_models_answer_in_the_gpu_function_and_mini_outside(
    space: Workbench, platform: Platform, real: dict[str, str], processes: Path
) -> None:
    answers = asked(space, ["mini-clip", "mini-diffusion", real["clip"], real["diffusion"]])
    where = dict(line.split("\t") for line in processes.read_text().splitlines())
    here, there = str(os.getpid()), str(platform.pids[0])
    assert where == {"mini-clip": here, "mini-diffusion": here, real["clip"]: there, real["diffusion"]: there}
    assert len(platform.seen) == 1  # neighbours share a loan
    assert [answer.problem for answer in answers[2:]] == ["", ""]


def test_the_gpu_function_answers_as_the_model_does_elsewhere(
    space: Workbench, real: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = asked(space, list(real.values()))
    monkeypatch.delenv("SPACES_ZERO_GPU")
    here = asked(Workbench(Settings.from_environment({"SDSDEMO_DEVICE": "cpu"})), list(real.values()))
    for one, other in zip(away, here, strict=True):
        assert one.scores is not None
        assert other.scores is not None
        np.testing.assert_allclose(one.scores.score_IC, other.scores.score_IC, rtol=1e-5)
    assert away[1].denoised is not None


def test_mini_alone_reserves_nothing(space: Workbench, platform: Platform) -> None:
    asked(space, ["mini-clip", "mini-diffusion"])
    assert platform.seen == []


def test_what_is_known_so_far_leaves_the_gpu_function_too(
    space: Workbench, real: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    monkeypatch.setattr(DiffusionScorer, "score_and_show", slowly(DiffusionScorer.score_and_show))
    found = space.compare(twins.picture(0), CAPTIONS, [real["diffusion"]], SMALL, show=0.4, live=True)
    *so_far, last = found
    assert len(so_far) == 3
    assert last.of == 0
    assert last.scores is not None


def slowly(method: Any) -> Any:
    """A model that says three times what it knows so far."""

    def watched(self: Any, image: Image, captions: Any, spend: Any, *, most: float, watch: Any = None) -> Any:
        for _ in range(3):
            watch(self.score([image], captions, spend))
        return method(self, image, captions, spend, most=most)

    return watched


@pytest.mark.parametrize("refusal", spaces_stand_in.REFUSALS)
def test_a_refused_reservation_is_the_models_problem_in_a_sentence(
    space: Workbench, platform: Platform, real: dict[str, str], refusal: str
) -> None:
    platform.refuses = refusal
    mini, *away = asked(space, ["mini-clip", *real.values()])
    assert mini.problem == ""
    _, said = spaces_stand_in.REFUSALS[refusal]
    for answer in away:
        assert said[4:20] in answer.problem
        assert "<" not in answer.problem
        assert not answer.fault


def test_a_reservation_that_breaks_down_says_to_try_again(
    space: Workbench, platform: Platform, real: dict[str, str]
) -> None:
    platform.breaks = RuntimeError("ZeroGPU API /schedule error: 500")
    (answer,) = asked(space, [real["clip"]])
    assert "try again in a minute" in answer.problem
    assert "500" not in answer.problem


def test_a_gpu_that_is_taken_back_costs_only_the_answers_to_come(
    space: Workbench, real: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionScorer, "score_and_show", lambda *args, **options: os._exit(1))
    clip, diffusion = asked(space, list(real.values()))
    assert clip.scores is not None
    assert "taken back" in diffusion.problem


def test_a_model_that_fails_in_the_fork_is_our_fault_and_costs_one_row(
    space: Workbench, real: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClipScorer, "score", lambda *args: 1 / 0)
    clip, diffusion = asked(space, list(real.values()))
    assert clip.fault
    assert diffusion.scores is not None


def test_every_change_of_a_caption_shares_one_loan(space: Workbench, platform: Platform, real: dict[str, str]) -> None:
    groups = [CAPTIONS, CAPTIONS[::-1], CAPTIONS]
    answers = list(space.compare_groups(twins.picture(0), groups, real["clip"], SMALL))
    assert len(answers) == 3
    assert all(answer.scores is not None for answer in answers)
    assert len(platform.seen) == 1


def test_drawing_goes_through_the_gpu_function(space: Workbench, platform: Platform, real: dict[str, str]) -> None:
    pictures = list(space.draw(real["diffusion"], CAPTIONS, (0, 1), steps=2, looks=2))
    assert [picture_CS.shape[:2] for picture_CS in pictures] == [(2, 2), (2, 2)]
    assert [name for name, *_ in platform.seen] == ["_drawn_in_fork"]


def test_what_cannot_be_drawn_is_a_sentence_from_the_fork(space: Workbench, real: dict[str, str]) -> None:
    with pytest.raises(UserError, match="compares and does not draw"):
        list(space.draw(real["clip"], CAPTIONS, (0,), steps=2, looks=1))


def question(card: Card, captions: Sequence[str] = CAPTIONS) -> Question:
    return Question(card=card, captions=tuple(captions))


def test_seconds_grow_with_budget_models_captions_and_weights() -> None:
    times, stable, clip = GpuTimes(), resolve("sd-v1-4"), resolve("clip-vit-l-14")
    usual = times.of_answers([question(stable)], budget(8, 4))
    more = {
        "budget": times.of_answers([question(stable)], budget(8, 8)),
        "captions": times.of_answers([question(stable, [*CAPTIONS, *CAPTIONS])], budget(8, 4)),
    }
    for what, seconds in more.items():
        assert seconds - usual == pytest.approx(stable.seconds_per_pair), what
    assert times.of_answers([question(stable)], budget(8, 4), show=0.5) - usual == pytest.approx(1.5)
    assert times.of_answers([question(stable), question(clip)], budget(8, 4)) > usual
    times.placed_mb = {stable.name: stable.size_mb}
    assert times.of_answers([question(stable)], budget(8, 4)) < usual
    times.placed_mb["sdxl-base"] = 13_900
    assert times.of_answers([question(stable)], budget(8, 4)) > usual - 10


def test_a_measured_answer_replaces_the_cards_time(space: Workbench, real: dict[str, str]) -> None:
    assert space.gpu is not None
    asking_again = question(space.card(real["diffusion"]))
    before = space.gpu.times.of_answers([asking_again], SMALL)
    (answer,) = asked(space, [real["diffusion"]])
    assert answer.scores is not None
    assert answer.scores.evidence is not None
    per_unit = answer.scores.seconds / answer.scores.evidence.evaluations
    again = space.gpu.times.of_answers([asking_again], SMALL)
    assert again != before
    assert again == pytest.approx(space.gpu.times.of_answers([], SMALL) + 8 * per_unit)


def test_the_reservation_is_what_the_visitor_was_told(
    space: Workbench, platform: Platform, real: dict[str, str]
) -> None:
    form = Form(image="", captions=CAPTIONS, models=["mini-clip", *real.values()], timesteps=2, noises=2, seed=0)
    said = quota_words(space, form)
    asked(space, ["mini-clip", *real.values()])
    assert f"reserves {platform.seen[0][1]:.0f} s" in said
    assert "Every small change" in said
    assert "none of your GPU quota" in quota_words(space, replace(form, models=["mini-clip"]))


def test_elsewhere_nothing_is_said_of_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    form = Form(image="", captions=CAPTIONS, models=["mini-clip"], timesteps=2, noises=2, seed=0)
    assert quota_words(Workbench(Settings.from_environment({})), form) == ""


def test_a_model_that_was_not_placed_says_how_to_add_it(space: Workbench, platform: Platform) -> None:
    (answer,) = asked(space, ["clip-vit-b-32"])
    assert "SDSDEMO_MODELS" in answer.problem
    assert platform.seen == []


def test_a_model_that_cannot_be_placed_leaves_the_others(platform: Platform, real: dict[str, str]) -> None:
    workbench = placed({"missing": "clip-vit-b-32", **real})
    missing, clip = asked(workbench, ["clip-vit-b-32", real["clip"]])
    assert "not on this machine" in missing.problem
    assert clip.scores is not None


def test_a_visitor_who_leaves_ends_the_gpu_function(
    space: Workbench, platform: Platform, real: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    monkeypatch.setattr(DiffusionScorer, "score_and_show", endlessly)
    found: Any = space.compare(twins.picture(0), CAPTIONS, [real["diffusion"]], SMALL, show=0.4, live=True)
    assert next(found).of
    found.close()
    with pytest.raises(ProcessLookupError):
        os.kill(platform.pids[0], 0)
    assert platform.killed == [], "it was killed: it did not hear that nobody waits"


def endlessly(self: Any, image: Image, captions: Any, spend: Any, *, most: float, watch: Any = None) -> Any:
    while True:
        watch(self.score([image], captions, spend))


@pytest.mark.usefixtures("platform")
def test_a_worker_that_is_used_again_opens_the_weights_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform keeps a process for the next call; further training keeps the file's name."""
    shared, opened = SharedGpu(Settings.from_environment({})), list[str]()
    monkeypatch.setattr(shared, "_open", lambda card: opened.append(card.name) or object())
    mine, other = (
        replace(resolve("mini-sds-clip"), name=n, spec=f"sds-clip:{tmp_path / n}") for n in ("mine", "other")
    )
    for card in (mine, other):
        shutil.copy(CHECKPOINTS / "mini-sds-clip.safetensors", tmp_path / card.name)
    first = shared.opened(mine)
    assert shared.opened(mine) is first
    shutil.copy(CHECKPOINTS / "mini-preference-clip.safetensors", tmp_path / "mine")
    assert shared.opened(mine) is not first
    shared.opened(other)
    shared.opened(mine)  # only the last one stays on the GPU
    assert opened == ["mine", "mine", "other", "mine"]


@pytest.mark.parametrize("thing", ["tensor", "module"])
def test_a_tensor_or_a_model_does_not_cross_the_fork(platform: Platform, thing: str) -> None:
    import torch

    from sdsdemo.runtime import zerogpu

    def made() -> Iterator[Any]:
        yield torch.zeros(2) if thing == "tensor" else torch.nn.Linear(1, 1)

    with pytest.raises(UserError, match="taken back before the work was done"):
        list(zerogpu.on_gpu(made, lambda: 5)())
    with pytest.raises(UserError, match="press Resume"):
        list(zerogpu.on_gpu(made, lambda: 5, RUN_CUT_OFF)())


def test_the_page_has_the_note_on_the_quota_only_where_there_is_one(
    space: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notes(workbench: Workbench) -> list[str]:
        parts = build_page(workbench).config["components"]
        return [part["props"]["value"] for part in parts if part["props"].get("elem_id") == "gpu-quota"]

    (note,) = notes(space)
    assert "of your GPU quota" in note
    monkeypatch.delenv("SPACES_ZERO_GPU")
    assert notes(Workbench(Settings.from_environment({}))) == []
