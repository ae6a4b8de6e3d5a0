"""How far the experiment's figures reach is said beside them, and by figures that the code computes."""

from __future__ import annotations

import json
import math
import re
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from sdsdemo.core.bases import over_bases
from sdsdemo.core.intervals import proportion
from sdsdemo.core.number_format import share_words
from sdsdemo.core.wording import count_of
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.evaluation.limits import LESSON, WITHOUT_LABELS, lesson_words, limits, shipped_student_words
from sdsdemo.evaluation.tables import as_table
from sdsdemo.mini.experiments.ablations import SHORT
from sdsdemo.mini.experiments.declared import CONFIRM
from sdsdemo.mini.experiments.lesson import FILE
from sdsdemo.mini.experiments.lesson_words import done_seeds, effects_grid
from sdsdemo.mini.experiments.study import right_of
from sdsdemo.mini.experiments.study_store import read_rows
from sdsdemo.mini.experiments.tables import TEN
from sdsdemo.mini.experiments.verdict import verdict
from sdsdemo.mini.experiments.verify import EXPERIMENT, FINDINGS, MEASURED, RESULTS
from sdsdemo.mini.models.sds_clip import LAMBDAS
from sdsdemo.models.cards import all_cards
from sdsdemo.settings import ASSETS, ROOT
from sdsdemo.ui import about, browse_html, results_html

FOUND = json.loads(FINDINGS.read_text()) | {TEN: {}}
"""The shipped findings without the study of ten bases, which is put into other words."""
MEASURED_NOW = json.loads(MEASURED.read_text())
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_an_interval_over_bases_is_students_t_on_their_means() -> None:
    """Means 0, 1 and 2: standard deviation 1, t(0.975, 2) = 4.3027, so 1 +- 4.3027 / sqrt(3)."""
    assert over_bases([0, 1, 2]) == pytest.approx((1 - 4.302653 / math.sqrt(3), 1 + 4.302653 / math.sqrt(3)), abs=1e-5)
    assert over_bases([0.3, 0.3]) == pytest.approx((0.3, 0.3))
    with pytest.raises(ValueError, match="needs at least two"):
        over_bases([0.3])


def test_the_shipped_effects_have_these_intervals_over_bases_in_general() -> None:
    said = " ".join(verdict(FOUND))
    assert "these 3 bases only" in said
    assert "(2 degrees of freedom)" in said
    for interval in ("-4.7 to +23.5", "+7.2 to +23.6", "+3.0 to +24.7"):
        assert interval in said


def test_one_base_alone_has_no_interval_over_bases() -> None:
    found = deepcopy(FOUND)
    for study in ("confirm", "return"):
        for row in found[study]["contrasts"]:
            row["by_base"] = row["by_base"][:1]
    assert "in general" not in " ".join(limits(found))


def test_the_base_that_fails_the_gate_is_named_with_its_gain() -> None:
    said = " ".join(verdict(FOUND))
    values = [gain["value"] for gain in FOUND["gate"]["by_base"].values()]
    assert values == pytest.approx([0.196, 0.146, 0.0275], abs=0.0005)
    assert "mini-clip-3 failed" in said
    assert "+2.8 [" in said
    found = deepcopy(FOUND)
    found["gate"]["by_base"]["mini-clip-3"]["value"] = found["gate"]["least"]
    assert "all pass" in " ".join(limits(found))
    del found["gate"]
    assert "must gain" not in " ".join(limits(found))


def test_the_retrieval_examples_that_choices_looked_at_are_not_reported() -> None:
    said = " ".join(verdict(FOUND))
    chosen = "were also chosen on 500 retrieval examples; retrieval is reported on 3,500 others"
    assert f"{chosen}; where n = 500, it is reported on those 500 themselves." in said, (
        "such as the preference controls"
    )
    assert f"{chosen}." in " ".join(limits({"confirm": FOUND["confirm"]}))
    found = {"confirm": deepcopy(FOUND["confirm"])}
    for row in found["confirm"]["contrasts"]:
        row["skills"]["retrieval"]["n"] = 500
    assert "chosen on 500 retrieval examples, which are those reported." in " ".join(limits(found))


def test_the_shipped_student_is_not_called_the_confirmed_cell() -> None:
    said = shipped_student_words()
    assert said in verdict(FOUND)
    assert f"its lambda is {LAMBDAS['mini-sds-clip']:g}, the study's is {CONFIRM.cells['sds'].lam:g}" in said
    scored = json.loads((RESULTS / "mini-retrieval.json").read_text())["models"]
    lost = scored["mini-clip-control"]["accuracy"]["value"] - scored["mini-sds-clip"]["accuracy"]["value"]
    assert f"its retrieval by {-100 * lost:.1f} [" in said
    assert f"retrieval is about {100 * lost:.0f} points lower" in all_cards()["mini-sds-clip"].limits


