"""Scenes as text, what is true of them, and captions for them."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from sdsdemo.data.mini.drawing import BACKGROUND_RGB, draw
from sdsdemo.data.mini.hard_negatives import twins_of
from sdsdemo.data.mini.scenes import COLOURS, SHAPES, training_stream
from sdsdemo.data.mini.sentences import WORDS, training_sentence
from sdsdemo.data.mini.sketch_captions import MOST_NUMBER, captions_for, paraphrased, picture_swapped, surprise
from sdsdemo.data.mini.sketches import MOST, RADII, objects_of, read_sketch, write_sketch
from sdsdemo.data.mini.truth import index_of_truth, read_claim, truth_of
from sdsdemo.data.mini.word_changes import ENDINGS_CHANGED, changes_of
from sdsdemo.errors import UserError
from sdsdemo.ui.examples import read_examples

TWO = "cream~star.red.250.300.165~circle.blue.700.600.235"


def random_sketch(rng: np.random.Generator) -> str:
    """What a visitor may draw: any number of any things anywhere."""
    things = [
        ".".join(
            [
                str(rng.choice(SHAPES)),
                str(rng.choice(COLOURS)),
                *(str(rng.integers(100, 900)) for _ in "xy"),
                str(rng.choice(list(RADII.values()))),
            ]
        )
        for _ in range(rng.integers(1, MOST + 1))
    ]
    return "~".join([str(rng.choice(list(BACKGROUND_RGB))), *things])


def test_a_scene_is_the_same_after_being_written_and_read():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = read_sketch(random_sketch(rng))
        assert read_sketch(write_sketch(scene)) == scene
        radii = [spot.radius for spot in scene.spots]
        assert radii == sorted(radii, reverse=True), "a small thing must not be hidden"


def test_a_generated_scene_looks_the_same_as_text():
    for scene in training_stream(5, 60):
        one, other = (np.asarray(draw(found, 64), float) for found in (scene, read_sketch(write_sketch(scene))))
        assert np.abs(one - other).mean() < 1.5


@pytest.mark.parametrize(
    "text",
    [
        "", "cream", "paper~star.red.1.2.165", "cream~star.red.250.300", "cream~tree.red.250.300.165",
        "cream~star.beige.250.300.165", "cream~star.red.250.300.1", "cream~star.red.-50.300.165",
        "cream~star.red.250.300.165.9999", "cream~star.red.x.300.165", 
        "cream~star.red.2_0.300.165", "cream~star.red.+250.300.165", "cream~star.red.250.300.99999",
        "~".join(["cream", *["star.red.250.300.165"] * (MOST + 1)]), "cream~" + "star.red.250.300.165." * 99,
    ],
)  # fmt: skip
def test_what_is_no_scene_is_refused_with_a_sentence(text):
    with pytest.raises(UserError, match="is not a scene"):
        read_sketch(text)


def test_every_sentence_of_the_generator_is_judged_as_it_was_meant():
    rng = np.random.default_rng(1)
    seen: Counter[tuple[str, str]] = Counter()
    for scene in training_stream(3, 1500):
        drawn, sentence = read_sketch(write_sketch(scene)), training_sentence(rng, scene)
        assert truth_of(drawn, sentence.text) is True, (sentence.text, write_sketch(scene))
        for twin in twins_of(scene, sentence):
            assert truth_of(drawn, twin.sentence.text) is False, (twin.sentence.text, write_sketch(scene))
            seen[scene.family, twin.kind] += 1
    assert min(seen.values()) > 20
    assert len(seen) >= 8


@pytest.mark.parametrize(
    ("caption", "truth"),
    [
        ("A red star left of a blue circle.", True), ("above a blue circle is the red star", True),
        ("the star is red", True), ("the star is blue and the circle is red", False), 
        ("a big star", None), ("a small circle", False), ("a big circle", True),
        ("one star", True), ("two stars", False), ("a green star", False), ("a star inside a circle", False),
        ("a dog on a couch", None), ("", None), ("red", None), ("star red left circle blue", None),
        ("a red star left of a blue circle above a moon", None), ("stars", None), ("two star", None),
        ("a red star is red and the circle is blue", None), ("a star and a red star", None),
    ],
)  # fmt: skip
def test_truth_is_told_of_whole_sentences_alone(caption, truth):
    assert truth_of(read_sketch(TWO), caption) is truth


@pytest.mark.parametrize(
    ("scene", "caption", "truth"),
    [
        ("star.red.300.400.165~star.blue.700.400.165", "the star is red", None),
        ("star.red.300.400.165~star.blue.700.400.165", "a red star left of a blue star", True),
        ("circle.blue.500.500.360~star.red.840.500.340", "a star inside a circle", None),
        ("circle.blue.500.500.360~star.red.840.500.340", "a star right of a circle", None),
        ("triangle.blue.500.500.360~circle.red.230.330.60", "a circle inside a triangle", None),
        ("heart.blue.500.500.360~circle.red.500.480.105", "a circle inside a heart", True),
        ("heart.blue.500.500.360~circle.red.500.480.105", "a heart inside a circle", False),
        ("circle.red.500.500.360~star.blue.470.500.105", "a star left of a circle", None),
        ("circle.red.500.500.360~star.blue.470.500.105", "a star beside a circle", None),
        ("circle.red.500.500.360~star.blue.470.500.105", "a star and a circle", True),
        ("circle.red.500.500.165~circle.blue.500.500.165", "a red circle", None),
        ("circle.red.500.500.165~circle.red.500.500.165", "two red circles", None),
        ("star.red.475.200.165~circle.blue.500.800.165", "a star left of a circle", None),
        ("star.red.475.200.165~circle.blue.500.800.165", "a star right of a circle", False),
        ("star.red.475.200.165~circle.blue.500.800.165", "a star above a circle", True),
        ("star.red.200.200.199~circle.blue.800.800.121", "a big star and a small circle", None),
        ("star.red.200.200.235~circle.blue.800.800.105", "a big star and a small circle", True),
    ],
)  # fmt: skip
def test_truth_is_open_where_a_reader_would_hesitate(scene, caption, truth):
    assert truth_of(read_sketch(f"cream~{scene}"), caption) is truth


@pytest.mark.parametrize(
    "captions",
    [
        ("a star", "a circle"), ("the star", "the circle"), ("one star", "two stars"),
        ("red star right of circle", "red star left of circle"), ("a red star and a circle", "a star and a red circle"),
    ],
)  # fmt: skip
def test_captions_without_colours_can_be_put_in_other_words(captions):
    other = paraphrased(np.random.default_rng(0), captions, read_sketch(TWO))
    assert other is None or [read_claim(text) for text in other] == [read_claim(text) for text in captions]


def test_a_thing_that_is_there_twice_leaves_the_truth_open():
    twice = read_sketch(TWO + "~star.red.800.150.165")
    assert truth_of(twice, "a red star left of a blue circle") is None
    assert truth_of(twice, "two red stars and a blue circle") is True
    assert truth_of(twice, "two red stars left of a blue circle") is False, "one of them is right of it"
    assert index_of_truth(twice, ["two red stars", "a red star"]) is None


def test_written_captions_have_one_truth_and_the_same_words():
    rng, written = np.random.default_rng(2), 0
    for _ in range(300):
        scene = read_sketch(random_sketch(rng))
        captions = captions_for(rng, scene)
        if captions is None:
            continue
        written += 1
        assert index_of_truth(scene, captions) is not None, (write_sketch(scene), captions)
        words = [sorted(re.sub(r"\ban\b", "a", caption).split()) for caption in captions]
        assert words[0] == words[1] or len(scene.things) == 1
    assert written > 200


@pytest.mark.parametrize("count", range(1, MOST + 1))
def test_any_number_of_equal_things_is_captioned_or_left_alone(count):
    text = "~".join(["cream", *[f"star.red.{150 + 120 * k}.300.105" for k in range(count)]])
    captions = captions_for(np.random.default_rng(0), read_sketch(text))
    if count > MOST_NUMBER:
        assert captions is None
    else:
        assert index_of_truth(read_sketch(text), captions) is not None


def test_other_words_keep_the_claim():
    rng = np.random.default_rng(3)
    for _ in range(200):
        scene, captions = surprise(rng)
        other = paraphrased(rng, captions, scene)
        assert other is not None
        assert other != captions
        assert [read_claim(text) for text in other] == [read_claim(text) for text in captions]
        assert {word for text in other for word in text.split()} <= set(WORDS)
    assert paraphrased(rng, ("a dog on a couch", "a couch on a dog"), scene) is None


def test_other_words_leave_nothing_open_that_was_known():
    scene = read_sketch(
        "cream~house.green.420.37.60~flower.red.140.411.60~flower.red.366.405.235~flower.red.627.625.105"
        "~house.green.232.369.360"
    )
    captions = ("a big green flower with a small red house", "a big red flower with a small green house")
    for seed in range(30):
        other = paraphrased(np.random.default_rng(seed), captions, scene)
        assert other is not None
        assert [truth_of(scene, text) for text in other] == [False, True], other


def test_the_swapped_picture_makes_the_other_caption_true():
    rng = np.random.default_rng(4)
    for _ in range(200):
        scene, captions = surprise(rng)
        swapped = picture_swapped(scene, captions)
        assert swapped is not None
        assert index_of_truth(swapped, captions) == 1 - (index_of_truth(scene, captions) or 0)
        for part in ("shape", "colour"):
            before, after = ({getattr(thing, part) for thing, _ in objects_of(one)} for one in (scene, swapped))
            assert before == after
    assert picture_swapped(read_sketch(TWO), ["a dog", "a couch"]) is None


def test_a_surprise_is_a_scene_with_one_true_caption():
    rng = np.random.default_rng(5)
    found = [index_of_truth(*surprise(rng)) for _ in range(100)]
    assert {*found} == {0, 1}


def test_every_change_of_a_true_caption_is_false():
    rng = np.random.default_rng(6)
    for _ in range(60):
        scene, captions = surprise(rng)
        caption = captions[index_of_truth(scene, captions) or 0]
        changes = changes_of(caption)
        assert len({change.text for change in changes}) == len(changes) > 20
        for change in changes:
            still_true = change.group == "inside"  # what is inside a thing may be above its centre as well
            assert truth_of(scene, change.text) is False or still_true, (caption, change.text, write_sketch(scene))
            before, after = (Counter(re.sub(r"\ban\b", "a", text).split()) for text in (caption, change.text))
            assert (before == after) == change.same_words, change
    assert changes_of("a dog on a couch") == []


def test_an_exchange_that_changes_an_ending_has_other_words():
    changes = {change.text: change for change in changes_of("there are two green rings and a pink moon")}
    assert changes["there are two pink rings and a green moon"].same_words
    found = changes["there are two green moons and a pink ring"]
    assert (found.same_words, found.group) == (False, ENDINGS_CHANGED)
    assert [change.same_words for change in changes.values()] == [True] + [False] * (len(changes) - 1)


def test_the_scenes_of_the_examples_are_what_their_pictures_show():
    from PIL import Image

    for example in read_examples():
        assert example.scene is not None
        with Image.open(example.path) as picture:
            shown = np.asarray(picture.convert("RGB"), float)
        assert np.abs(np.asarray(draw(example.scene, shown.shape[0]), float) - shown).mean() < 1.0
        assert index_of_truth(example.scene, example.captions) == example.true
        assert example.truth(["the moon is red", example.captions[example.true].upper()]) == 1
