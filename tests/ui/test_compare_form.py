"""The form of Compare: what must change is a sentence, and an address fills it in."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from sdsdemo.app.workbench import Workbench
from sdsdemo.errors import UserError
from sdsdemo.settings import LIMITS, TIMESTEPS, Settings, budget
from sdsdemo.ui import answer_file, compare_form, compare_logic
from sdsdemo.ui.examples import read_examples
from tests.conftest import fake_workbench
from tests.ui.compare_answers import CAPTIONS, MINI


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "picture"),
        ({"captions": ["", CAPTIONS[1]]}, "A"),
        ({"captions": [CAPTIONS[0], "  "]}, "B"),
        ({"captions": [CAPTIONS[0], CAPTIONS[0].upper()]}, "aption"),
        ({"captions": ["x" * 5000, CAPTIONS[1]]}, "300"),
        ({"captions": "one text"}, "list"),
        ({"captions": [1, 2]}, "list"),
        ({"models": []}, "model"),
        ({"models": [None, ""]}, "model"),
        ({"models": ["no-such-model"]}, "no-such-model"),
        ({"models": [f"m{i}" for i in range(LIMITS.models + 1)]}, str(LIMITS.models)),
        ({"timesteps": 65}, "Timesteps"),
        ({"timesteps": 2.5}, "Timesteps"),
        ({"noises": 0}, "Noise draws"),
        ({"noises": None}, "Noise draws"),
        ({"noises": 1, "adaptive": True}, "even number of noise draws; it was 1"),
        ({"adaptive": "yes"}, "true or false"),
        ({"seed": -1}, "Seed"),
        ({"region": "stretch"}, "region"),
        ({"timestep_range": "0.8 0.2"}, "such as 0.2 0.8"),
        ({"timestep_range": "the middle"}, "timestep range"),
        ({"timestep_range": [0.2]}, "timestep range"),
        ({"timestep_range": {"low": 0}}, "timestep range"),
    ],
)
def test_a_form_that_must_change_gets_one_sentence_and_nothing_is_scored(form, examples, change, words):
    workbench = fake_workbench()
    views = list(compare_logic.score(workbench, examples, replace(form, **change)))
    assert len(views) == 1
    assert words in views[0].message
    assert views[0].answer == ""
    assert not any(workbench.is_loaded(name) for name in MINI)


def test_an_address_restores_the_form_without_the_visitor_s_picture(examples):
    workbench = fake_workbench()
    asked = budget(3, 2, 7, region="pad", timestep_range=(1 / 3, 0.8))
    link = answer_file.address(examples[1], ["a & b?", "c=d"], ["mini-clip"], asked)
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    form, example = compare_form.form_of_address(workbench, examples, query) or pytest.fail("it asks for something")
    assert example is examples[1]
    assert (list(form.captions), list(form.models)) == (["a & b?", "c=d"], ["mini-clip"])
    spend = budget(form.timesteps, form.noises, form.seed, region=form.region, timestep_range=form.timestep_range)
    assert spend == asked
    assert "example" not in answer_file.address(None, CAPTIONS, ["mini-clip"], budget())
    assert answer_file.address(None, CAPTIONS, [], budget(), "me/space").startswith(
        "https://huggingface.co/spaces/me/space?"
    )


def test_an_address_that_asks_for_nothing_opens_the_page_s_own_question(examples):
    nothing = {"tab": "compare", "__theme": "dark"}
    form, example = compare_form.form_of_address(fake_workbench(), examples, nothing) or pytest.fail("it asks")
    assert example is examples[0]
    assert (list(form.captions), form.remarks, form.asks) == (list(examples[0].captions), (), True)
    assert compare_form.form_of_address(fake_workbench(), [], nothing) is None


def test_nonsense_in_an_address_falls_back_to_defaults(examples):
    workbench = fake_workbench()
    nonsense = {"example": "none", "timesteps": "9999"}
    form, example = compare_form.form_of_address(workbench, examples, nonsense) or pytest.fail("it asks for something")
    assert example is examples[0]
    assert len(form.remarks) == 2
    assert form.timesteps == budget().timesteps


@pytest.mark.parametrize("typed", ["0.4 0.6", [0.4, 0.6]])
def test_the_timesteps_lie_in_the_range_that_was_asked_for(form, typed):
    workbench, examples = Workbench(Settings.from_environment({})), read_examples()
    question = {"image": str(examples[0].path), "captions": examples[0].captions, "models": ["mini-diffusion"]}
    asked = replace(form, **question, timesteps=2, noises=1, timestep_range=typed)
    (entry,) = compare_logic.score_dict(workbench, examples, asked)["models"]
    (own,) = compare_logic.score_dict(workbench, examples, replace(asked, timestep_range=""))["models"]
    assert all(400 <= timestep <= 600 for timestep in entry["evidence"]["timesteps"])
    assert own["evidence"]["timesteps"] != entry["evidence"]["timesteps"]


@pytest.mark.parametrize("nonsense", [{"region": "stretch"}, {"timestep_range": "0.8 0.2"}])
def test_an_invalid_address_setting_falls_back_to_the_default(examples, nonsense):
    form, _ = compare_form.form_of_address(fake_workbench(), examples, {"a": "one", **nonsense}) or pytest.fail(
        "it asks"
    )
    assert (form.region, form.timestep_range) == ("crop", "")


GOOD = {"timesteps": "3", "noises": "2", "seed": "7", "region": "pad", "timestep_range": "0.2 0.8"}


@pytest.mark.parametrize(
    ("name", "bad", "said"),
    [
        ("timesteps", "9999", "Timesteps must be from 1 to 64"),
        ("noises", "two", "Noise draws must be a whole number"),
        ("seed", "9" * 5000, "Seed must be a whole number"),
        ("region", "stretch", "The region must be"),
        ("timestep_range", "0.8 0.2", "The timestep range must be"),
    ],
)
def test_one_bad_setting_of_an_address_is_named_and_the_others_stay(examples, name, bad, said):
    query = {"a": "one", "example": "green-red", **GOOD, name: bad}
    form, _ = compare_form.form_of_address(fake_workbench(), examples, query) or pytest.fail("it asks")
    usual = {"timesteps": 8, "noises": 4, "seed": 0, "region": "crop", "timestep_range": ""}
    wanted = {"timesteps": 3, "noises": 2, "seed": 7, "region": "pad", "timestep_range": "0.2 0.8", name: usual[name]}
    assert {key: getattr(form, key) for key in wanted} == wanted
    (remark,) = form.remarks
    assert said in remark
    assert len(remark) < 300
    query = {"a": "one", "example": "green-red", **GOOD}
    form, _ = compare_form.form_of_address(fake_workbench(), examples, query) or pytest.fail("it asks")
    assert form.remarks == ()


@pytest.mark.parametrize("kind", ["long", "negative", "in a list", "in an object", "infinite", "not a number"])
def test_a_number_that_cannot_be_written_out_is_refused_in_a_sentence(kind):
    long = 10**5000
    value = {
        "long": long, "negative": -long, "in a list": [long], "in an object": {"a": long},
        "infinite": float("inf"), "not a number": float("nan"),
    }[kind]  # fmt: skip
    for refuse in (
        lambda: TIMESTEPS.check(value, "Timesteps"),
        lambda: budget(timestep_range=[value, 1]),
        lambda: budget(timestep_range=value),
    ):
        with pytest.raises(UserError) as error:
            refuse()
        assert len(str(error.value)) < 250
