"""SugarCrepe++'s text-only task: the authors' rule by a slow loop, ties and gaps apart, none for a diffusion model."""

from __future__ import annotations

import copy
import csv
import io
import itertools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.cli.main import main
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.published.sets import SET, SIZES, SUGARCREPE_PP, TRUE
from sdsdemo.evaluation.report import report
from sdsdemo.evaluation.run import evaluate
from sdsdemo.evaluation.store import SCORES, TEXT_ONLY, read_run
from sdsdemo.evaluation.summary import Scored, summarise
from sdsdemo.evaluation.tables import as_csv, as_table, warnings
from sdsdemo.evaluation.text_only import NO_EMBEDDING, NOT_KEPT, captions_alone, name_of
from sdsdemo.models import cards
from sdsdemo.models.clip import ClipScorer
from sdsdemo.settings import budget
from sdsdemo.types import SIMILARITY_RESOLUTION, CaptionComparer, Example, Scores
from sdsdemo.ui.results_html import result_html
from tests import set_twins, twins
from tests.fakes import FakeScorer

SPEND = budget(2, 2, 0)
WORDS = ("a dog", "the cat", "two men", "a red bus", "some grass", "an old chair", "snow", "the sea")
PLACES = ("by", "under", "in front of", "near", "on top of")
FILES = {"swap_obj": 24, "replace_rel": 17}


def triplet(draw: random.Random) -> tuple[str, str, str]:
    """A caption, a paraphrase of it, and what it becomes with two things swapped or another relation."""
    one, other = draw.sample(WORDS, 2)
    place, wrong = draw.sample(PLACES, 2)
    false = f"{other} {place} {one}" if draw.random() < 0.5 else f"{one} {wrong} {other}"
    return f"{one} {place} {other}", f"{place} {other} there is {one}", false


def write_set(home: Path, files: dict[str, list[tuple[str, str, str]]]) -> str:
    """The published layout, with so many cases a file. Returns the benchmark's name."""
    for name, cases in files.items():
        content = [
            {"id": n, "filename": f"{n % 3}.jpg", "caption": p1, "caption2": p2, "negative_caption": false}
            for n, (p1, p2, false) in enumerate(cases)
        ]
        set_twins.write(home / "data" / f"{name}.json", content)
    for n in range(3):
        set_twins.put(home / "val2017" / f"{n}.jpg")
    return f"sugarcrepe++:{home}"


@pytest.fixture
def benchmark(tmp_path: Path) -> str:
    draw = random.Random(7)
    return write_set(tmp_path / "set", {name: [triplet(draw) for _ in range(n)] for name, n in FILES.items()})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    wider = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
    folder = twins.clip_folder(tmp_path_factory.mktemp("clip") / "clip", words=False, seed=3, text_cfg=wider)
    return f"open_clip:local-dir:{folder}"


class Shelf:
    """The workbench, with a fake in place of the diffusion model, and a count of what is asked."""

    def __init__(self) -> None:
        self.workbench, self.fake = Workbench(), FakeScorer(cards.resolve("mini-diffusion"))
        self.compared: list[str] = []
        self.scored: list[str] = []

    def scorer(self, name: str) -> Any:
        if name == "mini-diffusion":
            return self.fake
        scorer: Any = copy.copy(self.workbench.scorer(name))
        for method, told in (("compare_captions", self.compared), ("score_examples", self.scored)):
            setattr(scorer, method, noting(getattr(scorer, method), told))
        return scorer


def noting(method: Any, told: list[str]) -> Any:
    def noted(examples: Any, *more: Any) -> Any:
        return method((told.append(example.id) or example for example in examples), *more)

    return noted


def run(benchmark: str, *models: str, out: Path | None = None, shelf: Shelf | None = None) -> dict[str, Any]:
    return evaluate(benchmark, models, workbench=shelf or Shelf(), budget=SPEND, out=out)


def cosines_by_hand(scorer: ClipScorer, captions: tuple[str, ...]) -> list[float]:
    """As the authors' loop: caption by caption, alone, and here in float64."""
    module = copy.deepcopy(scorer.model.module).double()
    feature = [module.encode_text(scorer.model.tokenize([caption])).detach() for caption in captions]
    pairs = itertools.combinations(feature, 2)
    return [100 * float(torch.nn.functional.cosine_similarity(a, b, dim=1)) for a, b in pairs]


def example(number: int, file: str = "swap_obj") -> Example:
    tags = {"tag": file, "collapsed_tag": file.partition("_")[0], SET: SUGARCREPE_PP, TRUE: "2"}
    return Example(id=str(number), images=(), captions=("a", "b", "c"), tags=tags)


