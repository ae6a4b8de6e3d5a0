"""What a run is trained on: pairs with one twin each, and which captions a reader of the batch cannot tell apart."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from sdsdemo.finetuning.batches import PairBatches
from sdsdemo.finetuning.recipe import Recipe, Towers
from sdsdemo.finetuning.teacher_preferences import pair_key
from sdsdemo.finetuning.training_pairs import FreePairs, duplicate_share, read_source
from sdsdemo.models.clip import ClipModel

RECIPE = Recipe(pool=40, batch=8)


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

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        return torch.zeros(len(images), 512)

    def encode_texts(self, captions: list[str]) -> torch.Tensor:
        return torch.zeros(len(captions), 512)


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


def test_a_label_is_certain_and_a_preference_is_that_of_its_row() -> None:
    labels = Recipe(objective="labels", pool=40, batch=16)
    source = read_source(labels)
    pairs = source.draw(1, 16)
    kept = {pair_key(pair): k / 16 for k, pair in enumerate(pairs)}
    own = slice(3, 12)
    for recipe, wanted in ((labels, [1.0] * 16), (replace(labels, objective="preference"), list(kept.values()))):
        found_R = PairBatches(recipe, source, reader(), None, kept).rows(1, own).preference_R
        told = [math.nan if pair.twin is None else p for pair, p in zip(pairs, wanted, strict=True)]
        assert found_R is not None
        np.testing.assert_array_equal(found_R.numpy(), np.array(told[own], dtype=np.float32))


@pytest.mark.parametrize("towers", ["text", "image"])
def test_frozen_features_cost_other_processes_their_own_size(towers: Towers) -> None:
    recipe = Recipe(objective="labels", towers=towers, pool=40, batch=32)
    found = PairBatches(recipe, read_source(recipe), reader()).encode_frozen(0)
    assert len(pickle.dumps(found)) < 2 * sum(row.nbytes for row in found.values())
