"""The word-order shuffles: which words move, and which never do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdsdemo.captions import word_order
from sdsdemo.data.benchmarks import notes_on, read_benchmark
from sdsdemo.data.published.averages import SYMMETRIC, averages
from sdsdemo.data.published.sets import ATTRIBUTION, RELATION
from sdsdemo.errors import UserError
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.types import Scores

TAGS = {"small": "JJ", "black": "JJ", "red": "JJ", "dog": "NN", "couch": "NN", "cat": "NNS", "mat": "NNP"}
CAPTION = "A small dog sits on a very red couch."
PLAIN = "a small dog sits on a very red couch"


def tag(text: str) -> list[tuple[str, str]]:
    return [(word, TAGS.get(word.lower(), "IN")) for word in re.findall(r"\w+|[^\w\s]", text)]


def orders(caption: str, which: int) -> set[str]:
    """Every order that a shuffle makes of a caption; spaces before it change the seed and nothing else."""
    return {word_order.shuffled(" " * k + caption, tag)[which] for k in range(80)}


def test_each_shuffle_moves_what_its_name_says() -> None:
    words = word_order.plain_caption(PLAIN).split()
    nouns, others, within, groups = (text.split() for text in word_order.shuffled(PLAIN, tag))
    for text in (nouns, others, within, groups):
        assert sorted(text) == sorted(words)
        assert text != words
    for k, word in enumerate(words):
        assert (nouns if word not in TAGS else others)[k] == word
    assert [sorted(within[k : k + 3]) for k in range(0, 9, 3)] == [sorted(words[k : k + 3]) for k in range(0, 9, 3)]
    assert {tuple(groups[k : k + 3]) for k in range(0, 9, 3)} == {tuple(words[k : k + 3]) for k in range(0, 9, 3)}


def test_nouns_move_among_nouns_and_adjectives_among_adjectives() -> None:
    assert orders("a black cat on a red mat", 0) == {
        "a red cat on a black mat",
        "a black mat on a red cat",
        "a red mat on a black cat",
    }


def test_marks_are_shuffled_as_words_and_then_removed() -> None:
    found = orders("A dog on a couch.", 1)
    assert "dog a a couch on" in found
    assert all(sorted(text.split()) == ["a", "a", "couch", "dog", "on"] for text in found)
    assert orders("A dog on, a couch.", 0) == {"a couch on , a dog"}


def test_words_beyond_the_thirtieth_are_shuffled_along() -> None:
    texts = [text.split() for text in orders(" ".join(f"w{k}" for k in range(40)), 3)]
    assert {len(text) for text in texts} == {30}
    assert any("w39" in text for text in texts)


def test_a_trigram_counts_a_hyphenated_word_as_one() -> None:
    assert all("close-up" in text.split() for text in orders("A close-up of a dog's nose", 3))
    assert {"dog", "'s"} <= set(word_order.shuffled("A close-up of a dog's nose", tag)[2].split())


def test_a_shuffle_that_can_change_nothing_is_the_plain_caption() -> None:
    assert word_order.shuffled("Dog, very!", tag)[0] == word_order.plain_caption("Dog, very!") == "dog, very"


def test_a_caption_always_gets_the_same_shuffles() -> None:
    assert word_order.shuffled(CAPTION, tag) == word_order.shuffled(CAPTION, tag)


def test_a_folder_of_the_order_sets_gives_five_captions_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(word_order, "_spacy", lambda: tag)
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    Image.new("RGB", (30, 30)).save(tmp_path / "images" / "val2014" / "1.jpg")
    case = {"image": "val2014/1.jpg", "caption": [CAPTION, "A red dog near a small couch"]}
    (tmp_path / "coco_karpathy_test.json").write_text(json.dumps([case]))
    examples = read_benchmark(f"aro:{tmp_path}")
    assert [len(e.captions) for e in examples] == [5, 5]
    assert examples[0].captions[0] == "a small dog sits on a very red couch"
    assert examples[0].tags["collapsed_tag"] == "COCO-Order"
    assert examples[0].images[0].open().size == (30, 30)


def test_shuffles_that_change_nothing_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(word_order, "_spacy", lambda: tag)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "images" / "1.jpg")
    captions = ["Dogs", "two dogs", "a dog a dog", CAPTION]
    (tmp_path / "flickr30k_test.json").write_text(json.dumps([{"image": "1.jpg", "caption": captions}]))
    examples = read_benchmark(f"aro:{tmp_path}")
    assert [example.id.rpartition("-")[2] for example in examples] == ["1", "2", "3"]
    for example in examples:
        assert len(set(example.captions)) == len(example.captions) > 1
    scores = [Scores(kind="similarity", score_IC=np.ones((1, len(example.captions)))) for example in examples]
    chance = summarise(examples, {"m": Scored(scores_E=scores)})["chance"]["accuracy"]
    assert chance == pytest.approx(np.mean([1 / len(example.captions) for example in examples]))
    notes = " ".join(notes_on("aro:x", examples))
    dropped = 16 - sum(len(example.captions) - 1 for example in examples)
    assert f"{dropped} of 16 shuffles equal" in notes
    assert "1 captions are not scored, since none of their shuffles differs: caption 0 of case 0." in notes


def test_without_a_tagger_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    word_order._spacy.cache_clear()
    with pytest.raises(UserError, match="pip install spacy"):
        word_order.shuffled(CAPTION)


def test_official_averages_leave_out_what_the_authors_leave_out() -> None:
    assert len(SYMMETRIC) == 157
    relations = [("behind", True)] * 1 + [("on", False)] * 3 + [("near", False)] * 5
    attributes = [("big and red", True)] * 25 + [("old and blue", False)] * 24
    cases = [(RELATION, *case) for case in relations] + [(ATTRIBUTION, *case) for case in attributes]
    tags = [{"collapsed_tag": name, "tag": group} for name, group, _ in cases]
    found = averages(tags, {"accuracy": np.array([right for *_, right in cases])})
    assert (
        found[f"part of {RELATION}"]["value"],
        found[f"part of {RELATION}"]["groups"],
        found[f"part of {RELATION}"]["of"],
    ) == (0.5, 2, 3)
    assert (found[f"part of {ATTRIBUTION}"]["value"], found[f"part of {ATTRIBUTION}"]["groups"]) == (1.0, 1)
    assert averages([{"tag": "x"}], {"accuracy": np.array([True])}) == {}
