"""What the Mini models can know: foreign pictures and unknown words are told, the world's own pictures pass."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from sdsdemo.data.mini.benchmarks import benchmark_pairs
from sdsdemo.data.mini.drawing import BACKGROUND_RGB, draw
from sdsdemo.data.mini.scenes import COLOURS, SHAPES, random_scene
from sdsdemo.data.mini.sentences import WORDS
from sdsdemo.data.mini.sketches import MOST, read_sketch
from sdsdemo.models.domain import Domain, _areas
from sdsdemo.settings import CHECKPOINTS
from tests.pictures import KINDS, foreign_pictures

FOREIGN = 200
SAMPLE = 100


@pytest.fixture(scope="module")
def domain() -> Domain:
    found = Domain.read(CHECKPOINTS / "mini-clip")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def own_pictures() -> list[Image.Image]:
    """Of a seed that no threshold was chosen on; every kind of scene."""
    return [draw(scene) for pair in benchmark_pairs(777, "benchmark", 400)[::8] for scene in pair.scenes][:SAMPLE]


def flagged(domain: Domain, pictures: list[Image.Image]) -> float:
    """Share of the pictures that are called foreign."""
    return sum(bool(domain.concerns([picture], ["a red star"])) for picture in pictures) / len(pictures)


def as_jpeg(picture: Image.Image, quality: int = 75) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def test_pictures_of_other_kinds_are_flagged(domain: Domain) -> None:
    pictures = foreign_pictures(4242, FOREIGN)
    assert flagged(domain, pictures) >= 0.95
    for kind in range(len(KINDS)):
        assert flagged(domain, pictures[kind :: len(KINDS)]) >= 0.85, KINDS[kind].__name__


@pytest.mark.parametrize("count", range(1, MOST + 1))
def test_as_many_shapes_as_a_visitor_may_draw_are_no_foreign_picture(domain: Domain, count: int) -> None:
    places = [(170, 170), (830, 170), (500, 500), (170, 830), (830, 830), (500, 150)]
    for k, background in enumerate(BACKGROUND_RGB):
        objects = [f"{SHAPES[(k + j) % len(SHAPES)]}.{COLOURS[j]}.{x}.{y}.105" for j, (x, y) in enumerate(places)]
        scene = read_sketch("~".join([background, *objects[:count]]))
        assert domain.concerns([draw(scene)], ["a red star"]) == []


def test_the_worlds_own_pictures_pass(domain: Domain, own_pictures: list[Image.Image]) -> None:
    assert flagged(domain, own_pictures) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        as_jpeg,
        lambda picture: as_jpeg(picture, 50),
        lambda picture: picture.resize((200, 200)),
        lambda picture: picture.resize((64, 64), Image.Resampling.BILINEAR),
        lambda picture: picture.resize((640, 640)),
        lambda picture: picture.resize((320, 290)),
        lambda picture: picture.crop((10, 10, 310, 310)),
        lambda picture: picture.crop((12, 0, 320, 312)),
    ],
    ids=[
        "JPEG",
        "JPEG of quality 50",
        "200 px",
        "64 px",
        "640 px",
        "squashed",
        "cropped by 3 %",
        "cropped at a corner",
    ],
)
def test_saved_again_resized_or_slightly_cropped_they_still_pass(
    domain: Domain, own_pictures: list[Image.Image], change: Callable[[Image.Image], Image.Image]
) -> None:
    assert flagged(domain, [change(picture) for picture in own_pictures]) <= 0.05


def test_an_unknown_word_is_named_and_blocks(domain: Domain, own_pictures: list[Image.Image]) -> None:
    (concern,) = domain.concerns(own_pictures[:1], ["a red star", "a Piano, and a red star"])
    assert concern.kind == "unknown-words"
    assert concern.blocking
    assert "'piano'" in concern.text
    assert "'star'" not in concern.text


def test_a_word_of_a_thousand_letters_does_not_fill_the_page(domain: Domain, own_pictures: list[Image.Image]) -> None:
    (concern,) = domain.concerns(own_pictures[:1], ["b" * 1000])
    assert len(concern.text) < 200


def test_known_words_ignore_case_and_punctuation(domain: Domain) -> None:
    assert domain.unknown_words([" ".join(WORDS).upper(), "A red star, left of: a blue circle."]) == []


@pytest.mark.parametrize(
    ("drawing", "sizes"),
    [
        ("#.#|#.#|###", [7]),
        ("#..|.#.|..#", [3]),
        ("#.#.#|.....|##.##", [1, 1, 1, 2, 2]),
        ("##.##|#...#|#.#.#|#...#|#####", [15, 1]),
        ("...|...", []),
    ],
    ids=["joined at the bottom", "diagonal", "five apart", "joined late, with a dot inside", "nothing"],
)
def test_objects_are_counted_by_what_touches(drawing: str, sizes: list[int]) -> None:
    mask = np.array([[letter == "#" for letter in row] for row in drawing.split("|")])
    assert sorted(_areas(mask)) == sorted(sizes)


def test_a_foreign_picture_is_said_with_a_way_on(domain: Domain) -> None:
    (concern,) = domain.concerns(foreign_pictures(1, 1), ["a red star"])
    assert (concern.kind, concern.blocking) == ("foreign-picture", True)


def test_a_model_without_bounds_knows_everything() -> None:
    assert Domain.read(CHECKPOINTS) is None


def test_single_objects_are_at_home_too(domain: Domain) -> None:
    rng = np.random.default_rng(5)
    assert flagged(domain, [draw(random_scene(rng, "single", "train")) for _ in range(40)]) <= 0.05


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("the dog's star", "'dog's' is not a word"),
        ("a cat star dog", "'cat' and 'dog' are not words"),
        ("cat dog mat", "'cat', 'dog' and 'mat' are not words"),
    ],
)
def test_unknown_words_are_listed_as_a_sentence_lists_them(caption: str, words: str) -> None:
    found = Domain.read(CHECKPOINTS / "mini-clip")
    assert found is not None
    (concern,) = found.concerns([], [caption])
    assert words in concern.text
