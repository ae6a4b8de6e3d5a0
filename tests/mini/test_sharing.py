"""Studies shared by processes: bases are trained first, only what is missing is made, and the cost is said before."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.mini.experiments import sharing, train_all, verify
from sdsdemo.mini.experiments.declared import STUDIES, TEN_BASES
from sdsdemo.mini.experiments.shapes import Costs
from sdsdemo.mini.experiments.sharing import missing
from sdsdemo.mini.experiments.study import BASES, missing_runs
from sdsdemo.mini.experiments.study_store import StudyStore
from sdsdemo.mini.experiments.tables import TEN
from sdsdemo.mini.experiments.verdict import UNTIMED
from sdsdemo.mini.models import clip
from sdsdemo.mini.models.from_folder import RelocatedWorkbench, WithFurtherBases
from sdsdemo.models import cards
from sdsdemo.runtime.shipped import shipped
from sdsdemo.settings import CHECKPOINTS, ROOT, Settings


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The shipped lines of the bases and of the studies beside, and an empty study of ten bases."""
    folder = tmp_path / "lines"
    folder.mkdir()
    for name in ("bases", *TEN_BASES.beside):
        shutil.copy(verify.EXPERIMENT / f"{name}.jsonl", folder)
    return folder


@pytest.fixture
def workbench(tmp_path: Path) -> WithFurtherBases:
    return WithFurtherBases(Workbench(Settings.from_environment({})), tmp_path / "bases")


def put_base(name: str, folder: Path) -> None:
    """A base that counts as trained: the weights of mini-clip."""
    shutil.copytree(CHECKPOINTS / "mini-clip", folder / name)


def lacking(out: Path, workbench: Any) -> sharing.Missing:
    return missing([TEN], StudyStore(out, out / "work"), workbench)


def test_seven_bases_and_the_runs_without_a_line_are_missing(out: Path, workbench: WithFurtherBases) -> None:
    """36 runs of the first bases are there: four cells of the confirmation and two of `return`, two seeds each."""
    first = lacking(out, workbench)
    assert (first.bases, len(first.runs)) == (tuple(clip.FURTHER), 220 - 36)
    assert {recipe.base for recipe in first.runs} == set(TEN_BASES.bases)


def test_what_was_made_is_not_made_again(out: Path, workbench: WithFurtherBases, tmp_path: Path) -> None:
    put_base("mini-clip-4", tmp_path / "bases")
    row = {"run": "sds mini-clip-4 1", "base": "mini-clip-4", "right": {}, "n": {}}
    row["base_fingerprint"] = cards.weights_fingerprint(workbench.card("mini-clip-4"))
    (out / f"{TEN}.jsonl").write_text(json.dumps(row) + "\n")
    found = lacking(out, workbench)
    assert found.bases == tuple(name for name in clip.FURTHER if name != "mini-clip-4")
    assert len(found.runs) == 220 - 36 - 1
    assert not [r for r in found.runs if (r.objective, r.lam, r.shuffled, r.base, r.seed) == (
        "sds", 1.0, False, "mini-clip-4", 1)]  # fmt: skip


