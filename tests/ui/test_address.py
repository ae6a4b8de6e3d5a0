"""The page's URL without a browser: what is written is read back, and hostile links get sentences."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import pytest

from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.workbench import Workbench
from sdsdemo.evaluation.catalogue import DECIDED, OF_SEVERAL, ORDER, SECONDARY_KINDS, TAG_KINDS, WHO, Catalogue
from sdsdemo.finetuning.recipe import PRESETS
from sdsdemo.settings import ASSETS, LIMITS, Settings, usual_noises
from sdsdemo.ui import address, browse_address, compare_form, recipe_address
from sdsdemo.ui.address import Query
from sdsdemo.ui.browse_filters import FilterValues
from sdsdemo.ui.compare_form import Form, form_of_address, query_of
from sdsdemo.ui.examples import read_examples
from sdsdemo.ui.page import build_page
from sdsdemo.ui.recipe_form import FIRST, RecipeForm
from tests.conftest import fake_workbench

SHOWN = ("mini-clip", "mini-diffusion", "mini-sds-clip")
NASTY = (
    "<script>alert(1)</script>",
    "a&b=c#d?e",
    "../../etc/passwd",
    "\x00\x1b[31m",
    "é 😀 \u202e",
    "%00%",
    "x" * 5_000,
)
FIELDS = sorted({name for fields in address.TABS.values() for name in fields})


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return RunRegistry(Settings.from_environment({}), ASSETS).catalogue("mini")


def some(choices: Any, dice: random.Random) -> list[str]:
    return dice.sample(list(choices), dice.randint(0, min(2, len(choices))))


@pytest.mark.parametrize("seed", range(20))
def test_browse_filters_are_read_back_as_they_were_written(catalogue: Catalogue, seed: int) -> None:
    dice = random.Random(seed)
    model, against = dice.sample(catalogue.models, 2)
    filters = FilterValues(
        "mini", model, against, dice.choice(catalogue.metrics), some(catalogue.tag_choices(TAG_KINDS), dice),
        some(catalogue.tag_choices(SECONDARY_KINDS), dice), some(["small object", "two predicates"], dice),
        some(["swapped"], dice), dice.choice(list(WHO)), dice.choice(list(DECIDED)), dice.choice(["", "red & <b>"]),
        dice.choice(list(ORDER)), dice.choice(list(OF_SEVERAL)), dice.choice(["", "-1.5:2,:0", ":,0.03:"]),
    )  # fmt: skip
    usual = browse_address.usual_filters("mini", catalogue, SHOWN)
    query = Query("browse", browse_address.write(filters, usual, example="17"))
    assert browse_address.read(query, "mini", catalogue, SHOWN) == (filters, 0, "17")
    assert not query.left_out
    assert browse_address.write(usual, usual) == ""


def test_a_question_is_read_back_without_what_is_usual(example_assets: Path) -> None:
    examples, workbench = read_examples(example_assets), fake_workbench()
    first = Form(image="x", captions=examples[1].captions, models=SHOWN, timesteps=8, noises=4, seed=0)
    assert query_of(first, examples[1], SHOWN) == "example=green-red"
    for form in (
        replace(first, captions=("one & <b>", "two=2"), seed=7, timestep_range="0.2 0.8", region="pad"),
        replace(first, models=("mini-clip", None, "mini-diffusion"), timesteps=3, noises=1),
        replace(first, adaptive=True, noises=4),
        replace(first, adaptive=True, noises=16),
    ):
        found, example = form_of_address(workbench, examples, Query("compare", query_of(form, examples[1], SHOWN))) or (
            pytest.fail("it asks for something")
        )
        assert example is examples[1]
        assert query_of(found, example, SHOWN) == query_of(form, examples[1], SHOWN)
        assert (found.noises, found.adaptive) == (form.noises, form.adaptive)
        assert not found.remarks


def test_a_link_that_stops_early_has_the_draws_of_the_command(example_assets: Path) -> None:
    found, _ = form_of_address(fake_workbench(), read_examples(example_assets), {"a": "one", "adaptive": "on"}) or (
        pytest.fail("it asks for something")
    )
    assert (found.noises, found.adaptive) == (usual_noises(True), True)
    for bad, said in [({"adaptive": "yes"}, "on or off"), ({"adaptive": "on", "noises": "5"}, "even number")]:
        found, _ = form_of_address(fake_workbench(), [], {"a": "one", **bad}) or pytest.fail("it asks for something")
        assert said in found.remarks[0]


def test_a_visitor_s_own_picture_is_nowhere_in_a_query() -> None:
    form = Form(image="/tmp/gradio/secret/me.png", captions=("one", "two"), models=SHOWN, timesteps=8, noises=4, seed=0)
    assert dict(parse_qsl(query_of(form, None, SHOWN))) == {"a": "one", "b": "two"}


def test_a_link_names_every_model_however_long_their_specs_are() -> None:
    specs = tuple(f"transformers:/home/{'long' * 20}/{k}" for k in range(LIMITS.models))
    form = Form(image=None, captions=("one", "two"), models=specs, timesteps=8, noises=4, seed=0)
    found, _ = form_of_address(fake_workbench(), [], Query("compare", query_of(form, None))) or pytest.fail("nothing")
    assert found.models == specs


@pytest.mark.parametrize("preset", ["quick", "mini"])
def test_a_recipe_is_read_back_as_what_differs_from_its_preset(preset: str) -> None:
    with gr.Blocks():
        form = RecipeForm(Workbench(Settings.from_environment({})))
    values = {name: asdict(PRESETS[preset])[name] for name in form.fields}
    assert recipe_address.write(preset, values, FIRST) == ("" if preset == FIRST else f"preset={preset}")
    changed = values | {"steps": 123, "lam": 0.123456789, "jacobian": not values["jacobian"], "towers": "text"}
    query = Query("finetune", recipe_address.write(preset, changed, FIRST))
    assert recipe_address.read(query, form.presets, form.bases, form.fields) == (preset, changed)
    assert not query.left_out


def test_a_number_beyond_its_limit_is_told_the_limit_in_full() -> None:
    with gr.Blocks():
        form = RecipeForm(Workbench(Settings.from_environment({})))
    query = Query("finetune", "seed=3000000000&learning_rate=7")
    recipe_address.read(query, form.presets, form.bases, form.fields)
    assert sorted(query.left_out) == [
        "“learning_rate=7” is left out: it must be a number from 1e-08 to 1.",
        "“seed=3000000000” is left out: it must be a whole number from 0 to 2,147,483,647.",
    ]


@pytest.mark.parametrize(
    "bad",
    ["steps=1e9", "steps=2.5", "lam=nan", "lam=inf", "lam=-1", "jacobian=maybe", "towers=none", "base=hub:me/mine",
     "teacher=/etc/passwd", "objective=steal", "preset=paper-vit-b-16", f"steps={'9' * 5_000}"],
)  # fmt: skip
def test_one_bad_setting_of_a_recipe_is_named_and_left_out(bad: str) -> None:
    with gr.Blocks():
        form = RecipeForm(Workbench(Settings.from_environment({})))
    query = Query("finetune", f"{bad}&batch=16&data=folder:/etc")
    preset, values = recipe_address.read(query, form.presets, form.bases, form.fields)
    usual = {name: asdict(PRESETS[FIRST])[name] for name in form.fields}
    assert (preset, values) == (FIRST, usual | {"batch": 16})
    (sentence,) = query.left_out
    assert f"“{bad[:20]}" in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("query", ["a=1&" * 500, "a=" + "x" * 9_000])
def test_a_link_without_end_is_not_used_at_all(query: str) -> None:
    read = Query("compare", query)
    assert read.text("a") == ""
    assert read.left_out == ["The link is too long, and nothing in it is used."]


def test_a_caption_beyond_the_limit_is_left_out() -> None:
    read = Query("compare", {"a": "x" * (LIMITS.caption_characters + 1), "b": "fine"})
    assert (read.text("a"), read.text("b")) == ("", "fine")
    assert "up to 300 characters" in read.left_out[0]


def test_no_field_has_a_name_that_gradio_reads_itself() -> None:
    assert not {"page", "view", "deep_link", "tab"} & set(FIELDS)
    assert not any(name.startswith("__") for name in FIELDS)


@pytest.fixture(scope="module")
def open_view() -> Any:
    """What the page calls to open a view."""
    page = build_page(Workbench(Settings.from_environment({"SDSDEMO_RUNS": "no-such-folder"})))
    (found,) = {fn.fn for fn in page.fns.values() if getattr(fn.fn, "__name__", "") == "open_view"}
    return lambda view: found(view, SimpleNamespace(headers={}, session_hash=None))


@pytest.mark.parametrize("tab", [*address.TABS, "<b>"])
@pytest.mark.parametrize("value", NASTY)
def test_a_hostile_value_becomes_one_sentence_and_breaks_nothing(open_view: Any, tab: str, value: str) -> None:
    import json
    from urllib.parse import urlencode

    query = urlencode(dict.fromkeys(FIELDS, value))
    message, *values = open_view(json.dumps({"tab": tab, "queries": {tab: query}}))
    assert "Something went wrong" not in message
    assert "<script>" not in message
    assert not [shown for shown in values if isinstance(shown, str) and shown != value and "<script>" in shown]


@pytest.mark.parametrize(
    "view", ["", "{", "[]", "null", "1", '{"tab": 1, "queries": []}', '{"queries": {"browse": 7}}', "[" * 100_000, None]
)
def test_a_view_of_the_wrong_shape_opens_nothing(open_view: Any, view: Any) -> None:
    message, *values = open_view(view)
    assert message == ""
    assert all(value == gr.skip() for value in values)


def test_a_model_without_a_card_is_scored_only_by_the_visitor() -> None:
    spec = "open_clip:ViT-B-32-quickgelu/openai"
    workbench = fake_workbench()
    assert workbench.settings.allow_specs
    form, _ = form_of_address(workbench, read_examples(), {"models": spec}) or pytest.fail("it asks for something")
    assert form.models == (spec,)
    assert not form.asks
    assert form.remarks == (compare_form.SPEC.format(spec),)
