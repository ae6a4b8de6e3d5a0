"""The Compare tab without a browser: forms become sentences or answers, answers become rows, files and links."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.decision import decide
from sdsdemo.errors import UserError
from sdsdemo.settings import ASSETS, LIMITS, TIMESTEPS, Settings, budget
from sdsdemo.types import Answer, Concern, Preference, Scores
from sdsdemo.ui import answer_file, compare_form, compare_html, compare_logic, compare_models, opening
from sdsdemo.ui.compare_form import Form
from sdsdemo.ui.examples import find_example, read_examples
from sdsdemo.ui.typical import Typical
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, FakeScorer, fake_card

MINI = tuple(card.name for card in MINI_CARDS)
CAPTIONS = ("a red square left of a blue square", "a blue square left of a red square")


@pytest.fixture
def examples(example_assets: Path):
    return read_examples(example_assets)


@pytest.fixture
def form(examples) -> Form:
    return Form(image=str(examples[0].path), captions=list(CAPTIONS), models=list(MINI), timesteps=8, noises=4, seed=0)


def answer_of(name: str = "mini-diffusion", **facts) -> Answer:
    """An answer as a workbench gives it."""
    card = next(card for card in MINI_CARDS if card.name == name)
    scores = FakeScorer(card, **facts).score([Image.new("RGB", (9, 9), "red")], CAPTIONS, budget())
    return Answer(card=card, scores=scores, preference=decide(scores))


def scores_of(answer: Answer) -> Scores:
    assert answer.scores is not None
    return answer.scores


def losses_of(answer: Answer) -> np.ndarray:
    evidence = scores_of(answer).evidence
    assert evidence is not None
    return evidence.loss_ICTN


# forms


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


def test_a_picture_that_cannot_be_read_gets_a_sentence_without_its_path(form, examples, tmp_path):
    wrong = tmp_path / "wrong.png"
    wrong.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    for message in (
        compare_logic.check_picture(str(wrong)),
        *(view.message for view in compare_logic.score(fake_workbench(), examples, replace(form, image=str(wrong)))),
    ):
        assert message
        assert str(tmp_path) not in message


def test_a_readable_picture_and_no_picture_say_nothing_when_put_in(examples):
    assert compare_logic.check_picture(str(examples[0].path)) == compare_logic.check_picture(None) == ""


def test_a_fault_of_ours_becomes_a_sentence_and_the_rows_so_far_stay(form, examples, monkeypatch):
    workbench = fake_workbench()

    def breaks(*args, **options):
        yield answer_of("mini-clip")
        raise RuntimeError("secret /server/path")

    monkeypatch.setattr(workbench, "compare", breaks)
    last = list(compare_logic.score(workbench, examples, form))[-1]
    assert last.message == compare_logic.OUR_FAULT
    assert "Mini clip" in last.answer
    assert "pending" not in last.answer
    assert "secret" not in last.answer


# answers


def test_a_row_appears_as_each_model_finishes(form, examples):
    views = list(compare_logic.score(fake_workbench(), examples, form))
    done = [view.answer.count('class="verdict') for view in views]
    waiting = [view.answer.count("pending") for view in views]
    assert done == [0, 1, 2, 2, 3], "the diffusion model shows what it knows so far, then its answer"
    assert waiting == [3, 2, 1, 1, 0]
    so_far = views[2].answer
    assert "32 of 64 denoiser calls" in so_far
    assert "so far" in so_far
    assert 'aria-busy="true"' in so_far
    assert so_far.count('class="mark"') == views[1].answer.count('class="mark"'), "nothing is judged half way"
    assert "so far" not in views[-1].answer
    one = replace(form, noises=3)
    first = [view.answer for view in compare_logic.score(fake_workbench(), examples, one)][2]
    assert "set two or more" not in first


def test_the_last_view_has_both_charts_and_the_files(form, examples):
    last = list(compare_logic.score(fake_workbench(), examples, form))[-1]
    assert last.has_charts
    assert len(last.charts) == 2
    assert "sdsdemo-compare.csv" in last.answer


def test_without_a_denoising_model_there_are_no_charts(form, examples):
    last = list(compare_logic.score(fake_workbench(), examples, replace(form, models=["mini-clip"])))[-1]
    assert last.has_charts is False
    assert last.charts == ()


def test_a_shared_problem_is_said_once_and_the_known_words_are_shown():
    problem = "'dog' is not a word that the mini models know."
    cards = [replace(card, mini=True) for card in MINI_CARDS]
    answers = [Answer(card=card, problem=problem, blocked_by=("unknown-words",)) for card in cards]
    html = compare_html.answer_html(["a dog", "a cat"], answers)
    assert html.count("is not a word") == 1
    assert html.count(f"The same as for {cards[0].title}.") == len(cards) - 1
    assert html.count("All words that Mini knows") == 1
    assert "flower" in html
    foreign = [replace(answer, blocked_by=("foreign-picture",)) for answer in answers]
    assert "All words that Mini knows" not in compare_html.answer_html(["a dog", "a cat"], foreign)


def test_a_model_named_twice_is_scored_once(form, examples):
    views = list(
        compare_logic.score(fake_workbench(), examples, replace(form, models=["mini-clip", "mini-clip", None]))
    )
    assert views[-1].answer.count("<article") == 1
    assert views[-1].remarks == ("mini-clip is chosen in 2 rows, and shown once.",)


def test_swapping_the_captions_swaps_the_scores_exactly(form, examples):
    straight = compare_logic.score_dict(fake_workbench(), examples, form)
    swapped = compare_logic.score_dict(fake_workbench(), examples, replace(form, captions=form.captions[::-1]))
    for one, other in zip(straight["models"], swapped["models"], strict=True):
        assert one["scores"] == other["scores"][::-1]
        assert one["preferred"] == 1 - other["preferred"]


def test_a_fault_of_one_model_leaves_the_other_rows(form, examples):
    workbench = fake_workbench()
    broken = FakeScorer(MINI_CARDS[1], failure=UserError("The diffusion model has no room here."))
    workbench = type(workbench)(
        workbench.settings, opener=lambda card: broken if card.name == "mini-diffusion" else FakeScorer(card)
    )
    last = list(compare_logic.score(workbench, examples, form))[-1]
    assert "no room here" in last.answer
    assert last.answer.count('class="verdict') == 2


def test_an_unknown_word_is_said_in_the_row_and_no_number_is_shown(form, examples):
    concern = Concern(kind="unknown-words", text="'piano' is not a word that the mini models know.", blocking=True)
    workbench = fake_workbench()
    workbench = type(workbench)(workbench.settings, opener=lambda card: FakeScorer(card, concerns=[concern]))
    last = list(compare_logic.score(workbench, examples, form))[-1]
    assert last.answer.count("is not a word that the mini models know") == 1
    assert last.answer.count("The same as for Mini CLIP.") == 2
    assert 'class="value"' not in last.answer
    assert last.has_charts is False


@pytest.mark.parametrize("allowed", ["on", "off"])
def test_the_suggestion_is_a_real_clip_to_load_or_to_start_with(allowed):
    workbench = fake_workbench(SDSDEMO_ALLOW_DOWNLOAD=allowed)
    passed = [Answer(card=MINI_CARDS[0], problem="'piano' is not a word that the mini models know.")]
    suggestion = compare_models.find_suggestion(workbench, passed)
    assert suggestion is not None
    assert suggestion.can_run == (allowed == "on")
    assert suggestion.card.family == "clip"
    assert suggestion.card.download
    assert compare_html.size_words(suggestion.card.size_mb) in suggestion.sentence
    assert compare_models.find_suggestion(workbench, [answer_of("mini-clip")]) is None


def test_no_option_of_the_command_line_is_cut_at_the_end_of_a_line():
    workbench = fake_workbench()
    states = [workbench.availability(card) for card in workbench.cards()]
    sentences = [f"{state.reason} {state.next_step}" for state in states if not state.can_run]
    sentences += ["Name a folder with --out, or `finetune --learning-rate 3`: a --b and well--known -- dashes."]
    assert any("--allow-download" in sentence for sentence in sentences)
    for sentence in sentences:
        html = compare_html.prose(sentence)
        for option in re.findall(r"(?<!\S)--[a-z-]+", sentence):
            assert html.count(option) == html.count(f'<span class="flag">{option}</span>'), html
    assert "well--known" in html
    style = (ASSETS / "style" / "base.css").read_text()
    assert re.search(r"\.flag \{[^}]*white-space: nowrap", style)


def test_the_suggestion_replaces_mini_rows_by_real_models(monkeypatch):
    workbench = fake_workbench()
    real = next(card.name for card in workbench.cards() if card.family == "clip" and card.download)
    monkeypatch.setattr(workbench, "cards", lambda: [])
    assert compare_models.take_suggestion(workbench, [*MINI, None], real) == [
        real,
        "mini-diffusion",
        "mini-sds-clip",
        None,
    ]
    monkeypatch.setattr(workbench, "cards", lambda: [fake_card("tuned", "sds-clip", base=real)])
    assert compare_models.take_suggestion(workbench, [*MINI, None], real) == [real, "mini-diffusion", "tuned", None]


def test_the_page_is_built_without_examples_or_an_opening_answer_as_well(tmp_path):
    from sdsdemo.ui.page import build_page

    assert build_page(fake_workbench(), assets=tmp_path).config["title"]


# truth


def test_the_truth_is_known_for_an_example_s_own_captions_in_either_order(examples):
    example = examples[1]
    assert example.truth(example.captions) == 1
    assert example.truth(example.captions[::-1]) == 0
    assert example.truth([example.captions[0].upper(), example.captions[1]]) == 1
    for kept in example.captions:
        assert example.truth([kept, "something else"]) is None


def test_an_example_is_known_by_its_bytes_under_any_name(examples, tmp_path):
    copy = tmp_path / "renamed.png"
    copy.write_bytes(examples[1].path.read_bytes())
    assert find_example(examples, copy) is examples[1]
    Image.new("RGB", (64, 64), "red").save(copy)
    assert find_example(examples, copy) is None


@pytest.mark.parametrize(
    ("preferred", "decided", "truth", "mark"),
    [(0, True, 0, "✓"), (1, True, 0, "✗"), (0, False, 0, ""), (0, True, None, "")],
)
def test_a_tick_or_a_cross_needs_a_decision_and_a_known_truth(preferred, decided, truth, mark):
    preference = Preference(preferred=preferred, difference=1.0, stderr=0.1, decided=decided)
    html = compare_html.row_html(replace(answer_of(), preference=preference), truth)
    assert ("✓" in html, "✗" in html) == (mark == "✓", mark == "✗")


def test_examples_may_be_absent_and_a_broken_list_names_the_item(tmp_path):
    assert read_examples(tmp_path) == []
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "examples.json").write_text(json.dumps([{"image": "mini/none.png"}]))
    with pytest.raises(UserError, match=r"\(0\.captions: field required\)"):
        read_examples(tmp_path)


# rows


def test_a_row_shows_losses_as_losses_and_says_which_way_is_better():
    denoising, similarity = (
        compare_html.row_html(answer_of("mini-diffusion")),
        compare_html.row_html(answer_of("mini-clip")),
    )
    assert "lower loss is better" in denoising
    assert "higher is better" in similarity
    assert "-0." not in denoising


def test_the_difference_carries_its_standard_error_with_two_digits():
    assert compare_html.difference_words(0.025123, 0.0043) == "0.0251 ± 0.0043"
    assert compare_html.difference_words(12.3456, 1.9) == "12.3 ± 1.9"
    assert compare_html.difference_words(0.29, None) == "0.29"
    assert compare_html.difference_words(0.29, float("nan")) == "0.29"


def test_everything_foreign_is_escaped():
    nasty = "<script>alert(1)</script>"
    card = replace(fake_card("mini-clip"), title=nasty)
    answer = replace(answer_of("mini-clip"), card=card, notes=(nasty,))
    html = compare_html.answer_html([nasty, nasty], [answer, Answer(card=card, problem=nasty)], [(nasty, nasty)])
    html += (
        compare_html.message_html(nasty)
        + compare_html.remarks_html([nasty])
        + compare_html.tools_html("?" + nasty, True, nasty, nasty)
    )
    assert "<script" not in html


def test_what_is_to_be_typed_looks_like_it_and_everything_else_stays_text():
    assert compare_html.prose("Run `fetch <x>` & wait.") == "Run <code>fetch &lt;x&gt;</code> &amp; wait."
    assert compare_html.prose("one ` alone") == "one ` alone"


def test_a_loss_that_is_no_number_gives_a_row_without_a_verdict():
    html = compare_html.row_html(answer_of("mini-diffusion", loss=float("nan")), truth=0)
    assert "✓" not in html
    assert "✗" not in html
    assert "prefers" not in html


def test_the_page_says_that_decided_does_not_mean_right(form, examples):
    last = list(compare_logic.score(fake_workbench(), examples, form))[-1]
    assert "“Decided” does not mean “right”." in last.answer


# which way a model pulls


def pull(preferred, difference, *, stderr=None, unit=2.0, tie=False, decided=True):
    preference = Preference(preferred=preferred, difference=difference, stderr=stderr, decided=decided, tie=tie)
    usual = Typical(difference=unit, pictures=99, run="x") if unit else None
    return compare_html._pull(preference, None, usual)


def test_a_typical_difference_is_halfway_to_its_letter():
    assert (pull(0, 2.0)["at"], pull(1, 2.0)["at"]) == ("25.0", "75.0")
    assert pull(0, 0.0, tie=True)["at"] == "50.0"


def test_the_pull_grows_with_the_difference_and_never_reaches_the_end():
    places = [float(pull(1, difference)["at"]) for difference in (0.1, 1.0, 2.0, 20.0, 200.0)]
    assert places == sorted(set(places))
    assert places[0] > 50
    assert places[-1] < 100


def test_two_models_that_pull_alike_stand_alike_whatever_their_units():
    assert pull(0, 3.0, unit=2.0)["at"] == pull(0, 0.03, unit=0.02)["at"]


def test_the_whisker_holds_two_standard_errors_on_either_side():
    found = pull(1, 1.0, stderr=0.25)
    ends = [compare_html._place(signed, 2.0) for signed in (0.5, 1.5)]
    assert [float(found["low"]), float(found["low"]) + float(found["width"])] == pytest.approx(ends, abs=0.1)


def test_without_a_typical_difference_the_dot_shows_the_side_alone():
    assert pull(0, 3.0, unit=None)["at"] == pull(0, 0.001, unit=None)["at"] == "25.0"
    assert pull(1, 3.0, stderr=0.2, unit=None)["width"] == ""
    html = compare_html.answer_html(CAPTIONS, [answer_of("mini-clip")])
    assert "Nothing is stored about Mini clip" in html


def test_no_number_pulls_nowhere():
    assert pull(None, None) is None
    assert "rope" not in compare_html.row_html(answer_of("mini-diffusion", loss=float("nan")))


def marked(one, other):
    return [[words for words, differs in of if differs] for of in compare_html.differing_words([one, other])]


def test_words_that_differ_are_marked_place_by_place():
    found = marked("an orange arrow and a blue star", "a blue arrow and an orange star")
    assert found == [["an orange", "a blue"], ["a blue", "an orange"]]
    assert marked("A dog on a couch", "a couch on a dog") == [["dog", "couch"], ["couch", "dog"]]
    assert marked("the same", "The  same") == [[], []]


def test_a_word_that_was_put_in_is_marked_alone():
    assert marked("a dog on a couch", "a big dog on a couch") == [[], ["big"]]
    one, other = "a dog on a couch in the sun today", "today a dog on a couch in the sun"
    assert marked(one, other) == [["today"], ["today"]]


@pytest.mark.parametrize("captions", [["one  two"], ["a b", "a c", "a d"], ["", "x"]])
def test_marking_words_loses_none(captions):
    for caption, pieces in zip(captions, compare_html.differing_words(captions), strict=True):
        assert " ".join(words for words, _ in pieces).split() == caption.split()


# files and addresses


def test_a_record_gives_back_the_answers_and_their_verdicts():
    answers = [answer_of(name) for name in MINI]
    kept = json.loads(answer_file.as_json(answer_file.answer_record("x.png", CAPTIONS, answers)))
    for before, after in zip(answers, answer_file.answers_from(kept, fake_workbench()), strict=True):
        assert after.card.name == before.card.name
        assert after.preference == before.preference
        np.testing.assert_array_equal(scores_of(after).score_IC, scores_of(before).score_IC)
        if evidence := scores_of(before).evidence:
            np.testing.assert_array_equal(losses_of(after), evidence.loss_ICTN)


@pytest.mark.parametrize("pairs", [True, False])
def test_a_stored_answer_keeps_the_noise_that_it_was_computed_with(pairs: bool):
    fake = FakeScorer(next(card for card in MINI_CARDS if card.name == "mini-diffusion"))
    scores = fake.score([Image.new("RGB", (9, 9), "red")], CAPTIONS, budget(antithetic=pairs))
    answer = Answer(card=fake.card, scores=scores, preference=decide(scores))
    kept = answer_file.answer_record("x.png", CAPTIONS, [answer])
    stored = answer_file.answers_from(json.loads(answer_file.as_json(kept)), fake_workbench())
    assert compare_logic._budget_of(stored).antithetic == pairs
    assert stored[0].preference == answer.preference


def test_the_opening_answer_is_what_the_code_computes_now(example_assets):
    workbench = fake_workbench()
    kept = answer_file.as_json(opening.opening_answer(workbench, example_assets))
    (example_assets / "mini" / "opening.json").write_text(kept)
    example, stored = opening.read_opening(workbench, example_assets) or pytest.fail("there is no opening answer")
    fresh = workbench.compare(Image.open(example.path), example.captions, workbench.settings.models, budget())
    for was, now in zip(stored, fresh, strict=True):
        np.testing.assert_allclose(scores_of(was).score_IC, scores_of(now).score_IC, atol=1e-5)


def test_the_stored_opening_has_the_pictures_of_its_denoising(example_assets):
    workbench = fake_workbench()
    opening.write_opening(workbench, example_assets)
    example, stored = opening.read_opening(workbench, example_assets) or pytest.fail("there is no opening answer")
    asked = Image.open(example.path), example.captions, workbench.settings.models, budget()
    for was, now in zip(stored, workbench.compare(*asked, show=1e9), strict=True):
        assert (was.denoised is None) == (now.denoised is None)
        if was.denoised and now.denoised:
            for part in opening.PARTS:
                np.testing.assert_array_equal(getattr(was.denoised, part), getattr(now.denoised, part))
    assert compare_logic.stored_view(example, stored).denoising


def test_pictures_of_another_opening_are_not_shown(example_assets, caplog):
    workbench = fake_workbench()
    opening.write_opening(workbench, example_assets)
    path = example_assets / opening.PICTURES_FILE
    with np.load(path) as stored:
        parts = dict(stored)
    name = "mini-diffusion.error_CTNHW"
    np.savez(path, **{**parts, name: parts[name] + 0.01})
    example, answers = opening.read_opening(workbench, example_assets) or pytest.fail("there is no opening answer")
    assert all(answer.denoised is None for answer in answers)
    assert compare_logic.stored_view(example, answers).denoising == ""
    assert "does not belong" in caplog.text


def test_an_opening_answer_about_other_models_is_not_shown(example_assets):
    kept = answer_file.as_json(opening.opening_answer(fake_workbench(), example_assets))
    (example_assets / "mini" / "opening.json").write_text(kept)
    assert opening.read_opening(fake_workbench(SDSDEMO_MODELS="mini-clip"), example_assets) is None


def test_the_csv_has_a_line_a_model_and_caption_and_runs_no_formula():
    answers = [answer_of("mini-clip"), Answer(card=MINI_CARDS[1], problem="=1+1 is not a caption")]
    kept = answer_file.answer_record("@x.png", ["=HYPERLINK(1)", "plain, with a comma"], answers)
    lines = list(csv.DictReader(io.StringIO(answer_file.as_csv(kept))))
    assert [(line["model"], line["caption"]) for line in lines] == [
        ("mini-clip", "0"), ("mini-clip", "1"), ("mini-diffusion", "0"), ("mini-diffusion", "1"),
    ]  # fmt: skip
    assert lines[0]["text"] == "'=HYPERLINK(1)"
    assert lines[1]["text"] == "plain, with a comma"
    assert lines[0]["image"] == "'@x.png"
    assert lines[2]["problem"].startswith("'=")
    assert float(lines[0]["score"]) == pytest.approx(scores_of(answers[0]).score_IC[0, 0])


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


def test_nonsense_in_an_address_falls_back_to_defaults(examples):
    workbench = fake_workbench()
    assert compare_form.form_of_address(workbench, examples, {"tab": "compare", "__theme": "dark"}) is None
    nonsense = {"example": "none", "timesteps": "9999"}
    form, example = compare_form.form_of_address(workbench, examples, nonsense) or pytest.fail("it asks for something")
    assert example is examples[0]
    assert len(form.remarks) == 2
    assert form.timesteps == budget().timesteps


def test_each_chosen_model_says_whether_it_can_run_here_and_what_to_do(monkeypatch):
    workbench = fake_workbench()
    real = next(card for card in workbench.cards() if card.download)
    html = compare_models.models_html(workbench, ["mini-clip", real.name, "<no-such-model>", None])
    assert html.count("<li") == 3
    assert "cannot run here" in html
    assert "&lt;no-such-model&gt;" in html
    assert any(
        compare_html.size_words(real.size_mb) in label
        for label, name in compare_models.model_choices(workbench)
        if name == real.name
    )


def test_a_similarity_has_no_error_and_no_whisker():
    answer = replace(
        answer_of("mini-clip"),
        scores=Scores(kind="similarity", score_IC=np.array([[21.3, 20.9]])),
        preference=Preference(preferred=0, difference=0.4, stderr=None, decided=True),
    )
    html = compare_html.row_html(answer, typical=lambda model: Typical(difference=0.4, pictures=99, run="x"))
    assert "±" not in html
    assert "whisker" not in html
    assert "A ahead by <b>0.4</b>" in html


def test_page_and_api_read_the_same_text_and_say_so(form, examples):
    workbench = fake_workbench()
    odd = replace(form, captions=["a red square &amp; a blue one", "the star\u2019s  left"])
    *_, last = compare_logic.score(workbench, examples, odd)
    found = compare_logic.score_dict(workbench, examples, odd)
    assert found["captions"] == ["a red square & a blue one", "the star's left"]
    assert last.message == ""
    assert list(last.remarks) == found["notes"]
    assert any("Caption B is read as \u201cthe star's left\u201d" in line for line in last.remarks)
    assert "notes" not in compare_logic.score_dict(workbench, examples, form)


def test_remarks_are_lines_that_ask_for_nothing_and_messages_are_alerts():
    html = compare_html.remarks_html(["One frame of two is read.", "Caption A is read as “a & b”."])
    assert html.count("<li>") == 2
    assert "&amp;" in html
    assert 'role="status"' in html
    assert "alert" not in html
    assert "message" not in html
    assert compare_html.remarks_html([]) == ""


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
