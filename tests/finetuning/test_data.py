"""What a run is trained on, and what the teacher is asked: pairs with one twin each, answers kept by content."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from sdsdemo.errors import UserError
from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.recipe import Recipe
from sdsdemo.finetuning.teacher_preferences import Preferences
from sdsdemo.finetuning.training_pairs import FreePairs, Pair, duplicate_share, read_source
from sdsdemo.models.clip import ClipModel
from sdsdemo.runtime import files
from sdsdemo.types import Budget, Evidence, Example, Picture, Scores
from tests.damage import damaged
from tests.fakes import OneByOne

RECIPE = Recipe(pool=40, batch=8)
BUDGET = Budget(timesteps=2, noises=1, seed=0)
MANY = 100
FORK: Any = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None


class Judge(OneByOne):
    """Prefers the caption by its length, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def score_examples(self, examples: Iterable[Example], budget: Budget) -> Iterator[Scores]:
        for example in examples:
            self.asked += 1
            score_IC = np.array([[0.001 * len(example.captions[0]), 0.0]])
            loss = np.zeros((1, 2, budget.timesteps, budget.noises), dtype=np.float32)
            evidence = Evidence(timestep_T=np.arange(budget.timesteps), loss_ICTN=loss, evaluations=4)
            yield Scores(kind="denoising", score_IC=score_IC, evidence=evidence)


def picture(shade: int, name: str) -> Picture:
    return Picture(name=name, open=lambda: Image.new("RGB", (4, 4), (shade, 0, 0)), key=name)


def pairs(count: int = 5) -> list[Pair]:
    return [Pair(picture=picture(k, f"p{k}"), caption="a" * (k + 1), twin="b", kind="noun") for k in range(count)]


def ask(kept: Preferences, judge: Judge, asked: list[Pair]) -> list[int]:
    return list(kept.ask(judge, asked, lambda: False))


def test_an_epoch_meets_every_scene_once_and_the_next_in_another_order() -> None:
    source = read_source(RECIPE)
    epochs = [[p.picture.name for step in range(5) for p in source.draw(step + 5 * e, 8)] for e in range(2)]
    assert len(set(epochs[0])) == 40
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]


def test_a_scene_has_one_caption_and_one_twin_whatever_the_objective() -> None:
    a, b = (read_source(replace(RECIPE, objective=name)) for name in ("sds", "preference"))
    for step in range(6):
        assert [(p.caption, p.twin) for p in a.draw(step, 8)] == [(p.caption, p.twin) for p in b.draw(step, 8)]


def test_another_seed_is_another_pool() -> None:
    captions = [[p.caption for p in read_source(replace(RECIPE, seed=seed)).draw(0, 40)] for seed in (0, 1)]
    assert sorted(captions[0]) != sorted(captions[1])


def test_a_withheld_kind_and_template_are_never_twins() -> None:
    found = read_source(replace(RECIPE, pool=400, withheld_kind="colour", withheld_words="to the")).draw(0, 400)
    assert {p.kind for p in found} == {"", "noun", "size", "number"}
    assert all(p.twin is None for p in found if " to the " in p.caption)
    assert any(" to the " in p.caption for p in found)


def test_the_share_without_a_swap_is_told() -> None:
    source = read_source(replace(RECIPE, pool=400))
    found = source.draw(0, 400)
    assert source.describe()["without_swap"] == pytest.approx(sum(p.twin is None for p in found) / 400)


