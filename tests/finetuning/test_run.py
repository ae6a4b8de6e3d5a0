"""Fine-tuning from a recipe to a file: what is trained, measured, kept and refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP

from sdsdemo.app.job_states import Job
from sdsdemo.app.model_card import run_card
from sdsdemo.app.workbench import Workbench
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after, prepare
from sdsdemo.finetuning.console_report import as_text
from sdsdemo.finetuning.events import Evaluated, Event, Notice, Step, WeightsSaved
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.setup import check_size
from sdsdemo.finetuning.student import Student
from sdsdemo.mini.models import clip
from sdsdemo.models import cards
from sdsdemo.models.clip import ClipModel
from sdsdemo.models.delta import read_header
from sdsdemo.runtime.distributed import Processes
from sdsdemo.settings import budget
from sdsdemo.ui.finetune_html import result_html
from tests import forks
from tests.finetuning.runs import COUNT, TINY, done, tensors

pytestmark = pytest.mark.usefixtures("small_sets")


@pytest.mark.parametrize("objective", ["clip", "sds", "negatives", "preference", "labels", "features"])
def test_every_objective_runs_to_its_end_and_tells_its_story(run: Any, tmp_path: Path, objective: str) -> None:
    events = run(objective=objective)
    assert done(events).state == "finished"
    assert [event.step for event in events if isinstance(event, Step)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 3, 6]
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert (header["objective"], header["steps_done"], header["seed"]) == (objective, 6, 0)
    assert header["recipe"]["learning_rate"] == TINY.learning_rate
    assert header["measured"]["sets"][header["measured"]["benchmark"]]["n"] == COUNT
    assert {name.partition(".")[0] for name in tensors(tmp_path / "run")} == {"clip"} | (
        {"h_w"} if objective == "sds" else set()
    )
    assert len(list((tmp_path / "run").glob("*.run"))) == 2  # so that more steps can follow, were one damaged


def test_wise_ft_keeps_a_share_of_the_way_from_the_base(run: Any, tmp_path: Path, workbench: Workbench) -> None:
    for name, share in (("whole", 1.0), ("part", 0.25), ("none", 0.0)):
        run(name, objective="clip", trained="all", wise_ft=share)
    base = ClipModel.load(workbench.card("mini-clip").spec).module.state_dict()
    whole, part = tensors(tmp_path / "whole"), tensors(tmp_path / "part")
    assert whole.keys() == part.keys()
    for name, tensor in whole.items():
        began = base[name.removeprefix("clip.")]
        torch.testing.assert_close(part[name], began + 0.25 * (tensor - began))
    assert not tensors(tmp_path / "none")
    flipped = FineTuningFolder(tmp_path / "none").read()["measured"]["flipped"]
    assert flipped["fixed"] == flipped["broken"] == []


@pytest.mark.parametrize("towers", ["text", "image"])
def test_a_frozen_tower_runs_once_per_input_without_changing_results(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towers: str
) -> None:
    recipe = {"objective": "labels", "towers": towers, "steps": 8}  # two epochs
    met: list[int] = []
    name = {"text": "encode_image", "image": "encode_text"}[towers]
    real = getattr(CLIP, name)
    monkeypatch.setattr(CLIP, name, lambda self, rows, **more: met.append(len(rows)) or real(self, rows, **more))
    looked: list[int] = []

    def count(event: Event) -> bool:
        looked.append(sum(met)) if isinstance(event, Step) else None
        return False

    run("once", **recipe, measure_every=8, stop_at=count)
    assert looked[0] == looked[-1], "a step ran the frozen tower"

    def encode_nothing(loaded: Any, batches: Any) -> Iterator[Event]:
        yield from ()

    monkeypatch.setattr(prepare, "_encode_frozen", encode_nothing)
    run("always", **recipe)
    once, always = tensors(tmp_path / "once"), tensors(tmp_path / "always")
    assert once.keys() == always.keys()
    assert all(torch.allclose(once[key], always[key], atol=1e-4) for key in once)


def test_a_run_of_no_steps_changes_no_score(run: Any, tmp_path: Path, workbench: Workbench) -> None:
    assert done(run(steps=0, objective="clip")).state == "finished"
    model = f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}"
    assert forks.ran(print_sameness, "mini-clip", model, out=tmp_path / "same").strip() == "True"


def print_sameness(*models: str) -> None:
    """Whether two models score four examples of Mini exactly alike, in a process that has trained nothing."""
    opened, examples = Workbench(), read_benchmark("mini")[:4]
    one, other = ([s.score_IC for s in opened.scorer(model).score_examples(examples, budget())] for model in models)
    print(all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)))


def test_the_weights_are_written_before_anything_else_is_measured(run: Any) -> None:
    events = run(objective="clip")
    kinds = [type(event) for event in events]
    assert kinds.index(WeightsSaved) < len(kinds) - 1 - kinds[::-1].index(Evaluated)


def test_the_teacher_is_asked_about_a_pair_once_whatever_the_run(run: Any) -> None:
    first, second = (done(run(name, objective="preference")).record["preferences"] for name in ("a", "b"))
    assert first["asked"] > 0
    assert first["evaluations"] == first["asked"] * 2 * TINY.teacher_timesteps
    assert (second["asked"], second["evaluations"]) == (0, 0)
    assert second["pairs"] == first["pairs"]


def test_permuted_preferences_are_another_run(run: Any, tmp_path: Path) -> None:
    run("own", objective="preference")
    run("permuted", objective="preference", permuted=True)
    own, permuted = tensors(tmp_path / "own"), tensors(tmp_path / "permuted")
    assert any(not torch.equal(own[name], permuted[name]) for name in own)


@pytest.mark.slow
def test_shuffled_captions_are_another_run_with_the_same_data(run: Any, tmp_path: Path) -> None:
    a, b = done(run("own", objective="sds")).record, done(run("shuffled", objective="sds", shuffled=True)).record
    assert a["data"] == b["data"]
    assert any(not torch.equal(t, tensors(tmp_path / "shuffled")[n]) for n, t in tensors(tmp_path / "own").items())


@pytest.mark.slow
def test_the_controls_of_l_sds_are_logged_with_its_gradient(run: Any) -> None:
    events = run(objective="sds")
    record = done(events).record
    assert set(record["controls"]) == {"0", "3", "6"}
    found = record["controls"]["0"]
    assert found["true"] < found["true shuffled"]  # the teacher reads captions
    assert found["gradient on CLIP"] > 0
    assert -1 <= found["cosine with shuffled"] < 1
    assert any(isinstance(event, Notice) and "shuffled captions" in event.text for event in events)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "told"), [(2, False), (3, True)])
def test_controls_of_two_images_are_left_out_and_that_is_said(run: Any, batch: int, told: bool) -> None:
    events = run(objective="sds", batch=batch)
    record = done(events).record
    said = [event.text for event in events if isinstance(event, Notice)]
    assert sum("controls of L_SDS are left out" in text for text in said) == (not told)
    assert any("true / shuffled captions" in text for text in said) == told
    assert ("controls" in record) == told
    assert done(events).state == "finished"
    if told:
        assert record["controls"]["0"]["cosine with shuffled"] < 0.9999
        assert record["controls"]["0"]["true"] != record["controls"]["0"]["true shuffled"]


def test_before_and_after_are_those_of_the_evaluation(run: Any, benchmark: str, tmp_path: Path) -> None:
    from sdsdemo.evaluation.run import evaluate
    from sdsdemo.settings import budget

    record = done(run(objective="labels", trained="all", learning_rate=1e-2)).record
    model = f"sds-clip:{tmp_path / 'run' / 'model.safetensors'}"
    found = evaluate(benchmark, ["mini-clip", model], workbench=Workbench(), budget=budget())
    for name, when in (("mini-clip", "before"), (model, "after")):
        for metric in ("text", "image", "group"):
            ours = record["measured"]["sets"][benchmark]["metrics"][metric][when]
            assert ours["value"] == found["models"][name][metric]["value"], (name, metric)


def test_a_nan_loss_says_what_to_do_and_keeps_the_last_good_weights(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdsdemo.finetuning.objectives import Objective

    whole = Objective._losses

    def spoiled(self: Objective, batch: Any, rows: Any, features: Any, own: Any, step: int) -> Any:
        losses = whole(self, batch, rows, features, own, step)
        return {name: value * float("nan") if step == 4 else value for name, value in losses.items()}

    monkeypatch.setattr(Objective, "_losses", spoiled)
    events = run(objective="clip", trained="all")
    assert (done(events).state, done(events).record["steps_done"]) == ("failed", 4)
    assert "lower learning rate" in done(events).reason
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors(tmp_path / "run").values())


def test_a_full_disk_is_a_sentence(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FineTuningFolder, row: Any) -> None:
        raise UserError("The folder 'run' cannot be written (No space left on device): make room.")

    monkeypatch.setattr(FineTuningFolder, "append", full)
    assert "make room" in done(run(objective="clip")).reason


def test_a_record_never_names_its_folder(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FineTuningFolder, row: Any) -> None:
        raise UserError(f"The folder '{self.path}' cannot be written: make room.")

    secret = "-a_secret_id_of_a_page"
    assert done(run(secret, objective="clip")).state == "finished"
    assert not [path for path in (tmp_path / secret).glob("*.*") if secret.encode() in path.read_bytes()]
    monkeypatch.setattr(FineTuningFolder, "append", full)
    assert secret in done(run(f"{secret}2", objective="clip")).reason  # said to who named it
    record = (tmp_path / f"{secret}2/run.json").read_text()
    assert secret not in record
    assert "The folder 'runs/mine' cannot be written" in record


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "mini-diffusion"}, "must be an open_clip CLIP"),
        ({"base": "transformers:some/clip"}, "must be an open_clip CLIP; .* is clip-vit-b-32"),
        ({"base": "vlm:some/model"}, "must be an open_clip CLIP"),
        ({"teacher": "vlm:some/model"}, "must be a diffusion model"),
        ({"teacher": "mini-clip"}, "must be a diffusion model"),
        ({"base": "nothing"}, "no model called"),
        ({"data": "folder:."}, "only the words of the Mini world"),
        ({"data": "folder:nowhere"}, "no folder 'nowhere'"),
        ({"data": "hub:./shards@val"}, "no folder './shards': check the path after 'hub:'"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_starts(run: Any, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(**changes)


def test_a_published_model_is_never_touched(run: Any) -> None:
    before = cards.fingerprint(cards.resolve("mini-clip"))
    run(objective="labels", trained="all", learning_rate=1e-2)
    assert cards.fingerprint(cards.resolve("mini-clip")) == before


def test_withheld_swaps_are_reported_apart(run: Any) -> None:
    record = done(run(objective="labels", withheld_kind="colour")).record
    assert "colour" not in record["data"]["swaps"]
    assert record["measured"]["withheld"]["kind"]["withheld"] == "colour"
    assert record["measured"]["withheld"]["kind"]["change"]["n"] > 0


def test_non_inferiority_needs_a_suitable_base_and_the_margin() -> None:
    right, all_E = np.arange(1000) % 10 < 7, np.ones(1000, bool)
    same, worse = before_after._kept(before_after._row(right, right, all_E), all_E), right.copy()
    worse[np.flatnonzero(right)[:15]] = False  # -1.5 points, and the interval reaches further down than -2
    assert same == {"kept": True}
    assert before_after._kept(before_after._row(right, worse, all_E), all_E) == {"kept": False}
    assert before_after._kept(before_after._row(all_E, all_E, all_E), all_E) == {"kept": None}
    assert before_after._kept(before_after._row(right, right, all_E), np.arange(1000) > 0) == {"kept": False}


@pytest.mark.parametrize("broken", [1, 3, COUNT])
def test_scores_that_are_no_numbers_are_in_no_figure_and_are_said(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """broken: examples of the watched set whose image features are NaN after training."""
    right, judge = [], before_after.judge

    def judged(scores_E: Any) -> Any:
        """Looks at each of the three sets before and after, and on the way at the first."""
        right.append(judge(scores_E))
        if len(right) != 4 + 1:
            return right[-1]
        for scores in scores_E[:broken]:
            scores.score_IC[0, 0] = np.nan
        return judge(scores_E)

    monkeypatch.setattr(before_after, "judge", judged)
    record = done(run(objective="clip")).record
    stored = FineTuningFolder(tmp_path / "run").read()["measured"]
    first = stored["sets"][stored["benchmark"]]
    assert first["n"] == COUNT
    assert first["not_finite"] == {"before": 0, "after": broken}
    row, told = first["metrics"]["text"], slice(broken, None)
    assert [row[when]["n"] for when in ("before", "after", "change")] == [COUNT - broken] * 3
    wanted = [int(right[look].right["text"][told].sum()) for look in (0, 4)]
    if broken < COUNT:
        assert [row[when]["value"] * (COUNT - broken) for when in ("before", "after")] == pytest.approx(wanted)
        assert row["change"]["gained"] - row["change"]["lost"] == wanted[1] - wanted[0]
    else:
        assert row["change"]["value"] is row["before"]["value"] is None
    assert all("not_finite" not in found for name, found in stored["sets"].items() if name != stored["benchmark"])
    said = f"a score that is not a finite number: 0 of {COUNT} before, {broken} of {COUNT} after"
    assert said in as_text(record, tmp_path)
    stored_record = FineTuningFolder(tmp_path / "run").read()
    assert said in result_html(Job(id="a", recipe=TINY, state="finished", record=stored_record))
    assert said in run_card(stored_record, "ada/my-clip")


def test_a_cosine_says_in_which_tower_the_two_are_alike(run: Any) -> None:
    cosine = done(run(objective="clip")).record["measured"]["cosine"]
    assert set(cosine) == {"captions", "images"}
    assert all(0 < was <= 1 for was, _ in cosine.values())


def test_a_pickle_renamed_to_safetensors_is_refused(tmp_path: Path) -> None:
    torch.save({"clip.x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        Workbench().scorer(f"sds-clip:{tmp_path / 'model.safetensors'}")


@pytest.mark.parametrize(("batch", "count", "near"), [(5, 2, "4 or 6"), (2, 3, "use 3"), (32, 7, "28 or 35")])
def test_a_batch_that_processes_cannot_share_is_refused_by_each(
    tmp_path: Path, workbench: Workbench, batch: int, count: int, near: str
) -> None:
    for index in range(count):
        processes = Processes(index=index, count=count)
        with pytest.raises(UserError, match=near):
            next(finetune(replace(TINY, batch=batch), tmp_path / "run", workbench=workbench, processes=processes))
    assert not (tmp_path / "run").exists()


def test_no_steps_are_measured_as_no_change(run: Any) -> None:
    measured = done(run(steps=0, objective="clip")).record["measured"]
    rows = [row for found in measured["sets"].values() for row in found["metrics"].values()]
    assert rows
    for row in rows:
        assert row["before"] == row["after"]
        assert (row["change"]["value"], row["change"]["gained"], row["change"]["lost"]) == (0.0, 0, 0)
        assert row["change"]["p"] == 1.0


@pytest.mark.parametrize(("images", "batch"), [(1, 8), (7, 8), (25, 50)])
def test_data_with_fewer_images_than_a_batch_are_refused(images: int, batch: int) -> None:
    with pytest.raises(UserError, match=f"have {images} images to train on.*--batch"):
        check_size(Recipe(objective="clip", batch=batch), {"items": images + 3, "held_out": 3})


def test_what_h_w_explains_is_measured_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = Student(clip.fresh(), (2, 2, 2))
    features, latents = torch.randn(24, clip.WIDTH), torch.randn(24, 2, 2, 2)
    with monkeypatch.context() as patch:  # an R2 of the fitted images takes seconds at the paper's size
        patch.delattr(Student, "explains")
        student.fit(features[:8], latents[:8])
    assert student.explains(features[:8], latents[:8]) > 0.99  # learnt by heart
    assert student.explains(features[8:], latents[8:]) < 0.5


def test_a_failure_before_the_first_step_is_told_reason_first() -> None:
    failed = {"state": "failed", "steps_done": 0, "steps": 2, "reason": "The data are gone.", "recipe": {}}
    assert as_text(failed, Path("out")) == "The data are gone."
    assert as_text(failed | {"steps_done": 1}, Path("out")).startswith("Failed after 1 of 2 steps: The data")
