"""Scenes of a visitor's own: what the editor does, the links to them, and every small change of a caption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sdsdemo.core.decision import decide
from sdsdemo.data.mini.sentences import PLURALS, WORDS
from sdsdemo.data.mini.sketches import read_sketch
from sdsdemo.data.mini.truth import index_of_truth
from sdsdemo.settings import LIMITS
from sdsdemo.ui import word_changes
from sdsdemo.ui.address import Query
from sdsdemo.ui.compare_address import CompareAddress
from sdsdemo.ui.compare_logic import ask
from sdsdemo.ui.examples import read_examples
from sdsdemo.ui.mini_words import MINI_WORDS
from sdsdemo.ui.scene_editor import NO_CAPTIONS, SceneEditor, suggested_html, truth_html
from sdsdemo.ui.scene_pictures import ScenePictures
from tests.conftest import fake_workbench

TEXT = "sky~star.red.250.300.165~circle.blue.700.600.235"
CAPTIONS = ["a red star left of a blue circle", "a blue circle left of a red star"]
SKIP = gr.skip()


def sent(do: str, scene: str = TEXT) -> str:
    return json.dumps({"do": do, "scene": scene})


@pytest.fixture(scope="module")
def editor() -> SceneEditor:
    return SceneEditor(ScenePictures())


def test_a_moved_thing_makes_a_new_picture_and_keeps_the_captions(editor):
    html, refusal, path, *captions = editor.act(sent("move"), None, CAPTIONS)
    assert (html, refusal, captions) == (SKIP, "", [SKIP, SKIP])
    found = editor.scenes.find(Image.open(path))
    assert found is not None
    assert found.truth(CAPTIONS) == 0
    assert found.truth(CAPTIONS[::-1]) == 1
    assert found.truth(["a dog", CAPTIONS[0]]) is None


def test_an_editor_that_has_the_scene_is_not_drawn_again_when_opened(editor):
    example = editor.scenes.of_text(TEXT)
    html, *_, path, _, _ = editor.act(sent("open", TEXT), example, example.captions)
    assert (html, path) == (SKIP, SKIP), "what the visitor moves meanwhile would be undone"
    html, *_ = editor.act(sent("open", TEXT.replace("red", "green")), example, example.captions)
    assert example.query["scene"] in html


def test_opening_takes_up_the_scene_of_the_picture_shown(editor):
    example = read_examples()[1]
    html, _, path, *captions = editor.act(sent("open", ""), example, example.captions)
    assert path == SKIP, "the answer on the page stays"
    assert captions == [SKIP, SKIP]
    assert 'data-scene="' in html
    html, _, path, *captions = editor.act(sent("open", ""), None, CAPTIONS)
    assert Path(path).is_file()
    assert SKIP not in captions, "a picture that is not Mini's gives way to a new scene"


def test_swapping_the_picture_turns_the_truth_around(editor):
    _, refusal, path, *captions = editor.act(sent("swap"), None, CAPTIONS)
    found = editor.scenes.find(Image.open(path))
    assert refusal == ""
    assert found is not None
    assert captions == [SKIP, SKIP]
    assert found.truth(CAPTIONS) == 1


@pytest.mark.parametrize("do", ["write", "paraphrase"])
def test_new_captions_have_one_truth(editor, do):
    _, refusal, _, *captions = editor.act(sent(do), None, CAPTIONS)
    now = [old if new == SKIP else new for new, old in zip(captions, CAPTIONS, strict=True)]
    assert refusal == ""
    assert now != CAPTIONS
    assert index_of_truth(read_sketch(TEXT), now) is not None


@pytest.mark.parametrize(
    "what",
    ["", "[]", "{", '{"do": 3}', sent("move", "nothing"), sent("move", "x" * 9_000), sent("paraphrase"), sent("swap")],
)
def test_what_cannot_be_done_is_a_sentence_and_changes_nothing(editor, what):
    html, refusal, *fields = editor.act(what, None, ["a dog", "a couch"])
    assert 'role="alert"' in refusal
    assert [html, *fields] == [SKIP] * 4


@pytest.mark.parametrize("do", ["move", "write"])
def test_four_equal_things_are_drawn_and_have_no_captions(editor, do):
    four = "cream~" + "~".join(f"star.red.{x}.300.105" for x in (150, 290, 430, 570))
    _, refusal, path, *captions = editor.act(sent(do, four), None, CAPTIONS)
    assert captions == [SKIP, SKIP]
    assert (NO_CAPTIONS in refusal, path == SKIP) == ((do == "write"),) * 2
    assert ScenePictures().of_text(four).captions == ("", "")


def test_a_failure_of_ours_while_drawing_is_a_sentence(editor, monkeypatch):
    monkeypatch.setattr(editor.scenes, "of_scene", lambda _: 1 / 0)
    html, refusal, *fields = editor.act(sent("move"), None, CAPTIONS)
    assert "went wrong on our side" in refusal
    assert [html, *fields] == [SKIP] * 4


def test_a_link_opens_the_scene_with_its_truth():
    scenes = ScenePictures()
    address = CompareAddress(fake_workbench(), read_examples(), None, scenes)
    example = scenes.of_text(TEXT)
    values, form = address.open(Query("compare", {**example.query, "a": CAPTIONS[1], "b": CAPTIONS[0]}), 3) or (0, 0)
    assert values[:3] == [form.image, CAPTIONS[1], CAPTIONS[0]]
    assert form.remarks == ()
    assert form.asks
    question = ask(fake_workbench(), read_examples(), form, address.recognise)
    assert question.truth == 1
    assert example.query["scene"] in address.html(form)
    bare = address.open(Query("compare", example.query), 3)
    assert bare is not None
    assert list(bare[1].captions) == list(example.captions)


def test_a_broken_scene_in_a_link_is_said():
    address = CompareAddress(fake_workbench(), read_examples(), None, ScenePictures())
    found = address.open(Query("compare", {"scene": "a~b", "a": "one", "b": "two"}), 3)
    assert found is not None
    assert any("scene=a~b" in remark for remark in found[1].remarks)


def test_truth_is_shown_of_known_scenes_alone():
    assert truth_html(None, CAPTIONS, True) == ""
    told = truth_html(read_sketch(TEXT), [CAPTIONS[0], "a dog"], True)
    assert told.index("true") < told.index("unknown")
    assert "data-live" in told
    assert "data-live" not in truth_html(read_sketch(TEXT), CAPTIONS, False)


def test_suggestions_are_swaps_of_the_caption_of_any_world():
    assert "a couch on a dog" in suggested_html("a dog on a couch", "")
    assert "a couch on a dog" not in suggested_html("a dog on a couch", "A couch on a dog")
    assert "a blue star left of a red circle" in suggested_html(CAPTIONS[0], "")
    assert suggested_html("hello", "") == ""


def test_every_change_is_judged_as_if_it_were_asked_alone(tmp_path):
    bench = fake_workbench()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "x.png")
    address = CompareAddress(bench, [], None, ScenePictures())
    _, form = address.open(Query("compare", {"scene": TEXT, "a": CAPTIONS[0], "b": "a star"}), 3) or (0, 0)
    question = ask(bench, [], form, address.recognise)
    changes = word_changes.changes_of(CAPTIONS[0])
    *_, (rows, is_done) = word_changes._rows(bench, question, CAPTIONS[0], changes)
    assert is_done
    assert len(changes) > LIMITS.captions
    for row in rows:
        assert len(row.preferences) == len(changes)
        for change, found in zip(changes, row.preferences, strict=True):
            asked = [CAPTIONS[0], change.text]
            alone = next(bench.compare(question.image, asked, [row.card.name], question.budget))
            assert alone.scores is not None
            expected = decide(alone.scores)
            assert (found.preferred, found.decided) == (expected.preferred, expected.decided), change.text


def test_stopping_early_leaves_every_change_its_own_verdict(tmp_path, monkeypatch):
    bench, spent = fake_workbench(), []
    _, form = CompareAddress(bench, [], None, ScenePictures()).open(
        Query("compare", {"scene": TEXT, "a": CAPTIONS[0], "b": "a star", "adaptive": "on"}), 3
    ) or (0, 0)
    question = ask(bench, [], form, lambda image: None)
    compare = bench.compare_groups
    monkeypatch.setattr(bench, "compare_groups", lambda *asked: (spent.append(asked[3]), compare(*asked))[1])
    for _ in word_changes._rows(bench, question, CAPTIONS[0], word_changes.changes_of(CAPTIONS[0])):
        pass
    assert question.budget.adaptive
    assert {(spend.adaptive, spend.noises, spend.antithetic) for spend in spent} == {(False, 4, True)}
    few = word_changes.for_each_change(replace(question.budget, noises=2))
    assert (few.adaptive, few.noises, few.antithetic) == (False, 2, False), "a single pair has no standard error"


@pytest.mark.parametrize(
    ("caption", "heading", "absent"),
    [
        ("two green rings and a pink moon", "Shapes swapped, their endings changed", "“shapes swapped"),
        ("two green rings and a pink moon", "“green” replaced by", "Green replaced"),
        ("a red bus", "Another colour", "“another colour”"),
    ],
)
def test_a_table_of_changes_is_headed_by_what_was_changed(caption, heading, absent):
    html = word_changes.tables_html(caption, word_changes.changes_of(caption), [])
    assert f"<caption>{heading}</caption>" in html
    assert absent not in html


def test_a_change_that_is_true_too_is_not_held_against_a_model():
    inside = read_sketch("sky~heart.blue.500.500.360~star.red.500.400.105")
    changes = {change.text for change in word_changes._false_changes("a red star inside a blue heart", inside)}
    assert "a red star above a blue heart" not in changes
    assert "a black star inside a blue heart" in changes


def test_a_change_whose_truth_is_open_is_left_out():
    scene = read_sketch(
        "cream~moon.green.200.200.165~circle.blue.800.200.165" + "~circle.red.200.800.165~circle.red.800.800.165"
    )
    changes = {change.text for change in word_changes._false_changes("a blue circle and a green moon", scene)}
    assert "a red circle and a green moon" not in changes
    assert "a pink circle and a green moon" in changes


def test_the_true_caption_is_changed_and_a_false_one_never():
    def question(*captions):
        address = CompareAddress(fake_workbench(), [], None, ScenePictures())
        asked = Query("compare", {"scene": TEXT, "a": captions[0], "b": captions[1]})
        _, form = address.open(asked, 3) or (0, 0)
        return ask(fake_workbench(), [], form, address.recognise)

    scene = read_sketch(TEXT)
    assert word_changes._reference(question("a green star", "a red star"), scene) == 1
    assert word_changes._reference(question("a dog on a couch", "a red star"), scene) == 1
    refused = question("a green star", "a dog on a couch")
    *_, last = word_changes.changes_html(fake_workbench(), lambda: refused)
    assert "Neither caption" in last
    assert word_changes._reference(refused, None) == 0


def test_a_fault_of_the_editor_is_a_sentence(editor, monkeypatch):
    monkeypatch.setattr("sdsdemo.ui.scene_editor.read_sketch", lambda text: 1 / 0)
    html, refusal, *fields = editor.act(sent("move"), None, [None, 5])
    assert 'role="alert"' in refusal
    assert [html, *fields] == [SKIP] * 4


def test_a_model_that_would_take_too_long_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(word_changes, "LONGEST_WAIT", 1e-9)
    address = CompareAddress(fake_workbench(), [], None, ScenePictures())
    _, form = address.open(Query("compare", {"scene": TEXT}), 3) or (0, 0)
    question = ask(fake_workbench(), [], form, address.recognise)
    *_, last = word_changes.changes_html(fake_workbench(), lambda: question)
    assert last.count("left out") == len(question.models)


def test_the_words_shown_are_all_that_mini_knows():
    shown = {word for words in MINI_WORDS.values() for phrase in words for word in phrase.split()}
    assert shown | set(PLURALS.values()) == set(WORDS)


def test_a_caption_that_is_too_long_to_score_has_no_changes() -> None:
    fits = CAPTIONS[0].ljust(LIMITS.caption_characters)
    assert word_changes.changes_of(fits)
    assert word_changes.changes_of(f"{fits} ") == []