def folder_of(tmp_path: Path, captions: list[str]) -> str:
    for k, _ in enumerate(captions):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / f"{k}.png")
    rows = [json.dumps({"file_name": f"{k}.png", "caption": caption}) for k, caption in enumerate(captions)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return f"folder:{tmp_path}"


def test_free_captions_get_their_twins_by_rule_and_keep_them(tmp_path: Path) -> None:
    captions = ["a red car next to a blue truck", "a dog on a couch", "a sunset", *["a cat under a table"] * 22]
    recipe = replace(RECIPE, data=folder_of(tmp_path, captions), held_out=20, pool=0)
    source = read_source(recipe)
    assert isinstance(source, FreePairs)
    twins = {p.caption: p.twin for step in range(3) for p in source.draw(step, 2)}
    again = {p.caption: p.twin for step in range(3) for p in read_source(recipe).draw(step, 2)}
    assert twins == again
    every = twins | {p.caption: p.twin for p in source.held_out}
    assert every["a red car next to a blue truck"] == "a blue car next to a red truck"
    assert every["a dog on a couch"] == "a couch on a dog"
    assert every["a sunset"] in {None, *captions}
    assert source.describe()["without_swap"] is not None


FREE = ["a red car next to a blue truck", "a dog on a couch", *(f"sunset {k}" for k in range(9)), "a cat under a table"]


def test_a_caption_without_a_swap_keeps_its_stand_in(tmp_path: Path) -> None:
    recipe = replace(RECIPE, data=folder_of(tmp_path, FREE), held_out=0, pool=0)
    source = read_source(recipe)
    first = source.draw(0, 12)
    caption_by_key = {p.picture.key: p.caption for p in first}
    twins = {p.picture.key: p.twin for p in first}
    alone = [p for p in first if p.stand_in]
    assert {p.caption for p in alone} == {caption for caption in FREE if caption.startswith("sunset")}
    assert all(p.twin in FREE and p.twin != p.caption and not p.kind for p in alone)
    order = list(caption_by_key.values())
    assert all(p.twin == order[order.index(p.caption) - 1] for p in alone)
    for step in (1, 2):
        assert {p.picture.key: p.twin for p in read_source(recipe).draw(step, 12)} == twins
    assert source.describe()["without_swap"] == pytest.approx(9 / 12, abs=1e-4)


def test_what_is_held_out_has_swaps_alone(tmp_path: Path) -> None:
    found = read_source(replace(RECIPE, data=folder_of(tmp_path, FREE), held_out=10, pool=0)).held_out
    assert not any(p.stand_in for p in found)
    assert any(p.twin is None for p in found)


def test_a_caption_that_says_the_same_is_no_stand_in(tmp_path: Path) -> None:
    same = ["a sunset", "A Sunset", "a sunset", "a sunset"]
    recipe = replace(RECIPE, data=folder_of(tmp_path, same), held_out=0, pool=0)
    assert {p.twin for p in read_source(recipe).draw(0, 4)} == {None}


def test_a_share_of_the_swaps_is_mislabelled_and_nothing_else_changes(tmp_path: Path) -> None:
    data = folder_of(tmp_path, [*(f"a red car next to a blue truck {k}" for k in range(40)), *FREE, *FREE])
    for recipe in (replace(RECIPE, pool=400), replace(RECIPE, data=data, held_out=20, pool=0)):
        size = 400 if recipe.is_mini else 44
        own, half, most = (
            read_source(replace(recipe, mislabelled=share)).draw(0, size) for share in (0.0, 0.5, 0.9)
        )  # fmt: skip
        assert not any(p.mislabelled for p in own)
        assert [p.truth for p in half] == [p.truth for p in most] == [p.caption for p in own]
        assert [{p.caption, p.twin} for p in half] == [{p.caption, p.twin} for p in own]
        assert all((p.caption, p.twin) == (o.twin, o.caption) for p, o in zip(half, own, strict=True) if p.mislabelled)
        assert all(b.mislabelled for a, b in zip(half, most, strict=True) if a.mislabelled), "more of the same"
        swaps = [p for p in half if p.kind]
        assert 0.3 < sum(p.mislabelled for p in swaps) / len(swaps) < 0.7
        assert not any(p.mislabelled for p in half if not p.kind)
        again = read_source(replace(recipe, mislabelled=0.5, objective="labels")).draw(0, size)
        assert [(p.caption, p.twin) for p in again] == [(p.caption, p.twin) for p in half]


def test_what_is_held_out_is_never_mislabelled(tmp_path: Path) -> None:
    recipe = replace(RECIPE, data=folder_of(tmp_path, FREE), held_out=10, pool=0)
    own, wrong = (read_source(replace(recipe, mislabelled=share)).held_out for share in (0.0, 1.0))
    assert [(p.caption, p.twin) for p in wrong] == [(p.caption, p.twin) for p in own]


def test_an_answer_is_kept_on_the_disk_and_found_again_by_content(tmp_path: Path) -> None:
    judge = Judge()
    assert ask(Preferences(tmp_path, "teacher", BUDGET), judge, pairs()) == [5]
    later = Preferences(tmp_path, "teacher", BUDGET)
    renamed = [replace(p, picture=replace(p.picture, name="new", key=f"new {k}")) for k, p in enumerate(pairs())]
    assert later.missing(renamed) == []
    repainted = [replace(p, picture=picture(200 + k, f"q{k}")) for k, p in enumerate(pairs())]
    assert len(later.missing(repainted)) == 5
    assert judge.asked == 5


@pytest.mark.parametrize(("teacher", "budget"), [("other", BUDGET), ("teacher", replace(BUDGET, timesteps=4))])
def test_another_teacher_or_budget_is_asked_anew(tmp_path: Path, teacher: str, budget: Budget) -> None:
    ask(Preferences(tmp_path, "teacher", BUDGET), Judge(), pairs())
    assert len(Preferences(tmp_path, teacher, budget).missing(pairs())) == 5


def test_a_stopped_pass_goes_on_where_it_was_and_a_cut_line_is_dropped(tmp_path: Path) -> None:
    many, judge = pairs(70), Judge()
    kept = Preferences(tmp_path, "teacher", BUDGET)
    stops = iter([False, True])
    assert list(kept.ask(judge, many, lambda: next(stops))) == [32]
    with kept.path.open("a") as file:
        file.write('{"pair": "half')
    later = Preferences(tmp_path, "teacher", BUDGET)
    assert len(later.missing(many)) == 38
    ask(later, judge, many)
    assert judge.asked == 70
    assert len(Preferences(tmp_path, "teacher", BUDGET)) == 70


def test_a_preference_is_the_sigmoid_of_the_gap_in_units_of_the_usual_one(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs())
    found = list(kept.probabilities(pairs(), 2.0).values())
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-2.0 * (k + 1) / 3)) for k in range(5)], rtol=1e-6)