def summary(text_E: list[tuple[float, ...]], files: list[str] | None = None) -> dict[str, Any]:
    """The entry of a model with these similarities of (p1, p2), (p1, n), (p2, n)."""
    examples = [example(n, files[n] if files else "swap_obj") for n in range(len(text_E))]
    plain = [Scores(kind="similarity", score_IC=np.array([[3.0, 2.0, 1.0]]))] * len(text_E)
    alone = [Scores(kind="similarity", score_IC=np.array([row])) for row in text_E]
    return summarise(examples, {"m": Scored(scores_E=plain, text_E=alone)})["models"]["m"]["text_only"]


# ------------------------------------------------------------------------------------------------------------ the rule


def test_shares_are_those_of_a_slow_loop_in_float64(benchmark: str, clip: str, tmp_path: Path) -> None:
    result, scorer = run(benchmark, clip, out=tmp_path / "run"), Workbench().scorer(clip)
    assert isinstance(scorer, ClipScorer)
    examples, stored = read_benchmark(benchmark), read_run(tmp_path / "run").of(clip, TEXT_ONLY)
    assert stored is not None
    right: dict[str, list[bool]] = {file: [] for file in FILES}
    for one, found in zip(examples, stored, strict=True):
        pp, pn, qn = cosines_by_hand(scorer, one.captions)
        assert min(abs(pp - pn), abs(pp - qn)) > SIMILARITY_RESOLUTION
        np.testing.assert_allclose(found.score_IC, [[pp, pn, qn]], atol=SIMILARITY_RESOLUTION / 2)
        right[one.tags["tag"]].append(pp > pn and pp > qn)
    entry = result["models"][clip]["text_only"]
    every = [one for found in right.values() for one in found]
    assert 0 < sum(every) < len(every)
    assert (entry["accuracy"]["value"], entry["accuracy"]["n"]) == (pytest.approx(np.mean(every)), 41)
    for file, found in right.items():
        share = entry["by_tag"][file]["accuracy"]
        assert (share["value"], share["n"]) == (pytest.approx(np.mean(found)), FILES[file])
        assert share["low"] < share["value"] < share["high"]


def test_the_true_pair_must_be_nearer_than_both_others() -> None:
    found = summary([(3, 2, 1), (3, 1, 2), (2, 3, 1), (2, 1, 3), (1, 2, 3)])
    assert found["accuracy"]["value"] == 2 / 5
    assert found["apart"] == {"n": 5, "not_finite": 0, "ties": 0}


def test_ties_fail_and_what_is_no_number_is_in_no_share() -> None:
    near = SIMILARITY_RESOLUTION / 2
    table = [(3.0, 2.0, 1.0), (2.0, 2.0, 1.0), (2.0, 1.0, 2.0 - near), (2.0, 1.0, 2.0 + near), (np.nan, 1.0, 2.0)]
    found = summary([*table, (np.inf, 1.0, 2.0)], ["a", "a", "a", "a", "b", "b"])
    assert (found["accuracy"]["value"], found["accuracy"]["n"]) == (1 / 4, 4)
    assert found["by_tag"]["b"]["accuracy"]["n"] == 0
    assert found["apart"] == {"n": 6, "not_finite": 2, "ties": 3}
    said = " ".join(warnings({"models": {"m": {"text_only": found}}, "chance": {}}))
    assert "2 of 6 examples" in said
    assert "ties within rounding, which count as failures: 3 of 4" in said


def test_true_captions_may_change_places(benchmark: str, clip: str) -> None:
    scorer, examples = Workbench().scorer(clip), captions_alone(read_benchmark(benchmark))
    assert isinstance(scorer, CaptionComparer)
    turned = [
        Example(id=e.id, images=(), captions=(e.captions[1], e.captions[0], e.captions[2]), tags=e.tags)
        for e in examples
    ]
    for one, other in zip(scorer.compare_captions(examples), scorer.compare_captions(turned), strict=True):
        np.testing.assert_array_equal(one.score_IC[0], other.score_IC[0, [0, 2, 1]])


