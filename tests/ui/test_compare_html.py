"""The HTML of an answer: rows, verdicts, which way a model pulls, and the words in which two captions differ."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sdsdemo.settings import ASSETS
from sdsdemo.types import Answer, Preference, Scores
from sdsdemo.ui import compare_html
from sdsdemo.ui.typical import Typical
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, fake_card
from tests.ui.compare_answers import CAPTIONS, answer_of


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.001, "under 0.01 s"), (0.0634, "0.063 s"), (4.56, "4.6 s"), (9.99, "10 s"), (42.4, "42 s"), (123.4, "2 min")],
)
def test_the_time_of_an_answer_is_said_for_people(seconds, said):
    assert compare_html._seconds(seconds) == said


def test_a_shared_problem_is_said_once_and_the_known_words_are_shown():
    problem = "'dog' is not a word that the Mini models know."
    cards = [replace(card, mini=True) for card in MINI_CARDS]
    answers = [Answer(card=card, problem=problem, blocked_by=("unknown-words",)) for card in cards]
    html = compare_html.answer_html(["a dog", "a cat"], answers)
    assert html.count("is not a word") == 1
    assert html.count(f"The same as for {cards[0].title}.") == len(cards) - 1
    assert html.count("All words that Mini knows") == 1
    assert "flower" in html
    foreign = [replace(answer, blocked_by=("foreign-picture",)) for answer in answers]
    assert "All words that Mini knows" not in compare_html.answer_html(["a dog", "a cat"], foreign)


def test_no_option_of_the_command_line_is_cut_at_the_end_of_a_line():
    workbench = fake_workbench()
    states = [workbench.availability(card) for card in workbench.cards()]
    sentences = [f"{state.reason} {state.next_step}" for state in states if not state.can_run]
    sentences += ["Name a folder with --out, or `finetune --learning-rate 3`: a --b and well--known -- dashes."]
    for sentence in sentences:
        html = compare_html.prose(sentence)
        for option in re.findall(r"(?<!\S)--[a-z-]+", sentence):
            assert html.count(option) == html.count(f'<span class="flag">{option}</span>'), html
    assert "well--known" in html
    style = (ASSETS / "style" / "base.css").read_text()
    assert re.search(r"\.flag \{[^}]*white-space: nowrap", style)


@pytest.mark.parametrize(
    ("preferred", "decided", "truth", "mark"),
    [(0, True, 0, "✓"), (1, True, 0, "✗"), (0, False, 0, ""), (0, True, None, "")],
)
def test_a_tick_or_a_cross_needs_a_decision_and_a_known_truth(preferred, decided, truth, mark):
    preference = Preference(preferred=preferred, difference=1.0, stderr=0.1, decided=decided)
    html = compare_html.row_html(replace(answer_of(), preference=preference), truth)
    assert ("✓" in html, "✗" in html) == (mark == "✓", mark == "✗")


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


def test_remarks_are_lines_that_ask_for_nothing_and_messages_are_alerts():
    html = compare_html.remarks_html(["One frame of two is read.", "Caption A is read as “a & b”."])
    assert html.count("<li>") == 2
    assert "&amp;" in html
    assert 'role="status"' in html
    assert "alert" not in html
    assert "message" not in html
    assert compare_html.remarks_html([]) == ""