def test_permuting_deals_the_same_preferences_to_other_pairs(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs())
    own, dealt = kept.probabilities(pairs(), 2.0), kept.probabilities(pairs(), 2.0, permuted=1)
    assert sorted(own.values()) == pytest.approx(sorted(dealt.values()))
    assert list(own.values()) != list(dealt.values())


def test_by_lot_the_twin_is_preferred_as_often_and_as_surely(tmp_path: Path) -> None:
    many = pairs(200)
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), many)
    own = np.array(list(kept.probabilities(many, 2.0).values()))
    permuted = np.array(list(kept.probabilities(many, 2.0, permuted=1).values()))
    lot = np.array(list(kept.probabilities(many, 2.0, permuted=1, unordered=True).values()))
    assert (own > 0.5).all()
    assert (permuted > 0.5).all(), "dealt to other pairs, the own caption is preferred as often as before"
    assert 0.4 < (lot > 0.5).mean() < 0.6
    np.testing.assert_allclose(np.sort(np.abs(lot - 0.5)), np.sort(np.abs(own - 0.5)), atol=1e-12)


def test_stand_ins_do_not_count_in_the_teacher_s_accuracy(tmp_path: Path) -> None:
    swaps = pairs()
    others = [replace(p, caption=f"other {k}", stand_in=True) for k, p in enumerate(pairs(9))]
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), swaps + others)
    assert kept.right(swaps + others) == kept.right(swaps)
    alone, together = (kept.probabilities(asked, 2.0) for asked in (swaps, swaps + others))
    assert {key: together[key] for key in alone} == alone
    assert len(together) == len(swaps) + len(others)
    dealt = kept.probabilities(swaps + others, 2.0, permuted=1)
    assert sorted(dealt[key] for key in alone) == sorted(alone.values())
    assert dealt != together


