"""A run that goes on: exact resumption, damaged files, more steps, one process in a folder at a time."""

from __future__ import annotations

import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning.console_report import as_text
from sdsdemo.finetuning.events import Notice, Step
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.run import finetune
from sdsdemo.finetuning.run_folder import CHECKPOINT, LOG, FineTuningFolder
from sdsdemo.models import cards
from sdsdemo.runtime.distributed import Processes
from sdsdemo.settings import Settings
from tests.damage import damaged
from tests.finetuning.runs import TINY, done, tensors

pytestmark = pytest.mark.usefixtures("small_sets")


@pytest.mark.parametrize(("objective", "towers"), [("sds", "both"), ("preference", "both"), ("preference", "text")])
def test_a_resumed_run_gives_the_same_weights_bit_for_bit(
    run: Any, tmp_path: Path, objective: str, towers: str
) -> None:
    recipe = {"objective": objective, "towers": towers}
    run("straight", **recipe)
    first = run("cut", **recipe, stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    assert done(first).state == "stopped"
    second = run("cut", **recipe, resume=True)
    assert [event.step for event in second if isinstance(event, Step)] == [4, 5, 6]
    straight, cut = tensors(tmp_path / "straight"), tensors(tmp_path / "cut")
    assert straight.keys() == cut.keys()
    assert all(torch.equal(straight[name], cut[name]) for name in straight)
    rows = FineTuningFolder(tmp_path / "cut").log()
    assert sorted(row["step"] for row in rows if "what" not in row) == [1, 2, 3, 4, 5, 6]


def test_a_wise_ft_run_resumes_from_the_trained_weights(run: Any, tmp_path: Path) -> None:
    recipe = {"objective": "clip", "wise_ft": 0.5}
    run("straight", **recipe)
    run("cut", **recipe, stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    run("cut", **recipe, resume=True)
    straight, cut = tensors(tmp_path / "straight"), tensors(tmp_path / "cut")
    assert all(torch.equal(straight[name], cut[name]) for name in straight)


def test_a_run_from_before_a_setting_was_added_can_be_continued(run: Any, tmp_path: Path) -> None:
    run("run", objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    del record["recipe"]["wise_ft"]
    path.write_text(json.dumps(record))
    assert done(run("run", objective="clip", resume=True)).state == "finished"


def test_a_run_that_is_there_is_not_overwritten(run: Any) -> None:
    run(objective="clip")
    with pytest.raises(UserError, match="--resume"):
        run(objective="clip")


@pytest.mark.parametrize("resume", [True, False])
def test_another_recipe_is_not_resumed(run: Any, resume: bool) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step))
    with pytest.raises(UserError, match=r"a different recipe \(--lambda was 1, and is 3 now\)"):
        run(objective="clip", resume=resume, lam=3.0)


def test_a_finished_run_is_not_made_again(run: Any) -> None:
    first = done(run(objective="clip")).record
    again = run(objective="clip", resume=True)
    assert not any(isinstance(event, Step) for event in again)
    assert done(again).record["seconds"] == first["seconds"]
    assert any(isinstance(event, Notice) and "already finished" in event.text for event in again)


def test_a_folder_of_something_else_is_named_as_such(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"benchmark": "mini"}')
    with pytest.raises(UserError, match="fine-tuning run: name another --out"):
        run(objective="clip")


def test_a_refused_run_leaves_no_folder_behind(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(base="nothing")
    assert not (tmp_path / "run").exists()


def test_a_fine_tuning_run_is_no_evaluation_and_says_what_to_do(run: Any, tmp_path: Path) -> None:
    from sdsdemo.evaluation.store import read_run

    run(objective="clip")
    with pytest.raises(UserError, match="sds-clip:FILE"):
        read_run(tmp_path / "run")


def test_other_weights_of_the_base_are_not_resumed(run: Any, tmp_path: Path) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step))
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"base_fingerprint": "other"}))
    with pytest.raises(UserError, match="a different base"):
        run(objective="clip", resume=True)


