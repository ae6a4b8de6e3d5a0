"""Files of each kind that we write, damaged as disks do it: each is done without, or refused in a sentence."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdsdemo.app import job_states
from sdsdemo.app.job_states import write_request
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import EXAMPLES, HEADER, SCORES, RunFolder, read_run
from sdsdemo.finetuning import checkpoints
from sdsdemo.finetuning.recipe import PRESETS
from sdsdemo.finetuning.run_folder import FineTuningFolder
from sdsdemo.finetuning.teacher_preferences import Preferences
from sdsdemo.models.delta import read_delta
from sdsdemo.runtime.digests import SMALL, Digests
from sdsdemo.settings import ASSETS, CHECKPOINTS, Settings
from sdsdemo.ui import opening
from tests.evaluation.test_store_damage import SPEND, example
from tests.fakes import FakeScorer, fake_card
from tests.finetuning.test_teacher_preferences import BUDGET, Judge, pairs

Use = Callable[[Path], object]
BITS = 6


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_zeros_at_its_end(path: Path) -> None:
    """As after a loss of power: the length is there, the content is not."""
    content = path.read_bytes()
    path.write_bytes(content[: -len(content) // 4] + bytes(len(content) // 4))


def flipped(seed: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        at = random.Random(seed).randrange(len(content))
        content[at] ^= 1 << seed % 8
        path.write_bytes(content)

    return flip


DAMAGES = {
    damage.__name__: damage for damage in (emptied, halved, zeroed, replaced_by_a_folder, with_zeros_at_its_end)
} | {f"bit {seed} flipped": flipped(seed) for seed in range(BITS)}

# --------------------------------------------------------------- how each kind is written, and what reads it afterwards


def run_folder(path: Path) -> RunFolder:
    return RunFolder(path.parent, "mini", [example(number, 2) for number in range(2)], SPEND)


def write_run(path: Path) -> None:
    run = run_folder(path)
    run.enter("mini-clip", "weights")
    for asked in (example(number, 2) for number in range(2)):
        scores = FakeScorer(fake_card()).score([picture.open() for picture in asked.images], asked.captions, SPEND)
        run.add("mini-clip", asked.id, scores)


def use_run(path: Path) -> None:
    try:
        read_run(path.parent)
    finally:
        run_folder(path).finish()


def write_log(path: Path) -> None:
    run = FineTuningFolder(path.parent)
    run.write({"recipe": PRESETS["quick"].as_dict(), "state": "stopped", "steps_done": 2, "device": "cpu"})
    for step in (1, 2):
        run.append({"step": step, "loss": 0.5, "gradient": 1.0, "s": 0.1})


def use_log(path: Path) -> None:
    write_request(path.parent, PRESETS["quick"])
    job = job_states.read(path.parent, "id")
    assert job is not None
    assert job.is_over
    FineTuningFolder(path.parent).read()
    FineTuningFolder(path.parent).forget_after(1)


def write_asked(path: Path) -> None:
    write_request(path.parent, PRESETS["quick"])


def use_asked(path: Path) -> None:
    job = job_states.read(path.parent, "id")
    assert job is None or job.is_over


def write_checkpoint(path: Path) -> None:
    state = {"parameters": {"w": torch.ones(100)}, "average": {}, "optimiser": {"state": {}}}
    for done in (1, 2):
        checkpoints.save(path, {"done": done, **state})


def use_checkpoint(path: Path) -> None:
    """The one before is used."""
    found = checkpoints.newest(path)
    assert found is not None
    assert found[0]["done"] in (1, 2)
    assert bool((found[0]["parameters"]["w"] == 1).all())


def write_answers(path: Path) -> None:
    kept = Preferences(path.parent.parent, "weights", BUDGET)
    list(kept.ask(Judge(), pairs(), lambda: False))
    assert kept.path == path


def use_answers(path: Path) -> None:
    kept = Preferences(path.parent.parent, "weights", BUDGET)
    list(kept.ask(Judge(), pairs(), lambda: False))
    assert not kept.missing(pairs())


def write_digests(path: Path) -> None:
    large = path.with_name("large")
    large.write_bytes(bytes(SMALL + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdsdemo.runtime.files.YOUNG", -1)
        Digests(path).of(large)


def use_digests(path: Path) -> None:
    assert len(Digests(path).of(path.with_name("large"))) == 64


def write_opening(path: Path) -> None:
    shutil.rmtree(path.parent)
    shutil.copytree(ASSETS / "mini" / "examples", path.parents[1] / "mini" / "examples")
    for name in ("mini/examples.json", opening.OPENING_FILE, opening.PICTURES_FILE):
        shutil.copy(ASSETS / name, path.parents[1] / name)


def use_opening(path: Path) -> None:
    opening.read_opening(Workbench(Settings.from_environment({})), path.parents[1])


KINDS: dict[str, tuple[str, Use, Use]] = {
    "run.json of scores": (HEADER, write_run, use_run),
    "examples.jsonl": (EXAMPLES, write_run, use_run),
    "scores.jsonl": (SCORES, write_run, use_run),
    "run.json of training": (HEADER, write_log, use_log),
    "log.jsonl": ("log.jsonl", write_log, use_log),
    "asked.json": ("asked.json", write_asked, use_asked),
    "checkpoint": ("checkpoint.run", write_checkpoint, use_checkpoint),
    "weights": ("m.safetensors", lambda path: shutil.copy(CHECKPOINTS / "mini-sds-clip.safetensors", path), read_delta),
    "teacher's answers": (
        f"preferences/{Preferences(Path(), 'weights', BUDGET).path.name}", write_answers, use_answers
    ),
    "digests": ("digests.jsonl", write_digests, use_digests),
    "opening answer": (opening.OPENING_FILE, write_opening, use_opening),
    "opening pictures": (opening.PICTURES_FILE, write_opening, use_opening),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_done_without_or_refused_in_a_sentence(kind: str, damage: str, tmp_path: Path) -> None:
    name, write, use = KINDS[kind]
    path = tmp_path / "place" / name
    path.parent.mkdir(parents=True)
    write(path)
    DAMAGES[damage](path)
    said = "."
    try:
        use(path)
    except UserError as error:
        said = str(error)
    assert said.endswith((".", ")"))
    assert "Errno" not in said