def test_captions_are_encoded_in_one_order_and_equal_ones_once(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, asked = Workbench().scorer(clip), []
    assert isinstance(scorer, ClipScorer)
    encode = scorer.model.encode_texts
    monkeypatch.setattr(scorer.model, "encode_texts", lambda found: asked.append(list(found)) or encode(found))
    captions = ("a dog by the cat", "by the cat there is a dog", "the cat by a dog")
    orders = [*itertools.permutations(captions), (captions[0], captions[1], captions[0])]
    found = list(scorer.compare_captions(Example(id="x", images=(), captions=own, tags={}) for own in orders))
    assert all(one == asked[0] for one in asked[:-1])
    assert len(asked[-1]) == 2
    assert found[-1].score_IC[0, 0] == found[-1].score_IC[0, 2]  # to the bit: a tie


def test_similarities_do_not_know_what_is_compared_beside(benchmark: str, clip: str) -> None:
    scorer, examples = Workbench().scorer(clip), captions_alone(read_benchmark(benchmark))
    for one, together in zip(examples, scorer.compare_captions(examples), strict=True):
        (alone,) = scorer.compare_captions([one])
        np.testing.assert_array_equal(alone.score_IC, together.score_IC)


def test_captions_are_cleaned_as_they_are_everywhere(clip: str) -> None:
    scorer = Workbench().scorer(clip)
    plain = ("a dog's ball & a cat", "a ball of a dog", "a cat's ball")
    typed = ("a  dog\u2019s ball &amp; a cat ", "a ball\u00a0of a dog", "a cat\u2019s\u200b ball")
    examples = [Example(id=str(n), images=(), captions=captions, tags={}) for n, captions in enumerate((plain, typed))]
    one, other = scorer.compare_captions(examples)
    np.testing.assert_array_equal(one.score_IC, other.score_IC)


def test_a_bag_of_words_ties_where_only_the_order_differs(tmp_path: Path) -> None:
    bag = f"open_clip:local-dir:{twins.bag_of_words_folder(tmp_path / 'bag')}"
    things = list(itertools.permutations(("dog", "cat", "bus", "tree"), 2))
    cases = [(f"a {a} by a {b}", f"there a {a} is near one {b}", f"a {b} by a {a}") for a, b in things]
    found = run(write_set(tmp_path / "set", {"swap_obj": cases}), bag)["models"][bag]["text_only"]
    assert found["accuracy"]["value"] == 0.0
    assert found["apart"]["not_finite"] == 0
    equal = [
        scores.score_IC[0, 0] == scores.score_IC[0, 2]
        for scores in Workbench().scorer(bag).compare_captions(read_benchmark(f"sugarcrepe++:{tmp_path / 'set'}"))
    ]
    assert not all(equal)  # rounding alone would name a winner


def test_a_part_of_the_set_is_called_one() -> None:
    whole = [{"tag": tag, SET: SUGARCREPE_PP} for tag, n in SIZES["sugarcrepe++"]["tag"].items() for _ in range(n)]
    assert name_of(whole) == "SugarCrepe++, TOT"
    assert name_of(whole[1:]) == "part of SugarCrepe++, TOT"


# ------------------------------------------------------------------------------------------------------ who has a score


def test_a_diffusion_model_has_none_which_is_not_zero(benchmark: str, clip: str) -> None:
    result = run(benchmark, clip, "mini-diffusion")
    found = result["models"]["mini-diffusion"]["text_only"]
    assert found == {"name": "part of SugarCrepe++, TOT", "missing": NO_EMBEDDING}
    table = as_table(result)
    line = next(line for line in table.splitlines() if line.startswith("all "))
    assert line.split()[-1] == "none"
    assert f"mini-diffusion: {NO_EMBEDDING}" in table
    assert "33.3" in table
    rows = list(csv.DictReader(io.StringIO(as_csv([result]))))
    told = {(row["model"], row["tag"], row["n"]) for row in rows if row["group"] == "text-only"}
    assert told == {(clip, "", "41"), (clip, "swap_obj", "24"), (clip, "replace_rel", "17")}
    page = result_html(result)
    assert "part of SugarCrepe++, TOT" in page
    assert f"mini-diffusion: {NO_EMBEDDING}" in page


def test_mini_models_are_compared_in_their_own_world(tmp_path: Path) -> None:
    """CLIP and SDS-CLIP each by their own weights, the diffusion model not; at pictures of the Mini world."""
    cases = [
        ("a red star left of a blue circle", "a blue circle right of a red star", "a blue star left of a red circle"),
        ("a green square above a red star", "a red star below a green square", "a red star above a green square"),
    ]
    name = write_set(tmp_path / "set", {"swap_att": cases})
    for n, own in enumerate(read_benchmark("mini")[:3]):
        own.images[0].open().save(tmp_path / "set" / "val2017" / f"{n}.jpg", quality=100, subsampling=0)
    models = ("mini-clip", "mini-sds-clip", "mini-diffusion")
    result = evaluate(name, models, workbench=Workbench(), budget=SPEND, out=tmp_path / "run")
    for model in models[:2]:
        scorer, stored = Workbench().scorer(model), read_run(tmp_path / "run").of(model, TEXT_ONLY)
        assert isinstance(scorer, ClipScorer)
        by_hand = [cosines_by_hand(scorer, captions) for captions in cases]
        np.testing.assert_allclose([scores.score_IC[0] for scores in stored or ()], by_hand, atol=5e-5)
        assert result["models"][model]["text_only"]["accuracy"]["n"] == 2
    assert result["models"]["mini-diffusion"]["text_only"]["missing"] == NO_EMBEDDING


@pytest.mark.parametrize("name", ["sugarcrepe", "valse", "folder"])
def test_other_sets_have_no_such_task_and_no_such_rows(name: str, clip: str, tmp_path: Path) -> None:
    source, write, _ = set_twins.SETS[name]
    write(tmp_path / "set")
    result = run(f"{source}:{tmp_path / 'set'}", clip, out=tmp_path / "run")
    assert "text_only" not in result["models"][clip]
    assert "text-only" not in as_table(result) + result_html(result)
    assert TEXT_ONLY not in (tmp_path / "run" / SCORES).read_text()


# ------------------------------------------------------------------------------------------------------- what is stored


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / SCORES).read_text().splitlines()]


