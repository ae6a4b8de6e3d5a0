"""The Fine-tune tab without a browser: forms become recipes or sentences, runs become HTML, foreign text is escaped."""

from __future__ import annotations

import asyncio
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.context import LocalContext

from sdsdemo.app.job_states import EvaluationPoint, Job, Point
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.visitors import Visitor
from sdsdemo.app.workbench import Workbench
from sdsdemo.core.bits import packed
from sdsdemo.core.intervals import paired_change, proportion
from sdsdemo.core.number_format import duration
from sdsdemo.errors import UserError
from sdsdemo.finetuning.objective_race import read_race
from sdsdemo.finetuning.phrases import KEPT, change_words
from sdsdemo.finetuning.recipe import PRESETS, STUDIED, Recipe, cli_flag
from sdsdemo.models.images import open_image
from sdsdemo.settings import Settings
from sdsdemo.ui import finetune_html, training_curves
from sdsdemo.ui.page import launch_options
from sdsdemo.ui.recipe_form import ADVANCED, LABELS, PLAIN, in_page_words, recipe_of
from sdsdemo.ui.watched_pictures import examples_of, right_pictures, watched_pictures
from tests.app.trainer import Trainer, over, until
from tests.fakes import fake_scorer

QUICK = PRESETS["quick"]
ASKED: Any = SimpleNamespace(client=SimpleNamespace(host="1.1.1.1"))
REQUEST = gr.Request(request=ASKED, session_hash="session")
FIELDS = [*PLAIN, *(name for _, _, names in ADVANCED for name in names)]


def form(recipe: Recipe = QUICK, **changes: Any) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in FIELDS} | changes


def test_the_form_of_a_preset_is_that_preset() -> None:
    found = recipe_of(form())
    assert {name: getattr(found, name) for name in FIELDS} == form()


def test_every_field_has_a_label_and_the_form_holds_what_a_page_may_set() -> None:
    assert set(FIELDS) == set(LABELS)
    left_out = {"clip_norm", "keep_every", "measure", "held_out", "image_column", "caption_column"}
    assert set(FIELDS) | left_out | set(STUDIED) == set(Recipe().as_dict())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": None}, "Steps is empty"),
        ({"steps": 1.5}, "Steps must be a whole number"),
        ({"steps": True}, "Steps must be a whole number"),
        ({"lam": -1}, "--lambda must be from 0"),
        ({"lam": "much"}, "--lambda must be a number"),
        ({"objective": "<b>"}, "--objective must be one of"),
    ],
)
def test_a_field_that_makes_no_sense_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_of(form(**changes))
    assert said in str(caught.value)


def test_whole_numbers_come_as_floats_from_a_browser() -> None:
    assert recipe_of(form(steps=40.0, seed=3.0)).steps == 40


def row(before: int, after: int, n: int = 400) -> dict[str, Any]:
    was, now = np.arange(n) < before, np.arange(n) < after
    return {
        "before": asdict(proportion(before, n)),
        "after": asdict(proportion(after, n)),
        "change": asdict(paired_change(was, now)),
    }


def finished(**record: Any) -> Job:
    measured = {
        "benchmark": "mini-validation",
        "sets": {
            "mini-validation": {"n": 400, "metrics": {"text": row(80, 92), "group_match": row(1, 2)}},
            "mini-<retrieval>": {"n": 400, "metrics": {"accuracy": row(300, 280)}, "kept": False},
        },
        "withheld": {"kind": {"withheld": "<size>", **row(10, 12)}},
        "cosine": {"captions": [0.997, 0.99]},
        "flipped": {"metric": "text", "fixed": ["3"], "broken": []},
    }
    points = tuple(Point(step=k, losses={"loss": 1.0 / k, "sds": 0.1}, smoothed=1.0 / k) for k in range(1, 41))
    evaluations = (EvaluationPoint(step=0, value=0.2, low=0.16, high=0.24, n=400, metric="text"),)
    return Job(
        id="x", recipe=QUICK, state="finished", step=40, seconds=20.0, points=points, evaluations=evaluations,
        written=True,
        notices=("<script>",), record={"measured": measured, "seconds": 44.0, "device": "cpu", **record},
    )  # fmt: skip


def test_a_change_carries_its_interval_and_says_when_it_is_none() -> None:
    said = change_words(row(80, 92)["change"])
    assert said.startswith("+3.0 points, 95 % interval +")
    assert "n = 400" in said
    assert "not distinguishable from no change" not in said
    assert change_words(row(80, 82)["change"]).endswith("not distinguishable from no change")


def test_the_result_shows_uncertainty_and_escapes_foreign_text() -> None:
    html = finetune_html.result_html(finished())
    assert "20.0 <small>[16, 24]</small>" in html
    assert KEPT[False] in html
    assert "12 gained, 0 lost" in html
    assert "python -m sdsdemo finetune" in html
    assert "group_match" not in html
    assert "<retrieval>" not in html
    assert "<size>" not in html


