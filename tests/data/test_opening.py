"""Broken and missing pictures: named, in no share, tried again; a benchmark of mostly broken ones is not scored."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.main import main
from sdsdemo.data.files.picture_digest import MISSING
from sdsdemo.data.opening import Opening, left_out
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.errors import UserError
from sdsdemo.evaluation.report import report
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import read_run
from sdsdemo.evaluation.tables import as_table
from sdsdemo.models import cards
from sdsdemo.models.images import FRAMES
from sdsdemo.settings import budget
from sdsdemo.types import Example, Picture
from tests.evaluation.test_store import KilledError, Shelf
from tests.fakes import FakeScorer
from tests.finetuning.test_resume import Threads

COUNT = 16
SPEND = budget(2, 2, 0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def turn_to_text(path: Path) -> None:
    path.write_text("<!doctype html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


BREAKS: list[Callable[[Path], None]] = [cut, turn_to_text, Path.unlink, empty]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        names = [f"{number}-{k}.png" for k in (0, 1)]
        for k, name in enumerate(names):
            Image.new("RGB", (40, 30), (10 * number, 120 * k, 90)).save(folder / "images" / name)
        row = {"id": f"e{number}", "caption_0": f"{number} one", "caption_1": f"{number} two", "tag": "x"}
        rows.append(row | {"image_0": names[0], "image_1": names[1]})
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(folder: Path, out: Path | None, *models: str, shelf: Shelf | None = None) -> tuple[dict, list[str]]:
    said: list[str] = []
    result = evaluate(
        f"folder:{folder}", models or ["mini-clip"], workbench=shelf or Shelf(), budget=SPEND, out=out,
        remark=said.append,
    )  # fmt: skip
    return result, said


@pytest.mark.parametrize("kept", [True, False])
def test_broken_pictures_are_named_and_in_no_denominator(folder: Path, tmp_path: Path, kept: bool) -> None:
    for number, harm in zip((3, 7, 11), BREAKS, strict=False):
        harm(folder / "images" / f"{number}-{number % 2}.png")
    result, said = run(folder, tmp_path / "run" if kept else None, "mini-clip", "mini-diffusion")
    assert (result["n"], result["of"]) == (COUNT - 3, COUNT)
    assert [entry["example"] for entry in result["skipped"]] == ["e3", "e7", "e11"]
    assert all(result["models"][model]["text"]["n"] == COUNT - 3 for model in result["models"])
    assert result["models"]["mini-clip"]["by_tag"]["tag"]["x"]["text"]["n"] == COUNT - 3
    for words in ("e3", "e7", "e11", "11-1.png"):
        assert words in as_table(result)
        assert words in " ".join(said)
    assert "even share" not in as_table(result)


@pytest.mark.parametrize("harm", BREAKS)
def test_a_mended_picture_is_scored_and_nothing_else_again(
    folder: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = folder / "images" / "5-0.png"
    whole = path.read_bytes()
    fresh, _ = run(folder, None)
    harm(path)
    run(folder, tmp_path / "run")
    (stored,) = report([tmp_path / "run"], None, lambda line: None)
    assert (stored["n"], [entry["example"] for entry in stored["skipped"]]) == (COUNT - 1, ["e5"])
    path.write_bytes(whole)
    shelf = Shelf()
    mended, _ = run(folder, tmp_path / "run", shelf=shelf)
    assert shelf.calls == 1
    assert mended["skipped"] == []
    assert mended["models"]["mini-clip"]["text"] == fresh["models"]["mini-clip"]["text"]
    (stored,) = report([tmp_path / "run"], None, lambda line: None)
    assert (stored["n"], stored["skipped"]) == (COUNT, [])


def test_a_model_that_is_done_can_be_reported_while_the_next_one_runs(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "5-0.png").unlink()
    with pytest.raises(KilledError):
        run(folder, tmp_path / "run", "mini-clip", "mini-diffusion", shelf=Shelf(lives=COUNT + 2))
    (result,) = report([tmp_path / "run"], None, lambda line: None)
    assert (list(result["models"]), result["n"]) == (["mini-clip"], COUNT - 1)
    assert [entry["example"] for entry in result["skipped"]] == ["e5"]


def test_scores_of_a_picture_that_is_away_are_kept_until_it_is_back(folder: Path, tmp_path: Path) -> None:
    """A share that is not mounted must cost nobody an hour of scores."""
    run(folder, tmp_path / "run")
    (folder / "images" / "5-0.png").rename(tmp_path / "aside.png")
    shelf = Shelf()
    result, _ = run(folder, tmp_path / "run", shelf=shelf)
    assert [entry["example"] for entry in result["skipped"]] == ["e5"]
    (folder / "images").rename(tmp_path / "away")
    with pytest.raises(UserError, match="more than half of the 16"):
        run(folder, tmp_path / "run", shelf=shelf)
    (tmp_path / "away").rename(folder / "images")
    (tmp_path / "aside.png").rename(folder / "images" / "5-0.png")
    result, _ = run(folder, tmp_path / "run", shelf=shelf)
    assert (result["skipped"], shelf.calls) == ([], 0)
    assert len(read_run(tmp_path / "run").scores) == COUNT


def test_mostly_broken_pictures_are_refused_before_much_is_scored(folder: Path, tmp_path: Path) -> None:
    for number in range(9):
        cut(folder / "images" / f"{number}-0.png")
    for out, most in ((None, 0), (tmp_path / "run", 7)):
        shelf = Shelf()
        with pytest.raises(UserError, match=r"half of the 16 examples cannot be opened; one is e\d: \d-0\.png"):
            run(folder, out, shelf=shelf)
        assert shelf.calls <= most


def test_the_command_ends_well_and_says_what_it_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    cut(folder / "images" / "5-0.png")
    monkeypatch.setattr(Workbench, "scorer", lambda self, name: FakeScorer(cards.resolve(name)))
    assert main(["evaluate", f"folder:{folder}", "--model", "mini-clip", "--json"]) == 0
    said = capsys.readouterr()
    assert "1 of 16 examples are left out" in said.err
    assert json.loads(said.out)["n"] == COUNT - 1


def test_a_picture_is_decoded_once_and_a_shared_one_too() -> None:
    opened: list[str] = []

    def picture(name: str) -> Picture:
        return Picture(name=name, open=lambda: opened.append(name) or Image.new("RGB", (9, 9)), key=name)

    shared = picture("shared")
    examples = [Example(id=str(n), images=(picture(str(n)), shared), captions=("a", "b"), tags={}) for n in range(5)]
    for example in Opening(5).usable(examples):
        example.images[0].open()
    assert sorted(opened) == ["0", "1", "2", "3", "4", "shared"]


def test_no_model_waits_for_a_picture_be_it_first_or_a_later_one() -> None:
    """Its seconds would hold reading the picture, and only the first one's would not."""
    opened: list[str] = []

    def animated() -> Image.Image:
        opened.append("p")
        image = Image.new("RGB", (9, 9))
        image.info[FRAMES] = 2
        return image

    picture = Picture(name="p", open=animated, key="p")
    examples = [Example(id=str(n), images=(picture,), captions=("a", "b"), tags={}) for n in range(3)]
    opening = Opening(3)
    for number in range(1, 4):
        for example in opening.usable(examples):
            assert len(opened) == number
            if example.id == "0":
                example.images[0].open()
        assert len(opened) == number
    assert opening.animated == 1, "one picture, however often it is opened"