def test_a_broken_checkpoint_is_said_and_nothing_is_lost(run: Any, tmp_path: Path) -> None:
    run(objective="clip", stop_at=lambda event: isinstance(event, Step) and event.step == 4)
    for path in (tmp_path / "run").glob("*.run"):
        path.write_bytes(b"no checkpoint")
    (tmp_path / "run" / "STOP").unlink()
    was = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UserError, match="cannot be used"):
        run(objective="clip", resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == was


@pytest.mark.parametrize("damage", [b"no checkpoint", b"", None], ids=["other", "empty", "cut"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run: Any, tmp_path: Path, damage: bytes | None) -> None:
    whole = run(objective="clip", keep_every=1)
    expected = tensors(tmp_path / "run")
    assert done(whole).state == "finished"
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    run(objective="clip", keep_every=1, stop_at=lambda event: isinstance(event, Step) and event.step == 4)
    newest = tmp_path / "run" / CHECKPOINT
    newest.write_bytes(newest.read_bytes()[:-200] if damage is None else damage)
    events = run(objective="clip", keep_every=1, resume=True)
    told = [event.text for event in events if isinstance(event, Notice)]
    assert any("resuming from the one before, at step" in text for text in told)
    assert done(events).state == "finished"
    for name, tensor in tensors(tmp_path / "run").items():
        assert torch.equal(tensor, expected[name])


def test_a_finished_run_goes_on_to_more_steps(run: Any, tmp_path: Path) -> None:
    run(objective="clip")
    events = run(objective="clip", steps=9, resume=True)
    assert [event.step for event in events if isinstance(event, Step)] == [7, 8, 9]
    assert done(events).record["steps_done"] == 9
    assert any("now has 9" in event.text for event in events if isinstance(event, Notice))
    with pytest.raises(UserError, match="a different recipe"):
        run(objective="clip", steps=5, resume=True)


def test_one_process_trains_in_a_folder_at_a_time(tmp_path: Path, benchmark: str, workbench: Workbench) -> None:
    recipe = replace(TINY, objective="clip", measure=benchmark)
    first = finetune(recipe, tmp_path / "run", workbench=workbench)
    next(first)
    with pytest.raises(UserError, match="being trained"):
        next(finetune(recipe, tmp_path / "run", workbench=workbench, resume=True))
    assert FineTuningFolder(tmp_path / "run").read()["state"] == "preparing"
    first.close()
    assert FineTuningFolder(tmp_path / "run").read()["state"] == "interrupted"


def test_a_cut_last_line_of_the_log_is_dropped(run: Any, tmp_path: Path) -> None:
    run(objective="clip")
    whole = FineTuningFolder(tmp_path / "run").log()
    with (tmp_path / "run" / LOG).open("a") as file:
        file.write('{"step": 7, "lo')
    assert FineTuningFolder(tmp_path / "run").log() == whole


def test_folders_of_fine_tuning_are_no_runs_of_a_benchmark(run: Any, tmp_path: Path) -> None:
    from sdsdemo.app.run_registry import RunRegistry

    run("tuned", objective="clip")
    registry = RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path)}), assets=tmp_path / "none")
    assert registry.names() == []
    shutil.rmtree(tmp_path / "tuned")