def test_the_status_tells_step_time_and_notes() -> None:
    html = finetune_html.status_html(finished())
    assert "Finished" in html
    assert "step 40 of 40" in html
    assert "44 s in all" in html
    assert "&lt;script&gt;" in html
    waiting = Job(id="x", recipe=QUICK, ahead=2)
    assert "2 ahead of you" in finetune_html.status_html(waiting)
    assert "next in the queue" in finetune_html.status_html(replace(waiting, ahead=0))
    running = Job(id="x", recipe=QUICK, state="running", step=10, seconds=5.0)
    assert "2.0 steps/s" in finetune_html.status_html(running)
    assert "15 s left" in finetune_html.status_html(running)


def test_a_pause_between_steps_says_what_it_is() -> None:
    between = Job(id="x", recipe=QUICK, state="running", step=10, seconds=5.0, text="evaluating on held-out data")
    html = finetune_html.status_html(between)
    assert "step 10 of 40" in html
    assert "evaluating on held-out data" in html
    assert "left" not in html


def test_a_run_that_was_stopped_before_its_first_step_has_kept_nothing() -> None:
    html = finetune_html.status_html(Job(id="x", recipe=QUICK, state="stopped"))
    assert finetune_html.UNBEGUN in html
    assert "step 0" not in html


def test_a_failure_shows_what_to_do() -> None:
    failed = Job(id="x", recipe=QUICK, state="failed", reason="Try <less>.")
    assert "Try &lt;less&gt;." in finetune_html.status_html(failed)


def test_without_a_run_there_is_a_sentence_and_no_result() -> None:
    assert finetune_html.NOTHING in finetune_html.status_html(None)
    assert finetune_html.result_html(None) == finetune_html.flipped_html(None, {}) == ""


def test_curves_have_both_losses_raw_and_smoothed_and_the_interval() -> None:
    run = finished()
    losses, evaluations = (
        training_curves.losses_svg(run.points, 40),
        training_curves.evaluations_svg(run.evaluations, 40),
    )
    for words in ('class="raw"', 'class="smooth"', 'class="term t0"', "L_SDS"):
        assert words in losses
    assert 'class="whisker"' in evaluations
    assert "n = 400" in evaluations
    assert "NaN" not in training_curves.losses_svg(
        (*run.points, Point(step=41, losses={"loss": float("nan"), "sds": 1.0}, smoothed=1.0)), 41
    )


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (44, "44 s"), (600, "10 min"), (21_600, "6.0 h")])
def test_a_time_is_said_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.fixture
def page(tmp_path: Path) -> Any:
    """A page with the tab alone, which is its attribute `tab`."""
    from sdsdemo.app.run_registry import RunRegistry
    from sdsdemo.ui.finetune import FinetuneTab
    from sdsdemo.ui.open_in_compare import RunPictures

    workbench = Workbench(Settings.from_environment({}), opener=fake_scorer)
    with gr.Blocks() as page:
        jobs, registry = Jobs(workbench, root=tmp_path, runner=Trainer()), RunRegistry(workbench.settings)
        button, pictures = FinetuneTab.build_watch(), RunPictures(registry)
        page.tab = FinetuneTab(workbench, jobs, registry, gr.State(""), button, pictures)
    return page


@pytest.fixture
def tab(page: Any) -> Any:
    return page.tab


def test_a_shared_page_knows_who_asks_for_a_run(tab: Any) -> None:
    assert tab._visitor(REQUEST) is None
    tab.workbench.settings = replace(tab.workbench.settings, allow_specs=False)
    assert tab._visitor(REQUEST) == Visitor(session="session", address="1.1.1.1")


def test_a_bad_form_starts_nothing_and_keeps_what_was_typed(tab: Any) -> None:
    message, *rest = tab._begin(REQUEST, *form(lam=-1).values())
    assert LABELS["lam"] in message
    assert all(value == gr.skip() for value in rest)


def test_what_is_out_of_sight_is_not_meant(tab: Any) -> None:
    asked = {"objective": "clip", "shuffled": True, "permuted": True, "lam": -1, "sharpness": None, "fitted_on": 0}
    recipe = tab.form.recipe(list(form(**asked).values()))
    for name in asked.keys() - {"objective"}:
        assert getattr(recipe, name) == getattr(Recipe(), name), name
    assert tab.form.recipe(list(form(objective="sds", shuffled=True).values())).shuffled


def test_an_unknown_id_is_a_sentence_everywhere(tab: Any) -> None:
    assert "no such run here" in tab._stop("guessed")
    assert "no such run here" in tab.finished.in_compare("guessed", 3)[0]
    with pytest.raises(gr.Error, match="no such run here"):
        tab.finished.in_browse("guessed")