def grey_examples(count: int, opened: list[int]) -> list[Example]:
    """Examples of a picture each, which notes its number in `opened` whenever it is opened."""
    pictures = [
        Picture(name=str(n), open=lambda n=n: opened.append(n) or Image.new("L", (20, 20), n), key=str(n))
        for n in range(count)
    ]
    return [Example(id=p.name, images=(p,), captions=("a", "b"), tags={}) for p in pictures]


def test_what_an_earlier_pass_left_open_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.data.opening.KEPT_PIXELS", 1000)
    opened: list[int] = []
    examples = grey_examples(4, opened)
    opening = Opening(4)
    list(opening.usable(examples))
    del opened[:]
    next(opening.usable(examples))
    assert opened == [0]


def test_large_pictures_are_never_opened_ahead_to_be_dropped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.data.opening.KEPT_PIXELS", 1000)
    opened: list[int] = []
    examples = grey_examples(9, opened)
    opening = Opening(9)
    for example in opening.usable(examples):
        example.images[0].open()
    del opened[:]
    later = list(opening.usable(examples))
    assert [example.images[0].open().getpixel((0, 0)) for example in later] == list(range(9))
    assert sorted(opened) == list(range(9)), "each once"


@pytest.mark.parametrize("error", [SyntaxError("broken PNG"), ValueError, struct.error, EOFError, IndexError])
def test_whatever_a_decoder_raises_leaves_out_that_example_alone(error: Exception) -> None:
    def fail() -> Image.Image:
        raise error

    examples = [
        Example(id=str(n), images=(Picture(name="x.png", open=fail if n == 1 else lambda: Image.new("L", (9, 9))),),
                captions=("a", "b"), tags={})
        for n in range(3)
    ]  # fmt: skip
    opening = Opening(3)
    assert [example.id for example in opening.usable(examples)] == ["0", "2"]
    assert opening.broken["1"].startswith("x.png is not an image, or is damaged")


