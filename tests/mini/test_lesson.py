"""The 2 x 2 of the lesson: same pictures and sentences for every model, a lesson that stays, effects by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdsdemo.app.workbench import Workbench
from sdsdemo.core.bits import packed
from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.mini.sentences import Sentence
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.finetuning.loop import TrainingConfig, train
from sdsdemo.mini.experiments import ablations, lesson, train_all
from sdsdemo.mini.experiments.ablations import KINDS
from sdsdemo.mini.experiments.lesson import CELLS, make_lesson
from sdsdemo.mini.experiments.lesson_words import NOT_RUN, cells_grid, effects_grid, lesson_markdown
from sdsdemo.mini.experiments.study_store import Lines, read_rows
from sdsdemo.mini.experiments.verify import EXPERIMENT
from sdsdemo.mini.models import lesson_clip, text_encoder, tokenizer, train_loop, unet
from sdsdemo.models.clip import ClipModel
from sdsdemo.settings import CHECKPOINTS

pytestmark = pytest.mark.slow

EXAMPLES = 3
TWO = TrainingConfig(steps=2, learning_rate=1e-3, warm_up=1)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs of two steps on 64 pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_all, "PICTURES", 64)
        patch.setattr(ablations, "TRAINING", replace(ablations.TRAINING, steps=2, warm_up=1))
        patch.setattr(lesson, "CLIP_TRAINING", TWO)
        patch.setattr(text_encoder, "TRAINING", TWO)
        patch.setattr(train_loop, "TIMED", 3)
        patch.setattr(ablations, "READ", 8)
        patch.setattr(ablations, "ASKED", 4)
        patch.setattr(ablations, "read_benchmark", lambda name: read_benchmark(name)[:EXAMPLES])
        patch.setattr(lesson, "SEEDS", (0, 1))
        patch.setattr(lesson, "evaluate_clip", evaluated)
        yield tmp_path_factory.mktemp("lesson")


def evaluated(model: ClipModel, name: str) -> dict[str, Any]:
    """A CLIP that can be asked, in place of its evaluation on every set."""
    assert model.encode_texts(["a red circle left of a blue square"]).shape == (1, 96)
    return {"right": {name: dict.fromkeys(("text", "image", "group"), packed(np.ones(EXAMPLES, bool)))}, "n": {name: 3}}


@pytest.fixture(scope="module")
def said(work: Path) -> list[str]:
    """What is said while the models of two seeds are made, with the ablated teachers' lines at hand; and after that."""
    teachers = Lines(work / "lines" / "teachers.jsonl")
    for row in read_rows(EXPERIMENT / "teachers.jsonl"):
        teachers.add(row)
    told: list[str] = []
    for _ in range(2):
        make_lesson(CHECKPOINTS, work / "lines", work, Workbench(), told.append)
        told.append("---")
    return told


def test_every_model_has_one_line_and_is_made_once(work: Path, said: list[str]) -> None:
    rows = read_rows(work / "lines" / lesson.FILE)
    assert sorted(row["run"] for row in rows) == sorted(f"{cell} {seed}" for cell in CELLS for seed in (0, 1))
    assert said[said.index("---") + 1 :] == ["---"], "the second time, nothing is trained and nothing is timed"
    for row in rows:
        assert row["lesson"] == CELLS[row["cell"]].lesson
        assert 0 <= row["places_read"] <= 1


def test_the_cost_is_said_before_anything_is_trained(said: list[str]) -> None:
    cost = next(number for number, line in enumerate(said) if line.startswith("6 models to train, about "))
    assert re.findall(r"([a-z, ]+) \d+\.\d\d s", said[cost].partition("A step: ")[2]) == [
        "clip", ", clip, lesson", ", denoiser", ", denoiser, lesson",
    ]  # fmt: skip
    trained = [number for number, line in enumerate(said) if "  step " in line]
    assert trained
    assert min(trained) > cost


def test_the_ablated_teachers_are_taken_for_the_first_seed(work: Path, said: list[str]) -> None:
    stored = {row["teacher"]: row for row in read_rows(EXPERIMENT / "teachers.jsonl")}
    made = {row["run"]: row for row in read_rows(work / "lines" / lesson.FILE)}
    for cell, teacher in lesson.SAME_AS.items():
        assert made[f"{cell} 0"]["right"] == stored[teacher]["right"]
        assert stored[teacher]["steps"] == 1500, "as many as the 2 x 2 declares"
        assert not any(f"teacher-{cell.replace(', ', '-')}-0" in line for line in said)


def heard(stream: MiniStream, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[str]]]:
    """Pictures and sentences of every batch that is drawn from a stream."""
    met: list[tuple[list[int], list[str]]] = []
    tell = MiniStream.sentences

    def sentences(self: MiniStream, rng: Any, index_B: np.ndarray, share: float = 0.0) -> list[Sentence]:
        found = tell(self, rng, index_B, share)
        met.append((index_B.tolist(), [sentence.text for sentence in found]))
        return found

    monkeypatch.setattr(MiniStream, "sentences", sentences)
    return met


def test_clip_and_denoiser_meet_the_same_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = MiniStream(4, 64, tmp_path)
    met = heard(stream, monkeypatch)
    latent_N = torch.zeros(64, 4, 8, 8)
    for seed in (0, 1):
        _, clip_losses = lesson.fresh_clip(seed, stream)
        stage = unet.STAGES["denoiser"]
        denoiser_losses = unet.losses_at(unet.fresh(), text_encoder.fresh(), stream, latent_N, stage, seed=seed)
        for step in (0, 1):
            clip_losses(step)
            denoiser_losses(step)
    pairs = list(zip(met[::2], met[1::2], strict=True))
    assert all(clip == denoiser for clip, denoiser in pairs)
    assert len({str(clip) for clip, _ in pairs}) == 4, "other steps and seeds draw others"


