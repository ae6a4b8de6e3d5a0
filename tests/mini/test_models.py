"""The Mini models made from nothing, in a few steps: every part is trained, written, and scores when read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdsdemo.data.benchmarks import read_benchmark
from sdsdemo.data.mini.scenes import training_stream
from sdsdemo.data.mini.sentences import WORDS, describe
from sdsdemo.data.mini.stream import MiniStream
from sdsdemo.errors import UserError
from sdsdemo.finetuning import before_after
from sdsdemo.finetuning.recipe import with_defaults
from sdsdemo.mini.experiments import preference_clip, train_all
from sdsdemo.mini.experiments.declared import CONFIRM
from sdsdemo.mini.experiments.train_all import PARTS, train
from sdsdemo.mini.models import autoencoder, clip, lesson_clip, sds_clip, text_encoder, tokenizer, unet
from sdsdemo.models import open_scorer
from sdsdemo.models.delta import read_header
from sdsdemo.settings import CHECKPOINTS, budget
from sdsdemo.types import Card

pytestmark = pytest.mark.slow

LARGEST_MB = 36


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All parts after two steps each on 64 pictures; `work` beside `out`."""
    folder = tmp_path_factory.mktemp("mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_all, "PICTURES", 64)
        for module in (autoencoder, clip, text_encoder, sds_clip):
            patch.setattr(module, "TRAINING", replace(module.TRAINING, steps=2, warm_up=1))
        for stages, rate in ((unet.STAGES, 1e-3), (unet.LONGER, 1e-9)):  # the longer ones hardly move
            for name, stage in stages.items():
                short = replace(stage, training=replace(stage.training, steps=2, warm_up=1, learning_rate=rate))
                patch.setitem(stages, name, short)
        tiny = {"steps": 2, "warm_up": 1, "batch": 4, "pool": 8, "teacher_timesteps": 2, "measure_every": 2}
        patch.setattr(preference_clip, "RECIPE", replace(preference_clip.RECIPE, **tiny))
        patch.setenv("SDSDEMO_CACHE", str(folder / "cache"))
        patch.setattr(before_after, "ZERO_SHOT", 4)
        patch.setattr(before_after, "RETRIEVAL", (1, 4))
        patch.setattr(before_after, "read_benchmark", lambda name: read_benchmark(name)[::40])
        patch.setattr(sds_clip, "BASE_SPEC", f"open_clip:local-dir:{folder / 'out' / 'mini-clip'}")
        train(PARTS, folder / "out", folder / "work", lambda line: None)
    return folder


def card_of(name: str, made: Path) -> Card:
    from sdsdemo.models import cards

    card = cards.resolve(name)
    return replace(card, spec=card.spec.replace("checkpoints", str(made / "out")))


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_written_and_scores_when_read_back(made: Path, name: str) -> None:
    scorer = open_scorer(card_of(name, made), device="cpu")
    from sdsdemo.data.mini.drawing import draw

    picture = draw(next(training_stream(1, 1)))
    score_IC = scorer.score([picture], ["a red star", "a blue circle"], budget(2, 2, 0)).score_IC
    assert score_IC.shape == (1, 2)
    assert np.isfinite(score_IC).all()


def test_the_learning_curves_are_kept(made: Path) -> None:
    curves = {path.stem: json.loads(path.read_text()) for path in (made / "out" / "curves").iterdir()}
    parts = {f"mini-diffusion-short-{part}" for part in ("autoencoder", "prompts", *unet.STAGES)}
    parts |= {f"mini-diffusion-{stage}" for stage in unet.LONGER}
    parts |= {f"{lesson_clip.NAME}-{part}" for part in ("prompts", "pictures")}
    assert set(curves) == (set(PARTS) - {"mini-diffusion-short", "mini-diffusion", lesson_clip.NAME}) | parts
    assert all(curve[-1]["step"] == 2 for curve in curves.values())


def test_the_longer_courses_go_on_from_the_files_of_the_short_one(made: Path) -> None:
    def weights(name: str, part: str) -> dict[str, torch.Tensor]:
        (file,) = (made / "out" / name / part).glob("*.safetensors")
        return load_file(file)

    names = ("mini-diffusion-short", "mini-diffusion")
    for part in ("vae", "text_encoder", "unet"):
        short, longer = (weights(name, part) for name in names)
        assert str(made) not in (made / "out" / names[1] / part / "config.json").read_text()
        assert all(torch.allclose(short[key], longer[key], atol=1e-5) for key in short), part
    fresh = unet.fresh().half().state_dict()
    assert not all(torch.allclose(fresh[key], longer[key], atol=1e-5) for key in fresh)


def test_a_fine_tuned_file_tells_its_story(made: Path) -> None:
    paper, control = (read_header(made / "out" / f"{name}.safetensors") for name in sds_clip.LAMBDAS)
    assert paper["objective"] == "sds"
    assert paper["settings"]["lambda"] > 0
    assert (control["objective"], control["settings"]["lambda"]) == ("clip", 0.0)
    same = ("steps", "seed", "data", "base_hash")
    assert [paper[key] for key in same] == [control[key] for key in same]
    assert paper["settings"]["batch"] == control["settings"]["batch"]


def test_each_seed_is_another_network(made: Path) -> None:
    weights = [(made / "out" / name / "open_clip_model.safetensors").read_bytes() for name in clip.BASES]
    assert len(set(weights)) == len(clip.BASES)


def test_the_preference_student_is_the_declared_run(made: Path) -> None:
    header = read_header(made / "out" / f"{preference_clip.NAME}.safetensors")
    assert (header["objective"], header["base"]) == ("preference", f"open_clip:local-dir:{made / 'out' / 'mini-clip'}")
    first = CONFIRM.cells["preference, every parameter"]
    assert replace(first, base="mini-clip", seed=0) == preference_clip.RECIPE
    shipped = read_header(CHECKPOINTS / f"{preference_clip.NAME}.safetensors")
    assert with_defaults(shipped["recipe"]) == preference_clip.RECIPE.as_dict()
    assert shipped["base"] == sds_clip.BASE_SPEC


def test_a_curve_averages_the_last_run_of_each_step(tmp_path: Path) -> None:
    rows = [{"what": "look", "step": 0, "value": 0.3}]
    rows += [{"step": step, "loss": 9.0, "gradient": 1.0, "s": 1.0} for step in (50, 51, 52)]
    rows += [{"step": step, "loss": float(step), "gradient": 1.0, "s": 1.0} for step in range(1, 61)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert preference_clip._curve(tmp_path / "log.jsonl") == [{"step": 50, "loss": 25.5}, {"step": 60, "loss": 55.5}]


def test_each_denoiser_stage_draws_its_declared_shares(tmp_path: Path) -> None:
    stream = MiniStream(4, 400, tmp_path)
    latent_N = torch.zeros(400, 4, 8, 8)
    families: dict[str, list[str]] = {}
    for name, stage in {**unet.STAGES, **unet.LONGER}.items():
        seen: list[str] = []
        counting = type("Counting", (), {"scenes": stream.scenes, "seed": 0})()
        counting.sentences = lambda rng, index_B, tag_share, seen=seen: (
            seen.extend(stream.scenes[i].family for i in index_B),
            stream.sentences(rng, index_B, tag_share),
        )[1]
        losses = unet.losses_at(unet.fresh(), text_encoder.fresh(), counting, latent_N, stage)
        for step in range(4):
            losses(step)
        families[name] = seen
    shares = {name: [sum(f in group for f in seen) / len(seen) for group in (unet.PLACED, unet.COUNTED)]
              for name, seen in families.items()}  # fmt: skip
    assert shares["denoiser"] == pytest.approx([0.6, 0.05], abs=0.08)
    assert shares["denoiser-2"] == pytest.approx([0.3, 0.4], abs=0.08)
    for stage in unet.LONGER:
        assert shares[stage] == pytest.approx([0.2, 0.2], abs=0.08)
        assert np.mean([family == "and" for family in families[stage]]) == pytest.approx(0.4, abs=0.08)


def test_a_part_without_its_base_or_an_unknown_one_is_a_sentence(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train that first"):
        train(["mini-sds-clip"], tmp_path, made / "work", lambda line: None)
    with pytest.raises(UserError, match="needs mini-diffusion-short: train that first"):
        train(["mini-diffusion"], tmp_path, made / "work", lambda line: None)
    with pytest.raises(UserError, match="no part called 'mini-klip'"):
        train(["mini-klip"], tmp_path, made / "work", lambda line: None)


def test_the_tokenizer_gives_the_ids_that_training_used() -> None:
    rng = np.random.default_rng(0)
    sentences = [describe(rng, scene) for scene in training_stream(0, 100)]
    asked = tokenizer.tokenizer()([s.text for s in sentences], padding="max_length", max_length=tokenizer.CONTEXT)[
        "input_ids"
    ]
    assert torch.equal(torch.tensor(asked), tokenizer.token_ids(sentences))
    assert max(tokenizer.VOCABULARY.values()) == tokenizer.VOCABULARY[tokenizer.END]


def test_the_text_encoder_looks_both_ways() -> None:
    """The first word's state depends on the last word: with a causal mask it would not."""
    encoder = text_encoder.fresh().eval()
    first, second = (
        tokenizer.token_ids([describe(np.random.default_rng(0), scene)]) for scene in training_stream(3, 2)
    )
    second = first.clone()
    second[0, 5] = first[0, 1]
    states = [encoder(ids).last_hidden_state[0, 1] for ids in (first, second)]
    assert not torch.allclose(*states)


def test_the_lesson_marks_each_things_words_with_its_own_place(tmp_path: Path) -> None:
    stream = MiniStream(2, 60, tmp_path)
    rng = np.random.default_rng(0)
    for scene in stream.scenes:
        sentence = describe(rng, scene)
        for word, owner, names in zip(
            sentence.words, sentence.owner, text_encoder.names_of_words(scene, sentence), strict=True
        ):
            place = scene.things[owner].place if owner >= 0 else ""
            assert [name for name in names if name.startswith("place:")] == ([f"place:{place}"] if place else [])
            assert word in names or owner >= 0


def test_everything_shipped_fits_and_knows_its_words() -> None:
    files = [path for path in CHECKPOINTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST_MB * 1e6
    for name in (*clip.BASES, "mini-diffusion-short", "mini-diffusion"):
        assert json.loads((CHECKPOINTS / name / "knows.json").read_text())["words"] == list(WORDS)
