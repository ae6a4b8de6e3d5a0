"""An example that goes from Browse to Compare: the same picture, the same numbers, the truth still known."""

from __future__ import annotations

import json
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.app.run_registry import SHIPPED, RunRegistry
from sdsdemo.app.sharing import TUNED
from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import HEADER
from sdsdemo.finetuning.objective_race import read_race
from sdsdemo.models.images import open_image
from sdsdemo.settings import ASSETS, Settings
from sdsdemo.ui import answer_file, compare_form, compare_logic, open_in_compare, watched_pictures
from sdsdemo.ui.compare_address import CompareAddress
from sdsdemo.ui.open_in_compare import VALIDATION, RunPictures
from sdsdemo.ui.scene_pictures import ScenePictures

RUN, EXAMPLE = "mini", "17"


@pytest.fixture(scope="module")
def workbench() -> Workbench:
    return Workbench(Settings.from_environment({"SDSDEMO_RUNS": "no-such-folder"}))


@pytest.fixture(scope="module")
def registry(workbench: Workbench) -> RunRegistry:
    return RunRegistry(workbench.settings)


@pytest.mark.parametrize("picture", [0, 1])
def test_compare_scores_what_the_run_scored(workbench: Workbench, registry: RunRegistry, picture: int) -> None:
    run_pictures = RunPictures(registry)
    shown = run_pictures.pair(RUN, EXAMPLE, picture)
    form = compare_form.Form(
        image=str(shown.path), captions=shown.captions, models=["mini-clip"], timesteps=8, noises=4, seed=0
    )
    question = compare_logic.ask(workbench, [], form, run_pictures.find)
    assert question.truth == picture
    (entry,) = compare_logic.score_dict(workbench, [], form)["models"]
    catalogue = registry.catalogue(RUN)
    stored = catalogue.scores["mini-clip"][catalogue.place(EXAMPLE) or 0].score_IC[picture]
    np.testing.assert_allclose(entry["scores"], stored, atol=1e-4)


def test_the_file_that_compare_gets_has_every_pixel(registry: RunRegistry) -> None:
    catalogue = registry.catalogue(RUN)
    original = catalogue.examples[catalogue.place(EXAMPLE) or 0].images[0].open()
    assert open_image(RunPictures(registry).pair(RUN, EXAMPLE, 0).path).tobytes() == original.tobytes()


def test_the_address_of_an_answer_opens_the_same_question(workbench: Workbench, registry: RunRegistry) -> None:
    run_pictures = RunPictures(registry)
    shown = run_pictures.pair(RUN, EXAMPLE, 1)
    found = compare_form.form_of_address(workbench, [], {"tab": "compare", **shown.query}, run_pictures.pair)
    assert found is not None
    assert found[1] == shown
    assert tuple(found[0].captions) == shown.captions


@pytest.mark.parametrize("owner_first", [True, False])
def test_a_tuned_run_is_named_in_nobody_s_address(workbench: Workbench, tmp_path: Path, owner_first: bool) -> None:
    secret, registry = f"{TUNED}0123456789abcdefghijkl", RunRegistry(workbench.settings)
    shutil.copytree(ASSETS / SHIPPED / RUN, tmp_path / "evaluated")
    registry.lend(secret, tmp_path / "evaluated")
    tab = RunPictures(registry)
    page = CompareAddress(workbench, [], tab, ScenePictures())
    for run in (secret, RUN) if owner_first else (RUN, secret):
        shown = tab.pair(run, EXAMPLE, 0)
        form = compare_form.Form(
            image=str(shown.path), captions=shown.captions, models=["mini-clip"], timesteps=8, noises=4, seed=0
        )
        question = compare_logic.ask(workbench, [], form, tab.find)
        link = answer_file.address(question.example, form.captions, ["mini-clip"], question.budget)
        for text in (page.html(form), link):
            assert f"example={EXAMPLE}&run={RUN}&" in unescape(text)
            assert TUNED not in text


def test_a_validation_picture_has_its_truth_and_its_link(workbench: Workbench, registry: RunRegistry) -> None:
    run_pictures = RunPictures(registry)
    shown = run_pictures.of_validation(EXAMPLE, 1)
    assert run_pictures.find(open_image(shown.path)) == shown
    found = compare_form.form_of_address(workbench, [], {"tab": "compare", **shown.query}, run_pictures.pair)
    assert found is not None
    assert found[1] == shown
    assert found[0].asks
    for example, picture in (("no such", 0), (EXAMPLE, 2)):
        with pytest.raises(UserError, match="no such picture"):
            run_pictures.of_validation(example, picture)


def test_a_stored_run_called_like_the_validation_set_is_opened_itself(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / SHIPPED / RUN, tmp_path / SHIPPED / VALIDATION)
    registry = RunRegistry(Settings.from_environment({}), assets=tmp_path)
    catalogue = registry.catalogue(VALIDATION)
    own = catalogue.examples[catalogue.place(EXAMPLE) or 0]
    shown = RunPictures(registry).pair(VALIDATION, EXAMPLE, 1)
    assert shown.captions == own.captions
    assert open_image(shown.path).tobytes() == own.images[1].open().tobytes()
    assert own.captions != RunPictures(registry).of_validation(EXAMPLE, 1).captions


def test_the_validation_set_is_read_once(registry: RunRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    run_pictures = RunPictures(registry)
    run_pictures.of_validation(EXAMPLE, 0)
    watched_pictures.watched_pictures(read_race())
    for module in (open_in_compare, watched_pictures):
        if hasattr(module, "read_benchmark"):
            monkeypatch.setattr(module, "read_benchmark", lambda name: pytest.fail("read again"))
    run_pictures.of_validation(EXAMPLE, 1)
    watched_pictures.watched_pictures(read_race())


@pytest.mark.parametrize(("run", "example", "picture"), [(RUN, "17", 2), (RUN, "none", 0), ("none", "17", 0)])
def test_what_is_not_there_is_one_sentence(registry: RunRegistry, run: str, example: str, picture: int) -> None:
    with pytest.raises(UserError):
        RunPictures(registry).pair(run, example, picture)


def test_other_pictures_and_captions_have_no_truth(registry: RunRegistry) -> None:
    run_pictures = RunPictures(registry)
    shown = run_pictures.pair(RUN, EXAMPLE, 0)
    assert run_pictures.find(open_image(shown.path).rotate(90)) is None
    assert shown.truth(["another", "question"]) is None


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ({"region": "squash", "timestep_range": [0.4, 0.6]}, ("squash", "0.4 0.6")),
        ({"region": "crop"}, ("crop", "")),
        ({}, ("own", "")),
    ],
    ids=["set", "default", "older"],
)
def test_a_run_hands_on_what_its_models_saw_and_at_which_noise(
    stored: dict[str, object], wanted: tuple[str, str], tmp_path: Path
) -> None:
    shutil.copytree(ASSETS / SHIPPED / RUN, tmp_path / "mine")
    header = json.loads((tmp_path / "mine" / HEADER).read_text())
    for name in ("region", "timestep_range"):
        header["settings"].pop(name, None)
    header["settings"] |= stored
    (tmp_path / "mine" / HEADER).write_text(json.dumps(header))
    run_pictures = RunPictures(RunRegistry(Settings.from_environment({"SDSDEMO_RUNS": str(tmp_path)})))
    assert run_pictures.settings("runs/mine") == wanted