def test_a_base_whose_runs_all_have_lines_is_not_trained(out: Path, workbench: WithFurtherBases) -> None:
    rows = [{"run": run, "base": recipe.base, "right": {}, "n": {}} for run, recipe in TEN_BASES.runs()]
    (out / f"{TEN}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (out / "bases.jsonl").open("a") as file:
        file.writelines(json.dumps({"base": name, "right": {}, "n": {}}) + "\n" for name in clip.FURTHER)
    found = lacking(out, workbench)
    assert (found.bases, found.runs) == ((), ())
    assert found.words(shipped(verify.COSTS, Costs), 2).endswith(
        "To make the runs again, name a new folder with --out."
    )


def test_lines_of_other_weights_are_not_mixed_with_new_ones(
    out: Path, workbench: WithFurtherBases, tmp_path: Path
) -> None:
    row = {"run": "sds mini-clip-4 1", "base": "mini-clip-4", "base_fingerprint": "another", "right": {}, "n": {}}
    (out / f"{TEN}.jsonl").write_text(json.dumps(row) + "\n")
    assert len(lacking(out, workbench).runs) == 220 - 36 - 1, "a base that is not here is no other one"
    put_base("mini-clip-4", tmp_path / "bases")
    with pytest.raises(UserError, match=r"mini-clip-4 has other weights here .* delete its lines"):
        lacking(out, workbench)


def changed(out: Path, run: str, **facts: Any) -> list[Recipe]:
    """The runs that `confirm` lacks after these facts of one of its lines were changed; the line is put back."""
    path = out / "confirm.jsonl"
    before = path.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    path.write_text("".join(json.dumps(row | facts if row["run"] == run else row) + "\n" for row in rows))
    try:
        return list(missing(["confirm"], StudyStore(out, out / "work"), Workbench(Settings.from_environment({}))).runs)
    finally:
        path.write_text(before)


def test_lines_of_another_teacher_or_recipe_are_not_mixed_with_new_ones(out: Path) -> None:
    run = "sds mini-clip 0"
    with pytest.raises(UserError, match=r"^mini-diffusion-short has other weights here .* delete its lines"):
        changed(out, run, teacher_fingerprint="another")
    assert changed(out, "clip mini-clip 0", teacher_fingerprint="another") == [], "L_CLIP alone asks no teacher"
    with pytest.raises(UserError, match=r"^The line of .sds mini-clip 0. of confirm was made with other settings"):
        changed(out, run, recipe={"lam": 7.0})


RUN = ("control", "screen", "confirm", "return", "tower", "dealt", "mislabelled", "better")
"""Studies whose lines are all shipped."""


def test_shipped_lines_are_of_what_is_declared_and_shipped(workbench: WithFurtherBases, tmp_path: Path) -> None:
    """So `mini study` finds nothing to make again, and refuses no line."""
    store = StudyStore(verify.EXPERIMENT, tmp_path)
    for name, study in STUDIES.items():
        lacking = missing_runs(name, study, store, workbench)
        assert {row["run"] for row in store.lines(name).rows} <= dict(study.runs()).keys(), name
        assert not (lacking and name in RUN), name


def test_the_whole_study_takes_less_than_eight_hours_on_two_cores(out: Path, workbench: WithFurtherBases) -> None:
    costs = shipped(verify.COSTS, Costs)
    found = lacking(out, workbench)
    assert 3600 < found.seconds(costs, 2) < 8 * 3600
    assert found.seconds(costs, 1) == pytest.approx(2 * found.seconds(costs, 2))
    said = found.words(costs, 2)
    assert said.startswith("7 bases to train and 184 runs to make: about ")
    assert said.endswith(" h in 2 processes, by the steps that `mini costs` timed.")
    sds = replace(found, bases=(), runs=tuple(r for r in found.runs if r.objective == "sds")[:1])
    steps = sds.runs[0].steps * costs["cells"]["sds"]["step_seconds"]
    assert sds.seconds(costs, 1) == pytest.approx(sharing.OVERHEAD * steps)


def test_the_hours_that_are_not_counted_yet_are_those_of_the_steps(out: Path, workbench: WithFurtherBases) -> None:
    costs, store = shipped(verify.COSTS, Costs), StudyStore(out, out)
    ten, others = (
        sharing.missing(names, store, workbench).seconds(costs, 2) / 3600
        for names in ([TEN], ["channel", "weights", "sources"])
    )
    assert f"about {ten:.0f} hours, the training of seven bases included" in UNTIMED
    assert f"about {others:.0f} hours together" in UNTIMED


def test_bases_are_trained_before_the_runs_and_the_cost_is_said_first(
    out: Path, workbench: WithFurtherBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(sharing, "run_all", lambda commands: done.append(commands))
    monkeypatch.setattr(sharing, "stream_of", lambda work: done.append("pictures"))
    where = {"--out": out, "--work": tmp_path / "work"}
    verify.share([TEN], where, tmp_path / "bases", workbench, 2, done.append)
    said, _, pictures, training, runs = done
    assert (said[:7], pictures) == ("7 bases", "pictures")
    assert [command[:2] for command in training] == [["mini", "train"]] * 2
    assert training[0][2:6] == ["mini-clip-4", "mini-clip-6", "mini-clip-8", "mini-clip-10"]
    assert training[1][2:5] == ["mini-clip-5", "mini-clip-7", "mini-clip-9"]
    assert training[0][6:] == ["--out", str(tmp_path / "bases"), "--work", str(tmp_path / "work" / "bases")]
    places = ["--out", str(out), "--work", str(tmp_path / "work")]
    assert runs == [["mini", "study", TEN, *places, "--part", f"{k}/2"] for k in range(2)]
    for processes in (0, 300):
        with pytest.raises(UserError, match="--processes must be from 1"):
            verify.share([TEN], where, tmp_path / "bases", workbench, processes, done.append)
    with pytest.raises(UserError, match="no study called 'tenn'"):
        verify.share(["tenn"], where, tmp_path / "bases", workbench, 2, done.append)


def test_where_nothing_is_missing_no_process_starts(
    out: Path, workbench: WithFurtherBases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "run_all", lambda commands: pytest.fail("a process was started"))
    written: list[Path] = []
    monkeypatch.setattr(verify, "write_findings", written.append)
    where = {"--out": out, "--work": tmp_path / "work"}
    verify.share(["confirm"], where, tmp_path / "bases", workbench, 2, lambda line: None)
    assert written == [out]


def test_a_base_that_is_not_trained_is_a_sentence_and_one_that_is_opens(
    workbench: WithFurtherBases, tmp_path: Path
) -> None:
    card = workbench.card("mini-clip-10")
    assert card.spec == f"open_clip:local-dir:{(tmp_path / 'bases').resolve() / 'mini-clip-10'}"
    state = workbench.availability(card)
    assert not state.can_run
    assert f"{state.reason} {state.next_step}" == (
        "mini-clip-10 is not trained yet. Run `python -m sdsdemo mini study bases` without --part: it trains what is "
        "missing first."
    )
    put_base("mini-clip-10", tmp_path / "bases")
    assert workbench.availability(card).can_run
    assert workbench.card("mini-clip") == cards.resolve("mini-clip")
    moved = RelocatedWorkbench(Workbench(Settings.from_environment({})), tmp_path / "bases")
    assert moved.card("mini-clip-10") == card
    assert moved.scorer("mini-clip-10").card.title == "Mini CLIP, seed 9"


@pytest.mark.slow
def test_a_further_base_is_trained_as_the_shipped_ones_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe differs in the seed alone, and the same seed gives the same weights to the bit."""
    shares = {base.tag_share for base in (*(clip.BASES[name] for name in BASES), *clip.FURTHER.values())}
    seeds = [(clip.BASES | clip.FURTHER)[name].seed for name in TEN_BASES.bases]
    assert (shares, seeds) == ({0.2}, list(range(10)))
    monkeypatch.setattr(train_all, "PICTURES", 64)
    monkeypatch.setattr(clip, "TRAINING", replace(clip.TRAINING, steps=2, warm_up=1))
    monkeypatch.setitem(clip.FURTHER, "mini-clip-4", clip.BASES["mini-clip-2"])
    for name in ("mini-clip-2", "mini-clip-4", "mini-clip-5"):
        train_all.train([name], tmp_path / "out", tmp_path / "work", lambda line: None)
    first, same, other = (
        (tmp_path / "out" / name / "open_clip_model.safetensors").read_bytes()
        for name in ("mini-clip-2", "mini-clip-4", "mini-clip-5")
    )
    assert first == same != other
    assert not list((tmp_path / "out").glob("*.part"))
    assert not set(clip.FURTHER) & set(train_all.PARTS), "`mini train all` makes what is shipped"


def test_a_base_that_is_half_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_all, "PICTURES", 64)
    monkeypatch.setattr(clip, "TRAINING", replace(clip.TRAINING, steps=2, warm_up=1))

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_all, "write_knows", killed)
        with pytest.raises(KeyboardInterrupt):
            train_all.train(["mini-clip-5"], tmp_path / "out", tmp_path / "work", lambda line: None)
    assert not (tmp_path / "out" / "mini-clip-5").exists()
    said: list[str] = []
    train_all.train(["mini-clip-5"], tmp_path / "out", tmp_path / "work", said.append)
    assert (tmp_path / "out" / "mini-clip-5" / "knows.json").is_file()
    assert not [line for line in said if " step 1 of " in line], "its steps are not taken again"


def test_a_trained_base_is_kept_until_the_next_is_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights").touch()

    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        train_all._write_folder(tmp_path / "base", lambda aside: aside.mkdir())
    assert list(tmp_path.glob("base*/weights"))


class Process:
    """A process that ends at once, or when it is told to."""

    started: ClassVar[list[tuple[list[str], dict[str, Any]]]] = []

    def __init__(self, command: list[str], **options: Any) -> None:
        self.started.append((command, options))
        self.code = 1 if "fails" in command else None if "hangs" in command else 0
        self.terminated = False

    def wait(self) -> int:
        if self.code is None:
            signal.raise_signal(signal.SIGTERM)
        return self.code or 0

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.terminated = True
        ENDED.append(self)


ENDED: list[Process] = []


def test_processes_have_one_core_each_and_a_failure_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing.subprocess, "Popen", Process)
    Process.started.clear()
    sharing.run_all([["mini", "study", "a"], ["mini", "study", "b"]])
    assert [command[1:] for command, _ in Process.started] == [["-m", "sdsdemo", "mini", "study", x] for x in "ab"]
    assert {options["env"]["OMP_NUM_THREADS"] for _, options in Process.started} == {"1"}
    assert {options["cwd"] for _, options in Process.started} == {ROOT}
    assert {options["stdout"] for _, options in Process.started} == {subprocess.DEVNULL}  # it is the parent's JSON
    with pytest.raises(UserError, match=r"A process failed: .* to resume\."):
        sharing.run_all([["fails"], ["mini"]])


def test_whoever_stops_the_study_stops_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing.subprocess, "Popen", Process)
    ENDED.clear()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        sharing.run_all([["hangs"], ["mini"]])
    assert left.value.code == 128 + signal.SIGTERM
    assert len(ENDED) == 1
    assert signal.getsignal(signal.SIGTERM) is before
