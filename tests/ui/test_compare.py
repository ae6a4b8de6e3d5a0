"""Compare's logic without a browser: what is asked becomes a sentence or rows, row by row as models finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from sdsdemo.errors import UserError
from sdsdemo.types import Answer, Concern
from sdsdemo.ui import compare_html, compare_logic, compare_models, drawn_answers
from sdsdemo.ui.compare import CompareTab
from tests.conftest import fake_workbench
from tests.fakes import MINI_CARDS, FakeScorer, fake_card
from tests.ui.compare_answers import MINI, answer_of


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
    assert last.has_charts is False, "those on the page are of an earlier answer"


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


def test_a_later_asker_gets_the_whole_answer_at_once(form, examples):
    workbench = fake_workbench()
    *so_far, first = compare_logic.score(workbench, examples, form)
    assert so_far
    (second,) = compare_logic.score(workbench, examples, form)
    assert second.answer == first.answer
    assert second.denoising == first.denoising
    assert [chart.to_json() for chart in second.charts] == [chart.to_json() for chart in first.charts]
    *so_far, _ = compare_logic.score(workbench, examples, replace(form, seed=1))
    assert so_far


def test_charts_and_pictures_are_drawn_once_for_all_who_get_the_answers(form, examples, monkeypatch):
    drawn, whole = [], drawn_answers.denoising_html
    monkeypatch.setattr(drawn_answers, "denoising_html", lambda *given: drawn.append(given) or whole(*given))
    workbench = fake_workbench()
    for asked in (form, form, replace(form, seed=1), form):
        *_, last = compare_logic.score(workbench, examples, asked)
        assert last.denoising
    assert len(drawn) == 2
    *_, last = compare_logic.score(fake_workbench(), examples, form)
    assert len(drawn) == 3, "equal answers of another model are other answers"


@pytest.mark.parametrize(("letter", "width"), [("a", 1), ("…", 2), ("😀", 4)])
def test_a_drawing_counts_for_the_memory_that_its_letters_take(letter, width):
    drawn = drawn_answers.Drawn(answers=(), denoising=10_000 * letter, charts=())
    assert drawn_answers._weight(drawn) >= drawn_answers.WEIGHT + 10_000 * width


def test_the_last_view_has_both_charts_and_the_files(form, examples):
    last = list(compare_logic.score(fake_workbench(), examples, form))[-1]
    assert last.has_charts
    assert len(last.charts) == 2
    assert "sdsdemo-compare.csv" in last.answer


def test_without_a_denoising_model_there_are_no_charts(form, examples):
    last = list(compare_logic.score(fake_workbench(), examples, replace(form, models=["mini-clip"])))[-1]
    assert last.has_charts is False
    assert last.charts == ()


def test_a_model_named_twice_is_scored_once(form, examples):
    views = list(
        compare_logic.score(fake_workbench(), examples, replace(form, models=["mini-clip", "mini-clip", None]))
    )
    assert views[-1].answer.count("<article") == 1
    assert views[-1].remarks == ("mini-clip is chosen 2 times, and shown once.",)


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
    concern = Concern(kind="unknown-words", text="'piano' is not a word that the Mini models know.", blocking=True)
    workbench = fake_workbench()
    workbench = type(workbench)(workbench.settings, opener=lambda card: FakeScorer(card, concerns=[concern]))
    last = list(compare_logic.score(workbench, examples, form))[-1]
    assert last.answer.count("is not a word that the Mini models know") == 1
    assert last.answer.count("The same as for Mini CLIP.") == 2
    assert 'class="value"' not in last.answer
    assert last.has_charts is False


@pytest.mark.parametrize("allowed", ["on", "off"])
def test_the_suggestion_is_a_real_clip_to_load_or_to_start_with(allowed):
    workbench = fake_workbench(SDSDEMO_ALLOW_DOWNLOAD=allowed)
    passed = [Answer(card=MINI_CARDS[0], problem="'piano' is not a word that the Mini models know.")]
    suggestion = compare_models.find_suggestion(workbench, passed)
    assert suggestion is not None
    assert suggestion.can_run == (allowed == "on")
    assert suggestion.card.family == "clip"
    assert suggestion.card.download
    assert compare_html.size_words(suggestion.card.size_mb) in suggestion.sentence
    assert compare_models.find_suggestion(workbench, [answer_of("mini-clip")]) is None


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


def test_the_suggestion_leaves_real_models_and_takes_none_twice():
    workbench = fake_workbench()
    small, large = [card.name for card in workbench.cards() if card.family == "clip" and card.download][:2]
    take = partial(compare_models.take_suggestion, workbench)
    assert take(["mini-clip", large, "mini-diffusion"], small) == [small, large, "mini-diffusion"]
    assert take(["mini-clip", small, None], small) == [None, small, None]
    assert take(["mini-clip", "mini-clip-clean"], small) == [small, None]


def test_the_page_says_that_decided_does_not_mean_right(form, examples):
    last = list(compare_logic.score(fake_workbench(), examples, form))[-1]
    assert "“Decided” does not mean “right”." in last.answer


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


def test_models_load_ahead_for_a_question_of_the_visitor_s_own(examples, tmp_path, monkeypatch):
    workbench, ahead = fake_workbench(), []
    monkeypatch.setattr(workbench, "load_ahead", ahead.append)
    with gr.Blocks():
        tab = CompareTab(workbench, examples, None, "")
    own = tmp_path / "own.png"
    Image.new("RGB", (40, 30), "red").save(own)
    blank = {field: field.value for field in tab.inputs}

    def follow(path: Path, captions: Sequence[str]) -> list[list[str]]:
        ahead.clear()
        tab._follow(blank | {tab.picture: str(path)} | dict(zip(tab.captions, captions, strict=True)))
        return ahead

    example = examples[0]
    assert follow(example.path, example.captions) == []
    assert follow(example.path, ("a red moon", "a blue moon")) == [list(MINI)]
    assert follow(own, example.captions) == [list(MINI)]