def test_blind_rows_are_of_the_pictures_that_can_be_opened_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is mended is among those that have nothing to do with the other captions."""
    fails = [True]

    def picture(number: int) -> Picture:
        def draw() -> Image.Image:
            if number == 2 and fails[0]:
                raise UserError("2.png is missing.")
            return Image.new("RGB", (8, 8), (20 * number, 0, 0))

        def content() -> str:
            return MISSING if number == 2 and fails[0] else str(number)

        return Picture(name=f"{number}.png", open=draw, key=str(number), content=content)

    examples = [Example(id=f"e{n}", images=(picture(n),), captions=("a", f"b {n}"), tags={}) for n in range(6)]
    for module in ("evaluation.run", "evaluation.freshness"):
        monkeypatch.setattr(f"sdsdemo.{module}.read_benchmark", lambda name: examples)

    def blind(out: Path | None) -> dict:
        result = evaluate("set", ["mini-clip"], workbench=Shelf(), budget=SPEND, out=out)
        return {"n": result["n"], **result["models"]["mini-clip"]["blind"]}

    assert blind(tmp_path / "run") == blind(None)
    assert blind(tmp_path / "run")["n"] == 5
    fails[0] = False
    assert blind(tmp_path / "run") == blind(None)
    run = read_run(tmp_path / "run")
    fresh = evaluate("set", ["mini-clip"], workbench=Shelf(), budget=SPEND, out=tmp_path / "fresh")
    assert fresh["n"] == 6
    for key, scores in read_run(tmp_path / "fresh").scores.items():
        np.testing.assert_array_equal(run.scores[key].score_IC, scores.score_IC)


def test_what_is_open_and_not_asked_for_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdsdemo.data.opening.KEPT_PIXELS", 1000)
    pictures = [Picture(name=str(n), open=partial(Image.new, "L", (20, 20), n)) for n in range(9)]
    opening = Opening(9)
    found = list(opening.usable(Example(id=p.name, images=(p,), captions=("a", "b"), tags={}) for p in pictures))
    assert len(opening._open) == 2
    assert [example.images[0].open().getpixel((0, 0)) for example in found] == list(range(9))


def test_the_benchmark_itself_reads_without_its_pictures(folder: Path) -> None:
    (folder / "images" / "5-0.png").unlink()
    assert len(read_pairs(folder)) == COUNT


@pytest.mark.parametrize("broken", [9, COUNT])
def test_processes_that_share_mostly_broken_pictures_all_refuse(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    for number in range(broken):
        cut(folder / "images" / f"{number}-0.png")
    own, barrier, shared = threading.local(), threading.Barrier(2), [[], []]
    monkeypatch.setattr("sdsdemo.runtime.distributed.find", lambda: Threads(own.index, barrier, shared))

    def process(index: int) -> str:
        own.index = index
        with pytest.raises(UserError) as refused:
            run(folder, None)
        return str(refused.value)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(process, range(2)))
    assert said[0] == said[1]
    assert "more than half of the 16 examples cannot be opened; one is e0" in said[0]


def test_a_report_of_two_runs_counts_a_broken_picture_once(folder: Path, tmp_path: Path) -> None:
    for number in (7, 3):
        cut(folder / "images" / f"{number}-0.png")
    run(folder, tmp_path / "a", "mini-clip")
    run(folder, tmp_path / "b", "mini-diffusion")
    (both,) = report([tmp_path / "a", tmp_path / "b"], None, lambda line: None)
    assert [entry["example"] for entry in both["skipped"]] == ["e3", "e7"]
    assert "left out: 2 examples" in as_table(both)


def test_thousands_left_out_are_a_short_sentence() -> None:
    reason = "flickr30k-images/1.jpg is missing in the folder images."
    said = left_out({f"e{number}": reason for number in range(5_000)}, 82_695)
    assert said.startswith("5,000 of 82,695 examples are left out")
    assert said.endswith("); and 4,992 more.")
    assert len(said) < 1_000
    assert "more" not in left_out({f"e{number}": reason for number in range(8)}, 82_695)