def test_the_shipped_student_s_image_score_is_that_of_the_fresh_pairs() -> None:
    """1,200 pairs of pairs with as many differences of +1, -1 and 0 as stored: their mean, and 2 standard errors."""
    fresh = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("fresh-*.json"))]
    both = {"mini-sds-clip", "mini-clip-control"}
    pairs = [p for found in fresh for p in found["paired"] if p["metric"] == "image" and {p["a"], p["b"]} == both]
    assert all(pair["a"] == "mini-sds-clip" for pair in pairs)
    counts = [sum(pair[way] for pair in pairs) for way in ("only_a", "only_b")]
    n = sum(found["n"] for found in fresh)
    change_E = np.repeat([1.0, -1.0, 0.0], [*counts, n - sum(counts)])
    said = re.search(r"image score changes by (\S+) \[(\S+), (\S+)\] points on 1,200", shipped_student_words())
    assert said is not None
    value, low, high = map(float, said.groups())
    assert (value, n) == (round(100 * change_E.mean(), 1), 1200)
    gains = [
        found["models"]["mini-sds-clip"]["image"]["value"] - found["models"]["mini-clip-control"]["image"]["value"]
        for found in fresh
    ]
    assert change_E.mean() == pytest.approx(mean(gains))
    reach = 196 * change_E.std(ddof=1) / math.sqrt(n)
    assert (low, high) == pytest.approx((value - reach, value + reach), abs=0.15)


def test_the_shipped_student_s_words_follow_the_stored_results(tmp_path: Path) -> None:
    """Whichever of the two comes first in a pair; without fresh benchmarks there is nothing to say."""
    assert shipped_student_words(tmp_path / "none") == ""
    turned = {"a": "mini-clip-control", "b": "mini-sds-clip", "both": 10, "only_a": 0, "only_b": 90, "neither": 0}
    other = turned | {"a": "mini-clip"}
    pairs = [pair | {"metric": metric, "p": 1.0} for pair in (turned, other) for metric in ("image", "accuracy")]
    for name in ("fresh-7", "fresh-8", "mini-retrieval"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"paired": pairs}))
    said = shipped_student_words(tmp_path)
    assert "image score changes by +90.0 [" in said
    assert "points on 200 fresh pairs of pairs (seeds 7 and 8), and its retrieval by +90.0 [" in said


def sections(text: str) -> list[str]:
    """Paragraphs and tables, each with the one that follows it."""
    parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    return [f"{part}\n{after}" for part, after in zip(parts, [*parts[1:], ""], strict=True)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_the_lesson_stands_wherever_both_scores_stand_in_the_documents(path: Path) -> None:
    clip, diffusion = (
        f"{100 * MEASURED_NOW['models'][name]['text']['value']:.1f}" for name in ("mini-clip", "mini-diffusion")
    )
    text = path.read_text()
    parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    for part, with_next in zip(parts, sections(text), strict=True):
        if all(re.search(rf"(?<![\d.]){re.escape(value)}(?!\d)", part) for value in (clip, diffusion)):
            assert LESSON in with_next, part[:200]


def test_the_documents_say_the_lesson_at_least_once_each() -> None:
    for path in (ROOT / "README.md", ROOT / "docs" / "mini.md"):
        assert LESSON in path.read_text()
    assert WITHOUT_LABELS in (ROOT / "docs" / "mini.md").read_text()


def test_the_lesson_stands_in_what_the_shell_prints_of_both_models() -> None:
    assert as_table(MEASURED_NOW).count(LESSON) == 1
    others = {name: entry for name, entry in MEASURED_NOW["models"].items() if name != "mini-clip"}
    assert LESSON not in as_table(MEASURED_NOW | {"models": others, "paired": []})


def test_the_lesson_stands_in_every_table_of_the_page_with_both_models() -> None:
    assert about.measured_html().count("comes from its text encoder") == 1
    for html in (results_html.result_html(MEASURED_NOW), results_html.overview_html({"mini": MEASURED_NOW})):
        assert html.count("comes from its text encoder") == 1
    assert browse_html.lesson_html(["mini-diffusion", "mini-clip"]).count("comes from its text encoder") == 1
    assert browse_html.lesson_html(["mini-clip", "mini-sds-clip"]) == ""
    retrieval = json.loads((ASSETS / "mini" / "results" / "mini-retrieval.json").read_text())
    assert "comes from its text encoder" not in results_html.overview_html({"mini-retrieval": retrieval})
    assert "rests on what its text encoder was taught" in all_cards()["mini-diffusion"].limits
    assert lesson_words(["mini-clip", "mini-diffusion"]) == LESSON
    assert lesson_words(["mini-clip", "clip-vit-b-32"]) == ""


def test_the_lesson_quotes_the_stored_teachers() -> None:
    right = {row["teacher"]: right_of(row, "mini", "text") for row in read_rows(EXPERIMENT / "teachers.jsonl")}
    for name in ("from pictures", SHORT):
        assert share_words(asdict(proportion(int(right[name].sum()), len(right[name])))) in WITHOUT_LABELS


def test_the_lesson_quotes_the_2_x_2() -> None:
    rows, examples = read_rows(EXPERIMENT / FILE), read_benchmark("mini")
    seeds = done_seeds(rows)
    assert f"{count_of(len(seeds), 'seed')}, n = {len(examples)}" in LESSON
    head, *effects = effects_grid(rows, examples, seeds)
    found = {effect[0]: dict(zip(head, effect, strict=True)) for effect in effects}
    said = [found["the lesson, for denoisers"]["text score"]]
    for which in ("with the lesson", "without the lesson"):
        said += [found[f"denoising instead of L_CLIP, {which}"][f"{metric} score"] for metric in ("text", "image")]
    assert re.findall(r"[+-]\d+\.\d \[[^]]*\]", LESSON) == said