def test_a_run_that_failed_before_its_first_step_leaves_its_folder_free(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_few(recipe: Recipe) -> Any:
        raise UserError("Too many are held out.")

    with monkeypatch.context() as patch:
        patch.setattr("sdsdemo.finetuning.setup.read_source", too_few)
        assert done(run(objective="clip")).state == "failed"
    assert done(run(objective="clip", steps=2)).state == "finished"


def damage_both(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("*.run"):
        path.write_bytes(path.read_bytes()[:-100])


def lose_both(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("*.run"):
        path.unlink()


def take_another_s(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("*.run"):
        state = torch.load(path, weights_only=True)
        state["parameters"] = {f"other.{name}": tensor for name, tensor in state["parameters"].items()}
        torch.save(state, path)


def load_no_base(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise UserError("The base is gone.")

    patch.setattr("sdsdemo.finetuning.setup.ClipModel.load", refuse)


def read_no_data(folder: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(recipe: Recipe) -> Any:
        raise UserError("The data are gone.")

    patch.setattr("sdsdemo.finetuning.setup.read_source", refuse)


@pytest.mark.parametrize("damage", [damage_both, lose_both, take_another_s, load_no_base, read_no_data])
def test_a_resume_that_fails_leaves_the_run_as_it_was(
    run: Any, tmp_path: Path, damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(objective="clip")
    kept, folder = FineTuningFolder(tmp_path / "run"), tmp_path / "run"
    record, rows, model = kept.read(), kept.log(), kept.model.read_bytes()
    assert record["measured"]
    damage(folder, monkeypatch)
    try:
        last = done(run(objective="clip", steps=9, resume=True))
    except UserError:
        pass
    else:
        assert last.state == "failed"
        assert "unchanged" in last.reason
    assert (kept.read(), kept.log(), kept.model.read_bytes()) == (record, rows, model)


def test_a_finished_run_with_a_damaged_checkpoint_goes_on_from_the_other(run: Any, tmp_path: Path) -> None:
    run(objective="clip")
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"cut")
    events = run(objective="clip", steps=9, resume=True)
    assert [event.step for event in events if isinstance(event, Step)] == [5, 6, 7, 8, 9]
    assert done(events).state == "finished"


@pytest.mark.parametrize("exists", [True, False])
def test_a_resume_without_a_run_says_that_one_begins(run: Any, tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "run").mkdir()
    first = run(objective="clip", steps=1, resume=True)[0]
    assert first == Notice(text=f"There is nothing to resume in '{tmp_path / 'run'}': starting a new run.")


@pytest.mark.slow
def test_a_run_begun_under_fingerprints_of_weights_alone_goes_on(run: Any, tmp_path: Path) -> None:
    run(objective="sds", stop_at=lambda event: isinstance(event, Step) and event.step == 3)
    path = tmp_path / "run" / "run.json"
    older = {
        f"{what}_fingerprint": cards.weights_fingerprint(cards.resolve(getattr(TINY, what)))
        for what in ("base", "teacher")
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | older))
    assert done(run(objective="sds", resume=True)).state == "finished"
    path.write_text(json.dumps(json.loads(path.read_text()) | older | {"teacher_fingerprint": "other"}))
    with pytest.raises(UserError, match="a different teacher"):
        run(objective="sds", steps=9, resume=True)


def test_messages_name_the_folder_as_it_was_typed(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(objective="clip", steps=1)
    recipe, typed = replace(TINY, objective="clip"), Path("./here/../run")
    (tmp_path / "here").mkdir()
    for asked in (recipe, replace(recipe, lam=3.0)):
        with pytest.raises(UserError, match=re.escape(f"'{typed}'")):
            list(finetune(asked, typed, workbench=Workbench()))
    with (
        FineTuningFolder(typed).held(),
        pytest.raises(UserError, match=re.escape(f"'{typed}'")),
        FineTuningFolder(typed).held(),
    ):
        pass
    with pytest.raises(UserError, match=re.escape("'nowhere/data'")):
        list(
            finetune(
                replace(recipe, base="clip-vit-b-32", data="folder:nowhere/data"), Path("new"), workbench=Downloaded()
            )
        )


class Downloaded(Workbench):
    """As where every card is there already."""

    def availability(self, card: Any) -> Any:
        return SimpleNamespace(can_run=True)


class Threads(Processes):
    """Processes that are threads of one, and meet at a barrier."""

    barrier: threading.Barrier
    shared: list[list[Any]]

    def __init__(self, index: int, barrier: threading.Barrier, shared: list[list[Any]]) -> None:
        super().__init__(index=index, count=barrier.parties)
        object.__setattr__(self, "barrier", barrier)
        object.__setattr__(self, "shared", shared)

    def wait(self) -> None:
        self.barrier.wait(120)

    def gather(self, items: list[Any]) -> list[Any]:
        self.shared[self.index] = items
        self.wait()
        found = [item for part in self.shared for item in part]
        self.wait()
        return found


def test_a_folder_that_is_taken_is_told_by_every_process(tmp_path: Path, benchmark: str, workbench: Workbench) -> None:
    barrier, shared, said = threading.Barrier(3), [[], [], []], []
    recipe = replace(TINY, objective="clip", measure=benchmark, batch=6)

    def process(index: int) -> None:
        processes = Threads(index, barrier, shared)
        try:
            list(finetune(recipe, tmp_path / "run", workbench=workbench, processes=processes))
        except UserError as error:
            said.append(str(error))

    with FineTuningFolder(tmp_path / "run").held():
        threads = [threading.Thread(target=process, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(said) == 3
    assert all("is being trained right now" in text for text in said)


@pytest.mark.parametrize("name", ["run.json", LOG])
def test_damaged_files_of_a_run_are_read_or_refused_in_a_sentence(run: Any, tmp_path: Path, name: str) -> None:
    run(objective="clip", steps=2)
    kept, path = FineTuningFolder(tmp_path / "run"), tmp_path / "run" / name
    whole, read, refused = path.read_bytes(), 0, 0
    for seed in range(400):
        path.write_bytes(damaged(whole, seed, lines=name == LOG))
        try:
            if name == LOG:
                kept.log()
            else:
                as_text(kept.read(), kept.path)
        except UserError:
            refused += 1
        else:
            read += 1
    assert min(read, refused) > 20


def test_a_damaged_record_is_resumed_or_refused_in_a_sentence(run: Any, tmp_path: Path) -> None:
    run(objective="clip", steps=2)
    path = tmp_path / "run" / "run.json"
    whole, refused = path.read_bytes(), 0
    for seed in range(300):
        path.write_bytes(damaged(whole, seed))
        recipe = replace(TINY, objective="clip", steps=2, measure=json.loads(whole)["recipe"]["measure"])
        try:
            events = finetune(recipe, tmp_path / "run", workbench=Workbench(), resume=True)
            for _ in events:
                break  # what can be wrong with the record is known before the first event
            events.close()
        except UserError:
            refused += 1
    assert refused > 20


def test_what_a_kill_left_half_written_is_gone_once_the_run_goes_on(tmp_path: Path) -> None:
    folder = FineTuningFolder(tmp_path)
    folder.append({"step": 1, "loss": 0.5, "gradient": 1.0, "s": 0.1})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 2, "lo')
    (tmp_path / f"{CHECKPOINT}.123-abcdef.part").touch()
    with folder.held():
        folder.append({"step": 2, "loss": 0.4, "gradient": 1.0, "s": 0.1})
    assert [row["step"] for row in folder.log()] == [1, 2]
    assert not list(tmp_path.glob("*.part"))