def test_the_lesson_stays_while_the_rest_of_the_clip_learns(tmp_path: Path) -> None:
    stream = MiniStream(4, 64, tmp_path)
    moved = {}
    for taught in (True, False):
        model, losses = lesson.fresh_clip(0, stream)
        if taught:
            lesson_clip.WordStates(model).requires_grad_(False)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        list(train(model, losses, TWO))
        after = model.state_dict()
        moved[taught] = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    of_lesson = {name for name in before if name.startswith(("token_embedding", "positional"))} | {
        name for name in before if name.startswith(tuple(f"transformer.resblocks.{k}." for k in range(3)))
    }
    assert not moved[True] & of_lesson
    assert {"visual.proj", "text_projection", "transformer.resblocks.3.mlp.c_fc.weight"} <= moved[True]
    assert of_lesson - {"token_embedding.weight"} <= moved[False] | {
        name for name in of_lesson if name.endswith("in_proj_bias")
    }


def test_the_lesson_can_be_learned_by_a_clip_s_text_tower(tmp_path: Path) -> None:
    stream = MiniStream(4, 64, tmp_path)
    states = lesson_clip.WordStates(lesson_clip.fresh())
    losses = text_encoder.losses_at(states, stream)
    before = float(losses(0)["loss"].detach())
    list(train(states, losses, replace(TWO, steps=20, learning_rate=2e-3)))
    assert float(losses(0)["loss"].detach()) < 0.9 * before


def test_a_word_s_state_depends_on_the_words_behind_it() -> None:
    states = lesson_clip.WordStates(lesson_clip.fresh())
    said = [Sentence(words=("a", "red", "circle", "left", "of", "a", colour, "square"), owner=(-1,) * 8)
            for colour in ("blue", "green")]  # fmt: skip
    state_BLD = states(tokenizer.token_ids(said)).last_hidden_state
    assert not torch.allclose(state_BLD[0, 3], state_BLD[1, 3])


def test_the_states_are_those_that_the_last_block_reads() -> None:
    model = lesson_clip.fresh()
    states = lesson_clip.WordStates(model)
    states.norm = torch.nn.Identity()
    token_BL = tokenizer.token_ids([Sentence(words=("a", "red", "circle"), owner=(0, 0, 0))])
    last = model.transformer.resblocks[-1](states(token_BL).last_hidden_state)
    feature_BD = model.ln_final(last)[:, token_BL.argmax(1)[0]] @ model.text_projection
    torch.testing.assert_close(feature_BD, model.encode_text(token_BL))


def rows(level: dict[str, float], places: dict[str, float]) -> list[dict[str, Any]]:
    """Every cell with three seeds: right on the first `places` of the swaps of places, and `level` of the others.

    By image score each is right where it is wrong by text score.
    """
    examples = read_benchmark("mini")
    is_place_E = np.array([example.tags["tag"] in KINDS["places"] for example in examples])
    found = []
    for cell in CELLS:
        right_E = np.zeros(len(examples), bool)
        for chosen_E, share in ((is_place_E, places.get(cell, 0.0)), (~is_place_E, level.get(cell, 0.0))):
            index_K = np.flatnonzero(chosen_E)
            right_E[index_K[: round(share * len(index_K))]] = True
        bits = {"text": packed(right_E), "image": packed(~right_E), "group": packed(right_E)}
        found += [
            {"run": f"{cell} {seed}", "right": {"mini": bits}, "n": {"mini": 400}, "places_read": 0.5}
            for seed in (0, 1, 2)
        ]
    return found


def test_the_lesson_is_worth_what_it_adds_to_each_model_and_kind() -> None:
    examples = read_benchmark("mini")
    level = dict.fromkeys(CELLS, 0.5)
    made = rows(level, {"clip, lesson": 0.4, "denoiser": 0.2, "denoiser, lesson": 1.0})
    head, *effects = effects_grid(made, examples, (0, 1, 2))
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in effects}
    assert by_name["the lesson, for CLIP"]["text, places"].startswith("+40.0 [")
    assert by_name["the lesson, for denoisers"]["text, places"].startswith("+80.0 [")
    assert by_name["denoising instead of L_CLIP, with the lesson"]["text, places"].startswith("+60.0 [")
    assert by_name["interaction"]["text, places"].startswith("+40.0 [")
    assert by_name["interaction"]["text, colours"] == "+0.0 [+0.0, +0.0]"
    assert by_name["the lesson, for CLIP"]["text score"].startswith("+10.0 [")
    assert by_name["the lesson, for CLIP"]["image score"].startswith("-10.0 [")
    cells = cells_grid(made, examples, (0, 1, 2))
    assert [row[0] for row in cells[1:]] == [*CELLS]
    assert len({len(row) for row in cells}) == 1


def test_only_seeds_of_every_cell_count() -> None:
    examples, made = read_benchmark("mini"), rows({}, {})
    assert lesson_markdown([], examples) == NOT_RUN
    assert lesson_markdown(made, examples).startswith("3 seeds, n = 400 of mini.")
    part = [row for row in made if row["run"] != "clip 1"]
    assert lesson_markdown(part, examples).startswith("2 of 3 seeds, n = 400 of mini.")
