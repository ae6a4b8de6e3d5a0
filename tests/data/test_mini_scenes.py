"""The Mini world: disjoint splits, captions true of one picture and false of the other, the same from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.data.mini.benchmarks import SWAPS, ambiguous_pairs, benchmark_pairs
from sdsdemo.data.mini.choices import order_choices, retrieval_sets, single_choices, swap_choices
from sdsdemo.data.mini.drawing import MODEL_PIXELS, SCREEN_PIXELS
from sdsdemo.data.mini.drawing import draw as render
from sdsdemo.data.mini.hard_negatives import is_true
from sdsdemo.data.mini.scenes import (
    COLOURS,
    RARE,
    RARE_KEPT,
    ROOMY,
    SHAPES,
    TRAIN_SHARES,
    Family,
    Scene,
    random_scene,
    split_of,
    training_stream,
)
from sdsdemo.data.mini.sentences import LONGEST, WORDS, describe, tags_of, training_sentence
from sdsdemo.data.mini.stream import MiniStream


def told(scenes: list[Scene]) -> set[str]:
    return {scene.combination for scene in scenes if len(scene.mentioned) == 2}


def scenes_of(seed: int, split: str) -> list[Scene]:
    return [scene for pair in benchmark_pairs(seed, split, 400) for scene in pair.scenes]


def test_train_validation_and_benchmark_share_no_combination_and_no_scene() -> None:
    """What a benchmark asks about was never drawn in training: not even beside a bystander."""
    trained = list(training_stream(0, 8000))
    validation, benchmark = scenes_of(1, "validation"), scenes_of(1, "benchmark")
    drawn = {key for scene in trained for key in scene.shown if "+" in key}
    assert not drawn & told(validation)
    assert not drawn & told(benchmark)
    assert not told(validation) & told(benchmark)
    where = [{repr(scene.spots) for scene in scenes} for scenes in (trained, validation, benchmark)]
    assert sum(map(len, where)) == len(set.union(*where))


def test_the_other_sets_are_of_held_out_combinations_too() -> None:
    scenes = [choice.scene for choice in (*swap_choices(1, 50), *order_choices(1, 50))]
    scenes += [scene for chosen in retrieval_sets(1, 1, 50) for scene, _ in chosen]
    assert {split_of(key) for key in told(scenes)} == {"benchmark"}


def test_a_combination_has_one_split_whatever_its_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = random_scene(rng, "and", "benchmark")
        a, b = scene.things
        twin = replace(scene, things=(replace(b, colour=a.colour), replace(a, colour=b.colour)))
        assert split_of(twin.combination) == "benchmark"


def test_a_pair_has_the_same_words_in_another_order_and_other_scenes() -> None:
    for pair in benchmark_pairs(2, "validation", 400):
        first, second = pair.sentences
        assert sorted(first.words) == sorted(second.words)
        assert first.words != second.words
        assert set(pair.scenes[0].mentioned) != set(pair.scenes[1].mentioned)
        assert pair.scenes[0].things[2:] == pair.scenes[1].things[2:]


def test_each_caption_is_true_of_its_own_picture_alone() -> None:
    """Read back from the words, without the generator: who has which colour, size, number, and place."""
    for pair in benchmark_pairs(3, "benchmark", 400):
        for own, sentence in enumerate(pair.sentences):
            assert reads_true(sentence.text, pair.scenes[own])
            assert not reads_true(sentence.text, pair.scenes[1 - own])


def reads_true(text: str, scene: Scene) -> bool:
    words = [word.removesuffix("s") if word.removesuffix("s") in SHAPES else word for word in text.split()]
    words = ["cross" if word in ("cros", "crosses") else word for word in words]
    nouns = [k for k, word in enumerate(words) if word in SHAPES]
    if words[:1] == ["the"] and words[-2] == "is":
        return _predicates_true(words, nouns, scene)
    found = [_thing_named(words[max(0, k - 3) : k + 1], scene) for k in nouns]
    if None in found:
        return False
    between = set(words[: nouns[1]])
    if words[0] in ("to", "left", "right", "above", "below", "inside"):
        found = found[::-1]
    (x0, y0, r0), (x1, y1, _) = (_place_of(scene, thing) for thing in found)
    checks = {
        "left": x0 < x1, "right": x0 > x1, "above": y0 < y1, "below": y0 > y1,
        "inside": r0 < 0.2 and np.hypot(x0 - x1, y0 - y1) < 0.1,
    }  # fmt: skip
    return all(checks[word] for word in between & set(checks))


def _predicates_true(words: list[str], nouns: list[int], scene: Scene) -> bool:
    """The star is red and the circle is blue; the red star is big and ..."""
    return all(
        any(
            thing.shape == words[k]
            and words[k + 2] in (thing.colour, thing.size)
            and words[k - 1] in ("the", thing.colour)
            for thing in scene.things
        )
        for k in nouns
    )


def _thing_named(phrase: list[str], scene: Scene) -> int | None:
    """The thing that a phrase names with colour, size and number, all of which must fit."""
    for index, thing in enumerate(scene.things):
        drawn = sum(spot.thing == index for spot in scene.spots)
        counted = {"two": 2, "three": 3, "one": 1}
        number = next((counted[word] for word in phrase if word in counted), None)
        size = next((word for word in phrase if word in ("big", "small")), None)
        fits = thing.shape == phrase[-1] and thing.colour in phrase[-2:]
        if fits and number in (None, drawn) and size in (None, thing.size):
            return index
    return None


def _place_of(scene: Scene, index: int) -> tuple[float, float, float]:
    spot = next(spot for spot in scene.spots if spot.thing == index)
    return spot.x, spot.y, spot.radius


@pytest.mark.parametrize("family", TRAIN_SHARES)
def test_everything_is_drawn_inside_the_picture(family: Family) -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        for spot in random_scene(rng, family, "train").spots:
            for middle in (spot.x, spot.y):
                assert spot.radius <= middle <= 1 - spot.radius


def test_the_world_uses_the_documented_words_alone() -> None:
    assert {"a", "red", "star", "left", "of", "blue", "circle"} <= set(WORDS)
    rng = np.random.default_rng(5)
    for scene in training_stream(5, 500):
        sentence = describe(rng, scene)
        assert set(sentence.words) <= set(WORDS)
        assert len(sentence.words) == len(sentence.owner) <= LONGEST


def test_tags_keep_the_content_words_and_lose_their_order() -> None:
    rng = np.random.default_rng(6)
    scenes = list(training_stream(6, 200))
    changed = 0
    for scene in scenes:
        sentence = describe(rng, scene)
        tags = tags_of(rng, sentence)
        content = [word for word in sentence.words if word in tags.words]
        assert sorted(tags.words) == sorted(content)
        assert not {"a", "an", "of", "is", "the"} & set(tags.words)
        assert any(colour in tags.words for colour in COLOURS)
        changed += tags.words != tuple(content)
    assert changed > len(scenes) / 2


def test_the_benchmark_has_its_shares_and_no_duplicates() -> None:
    pairs = benchmark_pairs(7, "benchmark", 400)
    counts = {kind: sum(pair.kind == kind for pair in pairs) for kind in SWAPS}
    assert counts == {kind: recipe.share for kind, recipe in SWAPS.items()}
    assert len({frozenset(s.text for s in pair.sentences) for pair in pairs}) == 400
    collapsed = [
        sum(r.share for r in SWAPS.values() if r.collapsed_tag == tag) for tag in ("Object", "Relation", "Both")
    ]
    assert collapsed == [141, 233, 26]  # as in Winoground


def test_each_failure_category_is_made_and_nothing_else_has_its_mark() -> None:
    for pair in benchmark_pairs(11, "validation", 400):
        radius = max(spot.radius for scene in pair.scenes for spot in scene.spots[:2])
        roomy = not set(SWAPS[pair.kind].families) - set(ROOMY)
        rare = [any((t.shape, t.colour) in RARE for t in scene.mentioned) for scene in pair.scenes]
        assert (
            radius < 0.12
            if pair.category == "small object"
            else radius > 0.125 or not roomy or pair.scenes[0].bystanders
        )
        assert (pair.scenes[0].bystanders > 0) == (pair.category == "crowded scene")
        assert all(rare) == any(rare) == (pair.category == "unusual combination")
        assert (pair.predicates == 2) == (pair.category == "two predicates")
        assert [s.words.count("is") for s in pair.sentences].count(2) == 2 * (pair.category == "two predicates")


@pytest.mark.slow
def test_rare_bindings_are_rare_and_bystanders_unnamed() -> None:
    scenes = list(training_stream(12, 6000))
    things = [(thing.shape, thing.colour) for scene in scenes for thing in scene.mentioned]
    share = sum(thing in RARE for thing in things) / len(things)
    even = len(RARE) / (len(SHAPES) * len(COLOURS))
    assert 0 < share < 2 * RARE_KEPT * even
    crowded = [scene for scene in scenes if scene.bystanders]
    assert crowded
    rng = np.random.default_rng(0)
    for scene in crowded:
        shapes = {thing.shape for thing in scene.mentioned}
        assert not shapes & {thing.shape for thing in scene.things[2:]}
        assert {word for word in training_sentence(rng, scene).words if word in SHAPES} <= shapes


def test_people_leave_things_out() -> None:
    rng = np.random.default_rng(13)
    said = [training_sentence(rng, scene) for scene in training_stream(13, 2000) if len(scene.mentioned) == 2]
    one = sum(len(set(sentence.owner) - {-1}) == 1 for sentence in said) / len(said)
    bare = sum(not set(COLOURS) & set(sentence.words) for sentence in said) / len(said)
    assert 0.04 < one < 0.08
    assert 0.09 < bare < 0.15


def test_both_captions_of_an_ambiguous_pair_are_true_of_both_pictures() -> None:
    for scenes, sentences in ambiguous_pairs(3):
        assert sorted(sentences[0].words) == sorted(sentences[1].words)
        assert sentences[0] != sentences[1]
        assert all(is_true(scene, sentence.words) for scene in scenes for sentence in sentences)


@pytest.mark.slow
def test_of_one_image_and_k_sentences_the_first_alone_is_true() -> None:
    for choice in swap_choices(4, 60):
        true, false = (caption.split() for caption in choice.captions)
        assert is_true(choice.scene, true)
        assert not is_true(choice.scene, false)
    for choice in order_choices(4, 60):
        assert len(set(choice.captions)) == 5
        assert len({tuple(sorted(caption.split())) for caption in choice.captions}) == 1
    for scene, names in single_choices(4, 60):
        assert [is_true(scene, name.split()) for name in names] == [True, False, False]


def test_another_seed_is_another_benchmark_and_the_same_seed_the_same() -> None:
    first, again, other = (benchmark_pairs(seed, "benchmark", 40) for seed in (8, 8, 9))
    assert first == again
    assert first != other


def test_retrieval_sets_hold_a_hundred_different_held_out_scenes() -> None:
    (chosen,) = retrieval_sets(0, sets=1, size=100)
    shown = {frozenset((t.shape, t.colour) for t in scene.things) for scene, _ in chosen}
    assert len(shown) == len({sentence.text for _, sentence in chosen}) == 100
    assert all(split_of(scene.combination) == "benchmark" for scene, _ in chosen)


def test_a_shrunk_picture_equals_one_drawn_at_model_size() -> None:
    for scene in training_stream(10, 20):
        shrunk = np.asarray(render(scene, SCREEN_PIXELS).resize((MODEL_PIXELS, MODEL_PIXELS), 3), dtype=int)
        assert np.abs(shrunk - np.asarray(render(scene, MODEL_PIXELS), dtype=int)).mean() < 1.5


def test_the_stream_depends_on_seed_salt_and_step_alone(tmp_path: Path) -> None:
    one, two = (MiniStream(3, 50, tmp_path / name) for name in ("one", "two"))
    first = one.draw_batch(4, 6, salt=1)
    assert np.array_equal(one.pictures_N, two.pictures_N)
    assert np.array_equal(first[0], two.draw_batch(4, 6, salt=1)[0])
    assert first[1] == two.draw_batch(4, 6, salt=1)[1]
    assert first[1] != two.draw_batch(5, 6, salt=1)[1]
    assert first[1] != two.draw_batch(4, 6, salt=2)[1]


def test_the_training_stream_that_the_shipped_models_saw_has_not_moved() -> None:
    scenes = repr(list(training_stream(0, 200)))
    assert hashlib.sha256(scenes.encode()).hexdigest()[:16] == "86cd24e138ebb712"