def untimed(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of each model but for its seconds, which are stored rounded."""
    return {
        name: {key: value for key, value in entry.items() if key != "seconds_per_example"}
        for name, entry in result["models"].items()
    }


def test_a_stored_run_gives_the_same_again(benchmark: str, clip: str, tmp_path: Path) -> None:
    result = run(benchmark, clip, "mini-diffusion", out=tmp_path / "run")
    (again,) = report([tmp_path / "run"], None, lambda line: None)
    assert untimed(again) == untimed(result)
    shelf = Shelf()
    assert untimed(run(benchmark, clip, "mini-diffusion", out=tmp_path / "run", shelf=shelf)) == untimed(result)
    assert shelf.compared == shelf.scored == []
    rows = [row for row in lines_of(tmp_path / "run") if row.get("what") == TEXT_ONLY]
    assert len(rows) == 41
    assert {row["model"] for row in rows} == {clip}
    assert {len(row["score"][0]) for row in rows} == {3}


def test_an_older_run_says_what_it_lacks_and_is_completed(benchmark: str, clip: str, tmp_path: Path) -> None:
    result, store = run(benchmark, clip, out=tmp_path / "run"), tmp_path / "run" / SCORES
    whole = store.read_text().splitlines(keepends=True)
    older = [line for line in whole if json.loads(line).get("what") != TEXT_ONLY]
    for kept in (older, whole[:-1]):
        store.write_text("".join(kept))
        (read,) = report([tmp_path / "run"], None, lambda line: None)
        assert read["models"][clip]["text_only"] == {"name": "part of SugarCrepe++, TOT", "missing": NOT_KEPT}
        assert f"{clip}: {NOT_KEPT}" in as_table(read)
        shelf = Shelf()
        now = run(benchmark, clip, out=tmp_path / "run", shelf=shelf)
        assert now["models"][clip]["text_only"] == result["models"][clip]["text_only"]
        assert (len(shelf.compared), len(shelf.scored)) == (len(whole) - len(kept), 0)
        assert [line for line in store.read_text().splitlines(keepends=True) if line in older] == older


def test_a_changed_caption_is_compared_again(benchmark: str, clip: str, tmp_path: Path) -> None:
    run(benchmark, clip, out=tmp_path / "run")
    file = tmp_path / "set" / "data" / "swap_obj.json"
    cases = json.loads(file.read_text())
    cases[5]["caption2"] = "a car is parked beside a house"
    file.write_text(json.dumps(cases))
    shelf = Shelf()
    result = run(benchmark, clip, out=tmp_path / "run", shelf=shelf)
    assert shelf.compared == ["swap_obj-5"]
    assert result["models"] == {clip: {**run(benchmark, clip)["models"][clip], **costs(result, clip)}}


def costs(result: dict[str, Any], model: str) -> dict[str, float]:
    return {"seconds_per_example": result["models"][model]["seconds_per_example"]}


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("damage", "words"), [(None, "has no caption2"), (" ", "has an empty caption2")])
def test_a_case_without_its_second_true_caption_is_named(
    damage: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    name = write_set(tmp_path / "set", {"swap_obj": [("a by b", "a and b", "b by a")] * 3})
    file = tmp_path / "set" / "data" / "swap_obj.json"
    cases = json.loads(file.read_text())
    cases[1] = {key: value for key, value in cases[1].items() if key != "caption2"}
    cases[1] |= {} if damage is None else {"caption2": damage}
    file.write_text(json.dumps(cases))
    assert main(["evaluate", name, "--model", "mini-clip"]) == 2
    assert f"Case 1 of swap_obj.json {words}" in " ".join(capsys.readouterr().err.split())
