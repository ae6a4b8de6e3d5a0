"""Benchmarks in the very layouts in which they are published: what is read of each, and what is said of a copy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdsdemo.data.benchmarks import MEANING, NAMED, READERS, notes_on, read_benchmark
from sdsdemo.data.files import json_cases
from sdsdemo.errors import UserError
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.runtime.files import from_json
from sdsdemo.settings import ROOT
from sdsdemo.types import Example, Scores
from tests import set_twins
from tests.set_twins import SETS


def read(name: str, home: Path) -> list[Example]:
    source, write, _ = SETS[name]
    write(home)
    return read_benchmark(f"{source}:{home}")


def test_every_reader_has_a_line_of_meaning() -> None:
    assert {f"{source}:PATH" for source in READERS} | set(NAMED) == set(MEANING)


def test_every_reader_has_its_layout_in_the_docs() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert all(f"| `{source}` |" in text for source in READERS)


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_as_it_is_published(name: str, tmp_path: Path) -> None:
    """Its examples have ids of their own, different captions, and pictures that open; nothing is missing."""
    source, _, count = SETS[name]
    examples = read(name, tmp_path)
    assert len(examples) == len({example.id for example in examples}) == count
    for example in examples:
        assert len(set(example.captions)) == len(example.captions) >= 2
        assert all(picture.open().mode == "RGB" for picture in example.images)
    notes = notes_on(f"{source}:{tmp_path}", examples)
    assert notes[0].startswith(f"{count} examples, ")
    assert not any("missing" in note or "no part called" in note for note in notes)


@pytest.mark.parametrize("name", SETS)
def test_an_image_that_is_gone_is_said_before_the_run(name: str, tmp_path: Path) -> None:
    source, write, _ = SETS[name]
    write(tmp_path)
    gone = sorted(path for path in tmp_path.rglob("*.*") if path.suffix in (".png", ".jpg", ".jpeg", ".npy"))[0]
    gone.unlink()
    notes = notes_on(f"{source}:x", read_benchmark(f"{source}:{tmp_path}"))
    assert any("1 of" in note and "missing" in note and gone.stem in note for note in notes)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("folder", "naturalbench", "aro")])
def test_a_small_copy_is_told_from_the_published_set(name: str, tmp_path: Path) -> None:
    source, _, _ = SETS[name]
    notes = notes_on(f"{source}:x", read(name, tmp_path))
    assert any("the published set has" in note for note in notes)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("folder", "naturalbench")])
def test_every_published_average_is_there_with_its_rule(name: str, tmp_path: Path) -> None:
    """Where the model is right everywhere, every average is 1; wrong everywhere, 0."""
    examples = read(name, tmp_path)
    pairs = len(examples[0].images) == 2
    for sign in (1, -1):
        row = [np.eye(2) if pairs else -np.arange(len(e.captions), dtype=float)[None] for e in examples]
        scores = [Scores(kind="similarity", score_IC=sign * score_IC) for score_IC in row]
        entry = summarise(examples, {"m": Scored(scores_E=scores)})["models"]["m"]
        assert entry["official"]
        for label, found in entry["official"].items():
            assert found["rule"]
            assert found["value"] == (1 if sign > 0 else 0), label


def test_mmvp_pairs_share_a_pattern_and_the_authors_prefix(tmp_path: Path) -> None:
    first, second = read("mmvp-vlm", tmp_path)
    assert first.captions == ("a photo of a dog, facing 1", "a photo of a dog, facing 2")
    assert (first.tags["tag"], second.tags["tag"]) == ("Orientation", "Camera Perspective")
    (tmp_path / "MLLM_VLM Images").rename(tmp_path / "MMVP_VLM_Images")
    assert len(read_benchmark(f"mmvp-vlm:{tmp_path}")) == 2
    rows = (tmp_path / "Questions.csv").read_text().splitlines()
    for lines, words in (
        (rows[:-1], "3 rows, but they come in pairs"),
        ([rows[0], rows[2], rows[3]], "Line 3 .* has the pattern Camera Perspective, .* Orientation"),
        ([rows[0], "x,y", rows[1]], "Line 2 .* must have a number"),
        ([rows[0], rows[1], rows[1]], "the number 1 twice"),
        (["a,b", *rows[1:]], "has the columns a, b"),
    ):
        (tmp_path / "Questions.csv").write_text("\n".join(lines))
        with pytest.raises(UserError, match=words):
            read_benchmark(f"mmvp-vlm:{tmp_path}")


def test_whatsup_knows_pairs_and_sets_by_the_names_of_images(tmp_path: Path) -> None:
    examples = read("whatsup", tmp_path)
    controlled = [e for e in examples if e.tags["collapsed_tag"] == "Controlled B"]
    assert {e.tags["image set"] for e in controlled} == {"cup table", "mug table"}
    assert len({e.tags["pair"] for e in controlled}) == 4
    assert controlled[0].captions[0] == "A cup left_of a table"
    tags = {e.tags["collapsed_tag"]: e.tags["tag"] for e in examples if "object" in e.tags["collapsed_tag"]}
    assert list(tags.values()) == ["left", "above", "top", "behind"]
    for case, words in (([1, "a"], "is not .number, true"), (["1", "a", " "], "must have 2 captions"), ({}, "shape")):
        (tmp_path / "coco_qa_one_obj.json").write_text(json.dumps([case]))
        with pytest.raises(UserError, match=words):
            read_benchmark(f"whatsup:{tmp_path}")


def test_a_part_of_whatsup_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    examples = read("whatsup", tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("coco_qa_one_obj.json", "vg_qa_one_obj.json"):
        (tmp_path / "data" / name).write_bytes((tmp_path / name).read_bytes())
    assert [e.id for e in read_benchmark(f"whatsup:{tmp_path}")] == [e.id for e in examples]


def test_a_part_of_sugarcrepe_pp_under_both_its_names_is_refused(tmp_path: Path) -> None:
    read("sugarcrepe++", tmp_path)
    (tmp_path / "data" / "swap_object.json").write_bytes((tmp_path / "data" / "swap_obj.json").read_bytes())
    with pytest.raises(UserError, match=r"swap_obj\.json, swap_object\.json hold the same part"):
        read_benchmark(f"sugarcrepe++:{tmp_path}")


def test_no_reader_gives_two_examples_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = read("valse", tmp_path)
    monkeypatch.setitem(READERS, "valse", lambda folder, note: [*examples, examples[0]])
    with pytest.raises(UserError, match=f"1 ids are there more than once, such as {examples[0].id}"):
        read_benchmark(f"valse:{tmp_path}")


def test_valse_scores_the_valid_cases_and_says_how_many_are_not(tmp_path: Path) -> None:
    examples = read("valse", tmp_path)
    assert {e.tags["collapsed_tag"] for e in examples} == {"existence", "counting"}
    assert examples[0].captions == ("There are no animals 0.", "There are animals 0.")
    notes = " ".join(notes_on("valse:x", examples))
    assert "3 cases that fewer than 2 annotators found valid are left out" in notes
    assert "existence 1" in notes
    assert "lacks plurals" in notes


def test_eqben_of_single_images_gives_pairs_whatever_their_order(tmp_path: Path) -> None:
    examples = {e.id: e for e in read("eqben, whole", tmp_path)}
    assert examples["eqbenag-1"].captions == ("caption 0 of 1", "caption 1 of 1")
    assert [p.name for p in examples["eqbenag-1"].images] == ["eqbenag/a1/0.png", "eqbenag/a1/1.png"]
    path = tmp_path / "ann_json_finegrained_random.json"
    cases = json.loads(path.read_text())
    path.write_text(
        json.dumps([case for case in cases if case["private_info"]["name"] != "c1i1" or "a1" in case["image"]])
    )
    notes = notes_on("eqben:x", read_benchmark(f"eqben:{tmp_path}"))
    assert any("1 of 2 examples lack an image or a caption and are left out, such as 0 of eqbenag" in n for n in notes)


def test_eqben_s_annotation_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole set's has a million cases."""
    parsed = []
    monkeypatch.setattr(json_cases, "from_json", lambda text: parsed.append(1) or from_json(text))
    read("eqben, whole", tmp_path)
    assert len(parsed) == 1


def test_eqben_reads_numpy_files_in_their_order_of_colours(tmp_path: Path) -> None:
    example = read("eqben", tmp_path)[0]
    set_twins.put(tmp_path / "same.png")
    picture = tmp_path / "0_0.npy.png"
    set_twins.put(picture.with_name("0_0.npy"))
    array = np.load(picture.with_name("0_0.npy"))
    assert example.images[0].open().getpixel((0, 0)) == tuple(array[0, 0, ::-1])
    assert example.captions == ("a 0", "b 0")
