"""The figures that are shipped: the documents say what the files say, and the weights still give them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation.freshness import stale
from sdsdemo.evaluation.report import results_of
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import hash_of, read_run
from sdsdemo.evaluation.tables import percent
from sdsdemo.mini.experiments.draw_assets import SEED, write_examples
from sdsdemo.mini.experiments.tables import as_markdown
from sdsdemo.settings import ASSETS, ROOT, Settings, budget
from sdsdemo.ui.opening import OPENING_FILE, opening_answer, read_opening

RESULTS = ASSETS / "mini" / "results"
MODELS = [
    "mini-clip", "mini-clip-clean", "mini-clip-lesson", "mini-diffusion", "mini-diffusion-short", "mini-sds-clip",
    "mini-clip-control", "mini-preference-clip",
]  # fmt: skip
SAMPLE = 18
"""Two of each kind of swap: scored anew in every run of the tests."""


def stored(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def shares_table(result: dict) -> str:
    """The shares as a table: models by metrics."""
    metrics = list(result["chance"])
    head = [f"{result['benchmark']}, n = {result['n']}", *(metric.replace("_", "-") for metric in metrics)]
    rows = [[f"`{name}`", *(percent(entry[metric]) for metric in metrics)] for name, entry in result["models"].items()]
    chance = ["chance", *(f"{100 * result['chance'][metric]:.1f}" for metric in metrics)]
    return as_markdown([head, *rows, chance])


@pytest.mark.parametrize("name", ["mini", "mini-retrieval"])
def test_the_documents_show_the_stored_figures_with_n_and_intervals(name: str) -> None:
    assert shares_table(stored(name)) in (ROOT / "docs" / "models.md").read_text()


def test_the_claim_about_the_paper_quotes_the_stored_text_scores() -> None:
    teacher, base = (100 * stored("mini")["models"][name]["text"]["value"] for name in ("mini-diffusion", "mini-clip"))
    assert f"text score {teacher:.1f} against {base:.1f}" in (ROOT / "docs" / "mini.md").read_text()


def test_every_shipped_score_of_a_diffusion_model_is_of_noise_in_pairs() -> None:
    names = [path.stem for path in sorted(RESULTS.glob("*.json")) if "settings" in stored(path.stem)]
    assert len(names) >= 5
    for name in names:
        if any(found.get("losses") for found in stored(name)["models"].values()):
            assert stored(name)["settings"]["antithetic"], name
    run = read_run(ASSETS / "mini" / "runs" / "mini")
    denoised = [scores.evidence for scores in run.scores.values() if scores.evidence]
    assert len(denoised) == 800
    assert all(evidence.antithetic for evidence in denoised)


@pytest.mark.slow
@pytest.mark.long
def test_a_sample_scored_anew_gives_the_rows_of_the_shipped_run(tmp_path: Path) -> None:
    """Every model on two examples of each kind of swap: each score, and each loss behind it."""
    shipped = read_run(ASSETS / "mini" / "runs" / "mini")
    assert len(shipped.examples) == 400
    assert shipped.models == MODELS
    spend = budget(empty_prompt=True)
    evaluate("mini", MODELS, workbench=Workbench(), budget=spend, limit=SAMPLE, out=tmp_path / "run")
    fresh = read_run(tmp_path / "run")
    assert fresh.header["settings"] == shipped.header["settings"]
    assert len(fresh.scores) == SAMPLE * len(MODELS)
    for key, scores in fresh.scores.items():
        np.testing.assert_allclose(scores.score_IC, shipped.scores[key].score_IC, atol=1e-4)
        if scores.evidence and (kept := shipped.scores[key].evidence):
            np.testing.assert_allclose(scores.evidence.loss_ICTN, kept.loss_ICTN, atol=1e-4)
            assert scores.evidence.loss_empty_ITN is not None


def test_the_stored_figures_are_what_the_shipped_run_says() -> None:
    (result,) = results_of([read_run(ASSETS / "mini" / "runs" / "mini")])
    for key in ("chance", "models", "paired", "settings", "n"):
        assert json.loads(json.dumps(result[key])) == stored("mini")[key]


def test_the_answer_that_the_page_opens_on_is_the_one_that_the_code_gives() -> None:
    workbench = Workbench(Settings.from_environment({}))
    kept, fresh = json.loads((ASSETS / OPENING_FILE).read_text()), opening_answer(workbench)[0]
    assert kept["captions"] == list(fresh["captions"])
    assert read_opening(workbench) is not None
    for old, new in zip(kept["models"], fresh["models"], strict=True):
        assert (old["model"], old["preferred"], old["decided"]) == (new["model"], new["preferred"], new["decided"])
        assert old["scores"] == pytest.approx(new["scores"], abs=1e-4)
        assert old.get("evidence", {}).get("timesteps") == new.get("evidence", {}).get("timesteps")


def test_the_examples_of_the_page_are_those_that_the_seed_draws(tmp_path: Path) -> None:
    write_examples(tmp_path, SEED)
    assert (tmp_path / "examples.json").read_bytes() == (ASSETS / "mini" / "examples.json").read_bytes()
    names = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert names == sorted(path.name for path in (ASSETS / "mini" / "examples").iterdir())
    for name in names:
        drawn, shipped = (Image.open(folder / "examples" / name) for folder in (tmp_path, ASSETS / "mini"))
        assert drawn.tobytes() == shipped.tobytes()


def test_the_teacher_is_good_enough_to_teach_and_clip_retrieves() -> None:
    """On every kind of swap, those too that are learned last; at least as well as the studies' own."""
    models = stored("mini")["models"]
    teacher, studied = models["mini-diffusion"], models["mini-diffusion-short"]
    assert teacher["text"]["value"] >= studied["text"]["value"] >= 0.93
    assert teacher["group"]["value"] >= studied["group"]["value"] >= 0.75
    assert all(found["text"]["value"] >= 0.75 for found in teacher["by_tag"]["tag"].values())
    assert (
        0.5 < stored("mini-retrieval")["models"]["mini-clip"]["accuracy"]["value"] < 0.9
    )  # so that "kept" can be said


def test_a_model_can_be_added_to_the_shipped_run() -> None:
    run = read_run(ASSETS / "mini" / "runs" / "mini")
    assert run.header["benchmark_hash"] == hash_of(read_benchmark("mini"))


def test_the_shipped_run_is_of_the_models_and_pictures_that_are_shipped() -> None:
    run = read_run(ASSETS / "mini" / "runs" / "mini")
    assert all(example.made_of for example in run.examples)
    assert set(run.header["model_facts"]) == set(run.header["models"]) == set(MODELS)
    assert not stale(run)


@pytest.mark.parametrize("seed", [31001, 31002, 31003])
def test_a_fresh_benchmark_gives_figures_like_the_shipped_ones(seed: int) -> None:
    """The intervals of both meet, and the teacher's text score lies inside the shipped interval."""
    shipped, fresh = stored("mini")["models"], stored(f"fresh-{seed}")["models"]
    assert set(fresh) == {*MODELS} - {"mini-diffusion-short", "mini-clip-lesson"}
    for name in fresh:
        for metric in ("text", "image", "group"):
            ours, theirs = shipped[name][metric], fresh[name][metric]
            assert theirs["low"] <= ours["high"], (name, metric)
            assert theirs["high"] >= ours["low"], (name, metric)
    teacher = shipped["mini-diffusion"]["text"]
    assert teacher["low"] <= fresh["mini-diffusion"]["text"]["value"] <= teacher["high"]