def test_preferring_the_swap_is_right_in_a_mislabelled_pair(tmp_path: Path) -> None:
    kept, wrong = Preferences(tmp_path, "teacher", BUDGET), [replace(p, mislabelled=True) for p in pairs()]
    ask(kept, Judge(), wrong)
    assert kept.right(wrong) == (0, 5)
    assert kept.right(pairs()) == (5, 5)
    assert kept.probabilities(wrong, 2.0) == kept.probabilities(pairs(), 2.0), "nothing that is trained on knows of it"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_answers_are_reversed_until_the_teacher_is_right_that_often(tmp_path: Path, share: float) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    many = [replace(pair, mislabelled=k % 5 == 0) for k, pair in enumerate(pairs(50))]  # right about 40 of them
    ask(kept, Judge(), many)
    own, found = kept.right(many), kept.reversed_until(share, many, 3)
    assert own == (40, 50)
    assert found.right(many) == (round(50 * share), 50)
    assert kept.right(many) == own, "the answers themselves stay"
    p, q = (np.array(list(one.probabilities(many, 2.0).values())) for one in (kept, found))
    assert int((np.sign(p - 0.5) != np.sign(q - 0.5)).sum()) == abs(40 - round(50 * share)), "no more than needed"
    np.testing.assert_allclose(np.abs(p - 0.5), np.abs(q - 0.5), atol=1e-12)


def test_which_answers_are_reversed_depends_on_the_seed_alone(tmp_path: Path) -> None:
    kept, many = Preferences(tmp_path, "teacher", BUDGET), pairs(50)
    ask(kept, Judge(), many)
    first, again, other = (kept.reversed_until(0.5, many, seed).probabilities(many, 2.0) for seed in (1, 1, 2))
    assert first == again != other


def test_a_pair_without_a_twin_is_not_asked_about(tmp_path: Path) -> None:
    judge, kept = Judge(), Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, judge, [replace(p, twin=None) for p in pairs()])
    assert judge.asked == 0
    assert kept.right(pairs()) == (0, 0)


def test_a_broken_cache_names_its_line(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs())
    kept.path.write_text(kept.path.read_text() + "nonsense\n")
    with pytest.raises(UserError, match="Line 6"):
        Preferences(tmp_path, "teacher", BUDGET)


@pytest.mark.parametrize("objective", ["clip", "negatives"])
def test_captions_that_clip_reads_alike_are_numbered_alike_in_every_part(tmp_path: Path, objective: str) -> None:
    said = ["a cat", "a dog", "A  cat", "a dog", "a cat on a mat", "a mat on a cat", "a bird", "a bird"]
    recipe = replace(RECIPE, data=folder_of(tmp_path, said), held_out=0, pool=0, objective=objective, batch=8)
    source = read_source(recipe)
    batches = PairBatches(recipe, source, reader())
    pairs, found = source.draw(0, 8), batches.rows(0, slice(2, 4))
    assert found.caption_B is not None
    alike = [[" ".join(a.caption.lower().split()) == " ".join(b.caption.lower().split()) for b in pairs] for a in pairs]
    assert (found.caption_B[:, None] == found.caption_B[None, :]).tolist() == alike
    other = batches.rows(0, slice(4, 8)).caption_B
    assert other is not None
    assert torch.equal(other, found.caption_B)
    assert (found.twin_B is not None) == (objective == "negatives")


def test_the_mini_world_keeps_its_declared_loss() -> None:
    recipe = replace(RECIPE, objective="clip")
    assert PairBatches(recipe, read_source(recipe), reader()).rows(0, slice(0, 8)).caption_B is None


class Reader:
    """A CLIP that reads words without case or spaces, and sees nothing."""

    device = torch.device("cpu")

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        return torch.tensor([[*(f"{' '.join(text.lower().split()):<90}".encode())] for text in captions])

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.zeros(3, 2, 2)


def reader() -> ClipModel:
    return cast(ClipModel, Reader())