def test_use_in_compare_opens_what_the_run_changed(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    race = read_race()
    six, start_EI = watched_pictures(race), right_pictures(race.pictures["clip"][0][1], race.n)
    end_EI = start_EI.copy()
    end_EI[six[2].place, six[2].picture] = True
    share: dict[str, Any] = {"value": 0.4, "low": 0.3, "high": 0.5, "n": race.n, "metric": "text"}
    laps = tuple(
        EvaluationPoint(step=step, pictures=packed(right_EI.ravel()), **share)
        for step, right_EI in ((0, start_EI), (40, end_EI))
    )
    run = replace(finished(), recipe=PRESETS["minute"], evaluations=laps)
    monkeypatch.setattr(tab.jobs, "get", lambda id_: run)
    monkeypatch.setattr(tab.jobs, "model", lambda id_: "mini-sds-clip")
    message, tabs, picture, *rest = tab.finished.in_compare("x", 3)
    assert (message, tabs["selected"]) == ("", "compare")
    assert tuple(rest[:2]) == six[2].example.captions
    assert [row["value"] for row in rest[2:]] == ["mini-clip", "mini-sds-clip", None]
    found = tab.finished.run_pictures.find(open_image(Path(picture)))
    assert found is not None
    assert found.true == six[2].picture


@pytest.mark.parametrize("missing", ["finished_run.read_race", "watched_pictures.read_benchmark"])
def test_use_in_compare_needs_no_file_but_the_model(missing: str, tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise UserError("a file is missing")

    race = read_race()
    bits = packed(right_pictures(race.pictures["clip"][0][1], race.n).ravel())
    point = EvaluationPoint(step=0, value=0.4, low=0.3, high=0.5, n=race.n, metric="text", pictures=bits)
    run = replace(finished(), recipe=PRESETS["minute"], evaluations=(point,))
    monkeypatch.setattr(tab.jobs, "get", lambda id_: run)
    monkeypatch.setattr(tab.jobs, "model", lambda id_: "mini-sds-clip")
    examples_of.cache_clear()
    monkeypatch.setattr(f"sdsdemo.ui.{missing}", refuse)
    message, tabs, *question_and_models = tab.finished.in_compare("x", 3)
    assert (message, tabs["selected"]) == ("", "compare")
    assert question_and_models[:3] == [gr.skip()] * 3
    assert [row["value"] for row in question_and_models[3:]] == ["mini-clip", "mini-sds-clip", None]


def test_the_race_is_sent_again_only_with_a_new_evaluation(tab: Any) -> None:
    one = Job(id="x", recipe=QUICK, state="running", step=1, seconds=1.0)
    race = tab.outputs.index(tab.evaluations), tab.outputs.index(tab.pictures)
    later = tab._updates(replace(one, step=2), one)
    assert all(later[k] == gr.skip() for k in race)
    looked = tab._updates(replace(one, evaluations=finished().evaluations), one)
    assert all("race" in looked[k] for k in race)


def test_the_end_of_a_run_reaches_the_page_wherever_its_cache_is(
    page: Any, tab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio hands out only files in its own folders, the temporary one, and those that the app allows."""
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(elsewhere))
    page.has_launched, page.allowed_paths, page.blocked_paths = True, launch_options("", 0)["allowed_paths"], []
    id_ = tab.jobs.start(QUICK)
    updates = tab._updates(until(tab.jobs, id_, over))
    with page:
        event = gr.Button().click(tab._watch, tab.run_id, tab.outputs)
    token = LocalContext.blocks.set(page)
    try:
        sent = page.postprocess_data(page.fns[event["id"]], updates, None)
        with ThreadPoolExecutor(1) as thread:  # this one may run a loop already, for a browser of another test
            outputs = thread.submit(copy_context().run, asyncio.run, sent).result()
        shown = dict(zip(tab.outputs, outputs, strict=True))
    finally:
        LocalContext.blocks.reset(token)
    links = re.findall(r'href="runs/([^/]+)/([^"]+)"', str(shown[tab.files]))
    assert [tab.finished.file(*link) for link in links] == [
        tmp_path / id_ / name for name in ("model.safetensors", "run.json")
    ]
    assert id_ not in str(shown)
    assert tab.finished.file(id_, "run.json") is tab.finished.file(links[0][0], "asked.json") is None


def test_buttons_follow_the_state_of_the_run(tab: Any) -> None:
    running = tab._updates(Job(id="x", recipe=QUICK, state="running", step=1, seconds=1.0))
    assert [running[5]["interactive"], running[6]["interactive"], running[7]["visible"]] == [False, True, False]
    stopping = tab._updates(Job(id="x", recipe=QUICK, state="stopping"))
    assert (stopping[5]["interactive"], stopping[6]["interactive"]) == (False, False)
    idle = tab._updates(None)
    assert (idle[5]["interactive"], idle[6]["interactive"]) == (True, False)
    assert idle[5]["value"] == "Start"  # a button without a value would lose its words


def test_an_estimate_explains_why_a_recipe_cannot_run(tab: Any) -> None:
    for changes, said in (({"base": "clip-vit-b-32"}, "downloads are off"), ({"steps": 5_000}, "at most 2,000 steps")):
        first, last = tab.estimates.say(*form(**changes).values())
        assert "Measuring" in first
        assert said in last


@pytest.mark.parametrize("name", LABELS)
def test_a_sentence_on_the_page_names_the_field(name: str) -> None:
    said = in_page_words(f"{cli_flag(name)} must be from 1 to 2; it was 3.")
    assert said == f"“{LABELS[name]}” must be from 1 to 2; it was 3."
    assert in_page_words(cli_flag(name).replace("--", "--no-")) == f"“{LABELS[name]}”"