def test_swaps_and_equal_captions_are_said_before_a_run_and_recorded(tmp_path: Path) -> None:
    said = [*["a cat on a mat"] * 10, *["a dog next to a tree"] * 10, *(f"sunset {k}" for k in range(20))]
    data = folder_of(tmp_path, said)
    source = read_source(replace(RECIPE, data=data, held_out=0, pool=0, batch=8))
    assert source.notes[1] == (
        "Of 40 captions checked, 50.0 % have a swap: 25.0 % with the same words, 25.0 % with a new word "
        "(in %: new-relation 25.0, noun 25.0)."
    )
    assert "share a caption with another row: equal captions count as right" in source.notes[2]
    record = source.describe()
    assert (record["looked_at"], record["swaps"]) == (40, {"new-relation": 0.25, "noun": 0.25})
    assert json.dumps(record, allow_nan=False)


def test_replacements_may_be_left_out(tmp_path: Path) -> None:
    data = folder_of(tmp_path, ["a cat on a mat", *["a dog next to a tree"] * 3])
    source = read_source(replace(RECIPE, data=data, held_out=0, pool=0, replacements=False))
    assert {p.kind for p in source.draw(0, 4)} == {"noun", ""}
    assert source.describe()["swaps"] == {"noun": 0.25}


@pytest.mark.parametrize("batch", [2, 8, 32])
def test_the_share_that_meets_an_equal_caption_is_that_of_batches(batch: int) -> None:
    rng, captions = np.random.default_rng(0), [*["a"] * 30, *["b"] * 5, *(f"c{k}" for k in range(65))]
    rows = [rng.choice(captions, batch, replace=False).tolist() for _ in range(2000)]
    found = np.mean([[row.count(text) > 1 for text in row] for row in rows])
    assert duplicate_share(captions, batch) == pytest.approx(found, abs=0.02)
    assert duplicate_share(["a", "b"], 2) == 0


def ask_slowly(folder: Path, order: list[int]) -> None:
    """In a process of its own: between finding out what is missing and writing, there is time for another one."""
    append = files.append

    def slow_append(*arguments: Any, **options: Any) -> None:
        time.sleep(0.03)
        append(*arguments, **options)

    files.append = slow_append
    every = pairs(MANY)
    ask(Preferences(folder, "teacher", BUDGET), Judge(), [every[k] for k in order])
    os._exit(0)


def kept_rows(folder: Path) -> list[str]:
    return [json.loads(line)["pair"] for line in Preferences(folder, "teacher", BUDGET).path.read_text().splitlines()]


@pytest.mark.skipif(FORK is None, reason="processes are forked here")
@pytest.mark.parametrize("seed", range(3))
def test_processes_that_share_a_file_of_preferences_keep_each_once(tmp_path: Path, seed: int) -> None:
    draw, running = random.Random(seed), []
    for number in range(3):
        order = list(range(MANY))
        draw.shuffle(order) if number == 2 else None
        running.append(FORK.Process(target=ask_slowly, args=(tmp_path, order)))
        running[-1].start()
    time.sleep(draw.uniform(0.0, 0.2))
    running[0].kill()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running[1:]] == [0, 0]
    rows = kept_rows(tmp_path)
    assert len(rows) == len(set(rows)) == MANY
    assert not Preferences(tmp_path, "teacher", BUDGET).missing(pairs(MANY))


def test_damaged_preferences_are_used_or_refused_in_a_sentence(tmp_path: Path) -> None:
    kept = Preferences(tmp_path, "teacher", BUDGET)
    ask(kept, Judge(), pairs(12))
    whole, used, refused = kept.path.read_bytes(), 0, 0
    for seed in range(400):
        kept.path.write_bytes(damaged(whole, seed, lines=True))
        try:
            again = Preferences(tmp_path, "teacher", BUDGET)
            ask(again, Judge(), pairs(12))
            found = again.probabilities(pairs(12), 2.0)
        except UserError:
            refused += 1
        else:
            used += 1
            assert all(0 <= p <= 1 for p in found.values())
    assert min(used, refused) > 20
